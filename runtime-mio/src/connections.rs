//! The table of live connections: what the loop remembers of each socket, and nothing more.

use mio::Token;
use mio::net::TcpStream;
use vspc_core::concentrator::{Closed, ConnId};

/// One socket and what is known about it. Edge-triggered readiness is told once, so it is kept here until
/// a read or a write has used it up.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    generation: u32,
    /// There is something to read, as far as is known: data, an end or an error.
    pub(crate) readable: bool,
    /// Something lies behind the data (an end, an error, an urgent mark, at which a read stops short): a
    /// short read does not mean that all has been read.
    pub(crate) more_behind: bool,
    /// The engine has bytes that the socket did not take: it is written to again when it tells that it takes
    /// more.
    pub(crate) full: bool,
    /// The connection waits in the loop's list of sockets to visit.
    pub(crate) queued: bool,
    /// How far it is closed. The input: nothing more is read. Failed: nothing more is written, and what had
    /// arrived before is still read.
    pub(crate) closed: Option<Closed>,
}

/// Live connections by their engine's slot: idle ones cost these few bytes in the runtime.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    slots: Vec<Option<Connection>>,
}

impl Connections {
    /// Takes up a connection that was just accepted. It is not full, because a new socket is not;
    /// whether it is readable the poller will say.
    pub(crate) fn insert(&mut self, id: ConnId, stream: TcpStream) {
        if self.slots.len() <= id.index() {
            self.slots.resize_with(id.index() + 1, || None);
        }
        self.slots[id.index()] = Some(Connection {
            stream,
            generation: generation(id),
            readable: false,
            more_behind: false,
            full: false,
            queued: false,
            closed: None,
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

/// The poller's name for a connection.
pub(crate) fn token(id: ConnId) -> Token {
    Token(id.to_bits() as usize)
}

fn generation(id: ConnId) -> u32 {
    (id.to_bits() >> 32) as u32
}

// A token is a whole id.
const _: () = assert!(size_of::<usize>() == size_of::<u64>());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_costs_sixteen_bytes_beside_its_socket() {
        // The socket is 4 bytes, and more in debug builds, where mio adds a check of its own to it.
        assert!(size_of::<Option<Connection>>() <= size_of::<TcpStream>() + 16);
    }

    #[test]
    fn a_stale_name_reaches_nobody() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = || TcpStream::connect(listener.local_addr().unwrap()).unwrap();
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
