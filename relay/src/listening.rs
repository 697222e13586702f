//! Listeners of every kind, and who comes in.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::sync::Arc;

use socket2::{Domain, SockAddr, Socket, Type};
use vspc_core::concentrator::{Address, SocketFile};
use vspc_host::listener::Listener;

use crate::endpoint::{Endpoint, Place};

/// A listening socket. It does not block.
#[derive(Debug)]
pub(crate) enum Listening {
    /// TCP and unix sockets.
    Known(Listener),
    /// vsock, with the CID and port that was asked for.
    Vsock(Socket, u32),
}

impl Listening {
    pub(crate) fn open(at: &Endpoint) -> io::Result<Self> {
        let address = match &at.place {
            Place::Tcp(host, port) => {
                let ip: IpAddr = host.parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
                Address::Ip((ip, *port).into())
            }
            Place::Unix(path) => Address::Unix(Arc::new(file(path))),
            Place::Vsock(cid, port) => {
                let socket = Socket::new(Domain::VSOCK, Type::STREAM.nonblocking().cloexec(), None)?;
                socket.bind(&SockAddr::vsock(*cid, *port))?;
                socket.listen(BACKLOG)?;
                return Ok(Self::Vsock(socket, *cid));
            }
        };
        Listener::open(&address).map(Self::Known)
    }

    /// Where it is, with the port that the system has chosen if it was to choose.
    pub(crate) fn place(&self, asked: &Endpoint) -> Endpoint {
        let place = match self {
            Self::Known(listener) => match listener.address() {
                Ok(Address::Ip(at)) => Place::Tcp(at.ip().to_string(), at.port()),
                _ => asked.place.clone(),
            },
            Self::Vsock(socket, cid) => {
                let bound = socket.local_addr().ok().and_then(|bound| bound.as_vsock_address());
                bound.map_or_else(|| asked.place.clone(), |(_, port)| Place::Vsock(*cid, port))
            }
        };
        Endpoint { place, tls: asked.tls }
    }

    /// Takes one waiting connection in, and says who it is.
    pub(crate) fn accept(&self) -> io::Result<(Socket, String)> {
        match self {
            Self::Known(listener) => {
                let (socket, peer) = listener.accept()?;
                Ok((socket, peer.address.to_string()))
            }
            Self::Vsock(socket, _) => {
                let (socket, from) = socket.accept()?;
                socket.set_nonblocking(true)?;
                let from = from.as_vsock_address();
                Ok((socket, from.map_or("vsock".to_owned(), |(cid, port)| format!("vsock:{cid}:{port}"))))
            }
        }
    }
}

impl AsRawFd for Listening {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::Known(listener) => listener.as_raw_fd(),
            Self::Vsock(socket, _) => socket.as_raw_fd(),
        }
    }
}

/// A socket for the relay's own user and group: whoever reaches it is a host to the concentrator.
fn file(path: &Path) -> SocketFile {
    SocketFile { path: path.to_owned(), mode: 0o660, owner: None, group: None }
}

/// A host's machines may all come at once.
const BACKLOG: i32 = 4096;
