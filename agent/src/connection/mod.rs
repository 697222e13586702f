//! Connections that are carried on (APPLICATION §5): those that the host asks the agent to make, and those
//! that come to the agent's listeners.
//!
//! Owns how one begins on either side, and that a reset is passed on as one. Refuses to know what may be.

mod listener;
mod target;

use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::sockopt;
use vspc_core::mux::{Session, StreamId};
use vspc_core::time::Instant;
use vspc_guest::{Code, LineBuffer, MAX_LINE, Refusal, answer};

use crate::flow::{AtEnd, Sink, Source};
use crate::say::{Line, leave, refuse, say, take_line};
use crate::task::{Ctx, Fate, Interest};

pub(crate) use listener::{Listener, forget};
pub(crate) use target::{Target, Targets};

/// A connection.
#[derive(Debug)]
pub(crate) struct Connection {
    id: StreamId,
    socket: Rc<OwnedFd>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The agent connects, until this time.
    Connecting(Instant),
    /// The host was told of it, and connects.
    Asked(LineBuffer),
    On(Source, Sink),
}

impl Connection {
    /// One that the host asks for.
    pub(crate) fn connect(id: StreamId, target: &Target, now: Instant) -> Result<Self, Refusal> {
        let socket = target.connect().map_err(|error| Refusal::system(&target.to_string(), &error.into()))?;
        Ok(Self { id, socket: Rc::new(socket), state: State::Connecting(now + PATIENCE) })
    }

    /// One that has come to a listener, and was announced.
    pub(crate) fn accepted(id: StreamId, socket: OwnedFd) -> Self {
        Self { id, socket: Rc::new(socket), state: State::Asked(LineBuffer::new(MAX_LINE)) }
    }

    /// Does what can be done.
    pub(crate) fn step(&mut self, ctx: &mut Ctx<'_>) -> Fate {
        match &mut self.state {
            State::Connecting(until) => {
                let until = *until;
                match self.outcome() {
                    None if until > ctx.now => return Fate::Stays,
                    Some(Ok(())) => {
                        say(ctx.session, self.id, &answer::ok(&answer::Done {}));
                        self.begin();
                    }
                    None => return self.fail(ctx.session, &Refusal::new(Code::TIMED_OUT, "no answer")),
                    Some(Err(error)) => {
                        return self
                            .fail(ctx.session, &Refusal::system("it cannot be reached", &error.into()));
                    }
                }
            }
            State::Asked(line) => match take_line(ctx.session, self.id, line) {
                Line::Part => return Fate::Stays,
                Line::Whole(Ok(line)) if answer::parse::<answer::Done>(&line).is_ok() => self.begin(),
                _ => {
                    leave(ctx.session, self.id);
                    self.abort();
                    return Fate::Over;
                }
            },
            State::On(..) => {}
        }
        let State::On(source, sink) = &mut self.state else { return Fate::Stays };
        sink.pump(ctx.session);
        source.pump(ctx.session, ctx.scratch);
        if source.is_over() && sink.is_over() { Fate::Over } else { Fate::Stays }
    }

    /// What it waits for.
    pub(crate) fn interest<'a>(&'a self, session: &Session, into: &mut Interest<'a>) {
        match &self.state {
            State::Connecting(_) => into.push((self.socket.as_fd(), PollFlags::OUT)),
            State::Asked(_) => {}
            State::On(source, sink) => {
                source.interest(session, into);
                sink.interest(into);
            }
        }
    }

    /// When it is to be stepped.
    pub(crate) const fn deadline(&self) -> Option<Instant> {
        if let State::Connecting(until) = self.state { Some(until) } else { None }
    }

    /// The host has given it up: so does the agent, and says so to whoever is connected.
    pub(crate) fn abort(&self) {
        let _ = sockopt::set_socket_linger(&self.socket, Some(Duration::ZERO));
    }

    fn begin(&mut self) {
        let source = Source::of_socket(self.id, Rc::clone(&self.socket));
        self.state = State::On(source, Sink::new(self.id, Rc::clone(&self.socket), AtEnd::Shutdown));
    }

    fn fail(&self, session: &mut Session, refusal: &Refusal) -> Fate {
        refuse(session, self.id, refusal);
        Fate::Over
    }

    /// What has become of connecting.
    fn outcome(&self) -> Option<Result<(), Errno>> {
        match sockopt::socket_error(&self.socket) {
            Ok(Ok(())) => {}
            Ok(Err(error)) | Err(error) => return Some(Err(error)),
        }
        match rustix::net::getpeername(&self.socket) {
            Ok(_) => Some(Ok(())),
            Err(_) => None,
        }
    }
}

/// For how long a connection is tried: longer than a packet that is lost twice.
const PATIENCE: Duration = Duration::from_secs(20);
