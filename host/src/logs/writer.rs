//! The thread of logs: it writes what the loop gives it.
//!
//! **Owns** which file is whose, in which order consoles are written, and what happens when that fails: what
//! cannot be written is dropped and counted, the failure is one line in the server's log, it is tried again
//! every [`RETRY`], and then the log of the console says how much is missing. **Refuses to know** the loop.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind, IoSlice, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use vspc_core::concentrator::ConsoleId;
use vspc_logs::date;
use vspc_logs::marks::{FINEST, Mark};

use crate::commands::Sender;

use super::Settings;
use super::buffers::Buffers;
use super::files::Files;
use super::index::Index;
use super::layout::{Layout, Subject, apart};
use super::reading::{Follower, Where};
use super::restoring::{End, Restorer};
use super::rotate::{Rotated, Rotation};
use super::stream::{Batch, MOST_PARTS, Piece, Place};
use super::tap::{Message, SUBJECT_COST, charge};
use crate::room::Room;

/// The thread's state.
pub(super) struct Writer {
    files: Files,
    layout: Layout,
    /// Each line begins with the time.
    stamps: bool,
    rotation: Rotation,
    rotated: Rotated,
    messages: Receiver<Message>,
    room: Arc<Room>,
    buffers: Arc<Buffers>,
    commands: Sender,
    logs: HashMap<ConsoleId, Log>,
    /// Whose each file is.
    holders: HashMap<PathBuf, ConsoleId>,
    /// Consoles that have pieces to be written.
    due: Vec<ConsoleId>,
    batch: Batch,
    times: Vec<Printed>,
    index: Index,
    restorer: Restorer,
    /// Who reads logs as they grow.
    followers: Vec<(ConsoleId, Follower)>,
    trouble: Trouble,
    lag: Lag,
}

/// The threads that the writer has work for.
pub(super) struct Threads {
    pub(super) rotated: Rotated,
    pub(super) index: Index,
    pub(super) restorer: Restorer,
}

/// The log of one console.
struct Log {
    subject: Subject,
    path: PathBuf,
    /// The minute that the path is of.
    minute: u64,
    place: Place,
    /// The time of its last mark in the index, in milliseconds since 1970.
    marked: u64,
    pieces: Vec<Piece>,
    is_failing: bool,
}

/// When something in the batch was printed.
struct Printed {
    /// How many bytes of the batch come before.
    before: usize,
    /// In milliseconds since 1970.
    time: u64,
    /// The last mark of its log does not speak of it. One that begins a file is marked all the same.
    is_due: bool,
}

/// What cannot be written.
#[derive(Default)]
struct Trouble {
    /// Logs that cannot, the one first that was tried longest ago.
    failing: VecDeque<ConsoleId>,
    /// When they are tried next.
    retry_at: Option<Instant>,
    /// The kinds of failure that were told of.
    told: HashSet<ErrorKind>,
    /// How many bytes are missing since it began.
    missing: u64,
}

/// What the thread has never had, because the disk did not keep up.
#[derive(Default)]
struct Lag {
    missing: u64,
    told_at: Option<Instant>,
}

impl Writer {
    pub(super) fn new(
        files: Files,
        settings: &Settings,
        threads: Threads,
        messages: Receiver<Message>,
        (room, buffers): (Arc<Room>, Arc<Buffers>),
        commands: Sender,
    ) -> Self {
        let Threads { rotated, index, restorer } = threads;
        Self {
            files,
            layout: settings.layout.clone(),
            stamps: settings.stamps,
            rotation: settings.rotation.clone(),
            rotated,
            messages,
            room,
            buffers,
            commands,
            logs: HashMap::new(),
            holders: HashMap::new(),
            due: Vec::new(),
            batch: Batch::default(),
            times: Vec::new(),
            index,
            restorer,
            followers: Vec::new(),
            trouble: Trouble::default(),
            lag: Lag::default(),
        }
    }

