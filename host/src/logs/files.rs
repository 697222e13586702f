//! The files of logs: how they are opened, and which of them are open.
//!
//! **Owns** the descriptors: as many as it was told at most; the file that was written to longest ago is
//! closed for another. A file is opened only if it is a regular one inside the directory: no link is
//! followed, and nothing that hangs (a FIFO) is waited for. **Refuses to know** what is written.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, fchmod, fstat, mkdirat, openat};
use rustix::io::Errno;
use vspc_core::concentrator::ConsoleId;

/// The files that are open.
#[derive(Debug)]
pub(super) struct Files {
    dir: PathBuf,
    mode: Mode,
    most: usize,
    open: HashMap<ConsoleId, Open>,
    /// When each was used last, as a count of uses.
    order: BTreeMap<u64, ConsoleId>,
    uses: u64,
}

#[derive(Debug)]
struct Open {
    file: File,
    used: u64,
}

impl Files {
    pub(super) fn new(dir: PathBuf, mode: u32, most: usize) -> Self {
        let mode = Mode::from_raw_mode(mode);
        Self { dir, mode, most: most.max(1), open: HashMap::new(), order: BTreeMap::new(), uses: 0 }
    }

    /// Where a file is, for people.
    pub(super) fn whole_path(&self, path: &Path) -> PathBuf {
        self.dir.join(path)
    }

    /// A console's file, to be written to. One that was removed meanwhile is made again.
    pub(super) fn get(&mut self, id: ConsoleId, path: &Path) -> io::Result<&mut File> {
        if self.open.get(&id).is_some_and(|open| is_gone(&open.file)) {
            self.close(id);
        }
        self.uses += 1;
        let used = self.uses;
        if let Some(open) = self.open.get_mut(&id) {
            self.order.remove(&std::mem::replace(&mut open.used, used));
        } else {
            while self.open.len() >= self.most {
                self.close_oldest();
            }
            let file = match open_file(&self.dir, path, self.mode) {
                // The process has no more descriptors: one of these will do.
                Err(Errno::MFILE | Errno::NFILE) if self.close_oldest() => {
                    open_file(&self.dir, path, self.mode)
                }
                opened => opened,
            }?;
            self.open.insert(id, Open { file, used });
        }
        self.order.insert(used, id);
        let open = self.open.get_mut(&id).ok_or(ErrorKind::NotFound)?;
        Ok(&mut open.file)
    }

    pub(super) fn close(&mut self, id: ConsoleId) {
        if let Some(open) = self.open.remove(&id) {
            self.order.remove(&open.used);
        }
    }

    pub(super) fn close_all(&mut self) {
        self.open.clear();
        self.order.clear();
    }

    fn close_oldest(&mut self) -> bool {
        let Some((_, id)) = self.order.pop_first() else { return false };
        self.open.remove(&id);
        true
    }
}

/// Whether nobody can find a file any more: it was removed, or its directory was.
fn is_gone(file: &File) -> bool {
    fstat(file).is_ok_and(|stat| stat.st_nlink == 0)
}

/// Opens a file to append to; it and the directories on the way to it are made if they are not there. The log
/// directory itself is not: where that is gone (a disk that is not mounted) nothing is to take its place.
fn open_file(dir: &Path, path: &Path, mode: Mode) -> Result<File, Errno> {
    let mut folder = openat(CWD, dir, FOLDER, Mode::empty())?;
    let parents = path.parent().map(Path::components).into_iter().flatten();
    for component in parents {
        // A layout makes no others.
        let Component::Normal(name) = component else { return Err(Errno::INVAL) };
        folder = match openat(&folder, name, FOLDER | OFlags::NOFOLLOW, Mode::empty()) {
            Err(Errno::NOENT) => {
                match mkdirat(&folder, name, folder_mode(mode)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error),
                }
                openat(&folder, name, FOLDER | OFlags::NOFOLLOW, Mode::empty())?
            }
            opened => opened?,
        };
    }
    let name = path.file_name().ok_or(Errno::INVAL)?;
    let file = match openat(&folder, name, FILE, Mode::empty()) {
        Err(Errno::NOENT) => {
            let made = openat(&folder, name, FILE | OFlags::CREATE | OFlags::EXCL, mode)?;
            // The mode is what was asked for, whatever the process masks.
            if let Err(error) = fchmod(&made, mode) {
                log::debug!("{}: its mode stays what it is: {error}", dir.join(path).display());
            }
            made
        }
        opened => opened?,
    };
    refuse_special(file.as_fd())?;
    Ok(OwnedFd::into(file))
}

fn refuse_special(file: impl AsFd) -> Result<(), Errno> {
    match FileType::from_raw_mode(fstat(file)?.st_mode) {
        FileType::RegularFile => Ok(()),
        _ => Err(Errno::NXIO),
    }
}

/// The permissions of a directory: whoever may read a file in it may look for it.
fn folder_mode(mode: Mode) -> Mode {
    let readable = mode.as_raw_mode() & 0o444;
    Mode::from_raw_mode(mode.as_raw_mode() | readable >> 2 | 0o700)
}

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Not waiting is for what is no file; a file is always ready.
const FILE: OFlags = OFlags::WRONLY
    .union(OFlags::APPEND)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);
