//! Older files of logs: a log that is full or of yesterday becomes `.1`, what was `.1` becomes `.2`.
//!
//! **Owns** the thread that numbers older files, compresses them, and removes those that are too many or, of
//! all consoles together, too much. **Refuses to know** who writes: it is handed files that nobody writes to
//! any more.
//!
//! ```text
//! Writer: web01.log ─ rename ─▶ web01.log.0 ─ told ─▶ [ Rotator ] ─▶ web01.log.1.gz ─▶ web01.log.2.gz
//! ```
//!
//! While `.0` is there a log is not rotated again, so that whatever this thread is at, the writer waits for
//! nothing; one that a killed server has left is numbered with the next rotation.

use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use flate2::Compression;
use flate2::write::GzEncoder;
use vspc_logs::volume::is_older;

/// When logs are rotated, and what becomes of older files.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Rotation {
    /// How large a log may become.
    pub(super) size: Option<u64>,
    /// A log begins anew with each multiple of this since 1970.
    pub(super) period: Option<Duration>,
    /// How many older files a log has at most.
    pub(super) keep: usize,
    pub(super) compresses: bool,
    /// What all files in the directory together may take.
    pub(super) total: Option<u64>,
}

impl Rotation {
    /// Whether a log is rotated before so many bytes are put behind those that it has, when it was written to
    /// last at that time.
    pub(super) fn is_due(&self, len: u64, more: u64, last: u64, now: u64) -> bool {
        let is_full = self.size.is_some_and(|size| len.saturating_add(more) > size);
        let is_old = self.period.is_some_and(|period| last / period.as_secs() < now / period.as_secs());
        len > 0 && (is_full || is_old)
    }

    pub(super) fn rotates(&self) -> bool {
        self.size.is_some() || self.period.is_some()
    }
}

/// Where the thread is told which logs have been rotated.
#[derive(Debug)]
pub(super) struct Rotated {
    thread: Option<SyncSender<PathBuf>>,
    /// The failure that was told of.
    failed: Option<ErrorKind>,
}

impl Rotated {
    /// Makes a log the older file, if the thread has come to the one before. Returns whether it did: a log
    /// that cannot be put away grows.
    pub(super) fn put_away(&mut self, path: &Path) -> bool {
        let Some(thread) = &self.thread else { return false };
        let away = numbered(path, 0, "");
        let is_busy = fs::symlink_metadata(&away).is_ok();
        let outcome = if is_busy { Ok(()) } else { fs::rename(path, away) };
        // A thread that has no room finds the file with the next one.
        let _ = thread.try_send(path.to_owned());
        let failed = outcome.as_ref().err().map(io::Error::kind);
        let before = std::mem::replace(&mut self.failed, failed);
        if let Err(error) = outcome {
            if before != failed {
                log::error!("{} grows, because it cannot be renamed: {error}", path.display());
            }
            return false;
        }
        !is_busy
    }
}

/// Starts the thread, if there is anything for it to do.
pub(super) fn start(dir: &Path, rotation: &Rotation) -> io::Result<Rotated> {
    if !rotation.rotates() {
        return Ok(Rotated { thread: None, failed: None });
    }
    let (told, tells) = sync_channel(QUEUE);
    let rotator = Rotator {
        dir: dir.to_owned(),
        rotation: rotation.clone(),
        failed: None,
        is_over: false,
        look_at: Instant::now(),
    };
    thread::Builder::new().name("log-rotation".to_owned()).spawn(move || rotator.run(&tells))?;
    Ok(Rotated { thread: Some(told), failed: None })
}

struct Rotator {
    dir: PathBuf,
    rotation: Rotation,
    /// The failure that was told of.
    failed: Option<ErrorKind>,
    /// That all files take too much was told.
    is_over: bool,
    /// When the directory is looked at next.
    look_at: Instant,
}

/// A file in the directory.
struct Found {
    path: PathBuf,
    len: u64,
    written: SystemTime,
}

