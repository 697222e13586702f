//! The table of listeners: opening them, and taking connections in.

use std::io;
use std::os::fd::AsRawFd;

use mio::unix::SourceFd;
use mio::{Interest, Registry};
use socket2::Socket;
use vspc_core::concentrator::{Address, ListenerId, Peer};
use vspc_host::accept::Accepting;
use vspc_host::listener;
use vspc_host::slots::Slots;

use crate::tokens::listener_token;

/// Open listeners.
pub(crate) type Listeners = Slots<ListenerId, Listener>;

/// A listener, and what the loop remembers of it.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: listener::Listener,
    /// It waits in the loop's list of sockets to visit.
    queued: bool,
}

/// Opens a listener and says where it is. `make_room` frees a descriptor if it can.
pub(crate) fn listen(
    accepting: &mut Accepting,
    listeners: &mut Listeners,
    id: ListenerId,
    address: &Address,
    registry: &Registry,
    make_room: impl FnOnce() -> bool,
) -> io::Result<Address> {
    let socket = accepting.listen(address, make_room)?;
    let bound = socket.address()?;
    // Closing a socket takes it off the poller, because nobody else has its descriptor.
    registry.register(&mut SourceFd(&socket.as_raw_fd()), listener_token(id), Interest::READABLE)?;
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
    pub(crate) fn accept(&self) -> io::Result<(Socket, Peer)> {
        self.socket.accept()
    }
}
