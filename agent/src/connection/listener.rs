//! Listeners of the agent's: who connects there is carried to the host.
//!
//! Owns the sockets. Refuses to know streams.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::net::SocketFlags;
use vspc_guest::Name;

use super::Target;

/// A listener.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) name: Name,
    at: Target,
    socket: OwnedFd,
}

impl Listener {
    /// Opens it.
    pub(crate) fn open(name: Name, at: Target) -> io::Result<Self> {
        let socket = match &at {
            Target::Tcp(address) => {
                let listener = TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                listener.into()
            }
            Target::Unix(path) => {
                forget(path)?;
                let listener = UnixListener::bind(path)?;
                listener.set_nonblocking(true)?;
                listener.into()
            }
        };
        Ok(Self { name, at, socket })
    }

    /// Somebody who has connected, and who that is.
    pub(crate) fn accept(&self) -> Option<(OwnedFd, String)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (socket, from) = rustix::net::acceptfrom_with(&self.socket, flags).ok()?;
        let from = from.and_then(|from| std::net::SocketAddr::try_from(from).ok());
        let _ = rustix::net::sockopt::set_tcp_nodelay(&socket, true);
        Some((socket, from.map_or_else(|| self.at.to_string(), |from| from.to_string())))
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A socket that nobody listens on any more is in the way of a new one.
pub(crate) fn forget(path: &Path) -> io::Result<()> {
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        _ => Ok(()),
    }
}
