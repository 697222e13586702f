//! One attacker's connection, and crowds of them: nonblocking, read and written in turn.
//!
//! Owns sockets and what is said on them. Refuses to know why it is said.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use memchr::memmem;
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::wire::SERVED;
use crate::load::link::is_timeout;
use crate::telnet::{Decoder, Word};

/// How an attacker connects.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct From {
    /// From this address of this machine; otherwise the system's choice.
    pub(super) address: Option<Ipv4Addr>,
    /// With so small a receive buffer, so that what it does not read is the server's to keep.
    pub(super) receive_buffer: Option<usize>,
}

/// How an attacker leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// As programs do.
    Close,
    /// With a reset.
    Reset,
}

/// An attacker's connection.
#[derive(Debug)]
pub(super) struct Peer {
    stream: TcpStream,
    say: Vec<u8>,
    said: usize,
    /// Where it stands in what it says without end.
    at: usize,
    decoder: Decoder,
    /// Bytes of the wire that it was sent.
    pub(super) heard: u64,
    /// Data bytes that it was sent: what somebody typed, if it says that it is a VM.
    pub(super) typed: Vec<u8>,
    /// WILL-PROXY came.
    pub(super) is_served: bool,
    pub(super) is_open: bool,
    tail: Vec<u8>,
}

impl Peer {
    /// Begins to connect, and will say this.
    pub(super) fn connect(to: SocketAddr, from: From, say: Vec<u8>) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM.cloexec(), Some(Protocol::TCP))?;
        if let Some(bytes) = from.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        if let Some(address) = from.address {
            socket.bind(&SocketAddr::from((address, 0)).into())?;
        }
        socket.set_nonblocking(true)?;
        match socket.connect(&to.into()) {
            Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => Err(error),
            _ => Ok(Self {
                stream: socket.into(),
                say,
                said: 0,
                at: 0,
                decoder: Decoder::default(),
                heard: 0,
                typed: Vec::new(),
                is_served: false,
                is_open: true,
                tail: Vec::new(),
            }),
        }
    }

    /// Will say this too.
    pub(super) fn say(&mut self, more: &[u8]) {
        self.say.drain(..self.said);
        self.said = 0;
        self.say.extend_from_slice(more);
    }

    /// Bytes that the socket has not taken yet.
    pub(super) fn backlog(&self) -> usize {
        self.say.len() - self.said
    }

    /// Writes what the socket takes; how many bytes.
    pub(super) fn write(&mut self) -> usize {
        if !self.is_open || self.backlog() == 0 {
            return 0;
        }
        match self.stream.write(&self.say[self.said..]) {
            Ok(n) => {
                self.said += n;
                n
            }
            Err(error) => {
                self.is_open = is_patient(&error);
                0
            }
        }
    }

    /// Writes this once, from where it stands in it; a socket that takes less goes on there. How many bytes.
    pub(super) fn write_on(&mut self, pattern: &[u8]) -> usize {
        match self.stream.write(&pattern[self.at..]) {
            Ok(n) => {
                self.at = (self.at + n) % pattern.len();
                n
            }
            Err(error) => {
                self.is_open = is_patient(&error);
                0
            }
        }
    }

    /// Reads what has come.
    pub(super) fn read(&mut self, scratch: &mut [u8]) {
        while self.is_open {
            match self.stream.read(scratch) {
                Ok(0) => self.is_open = false,
                Ok(n) => {
                    self.heard += n as u64;
                    self.take(&scratch[..n]);
                    if n < scratch.len() {
                        return;
                    }
                }
                Err(error) => {
                    self.is_open = is_patient(&error);
                    return;
                }
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        if !self.is_served {
            self.tail.extend_from_slice(bytes);
            self.is_served = memmem::find(&self.tail, &SERVED).is_some();
            self.tail.drain(..self.tail.len().saturating_sub(SERVED.len()));
        }
        for word in self.decoder.read(bytes) {
            if let Word::Data(data) = word
                && self.typed.len() < KEPT
            {
                self.typed.extend_from_slice(&data);
            }
        }
    }

    /// Leaves.
    pub(super) fn leave(self, how: End) {
        if how == End::Reset {
            let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        }
    }
}

/// Whether it is only not connected yet, or has nothing to do.
fn is_patient(error: &io::Error) -> bool {
    is_timeout(error) || error.kind() == io::ErrorKind::NotConnected
}

/// What was typed is kept up to here: one byte is too much.
const KEPT: usize = 256;

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_peer_tells_what_was_typed_from_what_telnet_says() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let mut peer =
            Peer::connect(listener.local_addr().unwrap(), From::default(), b"hello".to_vec()).unwrap();
        let mut server = listener.accept().unwrap().0;
        let mut heard = [0; 5];
        while peer.backlog() > 0 {
            peer.write();
        }
        server.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"hello");
        server.write_all(b"\xFF\xFD\xE8pass\xFF\xFA\xE8\x47\xFF\xF0word").unwrap();
        drop(server);
        while peer.is_open {
            peer.read(&mut [0; 7]);
        }
        assert_eq!((peer.typed.as_slice(), peer.is_served), (&b"password"[..], true));
    }
}
