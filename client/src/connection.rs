//! A conversation with a server: the socket, what is spoken on it, and calls that wait for their answer.
//!
//! Owns which protocol is spoken, and what a refusal means for the exit code. What is said in a protocol is
//! `operator`'s.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, SystemTime};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use serde_json::{Value, json};
use vspc_core::mux::StreamId;
use vspc_core::time::Instant;

use crate::clock;
use crate::failure::{Code, Failure};
use crate::link::Link;
use crate::operator::{Ending, HELLO_ID, News, Operator, Refusal};
use crate::printable::printable;
use crate::server::Server;

/// A connection that has said hello.
#[derive(Debug)]
pub(crate) struct Connection {
    link: Link,
    operator: Operator,
    /// News that a call came across while it waited for its answer.
    passed: VecDeque<News>,
    over: bool,
    greeting: Value,
}

/// What to attach to, and how.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Wish {
    /// A name, UUID or id that the server knows.
    pub(crate) console: String,
    /// One of the modes of operator.md §6; `None`: what the server gives.
    pub(crate) lock: Option<&'static str>,
    /// How many bytes of earlier output.
    pub(crate) scrollback: u64,
    /// Where to go on instead: an epoch and an offset in it.
    pub(crate) from: Option<(String, u64)>,
}

/// A console that was attached to.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Attached {
    pub(crate) stream: StreamId,
    /// What the server answered: `console`, `access`, `lock`, `epoch`, `offset`.
    pub(crate) answer: Value,
}

impl Connection {
    /// Connects and says hello.
    pub(crate) fn open(server: &Server) -> Result<Self, Failure> {
        let address = &server.address;
        let link = Link::connect(address)
            .map_err(|error| Failure::no_connection(format!("cannot connect to {address}: {error}")))?;
        let operator = Operator::new(CLIENT, seed(), clock::now());
        let mut connection =
            Self { link, operator, passed: VecDeque::new(), over: false, greeting: Value::Null };
        match connection.answer(HELLO_ID, clock::now() + PATIENCE) {
            Ok(Ok(greeting)) => connection.greeting = greeting,
            Ok(Err(refusal)) => return Err(failure(&refusal)),
            Err(ending) => return Err(Failure::no_connection(format!("{address}: {}", describe(&ending)))),
        }
        Ok(connection)
    }

    /// What the server said to `hello`: `server`, `rights`, `as`, `features`.
    pub(crate) fn greeting(&self) -> &Value {
        &self.greeting
    }

    /// Sends a request and waits for its answer. News of other things is kept for [`Connection::poll`].
    pub(crate) fn call(&mut self, op: &str, fields: Value) -> Result<Value, Failure> {
        let id = self.operator.request(op, fields);
        match self.answer(id, clock::now() + PATIENCE) {
            Ok(outcome) => outcome.map_err(|refusal| failure(&refusal)),
            Err(ending) => Err(Failure::no_connection(describe(&ending))),
        }
    }

    /// As [`Connection::call`], with the refusal as the server put it.
    pub(crate) fn ask(&mut self, op: &str, fields: Value) -> Result<Result<Value, Refusal>, Failure> {
        let id = self.operator.request(op, fields);
        self.answer(id, clock::now() + PATIENCE).map_err(|ending| Failure::no_connection(describe(&ending)))
    }

    /// The consoles that match, at most `most` of them.
    pub(crate) fn list(&mut self, pattern: Option<&str>, most: usize) -> Result<Vec<Value>, Failure> {
        let mut consoles = Vec::new();
        let mut after = Value::Null;
        loop {
            let limit = (most - consoles.len()).min(PAGE);
            let mut page = self.call("list", json!({"match": pattern, "after": after, "limit": limit}))?;
            if let Value::Array(mut more) = page["consoles"].take() {
                consoles.append(&mut more);
            }
            after = page["next"].take();
            if after.is_null() || consoles.len() >= most {
                return Ok(consoles);
            }
        }
    }

    /// Attaches to a console and waits for the answer.
    pub(crate) fn attach(&mut self, wish: &Wish) -> Result<Result<Attached, Refusal>, Failure> {
        let Some((id, stream)) = self.request_attach(wish) else {
            return Err(Failure::error("no more consoles can be attached to on one connection"));
        };
        match self.answer(id, clock::now() + PATIENCE) {
            Ok(Ok(answer)) => Ok(Ok(Attached { stream, answer })),
            Ok(Err(refusal)) => Ok(Err(refusal)),
            Err(ending) => Err(Failure::no_connection(describe(&ending))),
        }
    }

    /// Asks to attach to a console: the id of the answer, and the stream that it will be on.
    pub(crate) fn request_attach(&mut self, wish: &Wish) -> Option<(u64, StreamId)> {
        let stream = self.operator.open()?;
        let mut fields = json!({"console": wish.console, "stream": stream.number(), "lock": wish.lock});
        match &wish.from {
            Some((epoch, offset)) => fields["from"] = json!({"epoch": epoch, "offset": offset}),
            None => fields["scrollback"] = wish.scrollback.into(),
        }
        Some((self.operator.request("attach", fields), stream))
    }

    /// Sends a request. Its answer will be among the news.
    pub(crate) fn request(&mut self, op: &str, fields: Value) -> u64 {
        self.operator.request(op, fields)
    }

    /// The next that happened, after [`Connection::turn`].
    pub(crate) fn poll(&mut self) -> Option<News> {
        self.passed.pop_front().or_else(|| self.operator.poll_news())
    }

