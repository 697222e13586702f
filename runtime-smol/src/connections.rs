//! The table of live connections: what the server remembers of each socket, and nothing more.

use std::net::TcpStream;
use std::task::Waker;

use async_io::Async;
use vspc_core::concentrator::{Closed, ConnId};

/// One socket and what is known about it. Readiness is remembered, so that a task asks the reactor only
/// after a read or a write has used it up.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: Async<TcpStream>,
    generation: u32,
    /// There is something to read, as far as is known: data, an end or an error.
    pub(crate) readable: bool,
    /// The engine has bytes that the socket did not take: it is written to again when it tells that it takes
    /// more.
    pub(crate) full: bool,
    /// How far it is closed. The input: nothing more is read. Failed: nothing more is written, and what had
    /// arrived before is still read.
    pub(crate) closed: Option<Closed>,
    /// The reactor would not tell of its end: it is looked for by the clock.
    pub(crate) unwatched: bool,
    /// The connection's task, once it has run.
    pub(crate) task: Option<Waker>,
}

/// Live connections by their engine's slot.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    slots: Vec<Option<Connection>>,
}

impl Connections {
    /// Takes up a connection that was just accepted. It is not full, because a new socket is not;
    /// whether it is readable its task will find out.
    pub(crate) fn insert(&mut self, id: ConnId, stream: Async<TcpStream>) {
        if self.slots.len() <= id.index() {
            self.slots.resize_with(id.index() + 1, || None);
        }
        self.slots[id.index()] = Some(Connection {
            stream,
            generation: generation(id),
            readable: false,
            full: false,
            closed: None,
            unwatched: false,
            task: None,
        });
    }

    /// The connection of this name, unless it is gone.
    pub(crate) fn get(&mut self, id: ConnId) -> Option<&mut Connection> {
        let connection = self.slots.get_mut(id.index())?.as_mut()?;
        (connection.generation == generation(id)).then_some(connection)
    }

    /// Forgets a connection and hands its socket over.
    pub(crate) fn remove(&mut self, id: ConnId) -> Option<Connection> {
        self.get(id)?;
        self.slots[id.index()].take()
    }
}

fn generation(id: ConnId) -> u32 {
    (id.to_bits() >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_costs_forty_bytes_here() {
        assert!(size_of::<Option<Connection>>() <= 40);
    }

    #[test]
    fn a_stale_name_reaches_nobody() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = || Async::new(TcpStream::connect(listener.local_addr().unwrap()).unwrap()).unwrap();
        let (old, new) = (ConnId::from_bits(1 << 32 | 3), ConnId::from_bits(2 << 32 | 3));
        let mut connections = Connections::default();
        connections.insert(old, stream());
        assert!(connections.get(old).is_some());
        connections.insert(new, stream());
        assert!(connections.get(old).is_none());
        assert!(connections.remove(old).is_none());
        assert!(connections.remove(new).is_some());
        assert!(connections.get(new).is_none());
        assert!(connections.get(ConnId::from_bits(9)).is_none());
    }
}
