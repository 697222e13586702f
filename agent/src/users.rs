//! Users, as /etc/passwd has them.
//!
//! Owns how that file is read: by the agent itself, so that it needs no name services and can be linked
//! statically.

use std::fs;
use std::path::PathBuf;

/// A user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) home: PathBuf,
    pub(crate) shell: PathBuf,
}

impl User {
    /// The user of this name.
    pub(crate) fn find(name: &str) -> Result<Self, String> {
        let users = fs::read_to_string(USERS).map_err(|error| format!("{USERS}: {error}"))?;
        Self::find_in(&users, name).ok_or_else(|| format!("there is no user {name:?} in {USERS}"))
    }

    fn find_in(users: &str, name: &str) -> Option<Self> {
        let mut fields = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let fields = fields.find(|fields| fields.first() == Some(&name))?;
        let &[name, _, uid, gid, _, home, shell] = fields.as_slice() else { return None };
        let shell = if shell.is_empty() { "/bin/sh" } else { shell };
        Some(Self {
            name: name.to_owned(),
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
            home: home.into(),
            shell: shell.into(),
        })
    }
}

const USERS: &str = "/etc/passwd";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_their_whole_name() {
        let users = "root:x:0:0:root:/root:/bin/bash\nann:x:1000:1001::/home/ann:\nbroken:x\n";
        let ann = User::find_in(users, "ann").unwrap();
        assert_eq!((ann.uid, ann.gid, ann.shell.to_str()), (1000, 1001, Some("/bin/sh")));
        assert_eq!(User::find_in(users, "an"), None);
        assert_eq!(User::find_in(users, "broken"), None);
    }
}
