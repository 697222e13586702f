//! A folder whose sockets are lines: each `NAME.sock` is the VM `NAME`, unless `NAME.toml` beside it says
//! otherwise.
//!
//! **Owns** which sockets are there. It is looked into when the kernel says that something has changed
//! (inotify(7)); a folder of sockets is one in memory, so that the loop does not wait for a disk.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use crate::config::{FolderRoute, LineRoute};
use crate::dial::Goal;
use crate::fatal::Fatal;
use crate::line::Spec;

/// A folder that is watched.
#[derive(Debug)]
pub(crate) struct Folder {
    route: FolderRoute,
    to: Arc<Goal>,
    watch: OwnedFd,
    /// The lines of the sockets that are there.
    lines: HashMap<PathBuf, usize>,
}

impl Folder {
    pub(crate) fn open(route: FolderRoute, to: Arc<Goal>) -> Result<Self, Fatal> {
        let watch = || -> io::Result<OwnedFd> {
            let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
            let changes = WatchFlags::CREATE
                | WatchFlags::DELETE
                | WatchFlags::MOVED_FROM
                | WatchFlags::MOVED_TO
                | WatchFlags::CLOSE_WRITE;
            inotify::add_watch(&watch, &route.folder, changes)?;
            Ok(watch)
        };
        match watch() {
            Ok(watch) => Ok(Self { route, to, watch, lines: HashMap::new() }),
            Err(why) => Err(Fatal::Options(format!("cannot watch {}: {why}", route.folder.display()))),
        }
    }

    /// Whether these are its lines.
    pub(crate) fn is_of(&self, route: &FolderRoute) -> bool {
        self.route.folder == route.folder
    }

    pub(crate) fn path(&self) -> &Path {
        &self.route.folder
    }

    /// Has its lines go somewhere else, those that are there too. Returns whether that differs from what was
    /// before, and what these lines are now.
    pub(crate) fn change(&mut self, route: FolderRoute, to: Arc<Goal>) -> (bool, Vec<(usize, Spec)>) {
        let is_other = route != self.route;
        (self.route, self.to) = (route, to);
        let lines = self.lines.iter().filter_map(|(path, id)| Some((*id, self.spec(path)?)));
        (is_other, lines.collect())
    }

    /// All lines that it has.
    pub(crate) fn into_lines(self) -> impl Iterator<Item = usize> {
        self.lines.into_values()
    }

    /// Which sockets have come, and whose lines are those of sockets that have gone.
    pub(crate) fn look(&mut self) -> (Vec<(PathBuf, Spec)>, Vec<usize>) {
        self.forget_changes();
        let there = self.sockets();
        let gone: Vec<PathBuf> = self.lines.keys().filter(|path| !there.contains(*path)).cloned().collect();
        let gone = gone.iter().filter_map(|path| self.lines.remove(path)).collect();
        let come = there.into_iter().filter(|path| !self.lines.contains_key(path));
        let come = come.filter_map(|path| Some((path.clone(), self.spec(&path)?)));
        (come.collect(), gone)
    }

    /// Notes the line of a socket.
    pub(crate) fn note(&mut self, socket: PathBuf, line: usize) {
        self.lines.insert(socket, line);
    }

    /// What has changed does not matter: the folder says what is there.
    fn forget_changes(&self) {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut changes = inotify::Reader::new(&self.watch, &mut buffer);
        while changes.next().is_ok() {}
    }

    fn sockets(&self) -> BTreeSet<PathBuf> {
        let entries = match fs::read_dir(&self.route.folder) {
            Ok(entries) => entries,
            Err(error) => {
                log::warn!("cannot look into {}: {error}", self.route.folder.display());
                return BTreeSet::new();
            }
        };
        let is_line = |path: &Path| path.extension().is_some_and(|end| end == "sock");
        entries
            .filter_map(Result::ok)
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_socket()))
            .map(|entry| entry.path())
            .filter(|path| is_line(path))
            .collect()
    }

    fn spec(&self, socket: &Path) -> Option<Spec> {
        match LineRoute::of_socket(socket, &self.route) {
            Ok(line) => Some(line.spec(Arc::clone(&self.to))),
            Err(fault) => {
                log::warn!("{}: {fault}", socket.display());
                None
            }
        }
    }
}

impl AsRawFd for Folder {
    fn as_raw_fd(&self) -> RawFd {
        self.watch.as_raw_fd()
    }
}
