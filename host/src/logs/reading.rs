//! Logs read for operators: a thread for each that is being read.
//!
//! **Owns** who reads which log, and how many at once. The loop only passes on what it is asked and what a
//! thread has read, a piece at a time, and the next when the client has taken that: whoever does not read
//! holds nobody up, and costs a piece. **Refuses to know** what is in a log.
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
use vspc_logs::date;
use vspc_logs::marks::index_of;
use vspc_logs::reader::{Item, Reader, Source, Span};

use crate::commands::{self, Command, TrySendError};

use super::Settings;
use super::index::Index;
use super::layout::Subject;

/// Everybody who reads a log.
#[derive(Debug)]
pub(super) struct Readings {
    threads: HashMap<LogReader, Sender<Tell>>,
    settings: Arc<Settings>,
    index: Index,
    commands: commands::Sender,
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
        self.threads.insert(id, tell);
        Ok(wanted)
    }

    /// The client has taken what there was.
    pub(super) fn more(&self, id: LogReader) {
        if let Some(thread) = self.threads.get(&id) {
            // Fails when it has ended.
            let _ = thread.send(Tell::More);
        }
    }

    /// Nobody reads it any more.
    pub(super) fn stop(&mut self, id: LogReader) {
        if let Some(thread) = self.threads.remove(&id) {
            let _ = thread.send(Tell::Stop);
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
            let is_its = |path: &Path| self.settings.layout.is_ever(&self.subject, path);
            find(&self.settings.dir, Path::new(""), &is_its, &mut paths);
            paths.sort();
        }
        paths.retain(|path| *path != current);
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

/// The files below a folder, relative to it, of which `is_it` holds; also folders on the way to such.
fn find(dir: &Path, below: &Path, is_it: &impl Fn(&Path) -> bool, found: &mut Vec<PathBuf>) {
    // One that is gone by now has nothing to be found in it.
    for entry in fs::read_dir(dir.join(below)).into_iter().flatten().flatten() {
        let path = below.join(entry.file_name());
        match entry.file_type() {
            Ok(kind) if kind.is_file() && is_it(&path) => found.push(path),
            Ok(kind) if kind.is_dir() && is_it(&path) => find(dir, &path, is_it, found),
            _ => {}
        }
    }
}

/// How many logs are read at once, each by a thread: what a disk can do beside being written to.
const MOST_AT_ONCE: usize = 16;

/// How much is read of a log at once.
const PIECE: usize = 64 << 10;

/// How long the writer may take to say where a log is.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a thread leaves a full queue alone.
const RETRY: Duration = Duration::from_millis(10);
