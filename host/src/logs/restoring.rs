//! What consoles had printed before the server was started, given back to them out of their logs.
//!
//! **Owns** the thread that reads the ends of logs: of the file that is written to no more than it had before
//! this server wrote to it, and of older files those that were written before the console came, so that
//! nothing is shown twice. Whatever a disk does, nobody waits for it. **Refuses to know** who is shown what
//! it finds.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, SystemTime};

use rustix::fs::OFlags;
use vspc_core::concentrator::ConsoleId;
use vspc_logs::date;
use vspc_logs::stamps::{Part, Splitter};
use vspc_logs::volume::{Volume, volumes_among};

use crate::commands::{self, Command, TrySendError};

use super::Settings;
use super::layout::Subject;
use super::listing::{self, Listing};
use super::stream::without_gaps;

/// Where the thread is told what to read; by default nobody is.
#[derive(Debug, Default)]
pub(super) struct Restorer(Option<Sender<End>>);

/// The end of a log, as it was when its console came.
#[derive(Debug)]
pub(super) struct End {
    pub(super) console: ConsoleId,
    pub(super) subject: Subject,
    /// The file that is written to, relative to the log directory.
    pub(super) path: PathBuf,
    /// What that had, if it was there: its inode and how many bytes.
    pub(super) current: Option<(u64, u64)>,
    /// When the console came.
    pub(super) came: SystemTime,
}

impl Restorer {
    /// Has the end of a log given back to its console. Never waits.
    pub(super) fn give_back(&self, end: End) {
        if let Some(thread) = &self.0 {
            // Fails when the process ends.
            let _ = thread.send(end);
        }
    }
}

/// Starts the thread, if consoles are to be given back anything.
pub(super) fn start(settings: &Arc<Settings>, commands: commands::Sender) -> io::Result<Restorer> {
    if settings.restored == 0 {
        return Ok(Restorer::default());
    }
    let (ends, told) = channel();
    let ends_of = Ends { settings: Arc::clone(settings), listing: Listing::new(&settings.dir) };
    let run = move || ends_of.run(&told, &commands);
    thread::Builder::new().name("log-restore".to_owned()).spawn(run)?;
    Ok(Restorer(Some(ends)))
}

/// Reads the ends of logs.
struct Ends {
    settings: Arc<Settings>,
    listing: Listing,
}

