//! The file of users.
//!
//! Owns its form: lines `name:role:hash`, where the hash is argon2id's in PHC form, or `*` for who has no
//! password here and is known by a certificate or by a proxy; what begins with `#` is a comment. A file with
//! one damaged line is not used at all, so that nobody is left out without a word.

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use argon2::Params;
use argon2::password_hash::phc::PasswordHash;

use super::role::Role;

/// Those whom the file names.
#[derive(Clone, Default, Debug)]
pub(crate) struct Users(HashMap<String, User>);

/// One of them.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) role: Role,
    /// `None`: this one has no password.
    pub(crate) hash: Option<PasswordHash>,
}

impl Users {
    /// Reads the file. Waits for the disk. What is odd but works is said in the log.
    pub(crate) fn load(path: &Path) -> Result<Self, String> {
        let fault = |why: &dyn std::fmt::Display| format!("--users {}: {why}", path.display());
        let facts = fs::metadata(path).map_err(|error| fault(&error))?;
        // A pipe in its place would keep us waiting for somebody to write.
        if !facts.is_file() {
            return Err(fault(&"it is not a file"));
        }
        let file = fs::File::open(path).map_err(|error| fault(&error))?;
        let mode = facts.permissions().mode() & 0o7777;
        if mode & OPEN_TO_OTHERS != 0 {
            let path = path.display();
            log::warn!("{path} is open to others (mode {mode:04o}): chmod 640 {path}");
        }
        let mut text = String::new();
        file.take(LARGEST + 1).read_to_string(&mut text).map_err(|error| fault(&error))?;
        if text.len() as u64 > LARGEST {
            return Err(fault(&"it is too large"));
        }
        Self::read(&text).map_err(|why| fault(&why))
    }

    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let mut users = HashMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, user) = parse(line).map_err(|why| format!("line {number}: {why}"))?;
            if users.insert(name.to_owned(), user).is_some() {
                return Err(format!("line {number}: there is a user {name:?} already"));
            }
        }
        Ok(Self(users))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&User> {
        self.0.get(name)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// One that costs as much to compare as any here.
    pub(super) fn dearest(&self) -> Option<&PasswordHash> {
        self.0.values().filter_map(|user| user.hash.as_ref()).max_by_key(|hash| cost(hash))
    }
}

fn parse(line: &str) -> Result<(&str, User), String> {
    let mut parts = line.splitn(3, ':');
    let (Some(name), Some(role), Some(hash)) = (parts.next(), parts.next(), parts.next()) else {
        return Err("a line is NAME:ROLE:HASH".to_owned());
    };
    if !is_name(name) {
        return Err(format!("{name:?} is no name: {NAMES}"));
    }
    let role = role.parse()?;
    if hash == "*" {
        return Ok((name, User { role, hash: None }));
    }
    let no_hash = "the password is not one that vspc-web passwd has made (argon2id in PHC form)";
    let hash = PasswordHash::new(hash).map_err(|_| no_hash.to_owned())?;
    if hash.algorithm.as_str() != "argon2id" || hash.hash.is_none() || hash.salt.is_none() {
        return Err(no_hash.to_owned());
    }
    let params = Params::try_from(&hash).map_err(|_| no_hash.to_owned())?;
    if params.m_cost() > MEMORY_MOST || cost(&hash) > COST_MOST || params.p_cost() > LANES_MOST {
        return Err(format!("the password costs too much: at most m={MEMORY_MOST}, p={LANES_MOST}"));
    }
    Ok((name, User { role, hash: Some(hash) }))
}

/// Blocks of memory that are written when it is compared.
fn cost(hash: &PasswordHash) -> u64 {
    Params::try_from(hash).map_or(0, |params| u64::from(params.m_cost()) * u64::from(params.t_cost()))
}

