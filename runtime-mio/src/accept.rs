//! Listeners: opening them, taking connections in, and refusing them when nothing is left to serve with.

use std::io;
use std::net::SocketAddr;

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Token};
use vspc_core::concentrator::{Address, ListenerId, Peer};
use vspc_core::time::Instant;
use vspc_host::sockets;
use vspc_host::spare::{ACCEPTS_PER_VISIT, AcceptFailure, NO_DESCRIPTOR, NOT_TAKEN, RETRY, is_exhaustion};

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
            Err(error) if is_exhaustion(&error) && self.closing.close_oldest() => sockets::listen(address),
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
                Err(error) => match AcceptFailure::of(&error) {
                    AcceptFailure::Nobody => return,
                    AcceptFailure::Passing => {}
                    AcceptFailure::Exhausted if self.closing.close_oldest() => {}
                    AcceptFailure::Exhausted => match self.refuse_one(id) {
                        AcceptFailure::Passing => {}
                        AcceptFailure::Nobody => return,
                        _ => return self.listeners.fail(id, self.now),
                    },
                    AcceptFailure::Lasting => {
                        self.refusals.refused(error, self.now);
                        return self.listeners.fail(id, self.now);
                    }
                },
            }
        }
        self.enqueue_listener(id);
    }

    fn admit(&mut self, on: ListenerId, mut stream: TcpStream, peer: SocketAddr) {
        let Some(id) = self.engine.handle_accepted(on, Peer::new(Address::Ip(peer)), self.now) else {
            return self.refusals.refused(NOT_TAKEN, self.now);
        };
        let interest = Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY;
        let registered = self.poll.registry().register(&mut stream, connections::token(id), interest);
        self.connections.insert(id, stream);
        if let Err(error) = registered {
            self.fail(id, error.kind());
        }
    }

    /// Closes one waiting connection with the spare descriptor. Passing: that is done.
    fn refuse_one(&mut self, id: ListenerId) -> AcceptFailure {
        let Some(listener) = self.listeners.get(id) else { return AcceptFailure::Nobody };
        match self.spare.refuse(|| listener.socket.accept()) {
            Ok(()) => {
                self.refusals.refused(NO_DESCRIPTOR, self.now);
                AcceptFailure::Passing
            }
            Err(error) => AcceptFailure::of(&error),
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

/// Generations stay below 2^31, so the top bit is free.
const LISTENER: u64 = 1 << 63;
