//! One operator connection (operator.md), which attaches to consoles and opens streams in a guest (§11).
//!
//! Owns a socket and the conversation on it. Whatever the server refuses is a failure of the run.

use std::collections::{BTreeSet, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde_json::{Value, json};
use vspc_core::mux::StreamId;
use vspc_core::time;
use vspc_guest::{Header, LineBuffer, MAX_LINE};
use vspc_operator::{HELLO_ID, News, Operator};

use super::LoadError;
use crate::random::nonce;

/// A connection that has said hello.
#[derive(Debug)]
pub(super) struct Connection {
    socket: TcpStream,
    operator: Operator,
    began: Instant,
    answers: VecDeque<(u64, Value)>,
    notices: VecDeque<Value>,
    /// Streams on which something has come since [`Connection::hear`] was last asked.
    readable: BTreeSet<StreamId>,
    scratch: Vec<u8>,
}

/// What is said on a stream: all that can be read from something.
#[derive(Debug)]
pub(super) struct Source<R> {
    from: R,
    piece: Vec<u8>,
    at: usize,
    end: usize,
}

impl<R: Read> Source<R> {
    /// Of which so many bytes are read at a time.
    pub(super) fn new(from: R, piece: usize) -> Self {
        Self { from, piece: vec![0; piece], at: 0, end: 0 }
    }
}

impl Connection {
    /// Connects as a program whose streams carry much, and says hello.
    pub(super) fn wide(admin: SocketAddr) -> Result<Self, LoadError> {
        Self::open(admin, Operator::wide)
    }

    /// Connects as a client of many users, and says hello.
    pub(super) fn narrow(admin: SocketAddr) -> Result<Self, LoadError> {
        Self::open(admin, Operator::new)
    }

    fn open(
        admin: SocketAddr,
        operator: fn(&Value, [u64; 2], time::Instant) -> Operator,
    ) -> Result<Self, LoadError> {
        let connect = || {
            let socket = TcpStream::connect(admin)?;
            socket.set_nodelay(true)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        let socket = connect().map_err(|error: std::io::Error| {
            LoadError::Unreachable(format!("admin port {admin}: {error}"))
        })?;
        let hello = json!({"v": 1, "client": "vspc-conformance load"});
        let mut connection = Self {
            socket,
            operator: operator(&hello, [nonce(), nonce()], time::Instant::ZERO),
            began: Instant::now(),
            answers: VecDeque::new(),
            notices: VecDeque::new(),
            readable: BTreeSet::new(),
            scratch: vec![0; READ],
        };
        connection.answer(HELLO_ID)?;
        Ok(connection)
    }

    /// Asks, and waits for the answer.
    pub(super) fn ask(&mut self, op: &str, fields: Value) -> Result<Value, LoadError> {
        let id = self.operator.request(op, fields);
        self.answer(id)
    }

    fn answer(&mut self, id: u64) -> Result<Value, LoadError> {
        self.wait_for("an answer", |it| {
            let at = it.answers.iter().position(|(of, _)| *of == id)?;
            it.answers.remove(at).map(|(_, answer)| answer)
        })
    }

    /// Waits for an event of this kind, to which it has subscribed.
    pub(super) fn await_event(&mut self, kind: &str) -> Result<(), LoadError> {
        self.wait_for(kind, |it| it.notices.drain(..).any(|notice| notice["kind"] == kind).then_some(()))
    }

    /// Attaches to a console, to watch it, and waits until that is so.
    pub(super) fn watch(&mut self, console: &str) -> Result<StreamId, LoadError> {
        let stream = self.operator.open().ok_or_else(too_many)?;
        let fields = json!({"console": console, "stream": stream.number(), "lock": "read-only"});
        self.ask("attach", fields)?;
        Ok(stream)
    }

    /// Waits for bytes for so long, and gives what has come on any stream to `take`.
    pub(super) fn hear(&mut self, wait: Duration, mut take: impl FnMut(&[u8])) -> Result<(), LoadError> {
        self.turn(wait)?;
        for stream in std::mem::take(&mut self.readable) {
            self.operator.receive(stream, |bytes| {
                take(bytes);
                bytes.len()
            });
        }
        self.push()
    }

    /// Opens a stream in a guest, and waits for what the guest answers.
    pub(super) fn begin(&mut self, console: &str, header: &Header) -> Result<(StreamId, Vec<u8>), LoadError> {
        let stream = self.operator.open().ok_or_else(too_many)?;
        self.operator.request("open", json!({"console": console, "stream": stream.number()}));
        let (said, mut at) = (header.line(), 0);
        let mut line = LineBuffer::new(MAX_LINE);
        let answer = self.wait_for("an answer from the guest", |it| {
            at += it.operator.write(stream, &said[at..]);
            it.operator.receive(stream, |bytes| line.take(bytes));
            line.line().map(|line| line.map(<[u8]>::to_vec))
        })?;
        Ok((stream, answer.map_err(|refusal| LoadError::Violation(refusal.to_string()))?))
    }

    /// Says on a stream what `source` has, and then no more; gives what comes to `take`, until the guest has
    /// said all. Without a source nothing is said.
    pub(super) fn converse<R: Read>(
        &mut self,
        stream: StreamId,
        mut source: Option<Source<R>>,
        mut take: impl FnMut(&[u8]) -> Result<(), LoadError>,
    ) -> Result<(), LoadError> {
        let mut deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(from) = &mut source
                && self.say(stream, from)?
            {
                self.operator.finish(stream);
                source = None;
            }
            let mut outcome = Ok(());
            let has_ended = self.operator.receive(stream, |bytes| {
                if outcome.is_ok() {
                    outcome = take(bytes);
                }
                bytes.len()
            });
            outcome?;
            if has_ended {
                self.operator.finish(stream);
                return self.push();
            }
            if self.turn(TICK)? {
                deadline = Instant::now() + PATIENCE;
            } else if Instant::now() > deadline {
                return Err(LoadError::Violation("a stream into the guest stands still".to_owned()));
            }
        }
    }

    /// Writes what the stream takes of a source; whether that was all of it.
    fn say<R: Read>(&mut self, stream: StreamId, source: &mut Source<R>) -> Result<bool, LoadError> {
        loop {
            if source.at == source.end {
                source.end = source
                    .from
                    .read(&mut source.piece)
                    .map_err(|error| LoadError::Usage(error.to_string()))?;
                source.at = 0;
                if source.end == 0 {
                    return Ok(true);
                }
            }
            let n = self.operator.write(stream, &source.piece[source.at..source.end]);
            if n == 0 {
                return Ok(false);
            }
            source.at += n;
            // What has left makes room for more.
            self.push()?;
        }
    }

    /// Says this at once; it has to be less than a stream has room for.
    pub(super) fn say_now(&mut self, stream: StreamId, bytes: &[u8]) -> Result<(), LoadError> {
        if self.operator.write(stream, bytes) < bytes.len() {
            return Err(LoadError::Violation("a stream that is idle takes nothing".to_owned()));
        }
        self.push()
    }

    /// Waits until so many bytes have come on a stream.
    pub(super) fn await_bytes(&mut self, stream: StreamId, count: usize) -> Result<Vec<u8>, LoadError> {
        let mut bytes = Vec::new();
        self.wait_for("bytes of a guest", |it| {
            it.operator.receive(stream, |came| {
                let n = came.len().min(count - bytes.len());
                bytes.extend_from_slice(&came[..n]);
                n
            });
            (bytes.len() == count).then_some(())
        })?;
        Ok(bytes)
    }

    fn wait_for<T>(
        &mut self,
        what: &str,
        mut look: impl FnMut(&mut Self) -> Option<T>,
    ) -> Result<T, LoadError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look(self) {
                return Ok(found);
            }
            if Instant::now() > deadline {
                return Err(LoadError::Unreachable(format!("the server does not send {what}")));
            }
            self.turn(TICK)?;
        }
    }

    /// Sends and receives what can be; if nothing comes, it waits until something may. Whether anything came
    /// or was to be sent.
    fn turn(&mut self, wait: Duration) -> Result<bool, LoadError> {
        self.push()?;
        let mut moved = self.read()?;
        if !moved {
            let mut want = PollFlags::empty();
            want.set(PollFlags::IN, self.operator.receive_window() > 0);
            want.set(PollFlags::OUT, self.operator.has_output());
            let wait = Timespec::try_from(wait).ok();
            moved = match poll(&mut [PollFd::new(&self.socket, want)], wait.as_ref()) {
                Ok(count) => count > 0,
                Err(Errno::INTR) => false,
                Err(error) => return Err(lost(&error.into())),
            };
            self.push()?;
            self.read()?;
        }
        let now = self.now();
        self.operator.handle_timeout(now);
        self.hear_news()?;
        self.push()?;
        Ok(moved)
    }

    /// One read of what is there.
    fn read(&mut self) -> Result<bool, LoadError> {
        let window = self.operator.receive_window().min(self.scratch.len());
        if window == 0 {
            return Ok(false);
        }
        match self.socket.read(&mut self.scratch[..window]) {
            Ok(0) => Err(LoadError::Violation("the server closed the operator connection".to_owned())),
            Ok(n) => {
                let now = self.now();
                self.operator.handle_received(&self.scratch[..n], now);
                Ok(true)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(false),
            Err(error) => Err(lost(&error)),
        }
    }

    /// Sends what the socket takes.
    fn push(&mut self) -> Result<(), LoadError> {
        let now = self.now();
        while self.operator.has_output() {
            let mut sent = Ok(0);
            self.operator.transmit(now, |runs| {
                sent = self.socket.write_vectored(runs);
                *sent.as_ref().unwrap_or(&0)
            });
            match sent {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => break,
                Err(error) => return Err(lost(&error)),
            }
        }
        Ok(())
    }

    fn hear_news(&mut self) -> Result<(), LoadError> {
        while let Some(news) = self.operator.poll_news() {
            match news {
                News::Answer(id, Ok(answer)) => self.answers.push_back((id, answer)),
                News::Answer(_, Err(refusal)) => {
                    let why = format!("the server refuses: {} ({})", refusal.message, refusal.code);
                    return Err(LoadError::Violation(why));
                }
                News::Notice(notice) => self.notices.push_back(notice),
                News::Reset(_) => {
                    return Err(LoadError::Violation("a stream into the guest was reset".to_owned()));
                }
                News::Over(ending) => {
                    return Err(LoadError::Violation(format!("the operator connection is over: {ending:?}")));
                }
                News::Readable(stream) => {
                    self.readable.insert(stream);
                }
                News::Writable(_) => {}
            }
        }
        Ok(())
    }

    fn now(&self) -> time::Instant {
        time::Instant::from_micros(u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX))
    }
}

fn too_many() -> LoadError {
    LoadError::Violation("no more streams can be opened".to_owned())
}

fn lost(error: &std::io::Error) -> LoadError {
    LoadError::Violation(format!("the operator connection: {error}"))
}

/// How long an answer may take, or nothing may come of what is awaited.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// Read at a time.
const READ: usize = 128 << 10;

/// How long it waits before it looks at the clock.
const TICK: Duration = Duration::from_millis(100);
