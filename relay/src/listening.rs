//! Listeners of every kind, and who comes in.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::sync::Arc;

use socket2::Socket;
use vspc_core::concentrator::{Address, SocketFile};
use vspc_host::listener::Listener;

use crate::endpoint::{Endpoint, Place};

/// A listening socket. It does not block.
#[derive(Debug)]
pub(crate) struct Listening(Listener);

impl Listening {
    pub(crate) fn open(at: &Endpoint) -> io::Result<Self> {
        let address = match &at.place {
            Place::Tcp(host, port) => {
                let ip: IpAddr = host.parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
                Address::Ip((ip, *port).into())
            }
            Place::Unix(path) => Address::Unix(Arc::new(file(path))),
            &Place::Vsock(cid, port) => Address::Vsock { cid, port },
        };
        Listener::open(&address).map(Self)
    }

    /// Where it is, with the port that the system has chosen if it was to choose.
    pub(crate) fn place(&self, asked: &Endpoint) -> Endpoint {
        let place = match self.0.address() {
            Ok(Address::Ip(at)) => Place::Tcp(at.ip().to_string(), at.port()),
            Ok(Address::Vsock { cid, port }) => Place::Vsock(cid, port),
            _ => asked.place.clone(),
        };
        Endpoint { place, tls: asked.tls }
    }

    /// Takes one waiting connection in, and says who it is.
    pub(crate) fn accept(&self) -> io::Result<(Socket, String)> {
        let (socket, peer) = self.0.accept()?;
        Ok((socket, peer.address.to_string()))
    }
}

impl AsRawFd for Listening {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// A socket for the relay's own user and group: whoever reaches it is a host to the concentrator.
fn file(path: &Path) -> SocketFile {
    SocketFile { path: path.to_owned(), mode: 0o660, owner: None, group: None }
}
