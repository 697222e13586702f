//! Sockets that linger: the engine is done with them, and their peers are given time to end too. Writing is
//! shut down, input is read and discarded.

use std::task::{Context, Poll, ready};

use async_io::Async;
use socket2::Socket;
use vspc_core::concentrator::ConnId;
use vspc_host::grace::Grace;
use vspc_host::transfer::{self, Discarded};

use crate::task::Task;

/// The sockets that linger, by the ids that their connections had.
pub(crate) type Lingering = Grace<LingeringSocket>;

/// A socket that is read from until its peer ends.
#[derive(Debug)]
pub(crate) struct LingeringSocket {
    stream: Async<Socket>,
    /// The task that reads from it.
    task: Task,
}

impl LingeringSocket {
    /// A socket whose writing has been shut down. Its task goes over to [`visit`].
    pub(crate) fn new(stream: Async<Socket>, task: Task) -> Self {
        task.wake();
        Self { stream, task }
    }
}

/// Reads once from a socket and discards that; its task is woken when there may be more. Closes the socket at
/// its end. Ready when it is closed, or does not linger.
pub(crate) fn visit(
    lingering: &mut Lingering,
    id: ConnId,
    scratch: &mut [u8],
    cx: &mut Context<'_>,
) -> Poll<()> {
    let Some(socket) = lingering.get(id) else { return Poll::Ready(()) };
    socket.task.set(cx);
    match transfer::discard(socket.stream.get_ref(), scratch) {
        Discarded::More => cx.waker().wake_by_ref(),
        Discarded::Nothing => match ready!(socket.stream.poll_readable(cx)) {
            Ok(()) => cx.waker().wake_by_ref(),
            Err(_) => drop(lingering.remove(id)),
        },
        Discarded::End => drop(lingering.remove(id)),
    }
    Poll::Pending
}
