//! The table of listeners: opening them, and taking connections in.

use std::io;
use std::net::SocketAddr;

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use vspc_core::concentrator::ListenerId;
use vspc_host::accept::Accepting;
use vspc_host::slots::Slots;

/// Open listeners.
pub(crate) type Listeners = Slots<ListenerId, Listener>;

/// A listener, and what the loop remembers of it.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: TcpListener,
    /// It waits in the loop's list of sockets to visit.
    queued: bool,
}

/// Opens a listener and says where it is. `make_room` frees a descriptor if it can.
pub(crate) fn listen(
    listeners: &mut Listeners,
    id: ListenerId,
    address: SocketAddr,
    registry: &Registry,
    make_room: impl FnOnce() -> bool,
) -> io::Result<SocketAddr> {
    let socket = Accepting::listen(address, make_room)?;
    let bound = socket.local_addr()?;
    let mut socket = TcpListener::from_std(socket);
    registry.register(&mut socket, token(id), Interest::READABLE)?;
    listeners.insert(id, Listener { socket, queued: false });
    Ok(bound)
}

impl Listener {
    /// Takes note that connections wait; true if the listener is to be put on the list of those to visit.
    pub(crate) fn enqueue(&mut self) -> bool {
        !std::mem::replace(&mut self.queued, true)
    }

    /// It is being visited.
    pub(crate) fn dequeue(&mut self) {
        self.queued = false;
    }

    /// Takes one waiting connection in.
    pub(crate) fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.socket.accept()
    }
}

/// The poller's name for a listener: its id with the bit that no connection's id has.
pub(crate) fn token(id: ListenerId) -> Token {
    Token((id.to_bits() | LISTENER) as usize)
}

/// The listener that a token names; `None` for a connection's.
pub(crate) fn listener_of(token: Token) -> Option<ListenerId> {
    let bits = token.0 as u64;
    (bits & LISTENER != 0).then(|| ListenerId::from_bits(bits & !LISTENER))
}

/// Generations stay below 2^31, so the top bit is free.
const LISTENER: u64 = 1 << 63;
