//! A file with the server's process id, for those who signal it by that. It goes when the server ends.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process;

/// The file; removed when dropped, if it is still this process's.
#[derive(Debug)]
pub(crate) struct PidFile(PathBuf);

impl PidFile {
    /// Writes it, over one that a server before this has left there.
    pub(crate) fn write(path: &Path) -> io::Result<Self> {
        let mut file = fs::File::create(path)?;
        writeln!(file, "{}", process::id())?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let is_ours = fs::read_to_string(&self.0).is_ok_and(|text| text.trim() == process::id().to_string());
        if is_ours {
            // Nobody is left to be told.
            let _ = fs::remove_file(&self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_goes_with_its_process_unless_another_has_written_it() {
        let path = std::env::temp_dir().join(format!("vspc-pid-file-{}", process::id()));
        fs::write(&path, "1234567 and more").unwrap();
        let file = PidFile::write(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", process::id()));
        drop(file);
        assert!(!path.exists());
        let file = PidFile::write(&path).unwrap();
        fs::write(&path, "1\n").unwrap();
        drop(file);
        assert!(path.exists());
        fs::remove_file(&path).unwrap();
        assert!(PidFile::write(Path::new("/no/such/folder/pid")).is_err());
    }
}
