//! The state file: the whole state as lines of text, replaced at once by a rename (state.md §2).
//!
//! **Owns** the file, the lock beside it, and the order of write, fsync and rename that makes a file whole
//! whenever the machine stops. **Refuses to know** when it is to be written.
//!
//! ```text
//! PATH        what was kept last; never opened for writing
//! PATH.new    what is being written; takes the place of PATH when it is on the disk
//! PATH.lock   locked for as long as the server runs; empty, and stays
//! ```

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

use super::Backend;
use super::record::Record;

/// Why a state file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// A line of it makes no sense. It stays as it is.
    #[error("{0} line {1}: {2}; the file stays as it is: mend it, or move it away to begin without")]
    Damaged(PathBuf, usize, String),
    /// It is no file.
    #[error("{0} is no regular file: choose another --file")]
    NoFile(PathBuf),
    /// Another server has it.
    #[error("{0} is in use by another server: stop that one, or choose another --file")]
    InUse(PathBuf),
    /// The system refuses something.
    #[error("cannot use the state file {0}: {1}; check --file")]
    System(PathBuf, io::Error),
}

/// A state file that is this server's alone.
#[derive(Debug)]
pub(super) struct StateFile {
    path: PathBuf,
    new: PathBuf,
    folder: PathBuf,
    /// Held for as long as this lives, and given back by the kernel, however the process ends.
    _lock: File,
}

impl StateFile {
    /// Locks a state file and reads it. One that is not there yet is as good as an empty one.
    pub(super) fn open(path: &Path) -> Result<(Self, Vec<Record>), FileError> {
        let refuse = |error| FileError::System(path.to_owned(), error);
        // A link would be replaced by the first write: what it leads to is meant.
        let found = match fs::canonicalize(path) {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::NotFound => std::path::absolute(path).map_err(refuse)?,
            Err(error) => return Err(refuse(error)),
        };
        let (Some(folder), Some(_)) = (found.parent(), found.file_name()) else {
            return Err(FileError::NoFile(path.to_owned()));
        };
        if found.exists() && !found.is_file() {
            return Err(FileError::NoFile(path.to_owned()));
        }
        let lock = lock(&beside(&found, ".lock")).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock => FileError::InUse(path.to_owned()),
            _ => refuse(error),
        })?;
        let records = match fs::read(&found) {
            Ok(bytes) => {
                read(&bytes).map_err(|(line, why)| FileError::Damaged(path.to_owned(), line, why))?
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(refuse(error)),
        };
        let file = Self { new: beside(&found, ".new"), folder: folder.to_owned(), path: found, _lock: lock };
        Ok((file, records))
    }

    fn replace(&self, text: &[u8]) -> io::Result<()> {
        let mode = fs::metadata(&self.path).map_or(MODE, |metadata| metadata.mode() & 0o777);
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .custom_flags(OFlags::NOFOLLOW.bits() as i32)
            .open(&self.new)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(text)?;
        // Before the rename: else a file of nothing might bear the name after a power cut.
        file.sync_all()?;
        fs::rename(&self.new, &self.path)?;
        File::open(&self.folder)?.sync_all()
    }
}

impl Backend for StateFile {
    fn keep(&mut self, records: &[&Record]) -> io::Result<()> {
        let kept = self.replace(write(records).as_bytes());
        if kept.is_err() {
            // It may be what fills the disk.
            let _ = fs::remove_file(&self.new);
        }
        kept
    }
}

/// What a state file is found to be by somebody who wants nothing of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Look {
    /// How many consoles it has; `None`: it is not there yet.
    pub(crate) consoles: Option<usize>,
    /// The process that has it; 0: one that is not seen from here.
    pub(crate) locked_by: Option<u32>,
}

