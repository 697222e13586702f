//! The time index of logs, in a folder of its own: what each VM printed when, for `vspc log --since`.
//!
//! **Owns** the thread that writes it. The logs' thread tells it a mark now and then and never waits; what
//! there is no room for, or what cannot be written (the disk is full, the folder is gone), costs times and
//! nothing else. **Refuses to know** what is in a log.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use vspc_logs::marks::{self, ENDING, Mark};

/// Where the thread is told what was printed when; by default nobody is.
#[derive(Clone, Debug, Default)]
pub(super) struct Index(Option<SyncSender<Told>>);

#[derive(Debug)]
enum Told {
    /// Of the log of this name, relative to the log directory.
    Mark(PathBuf, Mark),
    /// Write what there is, and drop this.
    Flush(SyncSender<()>),
}

impl Index {
    /// Something was printed at that time. Never waits.
    pub(super) fn note(&self, log: &Path, mark: Mark) {
        if let Some(thread) = &self.0 {
            // Without this one the mark before it says more.
            let _ = thread.try_send(Told::Mark(log.to_owned(), mark));
        }
    }

    /// Waits until all marks that were told are in their files, but not for long.
    pub(super) fn flush(&self) {
        let Some(to) = &self.0 else { return };
        let (done, is_done) = sync_channel(0);
        let deadline = Instant::now() + FLUSH_PATIENCE;
        let mut told = Told::Flush(done);
        while let Err(TrySendError::Full(back)) = to.try_send(told) {
            if Instant::now() >= deadline {
                return;
            }
            told = back;
            thread::sleep(RETRY);
        }
        // It ends without a word.
        let _ = is_done.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

/// Starts the thread, if there is a folder for the index. `mode`: the permissions of its files.
pub(super) fn start(folder: Option<&Path>, mode: u32, logs: &Path) -> io::Result<Index> {
    let Some(folder) = folder else { return Ok(Index::default()) };
    let (told, tells) = sync_channel(QUEUE);
    let keeper = Keeper {
        folder: folder.to_owned(),
        logs: logs.to_owned(),
        mode,
        pending: HashMap::new(),
        count: 0,
        due: None,
        sweep_at: Instant::now() + FIRST_SWEEP,
        failed: None,
    };
    thread::Builder::new().name("log-index".to_owned()).spawn(move || keeper.run(&tells))?;
    Ok(Index(Some(told)))
}

struct Keeper {
    folder: PathBuf,
    logs: PathBuf,
    mode: u32,
    /// What is not in its file yet, by log.
    pending: HashMap<PathBuf, Vec<Mark>>,
    count: usize,
    /// When that is due.
    due: Option<Instant>,
    /// When it is looked for logs that are gone.
    sweep_at: Instant,
    /// The failure that was told of.
    failed: Option<ErrorKind>,
}

impl Keeper {
    fn run(mut self, tells: &Receiver<Told>) {
        loop {
            let until = self.due.map_or(self.sweep_at, |due| due.min(self.sweep_at));
            match tells.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Told::Mark(log, mark)) => {
                    self.pending.entry(log).or_default().push(mark);
                    self.count += 1;
                    self.due.get_or_insert_with(|| Instant::now() + WRITTEN_WITHIN);
                    if self.count >= QUEUE {
                        self.write();
                    }
                }
                Ok(Told::Flush(done)) => {
                    self.write();
                    drop(done);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.write(),
            }
            let now = Instant::now();
            if self.due.is_some_and(|due| due <= now) {
                self.write();
            }
            if self.sweep_at <= now {
                self.sweep_at = now + SWEPT_EVERY;
                if let Err(error) = sweep(&self.folder, &self.logs) {
                    log::debug!("indexes of logs that are gone stay: {error}");
                }
            }
        }
    }

    fn write(&mut self) {
        self.count = 0;
        self.due = None;
        let mut failed = None;
        for (log, marks) in self.pending.drain() {
            if let Err(error) = marks::append(&self.folder, &log, self.mode, &marks) {
                failed.get_or_insert(error);
            }
        }
        let kind = failed.as_ref().map(io::Error::kind);
        let before = std::mem::replace(&mut self.failed, kind);
        if let Some(error) = failed.filter(|_| before != kind) {
            log::warn!(
                "times of logs are missing from {}: {error}; logs themselves are not concerned",
                self.folder.display()
            );
        }
    }
}

/// Removes the indexes of logs of which no file is left. Where there are no logs at all, the disk with them
/// is more likely not mounted.
fn sweep(folder: &Path, logs: &Path) -> io::Result<()> {
    if fs::read_dir(logs)?.next().is_none() {
        return Ok(());
    }
    let mut folders: BTreeMap<PathBuf, BTreeSet<String>> = BTreeMap::new();
    let mut indexes = Vec::new();
    find(folder, DEPTH, &mut indexes)?;
    for index in indexes {
        let Ok(relative) = index.strip_prefix(folder) else { continue };
        let relative = relative.to_string_lossy();
        let log = logs.join(relative.strip_suffix(ENDING).unwrap_or(&relative));
        let parent = log.parent().unwrap_or(logs);
        let names = folders.entry(parent.to_owned()).or_insert_with(|| names(parent));
        let name = log.file_name().unwrap_or_default().to_string_lossy();
        let is_there = names.range(name.to_string()..).next().is_some_and(|next| next.starts_with(&*name));
        if !is_there {
            fs::remove_file(index)?;
        }
    }
    Ok(())
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn find(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() && depth > 0 {
            find(&entry.path(), depth - 1, found)?;
        } else if kind.is_file() && entry.file_name().to_string_lossy().ends_with(ENDING) {
            found.push(entry.path());
        }
    }
    Ok(())
}

/// How many marks may wait for the thread, and how many it gathers at most.
const QUEUE: usize = 16 << 10;

/// How long a mark waits for others that go into the same file.
const WRITTEN_WITHIN: Duration = Duration::from_secs(1);

/// How long whoever reads a log waits for its newest times.
const FLUSH_PATIENCE: Duration = Duration::from_secs(2);

/// How often it is tried where the thread has no room.
const RETRY: Duration = Duration::from_millis(5);

/// A server that has just started has other things to do.
const FIRST_SWEEP: Duration = Duration::from_secs(60);

const SWEPT_EVERY: Duration = Duration::from_secs(24 * 3600);

/// How many directories deep.
const DEPTH: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::Folder;

