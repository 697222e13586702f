//! Listeners of every kind (TCP, unix, vsock), and who comes in on them. Their connections are plain sockets,
//! which the runtimes need not tell apart.
//!
//! **Owns** how a listener is opened and what is known of a peer. **Refuses to know** how a runtime learns
//! that somebody waits.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::net::sockopt::socket_peercred;
use rustix::net::{SocketFlags, acceptfrom_with};
use rustix::process::geteuid;
use socket2::{Domain, SockAddr, SockRef, Socket};
use vspc_core::concentrator::{Address, Credentials, Peer, SocketFile};

use crate::socket_file::{self, Claim};
use crate::sockets;

/// A listening socket. It does not block. Dropping it closes it, and removes its file if it has one that is
/// its own.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Tcp,
    /// `None`: the file is somebody else's, who has handed the socket over.
    Unix(Option<Claim>),
    Vsock,
}

impl Listener {
    /// Opens a listener.
    pub fn open(address: &Address) -> io::Result<Self> {
        match address {
            Address::Ip(address) => {
                let socket = sockets::listen(*address)?.into();
                Ok(Self { socket, kind: Kind::Tcp })
            }
            Address::Unix(file) => {
                let (socket, claim) = socket_file::listen(file)?;
                Ok(Self { socket, kind: Kind::Unix(Some(claim)) })
            }
            Address::Vsock { cid, port } => {
                let socket = sockets::listen_vsock(*cid, *port)?;
                Ok(Self { socket, kind: Kind::Vsock })
            }
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Of a socket that listens already, as whoever opened it has set it up. As many may wait there as at one
    /// of our own.
    pub(crate) fn of(socket: Socket) -> io::Result<Self> {
        // Again, which only changes how many may wait (listen(2)).
        socket.listen(sockets::MOST_WAITING)?;
        let kind = match socket.domain()? {
            Domain::IPV4 | Domain::IPV6 => {
                sockets::serve_well(&SockRef::from(&socket))?;
                Kind::Tcp
            }
            Domain::UNIX => Kind::Unix(None),
            Domain::VSOCK => Kind::Vsock,
            _ => return Err(io::ErrorKind::Unsupported.into()),
        };
        Ok(Self { socket, kind })
    }

    /// Where it is: with the port that the system has chosen, if it was to choose.
    pub fn address(&self) -> io::Result<Address> {
        if let Kind::Unix(Some(claim)) = &self.kind {
            return Ok(Address::Unix(claim.file()));
        }
        let bound = self.socket.local_addr()?;
        let address = match &self.kind {
            Kind::Tcp => bound.as_socket().map(Address::Ip),
            Kind::Unix(_) => Some(Address::Unix(Arc::new(found(&bound)))),
            Kind::Vsock => vsock_address(&bound),
        };
        address.ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    /// Takes one waiting connection in. Its socket does not block. One system call, two for a socket that is
    /// not TCP's.
    pub fn accept(&self) -> io::Result<(Socket, Peer)> {
        let (socket, from) = acceptfrom_with(&self.socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
        let socket = Socket::from(socket);
        let peer = match &self.kind {
            Kind::Tcp => {
                let from = from.ok_or(rustix::io::Errno::CONNABORTED)?;
                Peer::new(Address::Ip(SocketAddr::try_from(from)?))
            }
            Kind::Unix(_) => Peer::user(credentials(&socket)?),
            Kind::Vsock => {
                // It may be gone by now.
                let from = socket.peer_addr().map_err(|_| io::ErrorKind::ConnectionAborted)?;
                Peer::new(vsock_address(&from).ok_or(io::ErrorKind::ConnectionAborted)?)
            }
        };
        Ok((socket, peer))
    }
}

fn vsock_address(address: &SockAddr) -> Option<Address> {
    address.as_vsock_address().map(|(cid, port)| Address::Vsock { cid, port })
}

/// The file of a unix socket that somebody else has opened, as it is.
fn found(bound: &SockAddr) -> SocketFile {
    let path = bound.as_pathname().map_or_else(|| PathBuf::from("unix"), Path::to_owned);
    let mode = fs::metadata(&path).map_or(0, |file| file.permissions().mode() & 0o777);
    SocketFile { path, mode, owner: None, group: None }
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
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::time::Duration;

    use vspc_core::concentrator::ANY_CID;

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

    #[test]
    fn a_socket_that_was_handed_over_serves_as_one_of_our_own() {
        let given = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = given.local_addr().unwrap();
        let socket = Socket::from(given);
        socket.set_nonblocking(true).unwrap();
        let listener = Listener::of(socket).unwrap();
        assert_eq!(listener.address().unwrap(), Address::Ip(at));
        let _peer = TcpStream::connect(at).unwrap();
        let (socket, _) = listener.accept().unwrap();
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        // More than the 128 of whoever opened it.
        let room = sockets::short_backlog().unwrap_or(300).min(300);
        let connect = |_| TcpStream::connect_timeout(&at, Duration::from_millis(500)).unwrap();
        let waiting: Vec<TcpStream> = (0..room).map(connect).collect();
        assert_eq!((0..room).filter(|_| listener.accept().is_ok()).count(), waiting.len());

        let path = std::env::temp_dir().join(format!("vspc-handed-over-{}", std::process::id()));
        let _ = fs::remove_file(&path);
        let given = Socket::from(UnixListener::bind(&path).unwrap());
        let listener = Listener::of(given).unwrap();
        let Address::Unix(file) = listener.address().unwrap() else { panic!("no unix socket") };
        assert_eq!(file.path, path);
        let _peer = UnixStream::connect(&path).unwrap();
        let (_, peer) = listener.accept().unwrap();
        assert_eq!(peer.address, Address::User(geteuid().as_raw()));
        drop(listener);
        assert!(path.exists(), "its file is not ours to remove");
        fs::remove_file(&path).unwrap();
    }

    /// Nothing connects: not every kernel has vsock's loopback.
    #[test]
    fn a_vsock_listener_is_where_it_was_asked_for_where_the_kernel_has_that_family() {
        let port = 50_000 + std::process::id() % 10_000;
        let address = Address::Vsock { cid: ANY_CID, port };
        let listener = match Listener::open(&address) {
            Ok(listener) => listener,
            Err(error) => return println!("skipped: no vsock ({error})"),
        };
        assert_eq!(listener.address().unwrap(), address);
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(Listener::open(&address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
