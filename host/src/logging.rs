//! Log lines that never make the event loop wait.
//!
//! `env_logger` formats and filters. What it has formatted goes into a bounded buffer; a thread of its own
//! carries that to stderr, to stdout, or to the local syslog. When that does not take it (a stuck terminal, a
//! full pipe), lines are dropped and counted, and the count is logged once there is room again.

use std::env;
use std::fmt::Display;
use std::io::{self, Write};
use std::mem;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use env_logger::{Builder, DEFAULT_FILTER_ENV, Target};
use log::{Level, LevelFilter};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::fstat;

use crate::syslog::Syslog;

/// A handle on the process's log, to flush it before the process ends.
#[derive(Clone, Debug)]
pub struct Logging {
    queue: Arc<Queue>,
}

/// Where the process's log goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// To stderr.
    Stderr,
    /// To stdout.
    Stdout,
    /// To the syslog that listens at this socket.
    Syslog(PathBuf),
}

/// How a line of the log begins.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Form {
    /// With the time and the level, for people.
    Whole,
    /// With the level as a number: the journal knows the time (sd-daemon(3)).
    Journal,
    /// As a message to a local syslog, which knows the time as well (RFC 3164 §4.1, without a HEADER: what
    /// syslog(3) puts there differs between systems, and all take a message that has none).
    Syslog(String),
}

impl Form {
    fn of_stream(stream: impl AsFd) -> Self {
        if is_journal(stream) { Self::Journal } else { Self::Whole }
    }

    fn put(
        &self,
        line: &mut impl Write,
        time: impl Display,
        level: Level,
        text: impl Display,
    ) -> io::Result<()> {
        let severity = severity(level);
        match self {
            Self::Whole => writeln!(line, "{time} {level:<5} {text}"),
            Self::Journal => writeln!(line, "<{severity}>{text}"),
            Self::Syslog(tag) => writeln!(line, "<{}>{tag}: {text}", DAEMON + severity),
        }
    }
}

