//! Where connections of a run come from, and those that only hold their place.

use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::ops::Range;
use std::time::Duration;

use mio::net::TcpStream as Connecting;
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use super::LoadError;
use super::link::PATIENCE;

/// From how many addresses of this machine VMs connect.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub(super) enum Addresses {
    /// All from one, as through a relay
    #[default]
    One,
    /// Each from its own, in 127.0.0.0/8
    Many,
}

impl Addresses {
    /// Begins to connect VM number `index`. `None`: the system chooses where from, and the caller how.
    pub(super) fn begin(self, index: usize, to: SocketAddr) -> io::Result<Option<Connecting>> {
        if self == Self::One {
            return Ok(None);
        }
        let from = Ipv4Addr::from_bits(FIRST.to_bits() + u32::try_from(index).unwrap_or(0));
        // The last port for the first VM: the others of its address are the strangers'.
        let port = PORTS.end - 1 - (index % PORTS.len()) as u16;
        let socket = open(SocketAddrV4::new(from, port))?;
        socket.set_nonblocking(true)?;
        match socket.connect(&to.into()) {
            Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => Err(error),
            _ => Ok(Some(Connecting::from_std(socket.into()))),
        }
    }

    /// Connects a stranger, from the address of the first VM and the first of `ports` that is free.
    fn connect(self, ports: &mut Range<u16>, to: SocketAddr) -> io::Result<TcpStream> {
        let from = if self == Self::One { Ipv4Addr::LOCALHOST } else { FIRST };
        let socket = loop {
            match open(SocketAddrV4::new(from, ports.next().unwrap_or(0))) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && ports.start < ports.end => {}
                outcome => break outcome?,
            }
        };
        socket.connect_timeout(&to.into(), PATIENCE)?;
        Ok(socket.into())
    }
}

fn open(from: SocketAddrV4) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM.cloexec(), Some(Protocol::TCP))?;
    // The port may have been an earlier run's, to another server.
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::V4(from).into())?;
    Ok(socket)
}

/// Connections that never say anything.
#[derive(Debug)]
pub(super) struct Strangers {
    streams: Vec<TcpStream>,
}

impl Strangers {
    /// So many connect, from the address of a fleet's first VM, and have been there for `time`.
    pub(super) fn connect(
        count: usize,
        from: Addresses,
        to: SocketAddr,
        time: Duration,
    ) -> Result<Self, LoadError> {
        // With ports that the system chooses, from a certain number on it would look at thousands for each
        // connection, the fleet's too: that would measure nothing but the search.
        let mut ports = PORTS.start..PORTS.end - 1;
        let stranger = |_| {
            let stream = from.connect(&mut ports, to)?;
            stream.set_nonblocking(true)?;
            Ok(stream)
        };
        let streams = (0..count).map(stranger).collect::<io::Result<Vec<_>>>();
        let streams = streams
            .map_err(|error| LoadError::Unreachable(format!("strangers cannot connect to {to}: {error}")))?;
        if count > 0 {
            std::thread::sleep(time);
        }
        Ok(Self { streams })
    }

    /// How many are still connected.
    pub(super) fn left(&mut self) -> usize {
        let is_open = |stream: &mut TcpStream| loop {
            match stream.read(&mut [0; 1024]) {
                Ok(1..) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Ok(0) | Err(_) => return false,
            }
        };
        self.streams.iter_mut().map(is_open).filter(|&open| open).count()
    }
}

/// Far from what other programs on loopback use.
const FIRST: Ipv4Addr = Ipv4Addr::new(127, 64, 0, 1);

/// Between the client ports of a started server and those that Linux chooses from.
const PORTS: Range<u16> = 20_000..32_000;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn many_addresses_are_as_many_and_one_is_one() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let to = listener.local_addr().unwrap();
        let connections: Vec<_> =
            (0..300).step_by(100).map(|n| Addresses::Many.begin(n, to).unwrap()).collect();
        let from: BTreeSet<_> = (0..3).map(|_| listener.accept().unwrap().1.ip()).collect();
        assert_eq!((connections.len(), from.len()), (3, 3));
        assert!(Addresses::One.begin(7, to).unwrap().is_none());
    }

    #[test]
    fn strangers_that_are_closed_are_not_left() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let to = listener.local_addr().unwrap();
        let mut strangers = Strangers::connect(3, Addresses::Many, to, Duration::ZERO).unwrap();
        let mut accepted: Vec<_> = (0..3).map(|_| listener.accept().unwrap().0).collect();
        assert_eq!(strangers.left(), 3);
        drop(accepted.pop());
        while strangers.left() == 3 {
            std::thread::yield_now();
        }
        assert_eq!(strangers.left(), 2);
    }
}
