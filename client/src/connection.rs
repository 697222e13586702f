//! A conversation with a server: the socket, what is spoken on it, and calls that wait for their answer.
//!
//! Owns which protocol is spoken, and when the socket is read and written.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, SystemTime};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use serde_json::{Value, json};
use vspc_core::mux::StreamId;
use vspc_core::time::Instant;

use crate::clock;
use crate::endings::{describe, failure};
use crate::failure::Failure;
use crate::link::Link;
use crate::names;
use crate::server::{Address, Protocol, Server};
use crate::speech::Speech;
use crate::tls;
use crate::v3::{self, V3};
use vspc_operator::{Ending, HELLO_ID, News, Operator, Refusal};

/// A connection that has said hello.
#[derive(Debug)]
pub(crate) struct Connection {
    /// The server, and what it turned out to speak.
    server: Server,
    link: Link,
    /// Where bytes are received.
    buffer: Box<[u8]>,
    speech: Speech,
    /// News that a call came across while it waited for its answer.
    passed: VecDeque<News>,
    over: bool,
    /// What the server said of itself.
    greeting: Value,
    /// The consoles of a server that speaks vSPC.py's protocol.
    listed: Vec<Value>,
    next_id: u64,
}

/// The failure of a conversation that did not come about.
fn no_conversation(server: &Server, ending: &Ending) -> Failure {
    let is_clear = server.tls.is_none() && matches!(server.address, Address::Tcp(..));
    let hint = match ending {
        Ending::NotOurs(None) if is_clear => "; if it wants TLS, that is --server tls://…",
        _ => "",
    };
    Failure::no_connection(format!("{server}: {}{hint}", describe(ending)))
}

/// The fields of `hello`.
fn hello(server: &Server) -> Value {
    let mut hello = json!({"v": 1, "client": CLIENT});
    if let Some(behalf) = &server.behalf {
        hello["for"] = json!({"user": behalf.user, "address": behalf.address, "rights": behalf.right});
    }
    hello
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
    /// Rows and columns of the terminal that it is shown on.
    pub(crate) size: Option<(u16, u16)>,
}

/// A console that was attached to.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Attached {
    pub(crate) stream: StreamId,
    /// What the server answered: `console`, `access`, `lock`, `epoch`, `offset`.
    pub(crate) answer: Value,
}

impl Connection {
    /// Connects and says hello; where nobody says which protocol it is to be, in the one that is understood.
    pub(crate) fn open(server: &Server) -> Result<Self, Failure> {
        if server.protocol == Protocol::V3 {
            return Self::open_v3(server);
        }
        let make = if server.wide { Operator::wide } else { Operator::new };
        let operator = make(&hello(server), seed(), clock::now());
        let mut connection = Self::connect(server, Speech::Operator(Box::new(operator)))?;
        match connection.answer(HELLO_ID) {
            Ok(Ok(greeting)) => {
                connection.greeting = greeting;
                // When it is connected to again, nothing else will do.
                connection.server.protocol = Protocol::Operator;
            }
            Ok(Err(refusal)) => return Err(failure(&refusal)),
            // A pickle, or nothing: vSPC.py closes the connection when it cannot read what it is sent.
            Err(Ending::NotOurs(None | Some(0x80)))
                if server.protocol == Protocol::Auto && server.behalf.is_none() =>
            {
                let server = Server { protocol: Protocol::V3, ..server.clone() };
                return Self::open_v3(&server);
            }
            Err(ending) => return Err(no_conversation(server, &ending)),
        }
        Ok(connection)
    }

    /// The list is asked for first: everything else needs it, and it shows what the server speaks.
    fn open_v3(server: &Server) -> Result<Self, Failure> {
        let mut connection = Self::connect(server, Speech::V3(Box::new(V3::list())))?;
        match connection.answer(v3::ASKED) {
            Ok(Ok(mut answer)) => {
                if let Value::Array(consoles) = answer["consoles"].take() {
                    connection.listed = consoles;
                }
            }
            Ok(Err(refusal)) => return Err(failure(&refusal)),
            Err(ending) => return Err(no_conversation(server, &ending)),
        }
        connection.greeting = json!({"server": "vSPC.py's protocol"});
        Ok(connection)
    }

