//! Listeners: opening them, taking connections in, and refusing them when nothing is left to serve with.

use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::task::{Context, Poll, Waker, ready};

use async_io::Async;
use vspc_core::concentrator::{Address, Closed, ListenerId, Peer};
use vspc_core::time::Instant;
use vspc_host::sockets;
use vspc_host::spare::{ACCEPTS_PER_VISIT, AcceptFailure, NO_DESCRIPTOR, NOT_TAKEN, RETRY, is_exhaustion};

use crate::closing::wake;
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
    socket: Async<TcpListener>,
    /// It failed, and nothing will tell when it can be asked again.
    failed: bool,
    /// The listener's task, once it has run.
    task: Option<Waker>,
}

impl Listeners {
    fn insert(&mut self, id: ListenerId, socket: Async<TcpListener>) {
        if self.slots.len() <= id.index() {
            self.slots.resize_with(id.index() + 1, || None);
        }
        self.slots[id.index()] = Some(Listener { id, socket, failed: false, task: None });
    }

    fn get(&mut self, id: ListenerId) -> Option<&mut Listener> {
        self.slots.get_mut(id.index())?.as_mut().filter(|listener| listener.id == id)
    }

    /// Closes a listener.
    pub(crate) fn remove(&mut self, id: ListenerId) {
        if self.get(id).is_some() {
            wake(self.slots[id.index()].take().and_then(|listener| listener.task));
        }
    }

    /// Lets the listeners that failed be asked again, if it is time.
    pub(crate) fn wake_failed(&mut self, now: Instant) {
        if self.retry.is_none_or(|at| now < at) {
            return;
        }
        self.retry = None;
        for listener in self.slots.iter_mut().flatten().filter(|listener| listener.failed) {
            listener.failed = false;
            wake(listener.task.clone());
        }
    }

    fn fail(&mut self, id: ListenerId, now: Instant) -> Poll<()> {
        if let Some(listener) = self.get(id) {
            listener.failed = true;
            self.retry = Some(now + RETRY);
        }
        Poll::Pending
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
        self.listeners.insert(id, Async::new_nonblocking(socket)?);
        self.spawn(|server| poll_fn(move |cx| Server::turn(&server).accept(id, cx)));
        Ok(bound)
    }

    /// Takes in what waits at a listener, up to a bound; more is left for the task's next turn. Ready when
    /// the listener is gone.
    fn accept(&mut self, id: ListenerId, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..ACCEPTS_PER_VISIT {
            let Some(listener) = self.listeners.get(id) else { return Poll::Ready(()) };
            listener.task.get_or_insert_with(|| cx.waker().clone());
            match listener.socket.get_ref().accept() {
                Ok((stream, peer)) => self.admit(id, stream, peer),
                Err(error) => match AcceptFailure::of(&error) {
                    AcceptFailure::Nobody => ready!(self.wait(id, cx)),
                    AcceptFailure::Passing => {}
                    AcceptFailure::Exhausted if self.closing.close_oldest() => {}
                    AcceptFailure::Exhausted => match self.refuse_one(id) {
                        AcceptFailure::Passing => {}
                        AcceptFailure::Nobody => ready!(self.wait(id, cx)),
                        _ => return self.listeners.fail(id, self.now),
                    },
                    AcceptFailure::Lasting => {
                        self.refusals.refused(error, self.now);
                        return self.listeners.fail(id, self.now);
                    }
                },
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn admit(&mut self, on: ListenerId, stream: TcpStream, peer: SocketAddr) {
        self.stir();
        let Some(id) = self.engine.handle_accepted(on, Peer::new(Address::Ip(peer)), self.now) else {
            return self.refusals.refused(NOT_TAKEN, self.now);
        };
        match Async::new(stream) {
            Ok(stream) => {
                self.connections.insert(id, stream);
                self.spawn(|server| poll_fn(move |cx| Server::turn(&server).visit(id, cx)));
            }
            Err(error) => self.engine.handle_closed(id, Closed::Failed(error.kind()), self.now),
        }
    }

    /// Closes one waiting connection with the spare descriptor. Passing: that is done.
    fn refuse_one(&mut self, id: ListenerId) -> AcceptFailure {
        let Some(listener) = self.listeners.get(id) else { return AcceptFailure::Nobody };
        match self.spare.refuse(|| listener.socket.get_ref().accept()) {
            Ok(()) => {
                self.refusals.refused(NO_DESCRIPTOR, self.now);
                self.stir();
                AcceptFailure::Passing
            }
            Err(error) => AcceptFailure::of(&error),
        }
    }

    /// Ready when somebody waits at the listener.
    fn wait(&mut self, id: ListenerId, cx: &mut Context<'_>) -> Poll<()> {
        let Some(listener) = self.listeners.get(id) else { return Poll::Ready(()) };
        match ready!(listener.socket.poll_readable(cx)) {
            Ok(()) => Poll::Ready(()),
            Err(_) => self.listeners.fail(id, self.now),
        }
    }
}
