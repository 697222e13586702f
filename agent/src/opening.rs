//! How streams begin that the host opens: their first line, and hello before all others (APPLICATION §1, §2).
//!
//! Owns the lines that have not ended, and whether the host of this session was let in. Refuses to know what
//! the headers ask for.

use std::collections::BTreeMap;
use std::time::Duration;

use vspc_core::mux::{Priority, Session, StreamId};
use vspc_core::time::Instant;
use vspc_guest::{Code, Header, Hello, LineBuffer, MAX_LINE, Pack, Refusal, Secret, Welcome, answer};

use crate::say::{Line, leave, refuse, say, take_line};

/// Streams whose first line has not ended, and hello.
#[derive(Debug)]
pub(crate) struct Opening {
    lines: BTreeMap<StreamId, LineBuffer>,
    secret: Option<Secret>,
    packs: &'static [&'static str],
    hello: HelloState,
    /// After a wrong proof: until when no hello is answered.
    closed_until: Instant,
}

#[derive(Debug)]
enum HelloState {
    /// Nobody has said it.
    Strange,
    /// Asked for a proof, which comes on this stream.
    Asked(StreamId, Box<Welcome>, LineBuffer),
    /// The host is let in.
    In,
}

/// What a stream turned out to be.
#[derive(Debug)]
pub(crate) enum Opened {
    /// The first hello is over: the host is let in.
    LetIn,
    /// Something that may be done.
    Header(StreamId, Header),
}

impl Opening {
    /// For hosts that have this key, or for all; `packs` whether they are told how bytes can be packed.
    pub(crate) const fn new(secret: Option<Secret>, packs: bool) -> Self {
        let packs: &[&str] = if packs { &Pack::WORDS } else { &[] };
        Self {
            lines: BTreeMap::new(),
            secret,
            packs,
            hello: HelloState::Strange,
            closed_until: Instant::ZERO,
        }
    }

    /// The session is over, or another one has begun.
    pub(crate) fn handle_session(&mut self) {
        self.hello = HelloState::Strange;
    }

    /// Whether the host was let in.
    pub(crate) const fn is_in(&self) -> bool {
        matches!(self.hello, HelloState::In)
    }

    /// The host has opened a stream.
    pub(crate) fn handle_opened(&mut self, id: StreamId) {
        self.lines.insert(id, LineBuffer::new(MAX_LINE));
    }

    /// A stream is gone.
    pub(crate) fn handle_reset(&mut self, id: StreamId) {
        self.lines.remove(&id);
        if matches!(&self.hello, HelloState::Asked(hello, ..) if *hello == id) {
            self.hello = HelloState::Strange;
        }
    }

    /// Bytes came on a stream; `welcome` makes a nonce, and says what is allowed.
    pub(crate) fn handle_readable(
        &mut self,
        id: StreamId,
        session: &mut Session,
        welcome: impl FnOnce() -> Option<([u8; 32], Vec<&'static str>)>,
        now: Instant,
    ) -> Option<Opened> {
        if let HelloState::Asked(hello, ..) = &self.hello
            && *hello == id
        {
            return self.judge(session, now);
        }
        let line = match take_line(session, id, self.lines.get_mut(&id)?) {
            Line::Part => return None,
            Line::End => Err(Refusal::new(Code::BAD_LINE, "the stream ended before its first line")),
            Line::Whole(line) => line,
        };
        self.lines.remove(&id);
        match line.and_then(|line| Header::parse(&line)) {
            Ok(Header::Hello(hello)) => {
                let _ = session.set_priority(id, Priority::High);
                match self.greet(id, &hello, session, welcome, now) {
                    Ok(opened) => opened,
                    Err(refusal) => {
                        refuse(session, id, &refusal);
                        None
                    }
                }
            }
            Ok(header) if self.is_in() => Some(Opened::Header(id, header)),
            Ok(_) => {
                refuse(session, id, &Refusal::new(Code::HELLO_FIRST, "the first stream is hello"));
                None
            }
            Err(refusal) => {
                log::debug!("stream {id}: {refusal}");
                refuse(session, id, &refusal);
                None
            }
        }
    }

    fn greet(
        &mut self,
        id: StreamId,
        hello: &Hello,
        session: &mut Session,
        welcome: impl FnOnce() -> Option<([u8; 32], Vec<&'static str>)>,
        now: Instant,
    ) -> Result<Option<Opened>, Refusal> {
        if !matches!(self.hello, HelloState::Strange) {
            return Err(Refusal::new(Code::BAD_LINE, "hello was said"));
        }
        if now < self.closed_until {
            return Err(Refusal::new(Code::NOT_AUTHENTIC, "a wrong proof came a moment ago"));
        }
        let no_random = || Refusal::new(Code::FAILED, "the system has no random numbers");
        let (nonce, may) = welcome().ok_or_else(no_random)?;
        let welcome = Welcome::new(hello, self.secret.clone(), nonce)?;
        let (line, is_all) = welcome.line(PROGRAM, &may, self.packs);
        say(session, id, &line);
        if is_all {
            leave(session, id);
            self.hello = HelloState::In;
            log::info!("{:?} is at the other end", hello.host);
            return Ok(Some(Opened::LetIn));
        }
        self.hello = HelloState::Asked(id, Box::new(welcome), LineBuffer::new(MAX_LINE));
        // It may lie behind the first line already.
        Ok(self.judge(session, now))
    }

    /// The host's proof.
    fn judge(&mut self, session: &mut Session, now: Instant) -> Option<Opened> {
        let HelloState::Asked(id, welcome, buffer) = &mut self.hello else { return None };
        let id = *id;
        let outcome = match take_line(session, id, buffer) {
            Line::Part => return None,
            Line::End => Err(Refusal::new(Code::NOT_AUTHENTIC, "no proof came")),
            Line::Whole(line) => line.and_then(|line| welcome.handle_line(&line)),
        };
        match outcome {
            Ok(()) => {
                say(session, id, &answer::ok(&answer::Done {}));
                leave(session, id);
                self.hello = HelloState::In;
                log::info!("a host that has the key is at the other end");
                Some(Opened::LetIn)
            }
            Err(refusal) => {
                log::warn!("a host is not let in: {refusal}");
                self.hello = HelloState::Strange;
                self.closed_until = now + CLOSED;
                refuse(session, id, &Refusal::new(Code::NOT_AUTHENTIC, refusal.message));
                None
            }
        }
    }
}

/// What the agent says that it is.
const PROGRAM: &str = concat!("vspc-agent ", env!("CARGO_PKG_VERSION"));
/// After a wrong proof no hello is answered for so long.
const CLOSED: Duration = Duration::from_secs(1);
