//! Copies into the guest and out of it (APPLICATION §4).
//!
//! Owns which paths may be read and written ([`Roots`]). The system itself sees to it that no link leads out
//! of a root. Refuses to know sessions.

mod get;
mod put;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use vspc_guest::{Code, Refusal};

pub(crate) use get::GetTask;
pub(crate) use put::{Ends, PutTask};

/// A folder of which files may be copied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Root {
    pub(crate) path: PathBuf,
    /// And into which.
    pub(crate) write: bool,
}

/// All of them.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Roots(pub(crate) Vec<Root>);

/// A folder, and what is in it.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) folder: OwnedFd,
    pub(crate) name: String,
}

impl Roots {
    /// Opens a file to be read.
    fn open(&self, path: &str) -> Result<OwnedFd, Refusal> {
        let (root, rest) = self.find(path, false)?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        open_beneath(root, rest, flags, ResolveFlags::empty())
            .map_err(|error| Refusal::system(path, &error.into()))
    }

    /// Opens the folder of a file that is to be written.
    fn place(&self, path: &str) -> Result<Place, Refusal> {
        let (root, rest) = self.find(path, true)?;
        let name = rest.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| Refusal::new(Code::NOT_A_FILE, path))?.to_owned();
        let folder = rest.parent().filter(|parent| !parent.as_os_str().is_empty());
        let folder = folder.unwrap_or_else(|| Path::new("."));
        // A link could lead into a root inside this one that may only be read; `..` is in no path.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let folder = open_beneath(root, folder, flags, ResolveFlags::NO_SYMLINKS)
            .map_err(|error| Refusal::system(path, &error.into()))?;
        Ok(Place { folder, name })
    }

    /// The longest root that a path is below, and the rest of the path.
    fn find<'a>(&self, path: &'a str, write: bool) -> Result<(&Path, &'a Path), Refusal> {
        let below = |root: &Root| Path::new(path).strip_prefix(&root.path).is_ok();
        let roots = self.0.iter().filter(|root| below(root));
        let root = roots.max_by_key(|root| root.path.as_os_str().len());
        let what = if write { "written" } else { "read" };
        let root = root
            .filter(|root| root.write || !write)
            .ok_or_else(|| Refusal::new(Code::NOT_ALLOWED, format!("nothing may be {what} there")))?;
        let rest = Path::new(path).strip_prefix(&root.path).unwrap_or_else(|_| Path::new(""));
        Ok((&root.path, rest))
    }
}

fn open_beneath(root: &Path, rest: &Path, flags: OFlags, how: ResolveFlags) -> Result<OwnedFd, Errno> {
    let root =
        rustix::fs::openat(CWD, root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | how;
    rustix::fs::openat2(&root, rest, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// What a copy reads and sums at a time: nobody else has a turn meanwhile.
const AT_ONCE: usize = 2 * vspc_guest::MAX_BLOCK;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_root_decides() {
        let root = |path: &str, write| Root { path: path.into(), write };
        let roots = Roots(vec![root("/srv", true), root("/srv/private", false), root("/", false)]);
        let find =
            |path, write| roots.find(path, write).map(|(root, rest)| (root.to_owned(), rest.to_owned()));
        assert_eq!(find("/srv/a/b", true), Ok(("/srv".into(), "a/b".into())));
        assert_eq!(find("/etc/passwd", false), Ok(("/".into(), "etc/passwd".into())));
        for path in ["/srv/private/x", "/srvx", "/etc/x"] {
            assert_eq!(find(path, true).unwrap_err().code, Code::NOT_ALLOWED, "{path}");
        }
        assert!(Roots::default().find("/x", false).is_err());
    }
}
