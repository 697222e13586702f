//! The client's side of the operator protocol: requests, answers, notices and streams (operator.md).
//!
//! Owns the S2 session and the lines of its control stream. Bytes go in and out through `handle_received` and
//! `transmit`; it knows neither sockets nor clocks nor what consoles are shown on.

pub mod strip;

use std::collections::VecDeque;
use std::io::IoSlice;
use std::time::Duration;

use serde_json::{Map, Value};
use vspc_core::mux::{
    Carrier, CloseReason, Config, Event, Features, Priority, Received, ResetReason, Role, Session, Start,
    StreamId,
};
use vspc_core::time::Instant;

/// One connection's conversation.
#[derive(Debug)]
pub struct Operator {
    session: Session,
    control: StreamId,
    /// Requests that the session has not taken yet.
    unsent: VecDeque<u8>,
    /// The beginning of a line.
    line: Vec<u8>,
    next_id: u64,
    news: VecDeque<News>,
    /// The first byte from the server, by which protocols are told apart.
    first: Option<u8>,
    /// Bytes of the offer that a server makes to who is silent (operator.md §1), if that is how it begins.
    offered: usize,
    over: bool,
}

/// What came of it, in the order in which it came.
#[derive(Clone, PartialEq, Debug)]
pub enum News {
    /// The answer to the request of this id.
    Answer(u64, Result<Value, Refusal>),
    /// A notice: it has `event`.
    Notice(Value),
    /// There is something to read on this stream, or its end.
    Readable(StreamId),
    /// The stream takes more.
    Writable(StreamId),
    /// The stream was taken away.
    Reset(StreamId),
    /// The conversation is over.
    Over(Ending),
}

/// The error of an answer.
#[derive(Clone, PartialEq, Debug)]
pub struct Refusal {
    /// Why, in a word of operator.md §2.
    pub code: String,
    /// Why, for people.
    pub message: String,
    /// `candidates`, `by`, `needs` where they apply.
    pub details: Value,
}

/// How a conversation ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ending {
    /// The peer does not speak this protocol; the first byte it sent, if it sent one.
    NotOurs(Option<u8>),
    /// It speaks it, and broke it or ended it.
    Broken(String),
}

impl Operator {
    /// A conversation at its start, with HELLO and `hello` ready to be sent. `seed` makes this client's hash
    /// tables its own. Each stream may hold 64 KiB that were not taken.
    ///
    /// # Panics
    ///
    /// Never: the session is configured with constants.
    #[must_use]
    pub fn new(hello: &Value, seed: [u64; 2], now: Instant) -> Self {
        Self::with_window(NARROW, hello, seed, now)
    }

    /// The same for one whose streams are few and carry much: each may hold 256 KiB that were not taken, and
    /// one that carries much 512.
    ///
    /// # Panics
    ///
    /// Never: the session is configured with constants.
    #[must_use]
    pub fn wide(hello: &Value, seed: [u64; 2], now: Instant) -> Self {
        Self::with_window(WIDE, hello, seed, now)
    }

    fn with_window(window: u32, hello: &Value, seed: [u64; 2], now: Instant) -> Self {
        let config = Config {
            window,
            receive_buffer: window,
            send_buffer: 2 * window,
            most_window: MOST_WINDOW,
            growth: if window == WIDE { GROWTH } else { 0 },
            start: Start::S2Only { within: HELLO_WITHIN },
            carrier: Carrier::Reliable,
            features: Features(Features::WINDOWED.0 | Features::RESET.0),
            max_frame: 16_384,
            max_own_streams: MAX_STREAMS,
            max_peer_streams: 0,
            seed,
            ..Config::new(Role::Host)
        };
        let mut session = Session::new(config, now).expect("the constants above make sense");
        let control = session.open().expect("a new session takes streams");
        let _ = session.set_priority(control, Priority::High);
        let mut operator = Self {
            session,
            control,
            unsent: VecDeque::new(),
            line: Vec::new(),
            next_id: HELLO_ID,
            news: VecDeque::new(),
            first: None,
            offered: 0,
            over: false,
        };
        operator.request("hello", hello.clone());
        operator
    }

