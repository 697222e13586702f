//! The table of listeners: opening them, and taking connections in.

use std::io;
use std::mem;

use socket2::Socket;
use vspc_core::concentrator::{Address, ListenerId, Peer};
use vspc_host::accept::Accepting;
use vspc_host::listener;
use vspc_host::slots::Slots;

use crate::readiness::{Sockets, Source};

/// Open listeners.
pub(crate) type Listeners = Slots<ListenerId, Listener>;

/// A listener, and what the server remembers of it.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: listener::Listener,
    /// A task is going to visit it.
    queued: bool,
}

/// Opens a listener and says where it is. `make_room` frees a descriptor if it can.
pub(crate) fn listen(
    accepting: &mut Accepting,
    listeners: &mut Listeners,
    id: ListenerId,
    address: &Address,
    sockets: &Sockets,
    make_room: impl FnOnce() -> bool,
) -> io::Result<Address> {
    let socket = accepting.listen(address, make_room)?;
    let bound = socket.address()?;
    sockets.register(&socket, Source::Listener(id))?;
    listeners.insert(id, Listener { socket, queued: false });
    Ok(bound)
}

impl Listener {
    /// Takes note that connections wait; true if a task is to be made for them.
    pub(crate) fn enqueue(&mut self) -> bool {
        !mem::replace(&mut self.queued, true)
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
