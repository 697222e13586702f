//! Connections that are dead to the engine and are being closed gracefully.
//!
//! Closing a socket with unread input makes the kernel reset the connection, and the reset destroys the
//! text that was just sent ("why you were disconnected"). So writing is shut down, input is read and thrown
//! away until the peer ends too, and only after two seconds is a peer left to itself.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read};
use std::net::{self, TcpStream};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_io::Async;
use vspc_core::concentrator::{Closed, ConnId, Shutdown};
use vspc_core::time::Instant;

use crate::connections::Connection;
use crate::server::Server;

/// The sockets that are being closed, and when each is given up.
#[derive(Debug)]
pub(crate) struct Closing {
    sockets: HashMap<ConnId, Socket>,
    /// In the order in which they came, which is the order of their deadlines.
    deadlines: VecDeque<(Instant, ConnId)>,
    bound: usize,
}

#[derive(Debug)]
struct Socket {
    stream: Async<TcpStream>,
    /// The task that reads from it.
    task: Option<Waker>,
}

impl Default for Closing {
    fn default() -> Self {
        Self { sockets: HashMap::new(), deadlines: VecDeque::new(), bound: BOUND }
    }
}

impl Closing {
    pub(crate) fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }

    /// When the next socket is to be given up.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadlines.front().map(|&(at, _)| at)
    }

    /// Closes what has waited long enough.
    pub(crate) fn expire(&mut self, now: Instant) {
        while self.deadline().is_some_and(|at| at <= now) {
            self.close_oldest();
        }
    }

    /// Closes the socket that has waited longest; false if there is none. Also the first thing to do when
    /// descriptors run out.
    pub(crate) fn close_oldest(&mut self) -> bool {
        while let Some((_, id)) = self.deadlines.pop_front() {
            if let Some(socket) = self.sockets.remove(&id) {
                wake(socket.task);
                return true;
            }
        }
        false
    }

    /// For the server's own end: everything may close in good order then, and nothing new comes.
    pub(crate) fn lift_bound(&mut self) {
        self.bound = usize::MAX;
    }

    /// Reads and throws away; ready when the socket is closed, or was never here.
    pub(crate) fn discard(&mut self, id: ConnId, scratch: &mut [u8], cx: &mut Context<'_>) -> Poll<()> {
        while let Some(socket) = self.sockets.get_mut(&id) {
            match socket.stream.get_ref().read(scratch) {
                Ok(1..) => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    socket.task = Some(cx.waker().clone());
                    match socket.stream.poll_readable(cx) {
                        Poll::Ready(Ok(())) => {}
                        Poll::Ready(Err(_)) => drop(self.sockets.remove(&id)),
                        Poll::Pending => return Poll::Pending,
                    }
                }
                // The end, or an error that is one.
                Ok(0) | Err(_) => drop(self.sockets.remove(&id)),
            }
        }
        Poll::Ready(())
    }

    fn insert(&mut self, id: ConnId, connection: Connection, now: Instant) {
        while self.sockets.len() >= self.bound {
            self.close_oldest();
        }
        self.sockets.insert(id, Socket { stream: connection.stream, task: None });
        self.deadlines.push_back((now + PATIENCE, id));
        wake(connection.task);
    }
}

impl Server {
    /// Closes a connection as the engine asks.
    pub(crate) fn close(&mut self, id: ConnId, how: Shutdown) {
        let Some(connection) = self.connections.remove(id) else { return };
        // Nothing unread is left once the peer has ended: closing sends what is under way, then the end.
        let graceful = how == Shutdown::Graceful && connection.closed != Some(Closed::Input);
        if graceful && connection.stream.get_ref().shutdown(net::Shutdown::Write).is_ok() {
            self.closing.insert(id, connection, self.now);
        } else {
            wake(connection.task);
        }
    }
}

/// Lets a task find out that its socket is not what it was.
pub(crate) fn wake(task: Option<Waker>) {
    if let Some(task) = task {
        task.wake();
    }
}

/// How long a peer may take to close its side.
const PATIENCE: Duration = Duration::from_secs(2);

/// How many sockets may be closing at once; beyond it the oldest is closed at once. Enough for everybody
/// on one host, and no room for a crowd that connects and never closes.
const BOUND: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connections::Connections;

    #[test]
    fn the_oldest_goes_when_the_bound_is_met_or_its_time_is_over() {
        let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut connections = Connections::default();
        let mut closing = Closing { bound: 2, ..Closing::default() };
        for n in 0..3_u32 {
            let id = ConnId::from_bits(n.into());
            let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            connections.insert(id, Async::new(stream).unwrap());
            closing.insert(id, connections.remove(id).unwrap(), Instant::from_millis(n.into()));
        }
        assert_eq!(closing.sockets.len(), 2);
        assert_eq!(closing.deadline(), Some(Instant::from_millis(1) + PATIENCE));
        closing.expire(Instant::from_millis(1) + PATIENCE);
        assert_eq!(closing.sockets.len(), 1);
        assert!(closing.close_oldest());
        assert!(!closing.close_oldest() && closing.is_empty());
    }
}
