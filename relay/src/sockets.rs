//! Sockets that connect, with the options of those that `vspc_host` accepts.
//!
//! **Owns** how far they are, and how they end. **Refuses to know** what the bytes mean.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use vspc_host::transfer::serve_well;

/// An address that can be connected to at once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Target {
    Ip(SocketAddr),
    Unix(PathBuf),
    Vsock(u32, u32),
}

/// Begins to connect; the socket does not block. It is connected, or says that it can be written to when it
/// is. `WouldBlock`: a unix socket's queue is full, and nothing says when it is not.
pub(crate) fn connect(target: &Target) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let (socket, address) = match target {
        Target::Ip(address) => {
            let socket = Socket::new(Domain::for_address(*address), kind, Some(Protocol::TCP))?;
            serve_well(&SockRef::from(&socket))?;
            (socket, SockAddr::from(*address))
        }
        Target::Unix(path) => (Socket::new(Domain::UNIX, kind, None)?, SockAddr::unix(path)?),
        Target::Vsock(cid, port) => (Socket::new(Domain::VSOCK, kind, None)?, SockAddr::vsock(*cid, *port)),
    };
    match socket.connect(&address) {
        Err(error) if error.raw_os_error() == Some(IN_PROGRESS) => Ok(socket),
        Err(error) => Err(error),
        Ok(()) => Ok(socket),
    }
}

/// How far a socket is that connects.
#[derive(Debug)]
pub(crate) enum Connecting {
    NotYet,
    /// It is connected; or it was, and has been reset since. What came before that can be read.
    Connected(Option<io::Error>),
}

/// Looks how far a socket is that connects.
pub(crate) fn connecting(socket: &Socket) -> io::Result<Connecting> {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, NotConnected};
    match socket.take_error()? {
        // Nobody who refuses a connection is told of by these.
        Some(error) if matches!(error.kind(), ConnectionReset | BrokenPipe) => {
            Ok(Connecting::Connected(Some(error)))
        }
        Some(error) => Err(error),
        None => match socket.peer_addr() {
            Ok(_) => Ok(Connecting::Connected(None)),
            Err(error) if error.kind() == NotConnected => Ok(Connecting::NotYet),
            Err(error) => Err(error),
        },
    }
}

/// Closes a connection so that its peer is told of a reset. A unix socket knows none: its peer is told of an
/// end.
pub(crate) fn reset(socket: Socket) {
    // Fails for what is no TCP socket, and does not matter.
    let _ = socket.set_linger(Some(Duration::ZERO));
    drop(socket);
}

/// `EINPROGRESS`, for which std has no name that is stable.
const IN_PROGRESS: i32 = 115;
