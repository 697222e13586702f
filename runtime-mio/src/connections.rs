//! The table of live connections: what the loop remembers of each socket, and nothing more.

use mio::Token;
use socket2::Socket;
use vspc_core::concentrator::ConnId;
use vspc_host::slots::Slots;
use vspc_host::transfer::{Ending, Refills};

/// Live connections: idle ones cost these few bytes in the runtime.
pub(crate) type Connections = Slots<ConnId, Connection>;

/// One socket and what is known about it. Edge-triggered readiness is reported once, so it is kept here
/// until a read or a write has used it up.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: Socket,
    /// There is something to read, as far as is known: data, an end or an error.
    pub(crate) readable: bool,
    /// A short read does not prove the socket empty: an end, an error or an urgent mark, at which a read
    /// stops short, lies behind the data.
    pub(crate) more_behind: bool,
    /// The socket did not take all that the engine had. It is written to again when the poller reports that
    /// it takes more.
    pub(crate) full: bool,
    /// The connection waits in the loop's list of sockets to visit.
    pub(crate) queued: bool,
    /// How its peer has taken what it was behind with.
    pub(crate) refills: Refills,
    /// How far it is closed.
    pub(crate) ending: Ending,
}

impl Connection {
    /// A connection that was just accepted. A new socket takes bytes; whether there is something to read
    /// the poller will say.
    pub(crate) fn new(stream: Socket) -> Self {
        Self {
            stream,
            readable: false,
            more_behind: false,
            full: false,
            refills: Refills::default(),
            queued: false,
            ending: Ending::default(),
        }
    }
}

/// The poller's name for a connection.
pub(crate) fn token(id: ConnId) -> Token {
    Token(id.to_bits() as usize)
}

/// The connection that a token names, which must not be a listener's.
pub(crate) fn connection_of(token: Token) -> ConnId {
    ConnId::from_bits(token.0 as u64)
}

// A token is a whole id.
const _: () = assert!(size_of::<usize>() == size_of::<u64>());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_costs_sixteen_bytes_beside_its_socket() {
        assert!(Connections::footprint() <= size_of::<Socket>() + 16);
    }
}