    /// Sends a request. Returns the id that its answer will have.
    pub fn request(&mut self, op: &str, fields: Value) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let mut request = match fields {
            Value::Object(fields) => fields,
            _ => Map::new(),
        };
        // What was left out is not said.
        request.retain(|_, value| !value.is_null());
        request.insert("id".to_owned(), id.into());
        request.insert("op".to_owned(), op.into());
        self.unsent.extend(Value::Object(request).to_string().bytes());
        self.unsent.push_back(b'\n');
        self.push_requests();
        id
    }

    /// Bytes of requests that the server has no room for yet; whoever asks on has to bound them.
    #[must_use]
    pub fn unsent(&self) -> usize {
        self.unsent.len()
    }

    /// A stream for an attach, announced to the server. `None`: too many are open, or all is over.
    pub fn open(&mut self) -> Option<StreamId> {
        self.session.open_announced().ok()
    }

    /// Gives what the stream has to `take`, piece by piece, until that takes less than it was given or `most`
    /// bytes were taken. Returns whether the stream has ended.
    pub fn read(&mut self, stream: StreamId, most: usize, mut take: impl FnMut(&[u8])) -> bool {
        let mut left = most;
        loop {
            match self.session.received(stream) {
                Ok(Received::Bytes(_)) if left == 0 => return false,
                Ok(Received::Bytes(bytes)) => {
                    let n = bytes.len().min(left);
                    take(&bytes[..n]);
                    left -= n;
                    let _ = self.session.consume(stream, n);
                }
                Ok(Received::Pending) => return false,
                Ok(Received::End) => {
                    let _ = self.session.finish(stream);
                    return true;
                }
                Err(_) => return true,
            }
        }
    }

    /// Gives what the stream has to `take`, piece by piece, until that says that it took less than it was
    /// given. Returns whether the stream has ended, or is gone, of which [`News::Reset`] tells. This side's
    /// direction stays open when the server's ends, other than after [`Operator::read`].
    pub fn receive(&mut self, stream: StreamId, mut take: impl FnMut(&[u8]) -> usize) -> bool {
        loop {
            match self.session.received(stream) {
                Ok(Received::Bytes(bytes)) => {
                    let len = bytes.len();
                    let n = take(bytes).min(len);
                    let _ = self.session.consume(stream, n);
                    if n < len {
                        return false;
                    }
                }
                Ok(Received::Pending) => return false,
                Ok(Received::End) | Err(_) => return true,
            }
        }
    }

    /// Writes what the stream takes; [`News::Writable`] follows where that was not all. 0 on a stream that is
    /// gone.
    pub fn write(&mut self, stream: StreamId, bytes: &[u8]) -> usize {
        // More than the server has room for would wait here, where nobody sees that it waits.
        let most = self.session.credit(stream).min(bytes.len());
        if most < bytes.len() {
            let _ = self.session.want_credit(stream);
        }
        self.session.write(stream, &bytes[..most]).unwrap_or(0)
    }

    /// How much of what was written the server has taken off the stream comes back as room; see
    /// [`Operator::write`].
    #[must_use]
    pub fn room(&self, stream: StreamId) -> usize {
        self.session.credit(stream)
    }

    /// Leaves what the stream carries, in both directions, and lets go of it.
    pub fn leave(&mut self, stream: StreamId) {
        let _ = self.session.reset(stream);
    }

    /// No more input: the server goes on sending.
    pub fn finish(&mut self, stream: StreamId) {
        let _ = self.session.finish(stream);
    }

    /// Bytes came from the server.
    pub fn handle_received(&mut self, mut data: &[u8], now: Instant) {
        self.first = self.first.or_else(|| data.first().copied());
        // HELLO was under way for long: the server took its sender for silent.
        while let (Some(byte), Some(next)) = (data.first(), OFFER.get(self.offered)) {
            if byte != next {
                // Its own HELLO, or something that is none of its words; it is not looked for again.
                self.offered = OFFER.len();
                break;
            }
            self.offered += 1;
            data = &data[1..];
        }
        self.session.handle_received(data, now);
        self.settle();
    }

    /// The server closed the connection; `why`, where more is known.
    pub fn handle_closed(&mut self, why: Option<String>) {
        if let Some(why) = why {
            return self.end(Ending::Broken(why));
        }
        match (self.first, self.session.terms()) {
            (first, None) => self.end(Ending::NotOurs(first)),
            _ => self.end(Ending::Broken("the server closed the connection".to_owned())),
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.session.handle_timeout(now);
        self.settle();
    }

    /// When [`Operator::handle_timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.session.poll_timeout()
    }

    /// How much the session is ready to receive.
    #[must_use]
    pub fn receive_window(&self) -> usize {
        self.session.receive_window()
    }

    /// Whether there is something to send.
    #[must_use]
    pub fn has_output(&self) -> bool {
        self.session.has_output()
    }

    /// Offers what is to be sent; see [`Session::transmit_with`].
    pub fn transmit(&mut self, now: Instant, take: impl FnOnce(&[IoSlice<'_>]) -> usize) -> usize {
        let n = self.session.transmit_with(now, take);
        self.push_requests();
        n
    }

    /// The next that happened.
    pub fn poll_news(&mut self) -> Option<News> {
        self.news.pop_front()
    }

    fn push_requests(&mut self) {
        while !self.unsent.is_empty() {
            let n = self.session.write(self.control, self.unsent.as_slices().0).unwrap_or(0);
            self.unsent.drain(..n);
            if n == 0 {
                return;
            }
        }
    }

    fn settle(&mut self) {
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Readable(id) if id == self.control => self.read_control(),
                Event::Readable(id) => self.news.push_back(News::Readable(id)),
                Event::Writable(id) if id == self.control => self.push_requests(),
                Event::Writable(id) | Event::Credit(id) => self.news.push_back(News::Writable(id)),
                // The session's end follows, and tells why.
                Event::Reset(_, ResetReason::Local | ResetReason::SessionClosed) => {}
                Event::Reset(id, _) if id == self.control => {
                    self.end(Ending::Broken("the server took the control stream away".to_owned()));
                }
                Event::Reset(id, _) => self.news.push_back(News::Reset(id)),
                Event::Closed(reason) => self.end(ending(reason, self.first)),
                _ => {}
            }
        }
    }

    fn read_control(&mut self) {
        loop {
            let n = match self.session.received(self.control) {
                Ok(Received::Bytes(bytes)) => {
                    self.line.extend_from_slice(bytes);
                    bytes.len()
                }
                Ok(Received::End) => {
                    return self.end(Ending::Broken("the server ended the conversation".to_owned()));
                }
                _ => return,
            };
            let _ = self.session.consume(self.control, n);
            let mut rest = 0;
            while let Some(len) = self.line[rest..].iter().position(|&byte| byte == b'\n') {
                match parse(&self.line[rest..rest + len]) {
                    Ok(Some(news)) => self.news.push_back(news),
                    Ok(None) => {}
                    Err(message) => return self.end(Ending::Broken(message)),
                }
                rest += len + 1;
            }
            self.line.drain(..rest);
            if self.line.len() >= LINE_MAX {
                return self.end(Ending::Broken("the server sent a line that is too long".to_owned()));
            }
        }
    }

    fn end(&mut self, ending: Ending) {
        if !self.over {
            self.over = true;
            self.news.push_back(News::Over(ending));
        }
    }
}

