//! Sockets that linger: the engine is done with them, and their peers are given time to end too. Writing is
//! shut down, input is read and discarded.

use std::mem;

use socket2::Socket;
use vspc_core::concentrator::ConnId;

use crate::grace::Grace;
use crate::transfer::{self, Discarded};

/// The sockets that linger, by the ids that their connections had.
pub type Lingering = Grace<LingeringSocket>;

/// A socket that is read from until its peer ends.
#[derive(Debug)]
pub struct LingeringSocket {
    stream: Socket,
    /// A visit to it is due.
    queued: bool,
}

impl LingeringSocket {
    /// A socket whose writing has been shut down.
    pub(crate) fn new(stream: Socket, queued: bool) -> Self {
        Self { stream, queued }
    }
}

impl Lingering {
    /// Takes note that a socket is readable; true if it is to be visited for that.
    pub fn enqueue(&mut self, id: ConnId) -> bool {
        self.get(id).is_some_and(|socket| !mem::replace(&mut socket.queued, true))
    }

    /// Reads once from a socket and discards that; true if there may be more. Closes the socket at its end.
    pub fn visit(&mut self, id: ConnId, scratch: &mut [u8]) -> bool {
        let Some(socket) = self.get(id) else { return false };
        socket.queued = false;
        match transfer::discard(&socket.stream, scratch) {
            Discarded::More => return true,
            Discarded::Nothing => {}
            Discarded::End => drop(self.remove(id)),
        }
        false
    }
}
