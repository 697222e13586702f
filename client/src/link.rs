//! A connected socket, of whichever kind, with TLS over it or without.
//!
//! Owns connecting, how long a handshake may take, and the options of the socket. Refuses to know what is
//! spoken on it.

use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::sockopt;
use vspc_trust::Credentials;

use crate::clock;
use crate::server::Address;
use crate::tls::Session;

/// A connection to a server, which never blocks.
#[derive(Debug)]
pub(crate) struct Link {
    socket: Socket,
    tls: Option<Box<Session>>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Link {
    /// Connects, and opens TLS where there are `credentials`. Takes as long as [`PATIENCE`] for each of a
    /// host's addresses, and for the handshake.
    pub(crate) fn connect(address: &Address, credentials: Option<&Credentials>) -> io::Result<Self> {
        let mut socket = Socket::connect(address)?;
        let tls = credentials.map(|credentials| shake_hands(&mut socket, credentials)).transpose()?;
        Ok(Self { socket, tls: tls.map(Box::new) })
    }

    /// Ends this side's half.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            tls.finish(&mut self.socket)?;
        }
        match &self.socket {
            Socket::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Socket::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
    }

    /// Reads what is there. `None`: nothing now; 0 bytes: the server closed. A fault of TLS is an error of
    /// the kind `InvalidData`, whose words are for the user.
    pub(crate) fn receive(&mut self, buf: &mut [u8]) -> io::Result<Option<usize>> {
        or_later(match &mut self.tls {
            None => self.socket.read(buf),
            Some(tls) => tls.receive(&mut self.socket, buf),
        })
    }

    /// Writes what the socket takes. `None`: nothing now.
    pub(crate) fn send(&mut self, runs: &[IoSlice<'_>]) -> io::Result<Option<usize>> {
        or_later(match &mut self.tls {
            None => self.socket.write_vectored(runs),
            Some(tls) => tls.send(&mut self.socket, runs),
        })
    }

    /// Sends what TLS has left over. An error shows again where the socket is read.
    pub(crate) fn flush(&mut self) {
        if let Some(tls) = &mut self.tls {
            let _ = tls.flush(&mut self.socket);
        }
    }

    /// Whether the socket is waited for to take something that was sent already.
    pub(crate) fn wants_write(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Whether there is something to receive that the socket does not tell of.
    pub(crate) fn has_unread(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.has_unread())
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn shake_hands(socket: &mut Socket, credentials: &Credentials) -> io::Result<Session> {
    let mut tls = Session::new(credentials)?;
    let deadline = clock::now() + PATIENCE;
    while !tls.shake_hands(socket)? {
        if clock::now() >= deadline {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "it does not answer in TLS"));
        }
        let write = if tls.wants_write() { PollFlags::OUT } else { PollFlags::empty() };
        match poll(&mut [PollFd::new(socket, PollFlags::IN | write)], clock::until(Some(deadline)).as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(tls)
}

impl Socket {
    fn connect(address: &Address) -> io::Result<Self> {
        match address {
            Address::Tcp(host, port) => {
                let mut last = io::Error::from(io::ErrorKind::NotFound);
                for address in (host.as_str(), *port).to_socket_addrs()? {
                    match TcpStream::connect_timeout(&address, PATIENCE) {
                        Ok(stream) => return Self::tcp(stream),
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
            Address::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_nonblocking(true)?;
                Ok(Self::Unix(stream))
            }
        }
    }

    fn tcp(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        // The protocol has no ping: this is how a server that vanished is found out (operator.md §1).
        sockopt::set_socket_keepalive(&stream, true)?;
        sockopt::set_tcp_keepidle(&stream, KEEPALIVE)?;
        sockopt::set_tcp_keepintvl(&stream, KEEPALIVE)?;
        sockopt::set_tcp_keepcnt(&stream, 3)?;
        Ok(Self::Tcp(stream))
    }
}

impl Read for Socket {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buf),
            Self::Unix(stream) => stream.read(buf),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(buf)])
    }

    fn write_vectored(&mut self, runs: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write_vectored(runs),
            Self::Unix(stream) => stream.write_vectored(runs),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

fn or_later(outcome: io::Result<usize>) -> io::Result<Option<usize>> {
    match outcome {
        Ok(n) => Ok(Some(n)),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// How long one address is given to answer: longer than three lost SYNs take.
const PATIENCE: Duration = Duration::from_secs(8);
/// A vanished server is noticed after four times this.
const KEEPALIVE: Duration = Duration::from_secs(15);