/// A line of the control stream (operator.md §2). `None`: one to be ignored.
fn parse(line: &[u8]) -> Result<Option<News>, String> {
    let mut value: Value =
        serde_json::from_slice(line).map_err(|error| format!("the server sent a broken line: {error}"))?;
    if value["event"] == "broken" {
        return Err(format!(
            "the server could not read a request: {}",
            value["message"].as_str().unwrap_or("")
        ));
    }
    if value["event"].is_string() {
        return Ok(Some(News::Notice(value)));
    }
    let Some(id) = value["id"].as_u64() else { return Ok(None) };
    let outcome = match value["error"].take() {
        Value::Null => Ok(value["ok"].take()),
        details => Err(Refusal {
            code: details["code"].as_str().unwrap_or_default().to_owned(),
            message: details["message"].as_str().unwrap_or_default().to_owned(),
            details,
        }),
    };
    Ok(Some(News::Answer(id, outcome)))
}

fn ending(reason: CloseReason, first: Option<u8>) -> Ending {
    match reason {
        CloseReason::NotS2 | CloseReason::Echo => Ending::NotOurs(first),
        CloseReason::NoHello => Ending::Broken("the server did not answer".to_owned()),
        CloseReason::Remote(code) => Ending::Broken(format!("the server ended the session ({code:?})")),
        CloseReason::Version => Ending::Broken("the server speaks no common version".to_owned()),
        CloseReason::Violation(violation) => {
            Ending::Broken(format!("the server broke the protocol: {violation}"))
        }
        _ => Ending::Broken("the session is over".to_owned()),
    }
}

/// The id of `hello`, which is the first request.
pub const HELLO_ID: u64 = 1;
/// IAC WILL 233.
const OFFER: &[u8] = &[255, 251, 233];
/// As long as a server waits for ours (operator.md §1).
const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// Longest line, with its LF (operator.md §2).
const LINE_MAX: usize = 65_536;
/// What a stream may hold that was not taken: a connection of many users', and one of a program's own.
const NARROW: u32 = 64 << 10;
const WIDE: u32 = 256 << 10;
/// What the latter grows to where a stream carries much, and by how much all of them together.
const MOST_WINDOW: u32 = 512 << 10;
const GROWTH: u64 = 2 << 20;
/// Consoles that one `tail --all` can follow. Each costs nothing before its console prints.
const MAX_STREAMS: u32 = 65_536;
