//! What a server remembers of a live connection's socket, and what becomes of that in a visit.
//!
//! **Refuses to know** how its runtime learns of readiness, and how it queues visits.

use std::mem;

use socket2::Socket;
use vspc_core::concentrator::{Concentrator, ConnId};
use vspc_core::time::Instant;

use crate::slots::Slots;
use crate::transfer::{self, Ending, Received, Refills, Transmitted};

/// Live connections: idle ones cost these few bytes in the runtime.
pub type Connections = Slots<ConnId, Connection>;

/// One socket and what is known about it. Readiness is told once, so it is kept here until a read or a write
/// has used it up.
#[derive(Debug)]
pub struct Connection {
    /// The socket, which does not block.
    pub stream: Socket,
    /// There is something to read, as far as is known: data, an end or an error.
    readable: bool,
    /// A short read does not prove the socket empty: an end, an error or an urgent mark, at which a read
    /// stops short, lies behind the data.
    more_behind: bool,
    /// The socket did not take all that the engine had. It is written to again when it takes more.
    full: bool,
    /// A visit to it is due.
    queued: bool,
    /// How its peer has taken what it was behind with.
    refills: Refills,
    /// How far it is closed.
    pub ending: Ending,
}

impl Connection {
    /// A connection that was just accepted. A new socket takes bytes; whether there is something to read the
    /// kernel will say.
    #[must_use]
    pub fn new(stream: Socket) -> Self {
        Self {
            stream,
            readable: false,
            more_behind: false,
            full: false,
            queued: false,
            refills: Refills::default(),
            ending: Ending::default(),
        }
    }

    /// The kernel says that there is something to read, and perhaps that a short read does not empty it.
    pub fn note_readable(&mut self, more_behind: bool) {
        self.readable = true;
        self.more_behind |= more_behind;
    }

    /// The kernel says that the socket takes bytes. True if the engine may still have some for it.
    pub fn note_writable(&mut self) -> bool {
        !self.ending.has_failed() && mem::take(&mut self.full)
    }

    /// Nothing more can be written: from now on it is only read from, as if there were something to read.
    pub fn read_on(&mut self) {
        self.full = true;
        self.note_readable(true);
    }

    /// True if it is to be put among those whose visit is due: it is not yet, and a visit would read or might
    /// find an end.
    pub fn enqueue(&mut self, engine: &Concentrator, id: ConnId) -> bool {
        let is_due = self.readable
            && !self.ending.has_ended()
            && !self.queued
            && (self.more_behind || engine.receive_window(id) > 0);
        self.queued |= is_due;
        is_due
    }

    /// Reads once, or looks for the end while the window is 0. `None`: there was no point.
    pub fn receive(
        &mut self,
        engine: &mut Concentrator,
        id: ConnId,
        scratch: &mut [u8],
        now: Instant,
    ) -> Option<Received> {
        self.queued = false;
        if !self.readable || self.ending.has_ended() {
            return None;
        }
        let received = transfer::receive(engine, id, &self.stream, self.ending, scratch, now);
        match received {
            // A read that brings less than asked for has emptied the socket (epoll(7)): new data is told of,
            // and a second read would only return WouldBlock.
            Received::Bytes { more } => self.readable = more || self.more_behind,
            Received::Nothing => {
                self.readable = false;
                self.more_behind = false;
            }
            // It stays readable until the engine says `Receive`.
            Received::WindowClosed | Received::WindowClosedAndEnded | Received::WindowClosedAndFailed(_) => {}
            Received::Closed(_) => self.readable = false,
        }
        Some(received)
    }

    /// Writes what the engine has, unless the socket is known to be full: until it is, the engine has no
    /// more, or the visit has been long enough.
    pub fn transmit(&mut self, engine: &mut Concentrator, id: ConnId, now: Instant) -> Transmitted {
        if self.full {
            return Transmitted::Full;
        }
        let sent = transfer::transmit(engine, id, &self.stream, &mut self.refills, now);
        self.full = sent == Transmitted::Full;
        sent
    }

    /// Its socket, and whether a visit is due.
    pub(crate) fn into_parts(self) -> (Socket, bool) {
        (self.stream, self.queued)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_costs_sixteen_bytes_beside_its_socket() {
        assert!(Connections::footprint() <= size_of::<Socket>() + 16);
    }
}
