//! Logs read for operators: a thread for each that is being read.
//!
//! **Owns** who reads which log, and how many at once. The loop only passes on what it is asked and what a
//! thread has read, a piece at a time, and the next when the client has taken that: whoever does not read
//! holds nobody up, and costs a piece. One that has not taken its piece for long yields where others wait.
//! **Refuses to know** what is in a log.
//!
//! ```text
//! Output::Log ─▶ Readings ── Tell ─▶ [ thread ] ── Command::Log ─▶ the loop ─▶ handle_log
//!                                        ▲ ── woken by [ Writer ], where it follows
//! ```

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, SystemTime};

use vspc_core::admin::operator::{LogQuery, LogRecord, When};
use vspc_core::concentrator::{ConnId, LogReader};
use vspc_core::time::Instant;
use vspc_logs::date;
use vspc_logs::marks::index_of;
use vspc_logs::reader::{Item, Reader, Source, Span};

use crate::commands::{self, Command, TrySendError};

use super::Settings;
use super::index::Index;
use super::layout::Subject;
use super::listing::Listing;

/// Everybody who reads a log.
#[derive(Debug)]
pub(super) struct Readings {
    threads: HashMap<LogReader, Reading>,
    settings: Arc<Settings>,
    index: Index,
    commands: commands::Sender,
}

#[derive(Debug)]
struct Reading {
    thread: Sender<Tell>,
    /// Since when its client has a piece to take.
    given: Option<Instant>,
}

/// What a thread is told.
#[derive(Debug)]
pub(super) enum Tell {
    /// The client has taken what there was.
    More,
    /// The log has grown.
    Woken,
    /// The log goes on in this file, relative to the log directory.
    Moved(PathBuf),
    /// The console has ended: its log grows no more.
    Over,
    /// Nobody reads any more.
    Stop,
}

/// A thread that waits for its log to grow.
#[derive(Clone, Debug)]
pub(super) struct Follower {
    thread: Sender<Tell>,
    is_told: Arc<AtomicBool>,
}

impl Follower {
    /// The log has grown. Returns whether anybody is there still.
    pub(super) fn wake(&self) -> bool {
        // The thread has the other one.
        let is_there = Arc::strong_count(&self.is_told) > 1;
        is_there && (self.is_told.swap(true, Ordering::AcqRel) || self.thread.send(Tell::Woken).is_ok())
    }

    /// The log grows no more.
    pub(super) fn end(&self) {
        // Fails when nobody is there any more.
        let _ = self.thread.send(Tell::Over);
    }

    /// The log goes on in another file. Returns whether anybody is there still.
    pub(super) fn moved(&self, path: &Path) -> bool {
        self.thread.send(Tell::Moved(path.to_owned())).is_ok()
    }
}

/// What a thread asks the writer: where a console's log is, and to be told from now on.
#[derive(Debug)]
pub(super) struct Where {
    pub(super) subject: Subject,
    /// Gets the file, relative to the log directory, once all is in it that the writer has been given.
    pub(super) answer: Sender<PathBuf>,
    pub(super) follower: Option<Follower>,
}

impl Readings {
    pub(super) fn new(settings: Arc<Settings>, index: Index, commands: commands::Sender) -> Self {
        Self { threads: HashMap::new(), settings, index, commands }
    }

    /// Somebody wants to read: where there is no room for that, whoever has left a piece lying for longest,
    /// and for [`STALLED_FOR`], reads no more. Returns who that is.
    pub(super) fn make_room(&mut self, now: Instant) -> Option<LogReader> {
        if self.threads.len() < MOST_AT_ONCE {
            return None;
        }
        let given = self.threads.iter().filter_map(|(&id, reading)| Some((reading.given?, id)));
        let (given, id) = given.min_by_key(|&(given, _)| given)?;
        let is_stalled = given + STALLED_FOR <= now;
        is_stalled.then(|| self.stop(id))?;
        Some(id)
    }

    /// A client has been given a piece.
    pub(super) fn given(&mut self, id: LogReader, now: Instant) {
        if let Some(reading) = self.threads.get_mut(&id) {
            reading.given = Some(now);
        }
    }

