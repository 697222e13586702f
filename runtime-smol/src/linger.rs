//! Sockets that linger: the engine is done with them, and their peers are given time to end too. Writing is
//! shut down, input is read and discarded.

use std::mem;

use socket2::Socket;
use vspc_core::concentrator::ConnId;
use vspc_host::grace::Grace;
use vspc_host::transfer::{self, Discarded};

/// The sockets that linger, by the ids that their connections had.
pub(crate) type Lingering = Grace<LingeringSocket>;

/// A socket that is read from until its peer ends.
#[derive(Debug)]
pub(crate) struct LingeringSocket {
    stream: Socket,
    /// A task is going to visit it.
    queued: bool,
}

impl LingeringSocket {
    /// A socket whose writing has been shut down.
    pub(crate) fn new(stream: Socket, queued: bool) -> Self {
        Self { stream, queued }
    }
}

/// Takes note that a socket is readable; true if a task is to be made for it.
pub(crate) fn enqueue(lingering: &mut Lingering, id: ConnId) -> bool {
    lingering.get(id).is_some_and(|socket| !mem::replace(&mut socket.queued, true))
}

/// Reads once from a socket and discards that; true if there may be more. Closes the socket at its end.
pub(crate) fn visit(lingering: &mut Lingering, id: ConnId, scratch: &mut [u8]) -> bool {
    let Some(socket) = lingering.get(id) else { return false };
    socket.queued = false;
    match transfer::discard(&socket.stream, scratch) {
        Discarded::More => return true,
        Discarded::Nothing => {}
        Discarded::End => drop(lingering.remove(id)),
    }
    false
}