    fn connect(server: &Server, speech: Speech) -> Result<Self, Failure> {
        let credentials = match (&server.tls, &server.address) {
            (Some(files), Address::Tcp(host, _)) => Some(tls::credentials(files, host)?),
            _ => None,
        };
        let link = Link::connect(&server.address, credentials.as_ref())
            .map_err(|error| Failure::no_connection(format!("cannot connect to {server}: {error}")))?;
        Ok(Self {
            server: server.clone(),
            link,
            buffer: vec![0; READ].into(),
            speech,
            passed: VecDeque::new(),
            over: false,
            greeting: Value::Null,
            listed: Vec::new(),
            next_id: FIRST_REFUSED,
        })
    }

    /// The server, and what it turned out to speak.
    pub(crate) const fn server(&self) -> &Server {
        &self.server
    }

    /// What the server said to `hello`: `server`, `rights`, `as`, `features`.
    pub(crate) const fn greeting(&self) -> &Value {
        &self.greeting
    }

    /// Whether the server has something that not all have.
    pub(crate) fn has(&self, feature: &str) -> bool {
        self.greeting["features"].as_array().is_some_and(|all| all.iter().any(|one| one == feature))
    }

    /// Whether one connection is enough for several consoles.
    pub(crate) const fn carries_many(&self) -> bool {
        matches!(self.speech, Speech::Operator(_))
    }

    /// Sends a request and waits for its answer. News of other things is kept for [`Connection::poll`].
    pub(crate) fn call(&mut self, op: &str, fields: Value) -> Result<Value, Failure> {
        self.ask(op, fields)?.map_err(|refusal| failure(&refusal))
    }

    /// As [`Connection::call`], with the refusal as the server put it.
    pub(crate) fn ask(&mut self, op: &str, fields: Value) -> Result<Result<Value, Refusal>, Failure> {
        if op == "show" && !self.carries_many() {
            return Ok(self.find(fields["console"].as_str().unwrap_or_default()));
        }
        let id = self.request(op, fields);
        self.answer(id).map_err(|ending| Failure::no_connection(describe(&ending)))
    }

    /// What `show` answers, from the list.
    fn find(&self, name: &str) -> Result<Value, Refusal> {
        let uuid = squeeze(name);
        let is_it = |console: &&Value| console["name"] == name || squeeze(text(&console["uuid"])) == uuid;
        let found: Vec<&Value> = self.listed.iter().filter(is_it).collect();
        let refusal = |code: &str, candidates: Value| Refusal {
            code: code.to_owned(),
            message: format!("there is no console {name}"),
            details: json!({"candidates": candidates}),
        };
        match found[..] {
            [console] => Ok(json!({"console": console})),
            [] => Err(refusal("no-such-console", Value::Null)),
            _ => Err(refusal("ambiguous", found.iter().map(|console| console["uuid"].clone()).collect())),
        }
    }

    /// The consoles that match, at most `most` of them.
    pub(crate) fn list(&mut self, pattern: Option<&str>, most: usize) -> Result<Vec<Value>, Failure> {
        self.list_with(&[], pattern, most)
    }

