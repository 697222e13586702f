//! One connection of a fake VM's port: a socket and the telnet session on it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use vspc_core::vmware::{VmConfig, VmEvent, VmSession};

use crate::tunnel::{Dial, Port};

/// A connection, from the moment it is tried.
#[derive(Debug)]
pub(crate) struct Leg {
    stream: TcpStream,
    session: VmSession,
    connected: bool,
    /// The other side has said something.
    heard: bool,
    /// The socket may have something to read. Remembered because readiness is told once.
    readable: bool,
    /// The other side's last byte is on its way: reads go on until they say so too.
    ended: bool,
}

impl Leg {
    /// Begins to connect.
    pub(crate) fn connect(
        dial: &Dial,
        target: &str,
        config: Arc<VmConfig>,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Self> {
        Self::open(dial, resolve(target)?, config, registry, token)
    }

    /// Begins to connect to an address.
    pub(crate) fn open(
        dial: &Dial,
        target: SocketAddr,
        config: Arc<VmConfig>,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Self> {
        Self::over(dial.begin(Port::Vm, target)?, config, registry, token)
    }

    /// On a socket that has begun to connect.
    pub(crate) fn over(
        mut stream: TcpStream,
        config: Arc<VmConfig>,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Self> {
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        let session = VmSession::new(config);
        Ok(Self { stream, session, connected: false, heard: false, readable: false, ended: false })
    }

    /// The socket told something.
    pub(crate) fn wake(&mut self, event: &Event) {
        self.ended |= event.is_read_closed() || event.is_error();
        self.readable |= event.is_readable() || self.ended;
    }

    /// Reads and writes what can be; what was typed is appended to `typed`. An error is the end.
    pub(crate) fn pump(&mut self, typed: &mut Vec<u8>) -> io::Result<()> {
        self.read(typed)?;
        self.flush()
    }

    /// The reading half of [`pump`](Self::pump): the answers are queued and not sent.
    pub(crate) fn read(&mut self, typed: &mut Vec<u8>) -> io::Result<()> {
        self.read_each(|session, data| {
            session.handle_received(data, typed);
            typed.len() < BACKLOG
        })
    }

    /// Reads and keeps apart what came before and what came behind each event: an event stands with the
    /// length that `typed` had when it happened.
    pub(crate) fn read_in_order(
        &mut self,
        typed: &mut Vec<u8>,
        events: &mut Vec<(usize, VmEvent)>,
    ) -> io::Result<()> {
        self.read_each(|session, data| {
            // A subnegotiation ends in SE, so no piece holds typed bytes behind what one of them said.
            for piece in data.split_inclusive(|byte| *byte == SE) {
                session.handle_received(piece, typed);
                events.extend(std::iter::from_fn(|| session.poll_event()).map(|event| (typed.len(), event)));
            }
            true
        })
    }

    /// Reads while there is something and `take` wants more.
    fn read_each(&mut self, mut take: impl FnMut(&mut VmSession, &[u8]) -> bool) -> io::Result<()> {
        if !self.connected {
            if let Some(error) = self.stream.take_error()? {
                return Err(error);
            }
            match self.stream.peer_addr() {
                Ok(_) => {
                    self.connected = true;
                    let _ = self.stream.set_nodelay(true);
                }
                Err(error) if error.kind() == ErrorKind::NotConnected => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        let mut scratch = [0; 4096];
        // A guest that cannot print does not read either: that bounds what is kept.
        let mut more = true;
        while more && self.readable && self.backlog() < BACKLOG {
            match self.stream.read(&mut scratch) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    self.heard = true;
                    // What comes later is told anew.
                    self.readable = self.ended || n == scratch.len();
                    more = take(&mut self.session, &scratch[..n]);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes what the socket takes.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        while self.connected && !self.session.pending().is_empty() {
            let mut written = Ok(0);
            self.session.transmit(|bytes| {
                written = self.stream.write(bytes);
                *written.as_ref().unwrap_or(&0)
            });
            match written {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether the connection is made.
    pub(crate) fn is_connected(&self) -> bool {
        self.connected
    }

    /// Whether the other side has said anything.
    pub(crate) fn has_heard(&self) -> bool {
        self.heard
    }

    /// Bytes that the socket has not taken yet.
    pub(crate) fn backlog(&self) -> usize {
        self.session.pending().len()
    }

    /// Whether it stopped reading because it could not write.
    pub(crate) fn is_held(&self) -> bool {
        self.readable
    }

    /// What the concentrator did.
    pub(crate) fn poll_event(&mut self) -> Option<VmEvent> {
        self.session.poll_event()
    }

    /// The telnet end.
    pub(crate) fn session(&mut self) -> &mut VmSession {
        &mut self.session
    }

    /// Closes it, with everything said that the socket takes at once.
    pub(crate) fn close(mut self, registry: &Registry) {
        let _ = self.flush();
        let _ = registry.deregister(&mut self.stream);
    }
}

fn resolve(target: &str) -> io::Result<SocketAddr> {
    target
        .to_socket_addrs()?
        .next()
        .ok_or_else(|| io::Error::new(ErrorKind::NotFound, "the name has no address"))
}

/// Bytes unsent, or typed and unread, at which a guest stands still.
pub(crate) const BACKLOG: usize = 64 << 10;
/// The byte that ends a subnegotiation.
const SE: u8 = 240;