    /// See [`Operator::read`].
    pub(crate) fn read(&mut self, stream: StreamId, most: usize, take: impl FnMut(&[u8])) -> bool {
        self.operator.read(stream, most, take)
    }

    /// See [`Operator::write`].
    pub(crate) fn write(&mut self, stream: StreamId, bytes: &[u8]) -> usize {
        self.operator.write(stream, bytes)
    }

    /// See [`Operator::room`].
    pub(crate) fn room(&self, stream: StreamId) -> usize {
        self.operator.room(stream)
    }

    /// See [`Operator::finish`].
    pub(crate) fn finish(&mut self, stream: StreamId) {
        self.operator.finish(stream);
    }

    /// What poll(2) is to wait for on the socket.
    pub(crate) fn interest(&self) -> PollFlags {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, !self.over && self.operator.receive_window() > 0);
        flags.set(PollFlags::OUT, !self.over && self.operator.has_output());
        flags
    }

    /// When [`Connection::turn`] is due even if nothing happens.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        if self.over { None } else { self.operator.poll_timeout() }
    }

    /// Sends and receives what can be without waiting. At most [`READ_TURN`] bytes are received.
    pub(crate) fn turn(&mut self) {
        let now = clock::now();
        if self.over {
            return;
        }
        self.operator.handle_timeout(now);
        self.push();
        let mut buf = [0; READ];
        for _ in 0..READ_TURN / READ {
            let window = self.operator.receive_window().min(buf.len());
            match self.link.receive(&mut buf[..window]) {
                _ if window == 0 => break,
                Ok(Some(0)) | Err(_) => {
                    self.operator.handle_closed();
                    self.over = true;
                    return;
                }
                Ok(Some(n)) => self.operator.handle_received(&buf[..n], now),
                Ok(None) => break,
            }
        }
        self.push();
    }

    /// Sends what the socket takes.
    pub(crate) fn push(&mut self) {
        if self.over {
            return;
        }
        let now = clock::now();
        let link = &mut self.link;
        while self.operator.has_output() {
            let mut stuck = false;
            let n = self.operator.transmit(now, |runs| {
                // An error shows again where the socket is read.
                let sent = link.send(runs).ok().flatten().unwrap_or(0);
                stuck = sent == 0;
                sent
            });
            if stuck || n == 0 {
                return;
            }
        }
    }

    /// Waits until something may have happened or the deadline has passed.
    pub(crate) fn wait(&mut self, deadline: Instant) {
        let deadline = self.deadline().map_or(deadline, |other| other.min(deadline));
        let mut fds = [PollFd::new(&self.link, self.interest())];
        match poll(&mut fds, clock::until(Some(deadline)).as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => panic!("poll failed: {error}"),
        }
        self.turn();
    }

    fn answer(&mut self, id: u64, deadline: Instant) -> Result<Result<Value, Refusal>, Ending> {
        self.turn();
        loop {
            while let Some(news) = self.operator.poll_news() {
                match news {
                    News::Answer(of, outcome) if of == id => return Ok(outcome),
                    News::Over(ending) => {
                        self.over = true;
                        return Err(ending);
                    }
                    other => self.passed.push_back(other),
                }
            }
            if clock::now() >= deadline {
                return Err(Ending::Broken("the server does not answer".to_owned()));
            }
            self.wait(deadline);
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.link.as_fd()
    }
}

/// The failure that a refusal means for a command that cannot go on without.
pub(crate) fn failure(refusal: &Refusal) -> Failure {
    let code = match refusal.code.as_str() {
        "no-such-console" | "ambiguous" => Code::NoSuchConsole,
        "locked" | "not-allowed" => Code::Refused,
        "shutting-down" => Code::NoConnection,
        _ => Code::Error,
    };
    let message = if refusal.message.is_empty() { &refusal.code } else { &refusal.message };
    let mut message = printable(message).into_owned();
    if let Some(needs) = refusal.details["needs"].as_str() {
        message.push_str(&format!(" (this needs the right {})", printable(needs)));
    }
    if let Some(by) = refusal.details["by"].as_str() {
        message.push_str(&format!(" ({} holds a lock)", printable(by)));
    }
    Failure::new(code, message)
}

/// Why it is over, in words.
pub(crate) fn describe(ending: &Ending) -> String {
    let what = match ending {
        Ending::Broken(message) => return printable(message).into_owned(),
        Ending::NotOurs(None) => "it closed the connection without a word",
        Ending::NotOurs(Some(0x80)) => "it speaks vSPC.py's protocol (--protocol v3)",
        Ending::NotOurs(Some(0xff)) => "it speaks telnet",
        Ending::NotOurs(Some(b'H')) => "it seems to speak HTTP",
        Ending::NotOurs(Some(0x15 | 0x16)) => "it seems to speak TLS",
        Ending::NotOurs(Some(_)) => "it speaks something else",
    };
    format!("no server of this kind is there: {what}")
}

/// A number that differs from the last one's is enough: a server is not expected to choose colliding ids.
fn seed() -> [u64; 2] {
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    [u64::from(time.subsec_nanos()) << 32 | time.as_secs(), u64::from(std::process::id())]
}

/// What this client calls itself.
const CLIENT: &str = concat!("vspc ", env!("CARGO_PKG_VERSION"));
/// How long an answer may take. A server answers from memory; this is for one that is stopped.
const PATIENCE: Duration = Duration::from_secs(15);
/// Largest page of a list (operator.md §5).
const PAGE: usize = 500;
/// Read at a time, and in a turn: then the terminal has its turn.
const READ: usize = 16 * 1024;
const READ_TURN: usize = 8 * READ;