    /// The same, with more of each than is shown to who does not ask for it (operator.md §5).
    pub(crate) fn list_with(
        &mut self,
        with: &[&str],
        pattern: Option<&str>,
        most: usize,
    ) -> Result<Vec<Value>, Failure> {
        if !self.carries_many() {
            let is_it = |console: &&Value| {
                let fits = |key: &str| names::fits(text(&console[key]), pattern.unwrap_or_default());
                fits("name") || fits("uuid")
            };
            return Ok(self.listed.iter().filter(is_it).take(most).cloned().collect());
        }
        let mut consoles = Vec::new();
        let mut after = Value::Null;
        loop {
            let limit = (most - consoles.len()).min(PAGE);
            let mut asked = json!({"match": pattern, "after": after, "limit": limit});
            if !with.is_empty() {
                asked["with"] = with.into();
            }
            let mut page = self.call("list", asked)?;
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
        let gone = |ending: Ending| Failure::no_connection(describe(&ending));
        if self.carries_many() {
            let Some((id, stream)) = self.request_attach(wish) else {
                return Err(Failure::error("no more consoles can be attached to on one connection"));
            };
            return Ok(self.answer(id).map_err(gone)?.map(|answer| Attached { stream, answer }));
        }
        // The protocol has one question for each connection.
        let console = match self.find(&wish.console) {
            Ok(mut answer) => answer["console"].take(),
            Err(refusal) => return Ok(Err(refusal)),
        };
        let speech = V3::attach(&wish.console, wish.lock, wish.scrollback);
        let attach = Self::connect(&self.server, Speech::V3(Box::new(speech)))?;
        let (listed, greeting) = (std::mem::take(&mut self.listed), self.greeting.take());
        *self = Self { listed, greeting, ..attach };
        let answer = self.answer(v3::ASKED).map_err(gone)?;
        Ok(answer.map(|mut answer| {
            answer["console"] = console;
            Attached { stream: v3::STREAM, answer }
        }))
    }

    /// Asks to attach to a console: the id of the answer, and the stream that it will be on. `None` where
    /// no more can be attached to.
    pub(crate) fn request_attach(&mut self, wish: &Wish) -> Option<(u64, StreamId)> {
        let Speech::Operator(operator) = &mut self.speech else { return None };
        let stream = operator.open()?;
        let mut fields = json!({"console": wish.console, "stream": stream.number(), "lock": wish.lock});
        match &wish.from {
            Some((epoch, offset)) => fields["from"] = json!({"epoch": epoch, "offset": offset}),
            None => fields["scrollback"] = wish.scrollback.into(),
        }
        if let Some((rows, cols)) = wish.size {
            fields["size"] = json!({"rows": rows, "cols": cols});
        }
        Some((operator.request("attach", fields), stream))
    }

    /// Asks for something that comes on a stream of its own: the id of the answer, and that stream. `None`
    /// where there are none.
    pub(crate) fn request_stream(&mut self, op: &str, mut fields: Value) -> Option<(u64, StreamId)> {
        let Speech::Operator(operator) = &mut self.speech else { return None };
        let stream = operator.open()?;
        fields["stream"] = stream.number().into();
        Some((operator.request(op, fields), stream))
    }

    /// Sends a request. Its answer will be among the news.
    pub(crate) fn request(&mut self, op: &str, fields: Value) -> u64 {
        match &mut self.speech {
            Speech::Operator(operator) => operator.request(op, fields),
            Speech::V3(_) => {
                self.next_id += 1;
                let refusal = Refusal {
                    code: "unsupported".to_owned(),
                    message: format!("the server speaks vSPC.py's protocol, which has no {op}"),
                    details: Value::Null,
                };
                self.passed.push_back(News::Answer(self.next_id, Err(refusal)));
                self.next_id
            }
        }
    }

    /// The next that happened, after [`Connection::turn`].
    pub(crate) fn poll(&mut self) -> Option<News> {
        self.passed.pop_front().or_else(|| self.speech.poll_news())
    }

    /// See [`Speech::read`].
    pub(crate) fn read(&mut self, stream: StreamId, most: usize, take: impl FnMut(&[u8])) -> bool {
        self.speech.read(stream, most, take)
    }

    /// See [`Speech::receive`].
    pub(crate) fn receive(&mut self, stream: StreamId, take: impl FnMut(&[u8]) -> usize) -> bool {
        self.speech.receive(stream, take)
    }

    /// See [`Speech::leave`].
    pub(crate) fn leave(&mut self, stream: StreamId) {
        self.speech.leave(stream);
    }

    /// See [`Speech::write`].
    pub(crate) fn write(&mut self, stream: StreamId, bytes: &[u8]) -> usize {
        self.speech.write(stream, bytes, clock::now())
    }

    /// See [`Speech::room`].
    pub(crate) fn room(&self, stream: StreamId) -> usize {
        self.speech.room(stream)
    }

    /// See [`Speech::finish`].
    pub(crate) fn finish(&mut self, stream: StreamId) {
        self.speech.finish(stream);
    }

    /// What poll(2) is to wait for on the socket.
    pub(crate) fn interest(&self) -> PollFlags {
        let (window, has_output) = (self.speech.receive_window(), self.speech.has_output());
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, !self.over && window > 0);
        flags.set(PollFlags::OUT, !self.over && (has_output || self.link.wants_write()));
        flags
    }