/// Reads a state file, and says who has it, without taking or making anything.
pub(crate) fn look(path: &Path) -> Result<Look, FileError> {
    let refuse = |error| FileError::System(path.to_owned(), error);
    let found = match fs::canonicalize(path) {
        Ok(found) if found.is_file() => found,
        Ok(_) => return Err(FileError::NoFile(path.to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let found = std::path::absolute(path).map_err(refuse)?;
            if !found.parent().is_some_and(Path::is_dir) {
                return Err(refuse(error));
            }
            found
        }
        Err(error) => return Err(refuse(error)),
    };
    let consoles = match fs::read(&found) {
        Ok(bytes) => {
            let records = read(&bytes);
            Some(records.map_err(|(line, why)| FileError::Damaged(path.to_owned(), line, why))?.len())
        }
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(refuse(error)),
    };
    let lock = fs::metadata(beside(&found, ".lock")).ok();
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let locked_by = lock.and_then(|lock| locks.lines().find_map(|line| holder(line, lock.ino())));
    Ok(Look { consoles, locked_by })
}

/// The process of a line of /proc/locks, `N: FLOCK ADVISORY WRITE PID DEVICE:INODE …`, if that is about this
/// file.
fn holder(line: &str, inode: u64) -> Option<u32> {
    let mut words = line.split_whitespace().skip(1);
    let (kind, pid, file) = (words.next()?, words.nth(2)?, words.next()?);
    let is_it = kind == "FLOCK" && file.rsplit(':').next()? == inode.to_string();
    is_it.then(|| pid.parse().unwrap_or(0))
}

/// Opens the lock file and locks it; `WouldBlock`: another process has.
fn lock(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW.bits() as i32;
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(MODE)
        .custom_flags(flags)
        .open(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(ErrorKind::WouldBlock.into()),
        Err(error) => Err(error.into()),
    }
}

/// A name in the same folder.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
}

fn write(records: &[&Record]) -> String {
    let mut text = format!("{FIRST}\n{ABOUT}");
    for record in records {
        text.push_str(&record.line());
        text.push('\n');
    }
    text.push_str(LAST);
    text.push('\n');
    text
}

/// Reads a file's text. An error comes with the number of its line.
fn read(bytes: &[u8]) -> Result<Vec<Record>, (usize, String)> {
    let (mut records, mut ends) = (Vec::new(), false);
    let (mut ports, mut identities) = (HashMap::new(), HashMap::new());
    let mut number = 0;
    for line in bytes.strip_suffix(b"\n").unwrap_or(bytes).split(|&byte| byte == b'\n') {
        number += 1;
        let fault = |why: String| (number, why);
        let line = str::from_utf8(line).map_err(|_| fault("this is no UTF-8".to_owned()))?.trim();
        if number == 1 {
            if line != FIRST {
                return Err(fault(format!("a state file of this version begins with {FIRST:?}")));
            }
            continue;
        }
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if ends {
            return Err(fault(format!("something comes behind {LAST:?}")));
        }
        if line == LAST {
            ends = true;
            continue;
        }
        let record = Record::read(line).map_err(fault)?;
        if let Some(port) = record.port
            && let Some(other) = ports.insert(port, number)
        {
            return Err(fault(format!("port {port} is that of line {other} already")));
        }
        if let Some(other) = identities.insert(record.identity.clone(), number) {
            return Err(fault(format!("this VM is that of line {other} already")));
        }
        records.push(record);
    }
    if !ends {
        return Err((number, format!("the file ends without {LAST:?}: the rest is missing")));
    }
    Ok(records)
}

/// The first line of a state file.
const FIRST: &str = "vspc-state 1";

/// The last one: a file that was cut off has none.
const LAST: &str = "end";

/// What is said to people who open it.
const ABOUT: &str = "# One line for each console. The server replaces this file: stop it before you edit.\n";