    /// Runs until the loop has dropped its end; what it has given by then is written.
    pub(super) fn run(mut self) {
        loop {
            match self.receive() {
                Ok(message) => self.take(message),
                Err(RecvTimeoutError::Timeout) => self.buffers.free(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
            // Others print at the same time: the loop wakes this thread once for all of them.
            if self.room.taken() < MUCH {
                thread::sleep(GATHERED_FOR);
            }
            // What has come meanwhile is one write for each console.
            for _ in 0..AT_ONCE {
                let Ok(message) = self.messages.try_recv() else { break };
                self.take(message);
            }
            self.write_all();
            if self.trouble.retry_at.is_some_and(|at| at <= Instant::now()) {
                self.retry(RETRIED_AT_ONCE);
            }
        }
        self.write_all();
        self.retry(usize::MAX);
        self.lag.tell();
    }

    fn receive(&self) -> Result<Message, RecvTimeoutError> {
        let kept_until = self.buffers.are_kept().then(|| Instant::now() + BUFFERS_KEPT_FOR);
        match self.trouble.retry_at.into_iter().chain(kept_until).min() {
            Some(at) => self.messages.recv_timeout(at.saturating_duration_since(Instant::now())),
            None => self.messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Subject(id, subject, begins) => {
                self.name(id, subject, begins);
                self.give_back(SUBJECT_COST);
            }
            Message::Piece(id, piece) => match self.logs.get_mut(&id) {
                Some(log) => {
                    if log.pieces.is_empty() {
                        self.due.push(id);
                    }
                    log.pieces.push(piece);
                }
                None => self.give_back(charge(piece.bytes.len())),
            },
            Message::Come(id, subject) => self.give_back_output(id, subject),
            Message::Where(id, wanted) => {
                self.write_all();
                self.tell_where(id, wanted);
            }
            Message::End(id) => self.end(id),
            Message::Reopen => {
                self.write_all();
                self.files.close_all();
                log::info!("SIGHUP: the logs of consoles are opened anew");
            }
        }
    }

    /// Where a console's log is. One that has printed nothing yet has none that is its own.
    fn path_of(&self, id: ConsoleId, subject: &Subject) -> PathBuf {
        if let Some(log) = self.logs.get(&id) {
            return log.path.clone();
        }
        let path = self.layout.path(subject, seconds_of(SystemTime::now()));
        match self.holders.contains_key(&path) {
            true => apart(&path, subject, 0),
            false => path,
        }
    }

    /// Says where a console's log is.
    fn tell_where(&mut self, id: ConsoleId, wanted: Where) {
        let path = self.path_of(id, &wanted.subject);
        // Fails when nobody reads any more.
        let _ = wanted.answer.send(path);
        self.followers.extend(wanted.follower.map(|follower| (id, follower)));
    }

    /// A console has come that has printed nothing by now: what its log ends with is from before the start.
    fn give_back_output(&mut self, id: ConsoleId, subject: Subject) {
        if self.logs.contains_key(&id) {
            return;
        }
        let path = self.path_of(id, &subject);
        let metadata = fs::symlink_metadata(self.files.whole_path(&path)).ok();
        let current = metadata.filter(Metadata::is_file).map(|found| (found.ino(), found.len()));
        self.restorer.give_back(End { console: id, subject, path, current, came: SystemTime::now() });
    }

    /// A console is called that from now on; its first piece has so many guest bytes before it.
    fn name(&mut self, id: ConsoleId, subject: Subject, begins: u64) {
        self.write(id);
        if let Some(log) = self.logs.get_mut(&id) {
            log.subject = subject;
            let minute = log.minute;
            self.place(id, minute);
            return;
        }
        let log = Log {
            subject,
            path: PathBuf::new(),
            minute: 0,
            place: Place::at(begins),
            marked: 0,
            pieces: Vec::new(),
            is_failing: false,
        };
        self.logs.insert(id, log);
        self.place(id, minute_of(SystemTime::now()));
    }

    /// Gives a console the file that it has at this time: that of its name, or, where another console has
    /// that one, one of its own.
    fn place(&mut self, id: ConsoleId, minute: u64) {
        let Some(log) = self.logs.get_mut(&id) else { return };
        log.minute = minute;
        let wanted = self.layout.path(&log.subject, minute * 60);
        let is_free = |path: &PathBuf| self.holders.get(path).is_none_or(|holder| *holder == id);
        let mut path = wanted.clone();
        let mut number = 0;
        while !is_free(&path) {
            path = apart(&wanted, &log.subject, number);
            number += 1;
        }
        if path != log.path {
            self.files.close(id);
            self.holders.remove(&log.path);
            self.holders.insert(path.clone(), id);
            self.followers.retain(|(of, follower)| *of != id || follower.moved(&path));
            log.path = path;
        }
    }

    fn end(&mut self, id: ConsoleId) {
        self.write(id);
        if self.logs.get(&id).is_some_and(|log| log.is_failing) {
            // The disk may be well again, and this is the last time that the log can say what is missing.
            self.trouble.failing.retain(|failing| *failing != id);
            self.try_again(id);
        }
        self.files.close(id);
        self.followers.retain(|(of, follower)| {
            let is_its = *of == id;
            if is_its {
                follower.end();
            }
            !is_its
        });
        if let Some(log) = self.logs.remove(&id) {
            self.holders.remove(&log.path);
            if log.is_failing {
                self.trouble.settle(log.place.missing());
            }
        }
    }

    fn write_all(&mut self) {
        for id in std::mem::take(&mut self.due) {
            self.write(id);
        }
    }

    /// Writes what a console has printed, or drops it where that has failed a moment ago.
    fn write(&mut self, id: ConsoleId) {
        let Some(log) = self.logs.get_mut(&id) else { return };
        let pieces = std::mem::take(&mut log.pieces);
        let Some(first) = pieces.first() else { return };
        let minute = minute_of(first.time);
        if self.layout.has_times() && log.minute != minute {
            self.place(id, minute);
        }
        let mut done = 0;
        for piece in pieces {
            let Some(log) = self.logs.get_mut(&id) else { break };
            done += charge(piece.bytes.len());
            self.lag.missing += match log.is_failing {
                true => {
                    let gap = log.place.lose(&piece);
                    self.buffers.put(piece.bytes);
                    gap
                }
                false => {
                    let time = date::millis(piece.time);
                    // A mark speaks of what is printed so long after it.
                    let is_due = !(log.marked..log.marked + (1 << FINEST)).contains(&time);
                    if self.times.is_empty() || is_due {
                        self.times.push(Printed { before: self.batch.len(), time, is_due });
                    }
                    if is_due {
                        log.marked = time;
                    }
                    log.place.put(piece, self.stamps, &mut self.batch)
                }
            };
            if self.batch.is_full() {
                self.write_batch(id);
                self.give_back(std::mem::take(&mut done));
            }
        }
        if self.batch.len() > 0 {
            self.write_batch(id);
        }
        self.give_back(done);
        self.lag.tell_now_and_then();
    }

    /// Writes the batch. What does not get into the file is missing. Returns whether all did.
    fn write_batch(&mut self, id: ConsoleId) -> bool {
        let Some(log) = self.logs.get_mut(&id) else { return false };
        let (mut written, mut inode, mut start) = (0, 0, 0);
        let mut write = || -> io::Result<()> {
            let len = self.batch.len();
            let now = seconds_of(SystemTime::now());
            let mut open = self.files.get(id, &log.path)?;
            if self.rotation.is_due(open.len, len as u64, open.last, now) {
                if self.rotated.put_away(&self.files.whole_path(&log.path)) {
                    self.files.close(id);
                }
                open = self.files.get(id, &log.path)?;
            }
            open.last = now;
            (inode, start) = (open.inode, open.len);
            while written < len {
                let mut slices = [IoSlice::new(&[]); MOST_PARTS];
                let count = self.batch.slices(written, &mut slices);
                match open.file.write_vectored(&slices[..count]) {
                    Ok(0) => return Err(ErrorKind::WriteZero.into()),
                    Ok(n) => written += n,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        };
        let outcome = write();
        if let Err(error) = &outcome {
            log.place.fall_short(&self.batch, written);
            // It may be another file by the time it is tried again.
            self.files.close(id);
            if !log.is_failing {
                log.is_failing = true;
                self.trouble.failing.push_back(id);
                self.trouble.retry_at.get_or_insert_with(|| Instant::now() + RETRY);
            }
            if self.trouble.told.insert(error.kind()) {
                let path = self.files.whole_path(&log.path);
                log::error!(
                    "{} cannot be written: {error}; what consoles print meanwhile is missing from their \
                     logs, which will say so. It is tried again every second",
                    path.display()
                );
            }
        }
        self.followers.retain(|(of, follower)| *of != id || follower.wake());
        for time in self.times.drain(..) {
            if time.before < written && (time.is_due || start == 0) {
                let offset = start + time.before as u64;
                let mark = Mark { time: time.time, exactness: FINEST, file: inode, offset };
                self.index.note(&log.path, mark);
            }
        }
        self.batch.clear(|bytes| self.buffers.put(bytes));
        outcome.is_ok()
    }

    /// Tries logs again that could not be written: it is said in them how much is missing.
    fn retry(&mut self, most: usize) {
        for _ in 0..most.min(self.trouble.failing.len()) {
            let Some(id) = self.trouble.failing.pop_front() else { break };
            if !self.try_again(id) {
                self.trouble.failing.push_back(id);
            }
        }
        self.trouble.retry_at = (!self.trouble.failing.is_empty()).then(|| Instant::now() + RETRY);
    }

    /// Writes into a log that could not be written what is missing there. Returns whether there is nothing
    /// left to be tried.
    fn try_again(&mut self, id: ConsoleId) -> bool {
        let Some(log) = self.logs.get_mut(&id) else { return true };
        let missing = log.place.missing();
        log.place.put_gap(&mut self.batch);
        if !self.write_batch(id) {
            return false;
        }
        if let Some(log) = self.logs.get_mut(&id) {
            log.is_failing = false;
        }
        self.trouble.settle(missing);
        true
    }

    fn give_back(&self, bytes: usize) {
        if self.room.give_back(bytes) {
            self.commands.nudge();
        }
    }
}

impl Trouble {
    /// One that could not be written is, or is gone; so many bytes are missing from it.
    fn settle(&mut self, missing: u64) {
        self.missing += missing;
        if self.failing.is_empty() {
            log::info!(
                "the logs of consoles are written again; {} bytes are missing, where they say so",
                self.missing
            );
            *self = Self::default();
        }
    }
}

impl Lag {
    fn tell_now_and_then(&mut self) {
        if self.missing > 0 && self.told_at.is_none_or(|at| at.elapsed() >= TELL_LAG_EVERY) {
            self.tell();
        }
    }

    fn tell(&mut self) {
        let missing = std::mem::take(&mut self.missing);
        if missing > 0 {
            log::warn!(
                "the disk does not keep up with what consoles print: {missing} bytes are missing from their \
                 logs, which say where"
            );
            self.told_at = Some(Instant::now());
        }
    }
}

fn seconds_of(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

fn minute_of(time: SystemTime) -> u64 {
    seconds_of(time) / 60
}

/// How often what cannot be written is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// How many logs are tried again at once: a disk that takes half a minute to say no keeps the thread from the
/// others.
const RETRIED_AT_ONCE: usize = 64;

/// How long a piece may wait for others, so that they are written together.
const GATHERED_FOR: Duration = Duration::from_millis(5);

/// With this much to be written nothing more is waited for.
const MUCH: usize = 256 << 10;

/// How long buffers are kept while nothing is printed.
const BUFFERS_KEPT_FOR: Duration = Duration::from_secs(1);

/// How many messages are looked at before what they bring is written.
const AT_ONCE: usize = 4096;

/// How often it is told that the disk does not keep up.
const TELL_LAG_EVERY: Duration = Duration::from_secs(10);