/// Whether what is written there goes to systemd's journal, which says so (systemd.exec(5),
/// `$JOURNAL_STREAM`).
pub(crate) fn is_journal(stream: impl AsFd) -> bool {
    let Some(named) = env::var_os("JOURNAL_STREAM") else { return false };
    fstat(stream).is_ok_and(|stat| *named == *format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// A level as the journal and syslog number it (RFC 5424 §6.2.1).
const fn severity(level: Level) -> u8 {
    match level {
        Level::Error => ERROR,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

impl Logging {
    /// Sends the log lines of this program to a place: everything of level info and above, with `debug` also
    /// debug, or what `RUST_LOG` asks for. To be called once; a second logger is not installed.
    pub fn start(program: &str, debug: bool, place: Place) -> io::Result<Self> {
        let (queue, form) = match place {
            Place::Stderr => (Queue::start(Patient(io::stderr()), CAPACITY)?, Form::of_stream(io::stderr())),
            Place::Stdout => (Queue::start(Patient(io::stdout()), CAPACITY)?, Form::of_stream(io::stdout())),
            Place::Syslog(path) => {
                let tag = format!("{program}[{}]", process::id());
                (Queue::start(Syslog::new(path, Patient(io::stderr())), CAPACITY)?, Form::Syslog(tag))
            }
        };
        let mut builder = Builder::new();
        builder
            .filter_level(LevelFilter::Debug)
            .parse_default_env()
            .target(Target::Pipe(Box::new(LineWriter(Arc::clone(&queue)))))
            .format(move |line, record| {
                let time = line.timestamp_millis();
                form.put(line, time, record.level(), record.args())
            });
        // Fails only if a logger is installed already; then that one stays.
        let _ = builder.try_init();
        set_debug(debug);
        Ok(Self { queue })
    }

    /// Waits until everything is written, at most for `patience`. True if it is.
    pub fn flush(&self, patience: Duration) -> bool {
        self.queue.flush(patience)
    }
}

/// Logs also what is of level debug from now on, or only info and above, unless `RUST_LOG` decides.
pub(crate) fn set_debug(debug: bool) {
    if env::var_os(DEFAULT_FILTER_ENV).is_none() {
        log::set_max_level(if debug { LevelFilter::Debug } else { LevelFilter::Info });
    }
}

/// The bounded buffer between the loop and the writing thread.
#[derive(Debug)]
struct Queue {
    buffer: Mutex<Buffer>,
    /// Notified when a line was queued while the writer slept.
    filled: Condvar,
    /// Notified when all lines are written.
    idle: Condvar,
    capacity: usize,
}

#[derive(Debug, Default)]
struct Buffer {
    /// Whole lines that wait to be written.
    lines: Vec<u8>,
    /// The writer holds lines that are not written yet.
    writing: bool,
    /// Lines that found no room since the writer last looked.
    dropped: u64,
}

impl Queue {
    fn start(writer: impl Write + Send + 'static, capacity: usize) -> io::Result<Arc<Self>> {
        let queue = Arc::new(Self {
            buffer: Mutex::default(),
            filled: Condvar::new(),
            idle: Condvar::new(),
            capacity,
        });
        let writers_queue = Arc::clone(&queue);
        thread::Builder::new().name("log".to_owned()).spawn(move || writers_queue.run_writer(writer))?;
        Ok(queue)
    }

    /// Takes one line, or counts it as dropped. Holds the lock for a copy of that line.
    fn push(&self, line: &[u8]) {
        let mut buffer = self.lock();
        if buffer.lines.len() + line.len() > self.capacity {
            buffer.dropped += 1;
            return;
        }
        let was_empty = buffer.lines.is_empty();
        buffer.lines.extend_from_slice(line);
        // After every write the writer looks at the buffer again by itself: only one that sleeps needs a
        // notice.
        if was_empty && !buffer.writing {
            self.filled.notify_one();
        }
    }

    /// The writing thread. Ends with the process.
    fn run_writer(&self, mut writer: impl Write) {
        let mut batch = Vec::new();
        loop {
            let mut buffer = self.lock();
            buffer.writing = false;
            if buffer.lines.is_empty() {
                while buffer.lines.is_empty() {
                    self.idle.notify_all();
                    buffer = self.filled.wait(buffer).unwrap_or_else(PoisonError::into_inner);
                }
                // Lines come in bursts. Without this pause, a fleet that connects would cost a context
                // switch for every few lines.
                drop(buffer);
                thread::sleep(GATHERING);
                buffer = self.lock();
            }
            mem::swap(&mut batch, &mut buffer.lines);
            buffer.writing = true;
            let dropped = mem::take(&mut buffer.dropped);
            drop(buffer);
            // An error is ignored: there is nowhere to report it.
            let _ = writer.write_all(&batch).and_then(|()| writer.flush());
            batch.clear();
            // Frees the memory that a burst took.
            batch.shrink_to(KEPT);
            if dropped > 0 {
                log::warn!("{dropped} log lines were dropped: nobody took them");
            }
        }
    }

    fn flush(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut buffer = self.lock();
        while buffer.writing || !buffer.lines.is_empty() {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { return false };
            buffer = self.idle.wait_timeout(buffer, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Ignores poison: nobody who holds the lock can panic in the middle of a change.
    fn lock(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writer that `env_logger` is given. Each call brings one whole line.
struct LineWriter(Arc<Queue>);

impl Write for LineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Stderr or stdout, which may be non-blocking because another program on the same terminal made it so.
/// `write_all` would lose lines then; this waits until it takes more.
struct Patient<S>(S);

impl<S: Write + AsFd> Write for Patient<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    poll(&mut [PollFd::new(&self.0, PollFlags::OUT)], None)?;
                }
                outcome => return outcome,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The severity of an error, by number.
pub(crate) const ERROR: u8 = 3;

/// The facility of servers, where a severity is added to it.
const DAEMON: u8 = 3 << 3;

/// How much may wait to be written: the lines of nine thousand VMs that connect at once, with room to
/// spare. Beyond it lines are dropped and counted.
const CAPACITY: usize = 8 << 20;

/// How long the writer lets lines gather before it writes the first one of a burst.
const GATHERING: Duration = Duration::from_millis(1);

/// How much of the buffer is kept between bursts.
const KEPT: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, pipe};

    #[test]
    fn a_blocked_reader_costs_lines_never_time() {
        let (mut reader, writer) = pipe().unwrap();
        let queue = Queue::start(writer, 4096).unwrap();
        let line = [b'x'; 128];
        // A pipe takes 64 KiB before it blocks and the queue 4 KiB: most of this finds no room.
        for _ in 0..2048 {
            queue.push(&line);
        }
        assert!(!queue.flush(Duration::ZERO), "nobody reads, so nothing is flushed");
        assert!(queue.lock().lines.len() <= 4096);
        assert!(queue.lock().dropped > 0);
        thread::spawn(move || io::copy(&mut reader, &mut io::sink()));
        assert!(queue.flush(Duration::from_secs(60)));
    }

    #[test]
    fn a_line_begins_as_its_reader_takes_it() {
        let line = |form: Form, level| {
            let mut line = Vec::new();
            form.put(&mut line, "now", level, "words").unwrap();
            String::from_utf8(line).unwrap()
        };
        assert_eq!(line(Form::Whole, Level::Info), "now INFO  words\n");
        assert_eq!(line(Form::Journal, Level::Error), "<3>words\n");
        assert_eq!(line(Form::Journal, Level::Info), "<6>words\n");
        assert_eq!(line(Form::Journal, Level::Trace), "<7>words\n");
        assert_eq!(line(Form::Syslog("vspc-mio[7]".to_owned()), Level::Warn), "<28>vspc-mio[7]: words\n");
    }

    #[test]
    fn lines_arrive_whole_and_in_order() {
        let (mut reader, writer) = pipe().unwrap();
        let queue = Queue::start(writer, 1 << 20).unwrap();
        let expected: String = (0..1000).map(|n| format!("line {n}\n")).collect();
        for line in expected.split_inclusive('\n') {
            queue.push(line.as_bytes());
        }
        let mut arrived = vec![0; expected.len()];
        reader.read_exact(&mut arrived).unwrap();
        assert_eq!(String::from_utf8(arrived).unwrap(), expected);
        assert!(queue.flush(Duration::from_secs(60)));
    }
}
