//! One connection that is carried between a socket here and a stream into the guest.
//!
//! Owns that each direction ends by itself, and that a reset is passed on as one.

use std::collections::VecDeque;

use rustix::event::PollFlags;
use rustix::io::{Errno, read, write};
use vspc_guest::answer::Done;
use vspc_operator::News;

use super::socket::Socket;
use crate::connection::Connection;
use crate::guest::{Joined, Trouble};

/// A connection.
#[derive(Debug)]
pub(super) struct Carried {
    /// For people: what it is connected to.
    pub(super) label: String,
    joined: Joined,
    /// Gone once it is over.
    socket: Option<Socket>,
    /// What the socket has not taken yet.
    waiting: VecDeque<u8>,
    has_read_all: bool,
    has_written_all: bool,
}

/// How a connection has ended.
#[derive(Debug)]
pub(super) enum Over {
    /// Both directions have ended.
    Whole,
    /// One side has given it up.
    Cut,
    /// It has not come about, or was lost.
    Lost(Trouble),
}

impl Carried {
    pub(super) fn new(label: String, joined: Joined, socket: Socket) -> Self {
        Self {
            label,
            joined,
            socket: Some(socket),
            waiting: VecDeque::new(),
            has_read_all: false,
            has_written_all: false,
        }
    }

    /// What poll(2) is to wait for on its socket, if for anything: one that nothing is wanted of would still
    /// tell that its peer has gone.
    pub(super) fn interest(&self) -> Option<(&Socket, PollFlags)> {
        let socket = self.socket.as_ref()?;
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, self.wants_input());
        flags.set(PollFlags::OUT, !self.waiting.is_empty());
        (!flags.is_empty()).then_some((socket, flags))
    }

    fn wants_input(&self) -> bool {
        !self.has_read_all && self.joined.is_answered() && self.joined.waiting() < AHEAD
    }

    /// News came. Whether it has ended by it.
    pub(super) fn handle(&mut self, connection: &mut Connection, news: &News) -> Option<Over> {
        let trouble = self.joined.lost(news)?;
        self.abort();
        // One that was refused is open on this side.
        self.joined.leave(connection);
        Some(match trouble {
            // As the connection in the guest was.
            Trouble::Reset if self.joined.is_answered() => Over::Cut,
            trouble => Over::Lost(trouble),
        })
    }

    /// Gives it up towards this side.
    pub(super) fn abort(&mut self) {
        if let Some(socket) = self.socket.take() {
            socket.abort();
        }
    }

    /// Does what can be done. `is_ready`: the socket has something, or takes something.
    pub(super) fn step(&mut self, connection: &mut Connection, is_ready: bool) -> Option<Over> {
        if let Some(Err(trouble)) = self.joined.answer::<Done>(connection) {
            self.abort();
            self.joined.leave(connection);
            return Some(Over::Lost(trouble));
        }
        if !self.joined.is_answered() {
            return None;
        }
        match self.pass(connection, is_ready) {
            Ok(()) if self.has_written_all && self.joined.has_said_all() => Some(Over::Whole),
            Ok(()) => None,
            Err(_) => {
                self.socket = None;
                self.joined.leave(connection);
                Some(Over::Cut)
            }
        }
    }

    fn pass(&mut self, connection: &mut Connection, is_ready: bool) -> Result<(), Errno> {
        let wants_input = self.wants_input();
        let Some(socket) = &self.socket else { return Ok(()) };
        if is_ready && wants_input {
            let mut buf = [0; 16 * 1024];
            match read(socket, &mut buf) {
                Ok(0) => {
                    self.has_read_all = true;
                    self.joined.finish();
                }
                Ok(n) => self.joined.say(&buf[..n]),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        self.joined.push(connection);
        loop {
            let waiting = &mut self.waiting;
            self.joined.hear(connection, |bytes| {
                let n = bytes.len().min(AHEAD.saturating_sub(waiting.len()));
                waiting.extend(&bytes[..n]);
                n
            });
            if self.waiting.is_empty() {
                break;
            }
            match write(socket, self.waiting.as_slices().0) {
                Ok(n) => drop(self.waiting.drain(..n)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(error) => return Err(error),
            }
        }
        if self.joined.has_heard_all() && self.waiting.is_empty() && !self.has_written_all {
            self.has_written_all = true;
            socket.finish();
        }
        Ok(())
    }
}

/// What waits at most in either direction.
const AHEAD: usize = 64 * 1024;