/// Whether somebody may be called so. Concentrators show people as `ann@192.0.2.7 (via …)`: no name may look
/// like more than a name, or like another's. A mail address may be one, since no address of a machine's looks
/// like what stands behind its `@`.
pub(crate) fn is_name(name: &str) -> bool {
    let (person, domain) =
        name.split_once('@').map_or((name, None), |(person, domain)| (person, Some(domain)));
    name.len() <= 64
        && !person.is_empty()
        && person.trim() == person
        && person.chars().all(|c| c.is_ascii_alphanumeric() || "._-+ ".contains(c))
        && domain.is_none_or(is_domain)
}

/// Whether it is a name of machines, and no address of one.
fn is_domain(name: &str) -> bool {
    let is_label =
        |label: &str| !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    let top = name.rsplit('.').next().unwrap_or_default();
    name.split('.').all(is_label) && top.starts_with(|c: char| c.is_ascii_alphabetic())
}

/// What a name has, for people.
pub(crate) const NAMES: &str =
    "1 to 64 of A-Z, a-z, 0-9, . _ - + and blanks inside, or a mail address of these";

/// That a service's own group may read it is customary.
const OPEN_TO_OTHERS: u32 = 0o027;
/// Room for tens of thousands.
const LARGEST: u64 = 4 << 20;
/// KiB that one comparison may take.
const MEMORY_MOST: u32 = 256 * 1024;
const COST_MOST: u64 = 2 << 20;
const LANES_MOST: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "$argon2id$v=19$m=64,t=1,p=1$MDEyMzQ1Njc4OWFiY2RlZg$\
                        nyKSIRq0ZHvcL0pkqlJoA6Q3PTFZ4bz+lMvDYCUHUpk";

    #[test]
    fn a_damaged_line_is_named_with_its_number() {
        let good = format!("# people\n\nann:admin:{HASH}\n bob:read:* \n");
        let users = Users::read(&good).unwrap();
        assert_eq!((users.len(), users.get("ann").unwrap().role), (2, Role::Admin));
        assert!(users.get("bob").unwrap().hash.is_none() && users.dearest().is_some());
        let mail = Users::read("ann.b+c@mail.example.com:read:*\nx@corp:write:*").unwrap();
        assert_eq!(mail.get("ann.b+c@mail.example.com").unwrap().role, Role::Read);
        for (line, why) in [
            ("ann", "NAME:ROLE:HASH"),
            ("ann:root:*", "no role"),
            (":read:*", "no name"),
            ("a\tn:read:*", "no name"),
            ("ann@192.0.2.7:read:*", "no name"),
            ("ann@192.0.2:read:*", "no name"),
            ("ann@0x7f000001:read:*", "no name"),
            ("ann@example.com@192.0.2.7:read:*", "no name"),
            ("@example.com:read:*", "no name"),
            ("ann@:read:*", "no name"),
            ("ann @example.com:read:*", "no name"),
            ("ann@example.com :read:*", "no name"),
            ("ann@example..com:read:*", "no name"),
            ("ann@ex\u{e4}mple.com:read:*", "no name"),
            ("ann, by share 1:read:*", "no name"),
            ("ann (via x):read:*", "no name"),
            ("\u{202e}nna:read:*", "no name"),
            ("ann\u{200b}:read:*", "no name"),
            ("\u{430}nn:read:*", "no name"),
            ("ann:read:secret", "vspc-web passwd"),
            ("ann:read:$2a$14$abcdefghijklmnopqrstuv", "vspc-web passwd"),
            ("ann:read:$argon2i$v=19$m=64,t=1,p=1$MDEyMzQ1Njc4OWFiY2RlZg$AAAAAAAAAAAAAAAAAAAAAA", "passwd"),
            (
                "ann:read:$argon2id$v=19$m=4194304,t=1,p=1$MDEyMzQ1Njc4OWFiY2RlZg$AAAAAAAAAAAAAAAAAAAAAA",
                "costs",
            ),
            ("bob:read:*", "already"),
        ] {
            let fault = Users::read(&format!("bob:read:*\n{line}\n")).unwrap_err();
            assert!(fault.starts_with("line 2: ") && fault.contains(why), "{line}: {fault}");
        }
    }
}