    /// When [`Connection::turn`] is due even if nothing happens.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match &self.speech {
            _ if self.over => None,
            // The socket would not tell of it.
            speech if self.link.has_unread() && speech.receive_window() > 0 => Some(clock::now()),
            speech => speech.poll_timeout(clock::now()),
        }
    }

    /// Sends and receives what can be without waiting. At most [`READ_TURN`] bytes are received.
    pub(crate) fn turn(&mut self) {
        let now = clock::now();
        if self.over {
            return;
        }
        self.speech.handle_timeout(now);
        self.push();
        for _ in 0..READ_TURN / READ {
            let window = self.speech.receive_window().min(self.buffer.len());
            let buffer = &mut self.buffer[..window];
            let received = if window > 0 { self.link.receive(buffer) } else { Ok(None) };
            match received {
                Ok(None) => break,
                Ok(Some(n)) if n > 0 => self.speech.handle_received(&self.buffer[..n], now),
                closed => {
                    // What TLS has to say of it is more than that it is closed.
                    let why = closed.err().filter(|error| error.kind() == io::ErrorKind::InvalidData);
                    self.speech.handle_closed(why.map(|error| error.to_string()));
                    self.over = true;
                    return;
                }
            }
        }
        self.push();
    }

    /// Sends what the socket takes.
    pub(crate) fn push(&mut self) {
        let now = clock::now();
        self.link.flush();
        let link = &mut self.link;
        while !self.over && self.speech.has_output() {
            let mut sent = 0;
            // An error shows again where the socket is read.
            self.speech.transmit(now, |runs| {
                sent = link.send(runs).ok().flatten().unwrap_or(0);
                sent
            });
            if sent == 0 {
                return;
            }
        }
    }

    /// Sees what was sent to the server before the connection is closed: closing it with something unread
    /// would throw away what is still under way. Takes [`PARTING`] at most.
    pub(crate) fn part(mut self) {
        let deadline = clock::now() + PARTING;
        let mut finished = false;
        while !self.over && clock::now() < deadline {
            self.push();
            let waits = self.speech.has_output() || self.link.wants_write();
            if !finished && !waits {
                finished = true;
                if self.link.finish().is_err() {
                    return;
                }
            }
            let out = if waits { PollFlags::OUT } else { PollFlags::empty() };
            let mut fds = [PollFd::new(&self.link, PollFlags::IN | out)];
            let _ = poll(&mut fds, clock::until(Some(deadline)).as_ref());
            match self.link.receive(&mut self.buffer) {
                Ok(Some(0)) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }

    /// Waits until something may have happened or the deadline has passed.
    pub(crate) fn wait(&mut self, deadline: Instant) {
        let deadline = self.deadline().map_or(deadline, |other| other.min(deadline));
        // A socket that nothing is wanted of would still tell that its peer has gone.
        let interest = self.interest();
        let mut fds = Vec::new();
        if !interest.is_empty() {
            fds.push(PollFd::new(&self.link, interest));
        }
        match poll(&mut fds, clock::until(Some(deadline)).as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => panic!("poll failed: {error}"),
        }
        self.turn();
    }

    fn answer(&mut self, id: u64) -> Result<Result<Value, Refusal>, Ending> {
        let deadline = clock::now() + PATIENCE;
        let is_it = |news: &News| matches!(news, News::Answer(of, _) if *of == id);
        if let Some(at) = self.passed.iter().position(is_it)
            && let Some(News::Answer(_, outcome)) = self.passed.remove(at)
        {
            return Ok(outcome);
        }
        self.turn();
        loop {
            while let Some(news) = self.speech.poll_news() {
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

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A UUID without what people put between its digits.
fn squeeze(uuid: &str) -> String {
    uuid.chars().filter(|c| !matches!(c, ' ' | '-')).flat_map(char::to_lowercase).collect()
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
const READ: usize = 64 * 1024;
const READ_TURN: usize = 4 * READ;
/// How long a server may take to see that this client has gone.
const PARTING: Duration = Duration::from_millis(500);
/// Ids of requests that are refused here begin above those of servers' answers.
const FIRST_REFUSED: u64 = 1000;
