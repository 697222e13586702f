//! The table of live connections: what the server remembers of each socket, and nothing more.

use async_io::Async;
use socket2::Socket;
use vspc_core::concentrator::ConnId;
use vspc_host::slots::Slots;
use vspc_host::transfer::{Ending, Refills};

use crate::task::Task;

/// Live connections: idle ones cost these few bytes in the runtime, and what async-io keeps.
pub(crate) type Connections = Slots<ConnId, Connection>;

/// One socket and what is known about it.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: Async<Socket>,
    /// There is something to read, as far as is known: data, an end or an error. The reactor need not be
    /// asked.
    pub(crate) readable: bool,
    /// The socket did not take all that the engine had. Each visit of its task clears this and tries again.
    pub(crate) full: bool,
    /// How its peer has taken what it was behind with.
    pub(crate) refills: Refills,
    /// How far it is closed.
    pub(crate) ending: Ending,
    /// The reactor cannot report its end: it is on the list of those whose tasks the clock wakes.
    pub(crate) polled: bool,
    /// The task that serves it.
    pub(crate) task: Task,
}

impl Connection {
    /// A connection that was just accepted. A new socket takes bytes; whether there is something to read
    /// its task will find out.
    pub(crate) fn new(stream: Async<Socket>) -> Self {
        Self {
            stream,
            readable: false,
            full: false,
            refills: Refills::default(),
            ending: Ending::default(),
            polled: false,
            task: Task::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_costs_forty_eight_bytes_here() {
        assert!(Connections::footprint() <= 48);
    }
}