/// The mode of a state file that was not there before. Names and addresses are not everybody's.
const MODE: u32 = 0o640;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::Folder;
    use crate::store::record::tests::record;

    fn keep(file: &mut StateFile, records: &[Record]) {
        file.keep(&records.iter().collect::<Vec<_>>()).unwrap();
    }

    #[test]
    fn what_is_kept_is_read_back_and_a_file_that_is_not_there_is_empty() {
        let folder = Folder::new();
        let path = folder.path().join("state");
        let (mut file, found) = StateFile::open(&path).unwrap();
        assert_eq!(found, []);
        assert!(!path.exists(), "nothing is written before there is something to keep");
        let records = [record(1, 50000), record(2, 50001)];
        keep(&mut file, &records[..1]);
        keep(&mut file, &records);
        drop(file);
        let (_, found) = StateFile::open(&path).unwrap();
        assert_eq!(found, records);
    }

    #[test]
    fn two_servers_never_have_one_file_by_whatever_name() {
        let folder = Folder::new();
        let path = folder.path().join("state");
        let (mut file, _) = StateFile::open(&path).unwrap();
        keep(&mut file, &[]);
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        for name in [&path, &link] {
            let why = StateFile::open(name).unwrap_err();
            assert!(matches!(why, FileError::InUse(_)), "{why}");
        }
        drop(file);
        let (mut file, _) = StateFile::open(&link).unwrap();
        keep(&mut file, &[record(1, 50000)]);
        assert!(link.is_symlink() && fs::read_to_string(&path).unwrap().contains("vm1"));
    }

    #[test]
    fn who_looks_takes_nothing_makes_nothing_and_sees_who_has_it() {
        let folder = Folder::new();
        let path = folder.path().join("state");
        let names = || fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(look(&path).unwrap(), Look { consoles: None, locked_by: None });
        assert_eq!(names(), 0);
        let (mut file, _) = StateFile::open(&path).unwrap();
        keep(&mut file, &[record(1, 50000), record(2, 50001)]);
        let ours = Some(std::process::id());
        assert_eq!(look(&path).unwrap(), Look { consoles: Some(2), locked_by: ours });
        drop(file);
        assert_eq!(look(&path).unwrap().locked_by, None);
        fs::write(&path, "x").unwrap();
        assert!(matches!(look(&path).unwrap_err(), FileError::Damaged(_, 1, _)));
        assert!(matches!(look(folder.path()).unwrap_err(), FileError::NoFile(_)));
        assert!(matches!(look(&folder.path().join("no/state")).unwrap_err(), FileError::System(..)));
    }

    #[test]
    fn a_damaged_file_is_refused_with_its_line_and_stays_as_it_is() {
        let folder = Folder::new();
        let path = folder.path().join("state");
        let good = write(&[&record(1, 50000), &record(2, 50001)]);
        let line = record(3, 50002).line();
        let damaged = [
            (String::new(), 1, "begins with"),
            (good.replace("state 1", "state 2"), 1, "begins with"),
            (good.replace("50001", "x"), 4, "column"),
            (good.replace("50001", "50000"), 4, "port 50000 is that of line 3"),
            (format!("{good}{line}\n"), 6, "behind"),
            (good.replace("end\n", ""), 4, "missing"),
            (good[..good.len() - 20].to_owned(), 4, "column"),
            (good.replace("end", &record(1, 50009).line()), 5, "this VM is that of line 3"),
        ];
        for (text, line, words) in damaged {
            fs::write(&path, &text).unwrap();
            let why = StateFile::open(&path).unwrap_err();
            let FileError::Damaged(_, at, _) = why else { panic!("{why}") };
            assert_eq!(at, line, "{why}");
            assert!(why.to_string().contains(words), "{why}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        fs::write(&path, b"vspc-state 1\n\xff\nend\n").unwrap();
        assert!(matches!(StateFile::open(&path).unwrap_err(), FileError::Damaged(_, 2, _)));
        fs::write(&path, good.replace("end", "\n  # by hand\r\n\nend\r")).unwrap();
        assert_eq!(StateFile::open(&path).unwrap().1.len(), 2, "blank lines and remarks are no damage");
    }

    #[test]
    fn every_file_that_was_written_halfway_is_refused() {
        let folder = Folder::new();
        let path = folder.path().join("state");
        let text = write(&[&record(1, 50000), &record(2, 50001)]);
        for len in 0..text.len() - 1 {
            fs::write(&path, &text[..len]).unwrap();
            assert!(StateFile::open(&path).is_err(), "{len} of {} bytes", text.len());
        }
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let folder = Folder::new();
        let why = StateFile::open(folder.path()).unwrap_err();
        assert!(matches!(why, FileError::NoFile(_)), "{why}");
        let why = StateFile::open(&folder.path().join("no/state")).unwrap_err();
        assert!(matches!(why, FileError::System(..)), "{why}");
        assert!(why.to_string().contains("--file"), "{why}");
    }

    #[test]
    fn a_write_that_fails_leaves_what_was_kept_and_the_mode_stays() {
        let folder = Folder::new();
        let path = folder.path().join("state");
        let (mut file, _) = StateFile::open(&path).unwrap();
        keep(&mut file, &[record(1, 50000)]);
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        // Whatever is written next cannot be: a folder is in its place.
        fs::create_dir(beside(&path, ".new")).unwrap();
        file.keep(&[]).unwrap_err();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("vm1"), "{text}");
        fs::remove_dir(beside(&path, ".new")).unwrap();
        keep(&mut file, &[record(2, 50001)]);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(fs::read_to_string(&path).unwrap().contains("vm2"));
    }
}
