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

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, fchmod, fstat, mkdirat, openat};
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
pub(super) struct Open {
    pub(super) file: File,
    /// How many bytes it has.
    pub(super) len: u64,
    pub(super) inode: u64,
    /// When it was written to last, in seconds after 1970 began.
    pub(super) last: u64,
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
    pub(super) fn get(&mut self, id: ConsoleId, path: &Path) -> io::Result<&mut Open> {
        // Others may have emptied it, too (logrotate's copytruncate).
        if let Some(open) = self.open.get_mut(&id) {
            match fstat(&open.file) {
                Ok(stat) if stat.st_nlink > 0 => open.len = len_of(&stat),
                _ => self.close(id),
            }
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
            let stat = fstat(&file)?;
            let last = stat.st_mtime.try_into().unwrap_or(0);
            self.open.insert(id, Open { file, len: len_of(&stat), inode: stat.st_ino, last, used });
        }
        self.order.insert(used, id);
        Ok(self.open.get_mut(&id).ok_or(ErrorKind::NotFound)?)
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

fn len_of(stat: &Stat) -> u64 {
    stat.st_size.try_into().unwrap_or(0)
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
