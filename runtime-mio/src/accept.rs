//! Listeners: opening them, taking connections in, and refusing them when nothing is left to serve with.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Token};
use vspc_core::concentrator::{Address, ListenerId, Peer};
use vspc_core::time::Instant;
use vspc_host::{sockets, spare};

use crate::connections;
use crate::server::Server;

/// Open listeners by their engine's slot.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    slots: Vec<Option<Listener>>,
    /// When listeners that failed are asked again.
    pub(crate) retry: Option<Instant>,
}

#[derive(Debug)]
struct Listener {
    id: ListenerId,
    socket: TcpListener,
    /// It waits in the loop's list of sockets to visit.
    queued: bool,
    /// It failed, and nothing will tell when it can be asked again.
    failed: bool,
}

impl Listeners {
    fn insert(&mut self, id: ListenerId, socket: TcpListener) {
        if self.slots.len() <= id.index() {
            self.slots.resize_with(id.index() + 1, || None);
        }
        self.slots[id.index()] = Some(Listener { id, socket, queued: false, failed: false });
    }

    fn get(&mut self, id: ListenerId) -> Option<&mut Listener> {
        self.slots.get_mut(id.index())?.as_mut().filter(|listener| listener.id == id)
    }

    /// Closes a listener.
    pub(crate) fn remove(&mut self, id: ListenerId) {
        if self.get(id).is_some() {
            self.slots[id.index()] = None;
        }
    }

    /// Takes note that connections wait; true if the listener is to be put on the list of those to visit.
    pub(crate) fn enqueue(&mut self, id: ListenerId) -> bool {
        self.get(id).is_some_and(|listener| !std::mem::replace(&mut listener.queued, true))
    }

    /// The listeners to ask again now, after a failure.
    pub(crate) fn take_failed(&mut self, now: Instant) -> Vec<ListenerId> {
        if self.retry.is_none_or(|at| now < at) {
            return Vec::new();
        }
        self.retry = None;
        let failed = self.slots.iter_mut().flatten().filter(|listener| listener.failed);
        failed
            .map(|listener| {
                listener.failed = false;
                listener.id
            })
            .collect()
    }

    fn fail(&mut self, id: ListenerId, now: Instant) {
        if let Some(listener) = self.get(id) {
            listener.failed = true;
            self.retry = Some(now + RETRY);
        }
    }
}

impl Server {
    /// Opens a listener as the engine asks, and says where it is.
    pub(crate) fn listen(&mut self, id: ListenerId, address: SocketAddr) -> io::Result<SocketAddr> {
        let socket = match sockets::listen(address) {
            Err(error) if spare::is_exhaustion(&error) && self.closing.close_oldest() => {
                sockets::listen(address)
            }
            outcome => outcome,
        }?;
        let bound = socket.local_addr()?;
        let mut socket = TcpListener::from_std(socket);
        self.poll.registry().register(&mut socket, token(id), Interest::READABLE)?;
        self.listeners.insert(id, socket);
        Ok(bound)
    }

    /// Takes in what waits at a listener, up to a bound; more is left for the next turn.
    pub(crate) fn accept(&mut self, id: ListenerId) {
        let Some(listener) = self.listeners.get(id) else { return };
        listener.queued = false;
        for _ in 0..ACCEPTS_PER_VISIT {
            let Some(listener) = self.listeners.get(id) else { return };
            match listener.socket.accept() {
                Ok((stream, peer)) => self.admit(id, stream, peer),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if spare::is_exhaustion(&error) => {
                    if !self.closing.close_oldest() && !self.refuse_one(id) {
                        return;
                    }
                }
                Err(error) if is_passing(&error) => {}
                Err(error) => {
                    self.refusals.refused(&error.to_string(), self.now);
                    return self.listeners.fail(id, self.now);
                }
            }
        }
        self.enqueue_listener(id);
    }

    fn admit(&mut self, on: ListenerId, mut stream: TcpStream, peer: SocketAddr) {
        let Some(id) = self.engine.handle_accepted(on, Peer::new(Address::Ip(peer)), self.now) else {
            return self.refusals.refused("the engine takes no more", self.now);
        };
        let interest = Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY;
        let registered = self.poll.registry().register(&mut stream, connections::token(id), interest);
        self.connections.insert(id, stream);
        if let Err(error) = registered {
            self.fail(id, error.kind());
        }
    }

    /// Closes one waiting connection with the spare descriptor; false if that cannot be gone on with now.
    fn refuse_one(&mut self, id: ListenerId) -> bool {
        let Some(listener) = self.listeners.get(id) else { return false };
        match self.spare.refuse(|| listener.socket.accept()) {
            Ok(()) => {
                self.refusals
                    .refused("no descriptor is left, raise the limit (ulimit -n, LimitNOFILE=)", self.now);
                true
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(_) => {
                self.listeners.fail(id, self.now);
                false
            }
        }
    }
}

/// The poller's name for a listener: its id with the bit that no connection's id has.
pub(crate) fn token(id: ListenerId) -> Token {
    Token((id.to_bits() | LISTENER) as usize)
}

/// The listener of this name, if it is one's.
pub(crate) fn listener(token: Token) -> Option<ListenerId> {
    let bits = token.0 as u64;
    (bits & LISTENER != 0).then(|| ListenerId::from_bits(bits & !LISTENER))
}

/// Errors of one connection, which ended before it was accepted (accept(2) lists them). All others say
/// something of this machine, and asking again at once would spin.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionReset, HostUnreachable, Interrupted, NetworkDown, NetworkUnreachable,
        PermissionDenied, TimedOut,
    };
    matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionReset
            | HostUnreachable
            | Interrupted
            | NetworkDown
            | NetworkUnreachable
            | PermissionDenied
            | TimedOut
    )
}

const LISTENER: u64 = 1 << 63;

/// Connections accepted in one visit: a storm of them must not keep others waiting for milliseconds.
const ACCEPTS_PER_VISIT: usize = 64;

/// How long a listener that fails for want of kernel memory is left alone.
const RETRY: Duration = Duration::from_millis(100);