impl Ends {
    fn run(mut self, told: &Receiver<End>, commands: &commands::Sender) {
        loop {
            let end = match told.recv_timeout(listing::KEPT_FOR) {
                Ok(end) => end,
                Err(RecvTimeoutError::Timeout) => {
                    self.listing.forget();
                    match told.recv() {
                        Ok(end) => end,
                        Err(_) => return,
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let output = match self.read(&end) {
                Ok(output) if output.is_empty() => continue,
                Ok(output) => output,
                Err(error) => {
                    log::debug!("{}: what it ends with is not shown: {error}", end.path.display());
                    continue;
                }
            };
            let mut command = Command::Restored { console: end.console, output };
            loop {
                match commands.try_send(command) {
                    Ok(()) => break,
                    Err(TrySendError::Full(back)) => {
                        command = back;
                        thread::sleep(RETRY);
                    }
                    Err(TrySendError::Disconnected(_)) => return,
                }
            }
        }
    }

    /// What a log ended with, as the VM printed it: as much as is to be given back, out of as many files as
    /// that takes.
    fn read(&mut self, end: &End) -> io::Result<Vec<u8>> {
        let (most, stamps) = (self.settings.restored, self.settings.stamps);
        let mut output = match end.current {
            Some(current) => read_current(&self.settings.dir.join(&end.path), current, most, stamps)?,
            None => Vec::new(),
        };
        if output.len() >= most {
            return Ok(output);
        }
        for volume in self.older(end).into_iter().rev().take(MOST_OLDER) {
            let older = match read_older(&volume, most - output.len(), stamps) {
                Ok(older) => older,
                Err(error) => {
                    // What comes before it would stand right before what comes behind it.
                    log::debug!("{}: what it ends with is not shown: {error}", volume.path.display());
                    break;
                }
            };
            output.splice(0..0, older);
            if output.len() >= most {
                break;
            }
        }
        Ok(output)
    }

    /// The files that come before the one that is written to, oldest first.
    fn older(&mut self, end: &End) -> Vec<Volume> {
        let Self { settings, listing } = self;
        let mut logs = Vec::new();
        if settings.layout.has_times() {
            logs = settings.layout.files(&end.subject, |folder| listing.names(folder));
        }
        logs.retain(|path| *path != end.path);
        logs.push(end.path.clone());
        let mut found = Vec::new();
        for log in logs {
            let names = listing.names(log.parent().unwrap_or(Path::new("")));
            let name = log.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let its = names.range(name.clone()..).take_while(|other| other.starts_with(&name));
            let volumes = volumes_among(&settings.dir.join(&log), its);
            // The file itself has been read, as far as it is to be.
            let is_read = |volume: &Volume| log == end.path && volume.path.ends_with(&log);
            found.extend(volumes.into_iter().filter(|volume| !is_read(volume)));
        }
        let came = date::millis(end.came);
        found.retain(|volume| volume.written < came);
        found
    }
}

/// The end of the file that is written to, as it was when its console came.
fn read_current(path: &Path, (inode, len): (u64, u64), most: usize, stamps: bool) -> io::Result<Vec<u8>> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.ino() != inode {
        return Err(ErrorKind::NotFound.into());
    }
    let start = start_of_end(len, most);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(len - start).read_to_end(&mut bytes)?;
    Ok(printed(bytes, start == 0, most, stamps))
}

/// The end of an older file. A compressed one is unpacked from its beginning.
fn read_older(volume: &Volume, most: usize, stamps: bool) -> io::Result<Vec<u8>> {
    let mut opened = volume.open()?;
    if !volume.is_packed {
        let start = start_of_end(volume.len, most);
        opened.skip_to(start)?;
        let mut bytes = Vec::new();
        opened.take(volume.len - start).read_to_end(&mut bytes)?;
        return Ok(printed(bytes, start == 0, most, stamps));
    }
    if volume.len > MOST_PACKED {
        return Err(ErrorKind::FileTooLarge.into());
    }
    let (mut bytes, mut is_whole) = (Vec::new(), true);
    let piece = 2 * most.max(32 << 10);
    while opened.by_ref().take(piece as u64).read_to_end(&mut bytes)? > 0 {
        if bytes.len() > 2 * piece {
            bytes.drain(..bytes.len() - piece);
            is_whole = false;
        }
    }
    Ok(printed(bytes, is_whole, most, stamps))
}

/// Times before lines, and lines about gaps, are not the VM's: some more is read in their stead.
fn start_of_end(len: u64, most: usize) -> u64 {
    len.saturating_sub(2 * most as u64 + A_LINE)
}

/// What a VM printed, of the end of a file; `is_whole`: that is all of it.
fn printed(bytes: Vec<u8>, is_whole: bool, most: usize, stamps: bool) -> Vec<u8> {
    let bytes = if stamps { without_stamps(&bytes, is_whole) } else { bytes };
    let mut output = without_gaps(&bytes);
    let surplus = output.len().saturating_sub(most);
    output.drain(..surplus);
    output
}

/// Without the times before lines; `is_whole`: the first line is, too.
fn without_stamps(bytes: &[u8], is_whole: bool) -> Vec<u8> {
    let mut splitter = Splitter::new(is_whole);
    let (mut text, mut is_inside) = (Vec::new(), is_whole);
    splitter.split(bytes, |part| match part {
        Part::Stamp(..) => is_inside = true,
        // What comes before the first time may be a piece of one.
        Part::Text(bytes) if is_inside => text.extend_from_slice(bytes),
        Part::Text(_) => {}
    });
    text.extend(splitter.finish());
    text
}

/// Longer than a time, and than what is told of a gap: where a few bytes are wanted, none of them is a piece
/// of that.
const A_LINE: u64 = 64;

/// How many older files are looked into: with --log-max-size there is enough in one.
const MOST_OLDER: usize = 8;

/// How large a compressed file may be that is unpacked for its end: that takes a tenth of a second.
const MOST_PACKED: u64 = 8 << 20;

/// How long the thread leaves a full queue alone.
const RETRY: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    use std::fs::{self, File};
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::super::layout::Layout;
    use super::super::rotate::Rotation;

    /// A log directory of a test's own.
    struct Rig {
        dir: PathBuf,
        layout: Layout,
        subject: Subject,
    }

    impl Rig {
        fn new(name: &str, layout: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("vspc-restore-{name}-{}", std::process::id()));
            fs::create_dir_all(&dir).unwrap();
            let subject = Subject::named("web01");
            Self { dir, layout: Layout::parse(layout).unwrap(), subject }
        }

        /// Writes a file, so many seconds ago.
        fn write(&self, name: &str, text: &str, age: u64) {
            let mut file = File::create(self.dir.join(name)).unwrap();
            if name.ends_with(".gz") {
                let mut packed = GzEncoder::new(&file, Compression::default());
                packed.write_all(text.as_bytes()).unwrap();
                packed.finish().unwrap();
            } else {
                file.write_all(text.as_bytes()).unwrap();
            }
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        }

        /// What a console has that comes now: `most` bytes of its log.
        fn end(&self, name: &str) -> End {
            let current = fs::metadata(self.dir.join(name)).ok();
            let current = current.map(|metadata| (metadata.ino(), metadata.len()));
            let (console, subject) = (ConsoleId::from_bits(1), self.subject.clone());
            End { console, subject, path: name.into(), current, came: SystemTime::now() }
        }

        fn read(&self, end: &End, most: usize, stamps: bool) -> io::Result<String> {
            let settings = Settings {
                dir: self.dir.clone(),
                layout: self.layout.clone(),
                mode: 0o600,
                most_open: 4,
                stamps,
                rotation: Rotation::default(),
                index: None,
                restored: most,
            };
            let mut ends = Ends { settings: Arc::new(settings), listing: Listing::new(&self.dir) };
            Ok(String::from_utf8(ends.read(end)?).unwrap())
        }
    }

