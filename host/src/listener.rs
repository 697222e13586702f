//! Listeners of both kinds, TCP and unix, and who comes in on them. Their connections are plain sockets,
//! which the runtimes need not tell apart.
//!
//! **Owns** how a listener is opened and what is known of a peer. **Refuses to know** how a runtime learns
//! that somebody waits.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use rustix::net::sockopt::socket_peercred;
use rustix::net::{SocketFlags, acceptfrom_with};
use rustix::process::geteuid;
use socket2::Socket;
use vspc_core::concentrator::{Address, Credentials, Peer};

use crate::socket_file::{self, Claim};
use crate::sockets;

/// A listening socket. It does not block. Dropping it closes it, and removes its file if it has one.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Tcp,
    Unix(Claim),
}

impl Listener {
    /// Opens a listener.
    pub(crate) fn open(address: &Address) -> io::Result<Self> {
        match address {
            Address::Ip(address) => {
                let socket = sockets::listen(*address)?.into();
                Ok(Self { socket, kind: Kind::Tcp })
            }
            Address::Unix(file) => {
                let (socket, claim) = socket_file::listen(file)?;
                Ok(Self { socket, kind: Kind::Unix(claim) })
            }
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Where it is: with the port that the system has chosen, if it was to choose.
    pub fn address(&self) -> io::Result<Address> {
        match &self.kind {
            Kind::Tcp => {
                let bound = self.socket.local_addr()?.as_socket();
                bound.map(Address::Ip).ok_or_else(|| io::ErrorKind::Unsupported.into())
            }
            Kind::Unix(claim) => Ok(Address::Unix(claim.file())),
        }
    }

    /// Takes one waiting connection in. Its socket does not block. One system call, two for a unix socket.
    pub fn accept(&self) -> io::Result<(Socket, Peer)> {
        let (socket, from) = acceptfrom_with(&self.socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
        let peer = match &self.kind {
            Kind::Tcp => {
                let from = from.ok_or(rustix::io::Errno::CONNABORTED)?;
                Peer::new(Address::Ip(SocketAddr::try_from(from)?))
            }
            Kind::Unix(_) => Peer::user(credentials(&socket)?),
        };
        Ok((socket.into(), peer))
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// Who connected, as the kernel noted when it did (unix(7), SO_PEERCRED).
fn credentials(socket: &impl AsFd) -> io::Result<Credentials> {
    let peer = socket_peercred(socket)?;
    let is_ours = peer.uid.is_root() || peer.uid == geteuid();
    Ok(Credentials { uid: peer.uid.as_raw(), gid: peer.gid.as_raw(), is_ours })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn a_peer_on_tcp_is_known_by_its_address_alone() {
        let listener = Listener::open(&Address::Ip(([127, 0, 0, 1], 0).into())).unwrap();
        let Address::Ip(at) = listener.address().unwrap() else { panic!("no address") };
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let stream = TcpStream::connect(at).unwrap();
        let (socket, peer) = listener.accept().unwrap();
        assert_eq!(peer.address, Address::Ip(stream.local_addr().unwrap()));
        assert_eq!(peer.credentials, None);
        assert!(socket.nonblocking().unwrap());
    }
}
