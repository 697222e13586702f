//! The table of listeners: opening them, and taking connections in.

use std::io;
use std::task::{Context, Poll};

use async_io::Async;
use socket2::Socket;
use vspc_core::concentrator::{Address, ListenerId, Peer};
use vspc_host::accept::Accepting;
use vspc_host::listener;
use vspc_host::slots::Slots;

use crate::task::Task;

/// Open listeners.
pub(crate) type Listeners = Slots<ListenerId, Listener>;

/// A listener, and what the server remembers of it.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: Async<listener::Listener>,
    /// The task that serves it.
    pub(crate) task: Task,
}

/// Opens a listener and says where it is. `make_room` frees a descriptor if it can.
pub(crate) fn listen(
    accepting: &mut Accepting,
    listeners: &mut Listeners,
    id: ListenerId,
    address: &Address,
    make_room: impl FnOnce() -> bool,
) -> io::Result<Address> {
    let socket = accepting.listen(address, make_room)?;
    let bound = socket.address()?;
    let socket = Async::new_nonblocking(socket)?;
    listeners.insert(id, Listener { socket, task: Task::default() });
    Ok(bound)
}

impl Listener {
    /// Takes one waiting connection in.
    pub(crate) fn accept(&self) -> io::Result<(Socket, Peer)> {
        self.socket.get_ref().accept()
    }

    /// Has the reactor wake the listener's task when somebody waits; ready if somebody does.
    pub(crate) fn poll_waiting(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_readable(cx)
    }
}