    /// Logs, and their index.
    struct Place(Folder);

    impl Place {
        fn new() -> Self {
            let folder = Folder::new();
            fs::create_dir(folder.at("logs")).unwrap();
            fs::create_dir(folder.at("index")).unwrap();
            Self(folder)
        }

        fn logs(&self) -> PathBuf {
            self.0.at("logs")
        }

        fn index(&self) -> PathBuf {
            self.0.at("index")
        }
    }

    fn mark(offset: u64) -> Mark {
        Mark { time: 1000 + offset, exactness: marks::FINEST, file: 1, offset }
    }

    #[test]
    fn marks_are_in_their_files_when_somebody_waits_for_them() {
        let place = Place::new();
        let index = start(Some(&place.index()), 0o600, &place.logs()).unwrap();
        for offset in 0..100 {
            index.note(Path::new("a/web01.log"), mark(offset));
            index.note(Path::new("db01.log"), mark(offset));
        }
        index.flush();
        for log in ["a/web01.log", "db01.log"] {
            let marks = marks::load(&marks::index_of(&place.index(), Path::new(log)));
            assert_eq!(marks.len(), 100);
        }
    }

    #[test]
    fn an_index_that_cannot_be_written_holds_nobody_up() {
        let place = Place::new();
        let index = start(Some(&place.index()), 0o600, &place.logs()).unwrap();
        fs::remove_dir(place.index()).unwrap();
        for offset in 0..(QUEUE as u64 * 3) {
            index.note(Path::new("web01.log"), mark(offset));
        }
        index.flush();
        assert!(!place.index().exists(), "it is not made anew");
        fs::create_dir(place.index()).unwrap();
        index.note(Path::new("web01.log"), mark(9_999_999));
        index.flush();
        assert!(!marks::load(&marks::index_of(&place.index(), Path::new("web01.log"))).is_empty());
    }

    #[test]
    fn the_index_goes_when_the_last_file_of_its_log_has_gone() {
        let place = Place::new();
        for log in ["a/web01.log", "db01.log", "old.log"] {
            marks::append(&place.index(), Path::new(log), 0o600, &[mark(0)]).unwrap();
        }
        sweep(&place.index(), &place.logs()).unwrap();
        assert!(marks::index_of(&place.index(), Path::new("old.log")).exists(), "no disk is mounted");
        fs::create_dir(place.logs().join("a")).unwrap();
        fs::write(place.logs().join("a/web01.log"), "x").unwrap();
        fs::write(place.logs().join("db01.log.3.gz"), "x").unwrap();
        sweep(&place.index(), &place.logs()).unwrap();
        let left = |log: &str| marks::index_of(&place.index(), Path::new(log)).exists();
        assert_eq!([left("a/web01.log"), left("db01.log"), left("old.log")], [true, true, false]);
    }
}