    /// Begins to read. What the writer is to be asked, or why it is not to be, in words.
    pub(super) fn begin(
        &mut self,
        id: LogReader,
        subject: Subject,
        query: LogQuery,
    ) -> Result<Where, String> {
        if self.threads.len() >= MOST_AT_ONCE {
            return Err(format!("{MOST_AT_ONCE} logs are being read already: try again later"));
        }
        let (tell, told) = channel();
        let (answer, answered) = channel();
        let is_told = Arc::new(AtomicBool::new(false));
        let follower = query.follow.then(|| Follower { thread: tell.clone(), is_told: Arc::clone(&is_told) });
        let wanted = Where { subject: subject.clone(), answer, follower };
        let thread = Thread {
            id,
            subject,
            settings: Arc::clone(&self.settings),
            index: self.index.clone(),
            commands: self.commands.clone(),
            told,
            is_told,
        };
        thread::Builder::new()
            .name("log-reader".to_owned())
            .spawn(move || thread.run(&query, &answered))
            .map_err(|error| format!("the server cannot start a thread: {error}"))?;
        self.threads.insert(id, Reading { thread: tell, given: None });
        Ok(wanted)
    }

    /// The client has taken what there was.
    pub(super) fn more(&mut self, id: LogReader) {
        if let Some(reading) = self.threads.get_mut(&id) {
            reading.given = None;
            // Fails when it has ended.
            let _ = reading.thread.send(Tell::More);
        }
    }

    /// Nobody reads it any more.
    pub(super) fn stop(&mut self, id: LogReader) {
        if let Some(reading) = self.threads.remove(&id) {
            let _ = reading.thread.send(Tell::Stop);
        }
    }

    /// A connection has ended: nobody reads what it has read.
    pub(super) fn left(&mut self, conn: ConnId) {
        if self.threads.is_empty() {
            return;
        }
        let all = self.threads.keys().filter(|id| id.conn == conn).copied();
        for id in all.collect::<Vec<_>>() {
            self.stop(id);
        }
    }
}

/// Reads one log.
struct Thread {
    id: LogReader,
    subject: Subject,
    settings: Arc<Settings>,
    index: Index,
    commands: commands::Sender,
    told: Receiver<Tell>,
    is_told: Arc<AtomicBool>,
}

impl Thread {
    fn run(self, query: &LogQuery, answered: &Receiver<PathBuf>) {
        if let Err(why) = self.read(query, answered) {
            self.hand_over(failed(&why), true);
        }
    }

    fn read(&self, query: &LogQuery, answered: &Receiver<PathBuf>) -> Result<(), String> {
        let asked = date::millis(SystemTime::now());
        let current = answered.recv_timeout(PATIENCE).map_err(|why| match why {
            RecvTimeoutError::Timeout => "the disk with the logs does not answer",
            RecvTimeoutError::Disconnected => "the server is shutting down",
        })?;
        self.index.flush();
        let time = |when: When| match when {
            When::AgoMs(millis) => asked.saturating_sub(millis),
            When::AtMs(millis) => millis,
        };
        let span = Span {
            since: query.since.map(time),
            until: query.until.map(time),
            lines: query.lines.map(|lines| usize::try_from(lines).unwrap_or(usize::MAX)),
            after: query.after.as_deref().map(str::parse).transpose()?,
            follow: query.follow,
        };
        let cannot = |error: io::Error| format!("the log cannot be read: {error}");
        let has_times = self.settings.stamps || self.settings.index.is_some();
        if !has_times && (span.since.is_some() || span.until.is_some()) {
            return Err(
                "the server does not keep what was printed when (--log-index, --log-timestamps)".into()
            );
        }
        let stamps = self.settings.stamps;
        let mut reader = Reader::open(self.sources(current), span, Some(stamps)).map_err(cannot)?;
        let mut follows = query.follow;
        loop {
            self.is_told.store(false, Ordering::Release);
            let items = reader.read(PIECE).map_err(cannot)?;
            let is_last = reader.is_over() || reader.is_at_end() && !follows;
            let mut piece = records(&items);
            if !piece.is_empty()
                && let Some(place) = reader.place()
            {
                LogRecord::Place(&place.to_string()).put(&mut piece);
            }
            let is_awaited = !piece.is_empty();
            if is_awaited || is_last {
                self.hand_over(piece, is_last);
            }
            if is_last || !self.wait(&mut reader, is_awaited, &mut follows) {
                return Ok(());
            }
        }
    }

    /// Waits until the client has taken the piece that `is_awaited`, or until the log has grown. Returns
    /// whether it is to go on; `follows` becomes false where the log grows no more.
    fn wait(&self, reader: &mut Reader, is_awaited: bool, follows: &mut bool) -> bool {
        // What was passed over is no end.
        if !is_awaited && !reader.is_at_end() {
            for tell in self.told.try_iter() {
                match tell {
                    Tell::Moved(path) => reader.moved(self.source(&path)),
                    Tell::Over => *follows = false,
                    Tell::Stop => return false,
                    Tell::More | Tell::Woken => {}
                }
            }
            return true;
        }
        loop {
            match self.told.recv() {
                Ok(Tell::More) => return true,
                Ok(Tell::Woken) if is_awaited => {}
                Ok(Tell::Woken) => return true,
                Ok(Tell::Moved(path)) => {
                    reader.moved(self.source(&path));
                    if !is_awaited {
                        return true;
                    }
                }
                Ok(Tell::Over) => {
                    *follows = false;
                    if !is_awaited {
                        return true;
                    }
                }
                Ok(Tell::Stop) | Err(_) => return false,
            }
        }
    }

