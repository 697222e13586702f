//! What the engine asks of its runtime, and the words the runtime uses to tell it what happened.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::admission::Source;
use super::event::Event;
use super::id::{ConnId, ListenerId};

/// What to do next; from [`poll_output`](super::Concentrator::poll_output).
#[must_use]
#[derive(Clone, Debug)]
pub enum Output {
    /// It has bytes: call [`transmit`](super::Concentrator::transmit) until it returns nothing or the
    /// socket is full. Not said again before `transmit` has returned nothing.
    Transmit(ConnId),
    /// Its receive window rose from zero: read again.
    Receive(ConnId),
    /// Open this listener and answer with
    /// [`handle_listening`](super::Concentrator::handle_listening).
    Listen(ListenerId, Address),
    /// Close this listener. The id is dead.
    Unlisten(ListenerId),
    /// Close this connection. The id is dead.
    Close(ConnId, Shutdown),
    /// Something worth a log line or a counter. Ignoring it is always safe.
    Event(Event),
}

/// How to close a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shutdown {
    /// Stop writing, read and discard until the peer ends or 2 s have passed, then close: closing with
    /// unread input would reset the connection and destroy the text just sent.
    Graceful,
    /// Close now.
    Abort,
}

/// How a connection ended, as the runtime saw it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Closed {
    /// The peer will send no more (a read returned 0). It may still take bytes.
    Input,
    /// The connection is gone both ways: reset, timed out, or failed with this error.
    Failed(io::ErrorKind),
}

/// Where a peer is or a listener goes.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Address {
    /// TCP over IPv4 or IPv6.
    Ip(SocketAddr),
    /// No socket: a consumer inside this process.
    Local,
}

impl Address {
    /// Whose connections are counted together when descriptors run short.
    pub(super) fn source(&self) -> Source {
        match self {
            Self::Ip(address) => address.ip().into(),
            Self::Local => IpAddr::V4(Ipv4Addr::UNSPECIFIED).into(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // A dual-stack listener shows IPv4 peers as ::ffff:a.b.c.d; people know them as a.b.c.d.
            Self::Ip(SocketAddr::V6(v6)) => match v6.ip().to_ipv4_mapped() {
                Some(v4) => write!(f, "{v4}:{}", v6.port()),
                None => v6.fmt(f),
            },
            Self::Ip(v4) => v4.fmt(f),
            Self::Local => f.write_str("local"),
        }
    }
}

/// Who connected.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address.
    pub address: Address,
}

impl Peer {
    /// A peer known by its address alone.
    #[must_use]
    pub fn new(address: Address) -> Self {
        Self { address }
    }
}
