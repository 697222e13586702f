//! Agents in VMs: what they have to know.
//!
//! **Owns** how the file with a key is read. **Refuses to know** what is done with it: the engine asks for
//! proof.

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::str::FromStr;

use vspc_core::concentrator::GuestKey;

/// Options about guests.
#[derive(Clone, PartialEq, Eq, Debug, clap::Args)]
#[command(next_help_heading = "Agents in VMs")]
pub(crate) struct GuestOptions {
    /// Have every agent prove that it knows what is in this file, 32 bytes or more, and prove it to them. A
    /// [[console]] may have another file. Without, whoever has the line of a VM is its agent.
    #[arg(long, value_name = "FILE")]
    pub(crate) guest_key_file: Option<KeyFile>,
}

/// A key, and the file that it is in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct KeyFile(pub(crate) GuestKey);

impl FromStr for KeyFile {
    type Err = String;

    fn from_str(path: &str) -> Result<Self, String> {
        let why = |error: std::io::Error| format!("{path}: {error}");
        let mode = fs::metadata(path).map_err(why)?.permissions().mode();
        if mode & 0o007 != 0 {
            return Err(format!("{path}: everybody may read it or write to it; chmod 600 keeps it a secret"));
        }
        let bytes = fs::read(path).map_err(why)?;
        let key = GuestKey::new(&bytes, path);
        key.map(Self).ok_or_else(|| {
            format!("{path}: it has {} bytes, and 32 are the least: head -c 32 /dev/urandom", bytes.len())
        })
    }
}

impl fmt::Display for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.file())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_where_it_is_a_secret_and_long_enough() {
        let folder = std::env::temp_dir().join(format!("vspc-guest-key-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("key");
        let name = path.to_str().unwrap();
        for (mode, bytes, fault) in [
            (0o600, 32, None),
            (0o640, 64, None),
            (0o644, 32, Some("chmod 600")),
            (0o600, 31, Some("31 bytes")),
        ] {
            fs::write(&path, vec![7; bytes]).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            match (name.parse::<KeyFile>(), fault) {
                (Ok(key), None) => assert_eq!(key.to_string(), name),
                (Err(why), Some(fault)) => assert!(why.contains(fault) && why.contains(name), "{why}"),
                (outcome, _) => panic!("{mode:o} {bytes}: {outcome:?}"),
            }
        }
        fs::remove_dir_all(&folder).unwrap();
        assert!(name.parse::<KeyFile>().unwrap_err().contains("No such file"));
    }
}