    impl Drop for Rig {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }

    #[test]
    fn a_log_gives_back_what_its_vm_printed_last_and_nothing_that_came_later() {
        let rig = Rig::new("last", "{name}");
        let stamp = "2026-11-29T20:54:28.123Z ";
        for (stamps, log, most, output) in [
            (false, "login: \x1b[0mroot\r\n# ".to_owned(), 100, "login: \x1b[0mroot\r\n# "),
            (false, "login: root\r\n# ".to_owned(), 4, "\r\n# "),
            (true, format!("{stamp}login: root\r\n{stamp}# "), 100, "login: root\r\n# "),
            (true, format!("{stamp}{}\r\n{stamp}# ", "x".repeat(200)), 16, "# "),
            (false, "one\r\n[vspc: 17 bytes are missing here]\r\ntwo".to_owned(), 100, "onetwo"),
            (false, "[vspc: 17 bytes\r\n[vspc: x".to_owned(), 100, "[vspc: 17 bytes\r\n[vspc: x"),
        ] {
            rig.write("web01", &log, 0);
            let end = rig.end("web01");
            // This server's own.
            OpenOptions::new().append(true).open(rig.dir.join("web01")).unwrap().write_all(b"later").unwrap();
            assert_eq!(rig.read(&end, most, stamps).unwrap(), output, "{log:?}");
            let current = end.current.map(|(inode, len)| (inode + 1, len));
            assert!(rig.read(&End { current, ..end }, most, stamps).is_err(), "it is another file");
        }
    }

    #[test]
    fn a_log_that_was_rotated_a_moment_ago_goes_on_in_older_files_as_far_as_it_takes() {
        let rig = Rig::new("rotated", "{name}");
        rig.write("web01-20261101.gz", "oldest ", 500);
        rig.write("web01.2.gz", &format!("{}older ", "x".repeat(300_000)), 300);
        rig.write("web01.1", "old\r\n[vspc: 7 bytes are missing here]\r\n ", 200);
        rig.write("web01", "new", 100);
        // Another console's.
        rig.write("web011", "other", 100);
        for (most, output) in [(3, "new"), (5, "d new"), (13, "older old new"), (14, "xolder old new")] {
            assert_eq!(rig.read(&rig.end("web01"), most, false).unwrap(), output);
        }
        rig.write("web01.2.gz", "older ", 300);
        assert_eq!(rig.read(&rig.end("web01"), 100, false).unwrap(), "oldest older old new");
        // The file is gone, or not begun.
        fs::remove_file(rig.dir.join("web01")).unwrap();
        let end = rig.end("web01");
        assert_eq!(rig.read(&end, 10, false).unwrap(), "older old ");
        // What this server has put away since is not from before.
        let end = End { came: SystemTime::now() - Duration::from_secs(250), ..end };
        assert_eq!(rig.read(&end, 100, false).unwrap(), "oldest older ");
    }

    #[test]
    fn where_the_date_is_in_the_name_yesterdays_file_comes_before_todays() {
        let rig = Rig::new("dated", "%Y/{name}-%m-%d.log");
        for year in ["2025", "2026"] {
            fs::create_dir_all(rig.dir.join(year)).unwrap();
        }
        rig.write("2025/web01-12-31.log", "last year ", 300);
        rig.write("2026/web01-11-29.log.1.gz", "and before that ", 250);
        rig.write("2026/web01-11-29.log", "yesterday ", 200);
        rig.write("2026/web02-11-30.log", "another's ", 100);
        rig.write("2026/web01-11-30.log", "today", 100);
        let end = rig.end("2026/web01-11-30.log");
        let all = "last year and before that yesterday today";
        assert_eq!(rig.read(&end, 100, false).unwrap(), all);
    }
}