impl Rotator {
    fn run(mut self, tells: &Receiver<PathBuf>) {
        loop {
            let told = match self.rotation.total {
                Some(_) => tells.recv_timeout(self.look_at.saturating_duration_since(Instant::now())),
                None => tells.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let outcome = match told {
                Ok(path) => self.number(&path),
                Err(RecvTimeoutError::Timeout) => {
                    self.look_at = Instant::now() + LOOK_EVERY;
                    self.trim()
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            self.note(outcome);
        }
    }

    fn note(&mut self, outcome: io::Result<()>) {
        match outcome {
            Ok(()) => self.failed = None,
            Err(error) if self.failed != Some(error.kind()) => {
                self.failed = Some(error.kind());
                log::error!("older files of logs in {} stay as they are: {error}", self.dir.display());
            }
            Err(_) => {}
        }
    }

    /// Makes a log's `.0` its `.1`, and what it has moves on by one.
    fn number(&self, path: &Path) -> io::Result<()> {
        let away = numbered(path, 0, "");
        if fs::symlink_metadata(&away).is_err() {
            return Ok(());
        }
        let keep = self.rotation.keep;
        if keep == 0 {
            return fs::remove_file(away);
        }
        for ending in ["", GZIP] {
            remove(&numbered(path, keep, ending))?;
        }
        for number in (1..keep).rev() {
            for ending in ["", GZIP] {
                match fs::rename(numbered(path, number, ending), numbered(path, number + 1, ending)) {
                    Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        if !self.rotation.compresses {
            return fs::rename(away, numbered(path, 1, ""));
        }
        compress(&away, &numbered(path, 1, GZIP))?;
        fs::remove_file(away)
    }

    /// Removes the oldest of the older files, whosever they are, until all files take no more than they may.
    fn trim(&mut self) -> io::Result<()> {
        let Some(most) = self.rotation.total else { return Ok(()) };
        let mut found = Vec::new();
        find(&self.dir, DEPTH, &mut found)?;
        let mut total: u64 = found.iter().map(|file| file.len).sum();
        found.retain(|file| is_older(&file.path.file_name().unwrap_or_default().to_string_lossy()));
        found.sort_by_key(|file| file.written);
        for file in found {
            if total <= most {
                break;
            }
            remove(&file.path)?;
            total -= file.len;
        }
        if total > most && !self.is_over {
            log::warn!(
                "logs take {total} bytes and --log-total allows {most}: all older files are removed, those \
                 that are written to stay; lower --log-max-size"
            );
        }
        self.is_over = total > most;
        Ok(())
    }
}

fn numbered(path: &Path, number: usize, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}{ending}"));
    name.into()
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Compresses a file into another one, which is there whole or not at all, and was written to when that was.
fn compress(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = File::open(from)?;
    let metadata = source.metadata()?;
    let mut unfinished = to.as_os_str().to_owned();
    unfinished.push(".new");
    remove(Path::new(&unfinished))?;
    let file =
        File::options().write(true).create_new(true).mode(metadata.mode() & 0o777).open(&unfinished)?;
    let mut packed = GzEncoder::new(BufWriter::new(file), Compression::default());
    let outcome = io::copy(&mut source, &mut packed)
        .and_then(|_| packed.finish())
        .and_then(|packed| packed.into_inner().map_err(Into::into))
        .and_then(|file| metadata.modified().and_then(|written| file.set_modified(written)))
        .and_then(|()| fs::rename(&unfinished, to));
    if outcome.is_err() {
        // The first error is the one to tell of.
        let _ = fs::remove_file(&unfinished);
    }
    outcome
}

fn find(dir: &Path, depth: usize, found: &mut Vec<Found>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        // It may have been removed meanwhile.
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_file() {
            let written = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            found.push(Found { path: entry.path(), len: metadata.len(), written });
        } else if metadata.is_dir() && depth > 0 {
            // As above.
            let _ = find(&entry.path(), depth - 1, found);
        }
    }
    Ok(())
}

const GZIP: &str = ".gz";

/// How many rotated logs the thread may have to do: more than a fleet's are found with their next rotation.
const QUEUE: usize = 16 << 10;

/// How often all files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// How many directories deep.
const DEPTH: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::sync::atomic::{AtomicUsize, Ordering};

    use flate2::read::GzDecoder;

    /// A thread's state, and a directory of its own.
    struct Rig(Rotator);

    impl Rig {
        fn new(rotation: Rotation) -> Self {
            static NEXT: AtomicUsize = AtomicUsize::new(0);
            let nth = NEXT.fetch_add(1, Ordering::Relaxed);
            let dir = std::env::temp_dir().join(format!("vspc-rotate-{}-{nth}", std::process::id()));
            fs::create_dir_all(&dir).unwrap();
            Self(Rotator { dir, rotation, failed: None, is_over: false, look_at: Instant::now() })
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.dir.join(name)
        }

        fn write(&self, name: &str, text: &str, age: u64) {
            let file = File::create(self.path(name)).unwrap();
            (&file).write_all(text.as_bytes()).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0.dir).unwrap();
            let mut names: Vec<_> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    impl Drop for Rig {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0.dir);
        }
    }

    #[test]
    fn older_files_move_on_by_one_and_the_oldest_goes() {
        let rig = Rig::new(Rotation { keep: 2, ..Rotation::default() });
        for text in ["one", "two", "three"] {
            rig.write("vm.0", text, 0);
            rig.0.number(&rig.path("vm")).unwrap();
        }
        assert_eq!(rig.names(), ["vm.1", "vm.2"]);
        assert_eq!(fs::read_to_string(rig.path("vm.1")).unwrap(), "three");
        assert_eq!(fs::read_to_string(rig.path("vm.2")).unwrap(), "two");
        // What is told of twice is done once.
        rig.0.number(&rig.path("vm")).unwrap();
        assert_eq!(rig.names(), ["vm.1", "vm.2"]);
    }

    #[test]
    fn a_compressed_file_has_what_the_log_had() {
        let rig = Rig::new(Rotation { keep: 2, compresses: true, ..Rotation::default() });
        for text in ["one", "two"] {
            rig.write("vm.0", text, 500);
            rig.0.number(&rig.path("vm")).unwrap();
        }
        assert_eq!(rig.names(), ["vm.1.gz", "vm.2.gz"]);
        let mut text = String::new();
        let packed = File::open(rig.path("vm.2.gz")).unwrap();
        let age = packed.metadata().unwrap().modified().unwrap().elapsed().unwrap();
        assert!(age >= Duration::from_secs(500), "written {age:?} ago");
        GzDecoder::new(packed).read_to_string(&mut text).unwrap();
        assert_eq!(text, "one");
    }

    #[test]
    fn beyond_the_total_the_oldest_of_the_older_files_go_and_no_other() {
        let mut rig = Rig::new(Rotation { total: Some(25), ..Rotation::default() });
        for (name, age) in [("a.1", 50), ("a.2", 60), ("b.1.gz", 70), ("b", 80), ("b.log", 90)] {
            rig.write(name, "0123456789", age);
        }
        rig.0.trim().unwrap();
        assert_eq!(rig.names(), ["b", "b.log"]);
        assert!(!rig.0.is_over);
        rig.write("a.1", "01234", 50);
        rig.0.trim().unwrap();
        assert_eq!(rig.names(), ["a.1", "b", "b.log"], "they may take all of it");
        rig.write("c", "0123456789", 0);
        rig.0.trim().unwrap();
        assert_eq!(rig.names(), ["b", "b.log", "c"]);
        assert!(rig.0.is_over, "what is written to stays");
    }

    #[test]
    fn a_log_is_put_away_only_once_the_one_before_it_is_numbered() {
        let rig = Rig::new(Rotation::default());
        let (told, tells) = sync_channel(1);
        let mut rotated = Rotated { thread: Some(told), failed: None };
        rig.write("vm", "one", 0);
        assert!(rotated.put_away(&rig.path("vm")));
        rig.write("vm", "two", 0);
        assert!(!rotated.put_away(&rig.path("vm")), "and the full queue holds nobody up");
        assert_eq!(rig.names(), ["vm", "vm.0"]);
        assert_eq!(tells.recv().unwrap(), rig.path("vm"));
    }

    #[test]
    fn a_log_is_rotated_before_it_is_too_large_and_when_a_period_has_begun() {
        let by_size = Rotation { size: Some(100), ..Rotation::default() };
        assert!(!by_size.is_due(90, 10, 0, 0) && by_size.is_due(91, 10, 0, 0));
        assert!(!by_size.is_due(0, 200, 0, 0), "an empty one is not");
        let daily = Rotation { period: Some(Duration::from_secs(86_400)), ..Rotation::default() };
        assert!(!daily.is_due(1, 1, 86_400, 172_799) && daily.is_due(1, 1, 172_799, 172_800));
    }
}
