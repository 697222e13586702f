//! The table of live connections: what the server remembers of each socket, and nothing more.

use socket2::Socket;
use vspc_core::concentrator::ConnId;
use vspc_host::slots::Slots;
use vspc_host::transfer::{Ending, Refills};

/// Live connections: idle ones cost these few bytes in the runtime.
pub(crate) type Connections = Slots<ConnId, Connection>;

/// One socket and what is known about it. Readiness is told once, so it is kept here until a read or a write
/// has used it up.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: Socket,
    /// There is something to read, as far as is known: data, an end or an error.
    pub(crate) readable: bool,
    /// A short read does not prove the socket empty: an end, an error or an urgent mark, at which a read
    /// stops short, lies behind the data.
    pub(crate) more_behind: bool,
    /// The socket did not take all that the engine had. It is written to again when it takes more.
    pub(crate) full: bool,
    /// A task is going to visit it.
    pub(crate) queued: bool,
    /// How its peer has taken what it was behind with.
    pub(crate) refills: Refills,
    /// How far it is closed.
    pub(crate) ending: Ending,
}

impl Connection {
    /// A connection that was just accepted. A new socket takes bytes; whether there is something to read
    /// the kernel will say.
    pub(crate) fn new(stream: Socket) -> Self {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_costs_sixteen_bytes_beside_its_socket() {
        assert!(Connections::footprint() <= size_of::<Socket>() + 16);
    }
}