    fn source(&self, path: &Path) -> Source {
        let index = self.settings.index.as_ref().map(|folder| index_of(folder, path));
        Source { log: self.settings.dir.join(path), index }
    }

    /// All files that are the console's by their names, oldest first; the last is the one that is written to.
    fn sources(&self, current: PathBuf) -> Vec<Source> {
        let mut paths = Vec::new();
        if self.settings.layout.has_times() {
            let mut listing = Listing::new(&self.settings.dir);
            paths = self.settings.layout.files(&self.subject, |folder| listing.names(folder));
        }
        let is_file = |path: &Path| {
            fs::symlink_metadata(self.settings.dir.join(path)).is_ok_and(|found| found.is_file())
        };
        paths.retain(|path| *path != current && is_file(path));
        paths.push(current);
        paths.iter().map(|path| self.source(path)).collect()
    }

    /// Gives the loop what was read, as soon as it has room for that.
    fn hand_over(&self, piece: Vec<u8>, is_last: bool) {
        let mut command = Command::Log { reader: self.id, piece, is_last };
        while let Err(TrySendError::Full(back)) = self.commands.try_send(command) {
            command = back;
            thread::sleep(RETRY);
        }
    }
}

/// Why nothing, or no more, is read.
pub(super) fn failed(why: &str) -> Vec<u8> {
    let mut piece = Vec::new();
    LogRecord::Failed(why).put(&mut piece);
    piece
}

fn records(items: &[Item]) -> Vec<u8> {
    let mut piece = Vec::new();
    for item in items {
        match item {
            Item::Time(millis) => LogRecord::Time(*millis),
            Item::Text(bytes) => LogRecord::Text(bytes),
            Item::Stamp(bytes) => LogRecord::Stamp(bytes),
            Item::Note(text) => LogRecord::Note(text),
        }
        .put(&mut piece);
    }
    piece
}

/// How many logs are read at once, each by a thread: what a disk can do beside being written to.
const MOST_AT_ONCE: usize = 16;

/// How long a client may leave its piece lying where others wait. Whoever reads a log page by page takes its
/// time, and has all of it while there is room.
const STALLED_FOR: Duration = Duration::from_secs(30);

/// What one is told that yields.
pub(super) const STALLED: &str = "others wait to read logs, and of this one nothing was taken for 30 s: \
    it is read no more";

/// How much is read of a log at once.
const PIECE: usize = 64 << 10;

/// How long the writer may take to say where a log is.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a thread leaves a full queue alone.
const RETRY: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    use super::super::layout::Layout;
    use super::super::rotate::Rotation;

    #[test]
    fn who_has_left_a_piece_lying_for_half_a_minute_yields_where_others_wait_and_nobody_else() {
        let settings = Settings {
            dir: PathBuf::from("/nonexistent"),
            layout: Layout::parse("{uuid}").unwrap(),
            mode: 0o600,
            most_open: 4,
            stamps: false,
            rotation: Rotation::default(),
            index: None,
            restored: 0,
        };
        let (commands, ..) = commands::pair().unwrap();
        let mut readings = Readings::new(Arc::new(settings), Index::default(), commands);
        let reader = |stream| LogReader { conn: ConnId::from_bits(1), stream };
        let begin = |readings: &mut Readings, stream| {
            readings.begin(reader(stream), Subject::default(), LogQuery::default())
        };
        let start = Instant::from_millis(1);
        let at = |seconds| start + Duration::from_secs(seconds);
        for stream in 0..15 {
            begin(&mut readings, stream).unwrap();
        }
        for stream in 0..10 {
            readings.given(reader(stream), at(stream));
        }
        assert_eq!(readings.make_room(at(1000)), None, "there is room");
        begin(&mut readings, 15).unwrap();
        begin(&mut readings, 16).unwrap_err();
        readings.more(reader(0));
        assert_eq!(readings.make_room(at(30)), None, "the second has had its piece for 29 s");
        assert_eq!(readings.make_room(at(31)), Some(reader(1)));
        assert_eq!(readings.make_room(at(1000)), None, "there is room again");
        begin(&mut readings, 16).unwrap();
        assert_eq!(readings.make_room(at(1000)), Some(reader(2)));
    }
}
