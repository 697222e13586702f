//! Listeners of the agent's: who connects there is carried to the host.
//!
//! Owns the sockets. Refuses to know streams.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::SocketFlags;
use vspc_core::time::Instant;
use vspc_guest::Name;

use super::Target;

/// A listener.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) name: Name,
    at: Target,
    socket: OwnedFd,
    /// The system had no room for a connection: when it is asked again. Until then one waits.
    rests_until: Option<Instant>,
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
        Ok(Self { name, at, socket, rests_until: None })
    }

    /// Somebody who has connected, and who that is.
    pub(crate) fn accept(&mut self, now: Instant) -> Option<(OwnedFd, String)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        self.rests_until = None;
        let (socket, from) = match rustix::net::acceptfrom_with(&self.socket, flags) {
            Ok(came) => came,
            Err(error @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => {
                log::warn!("{}: a connection has to wait: {error}", self.at);
                self.rests_until = Some(now + REST);
                return None;
            }
            Err(_) => return None,
        };
        let from = from.and_then(|from| std::net::SocketAddr::try_from(from).ok());
        let _ = rustix::net::sockopt::set_tcp_nodelay(&socket, true);
        Some((socket, from.map_or_else(|| self.at.to_string(), |from| from.to_string())))
    }

    /// What to wait for, unless it rests.
    pub(crate) fn interest(&self, now: Instant) -> Option<BorrowedFd<'_>> {
        self.rests_until.is_none_or(|until| until <= now).then(|| self.socket.as_fd())
    }

    /// When its rest is over.
    pub(crate) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        self.rests_until.filter(|until| *until > now)
    }
}

/// How long the system has for making room: who is waiting is seen all the time.
const REST: Duration = Duration::from_secs(1);

/// A socket that nobody listens on any more is in the way of a new one.
pub(crate) fn forget(path: &Path) -> io::Result<()> {
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        _ => Ok(()),
    }
}
