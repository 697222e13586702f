//! A telnet client at each console.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::{LoadError, Readers, lines_in};

/// A connection to each client port.
pub(super) struct Clients {
    poll: Poll,
    events: Events,
    sockets: Vec<TcpStream>,
    scratch: Vec<u8>,
}

impl Clients {
    /// Connects to every console that a server tells of at its admin port, of which there are `count`.
    pub(super) fn open(admin: SocketAddr, count: u16) -> Result<Self, LoadError> {
        let ports = all_ports(admin, count)?;
        let poll = Poll::new().map_err(|error| LoadError::Usage(format!("event queue: {error}")))?;
        let mut sockets = Vec::with_capacity(count.into());
        for (number, at) in ports.into_iter().enumerate() {
            let failed = |error| LoadError::Unreachable(format!("client port {at}: {error}"));
            let mut stream = std::net::TcpStream::connect(at).map_err(failed)?;
            // It is telnet's: its first word says so.
            stream.write_all(b"\xff\xfd\x03").and_then(|()| stream.set_nonblocking(true)).map_err(failed)?;
            let mut socket = TcpStream::from_std(stream);
            poll.registry().register(&mut socket, Token(number), Interest::READABLE).map_err(failed)?;
            sockets.push(socket);
        }
        Ok(Self { poll, events: Events::with_capacity(1024), sockets, scratch: vec![0; 1 << 16] })
    }
}

/// Where the client ports are, once all are open: what the server answers to OpenStack's LIST (admin.md §9).
fn all_ports(admin: SocketAddr, count: u16) -> Result<Vec<SocketAddr>, LoadError> {
    let limit = Instant::now() + PATIENCE;
    loop {
        let mut list = String::new();
        let asked = std::net::TcpStream::connect(admin).and_then(|mut stream| {
            stream.write_all(b"LIST\n")?;
            stream.read_to_string(&mut list)
        });
        asked.map_err(|error| LoadError::Unreachable(format!("admin port {admin}: {error}")))?;
        let ports: Vec<SocketAddr> =
            list.lines().filter_map(|line| line.rsplit_once(" -> ")?.1.parse().ok()).collect();
        if ports.len() == usize::from(count) {
            return Ok(ports);
        }
        if Instant::now() > limit {
            return Err(LoadError::Violation(format!("{} of {count} consoles have a port", ports.len())));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

impl Readers for Clients {
    fn read(&mut self, wait: Duration) -> Result<u64, LoadError> {
        if let Err(error) = self.poll.poll(&mut self.events, Some(wait))
            && error.kind() != ErrorKind::Interrupted
        {
            return Err(LoadError::Usage(format!("event queue: {error}")));
        }
        let mut lines = 0;
        for event in &self.events {
            let socket = &mut self.sockets[event.token().0];
            loop {
                match socket.read(&mut self.scratch) {
                    Ok(0) => return Err(LoadError::Violation("a client was sent away".into())),
                    Ok(n) => lines += lines_in(&self.scratch[..n]),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(LoadError::Violation(format!("a client: {error}"))),
                }
            }
        }
        Ok(lines)
    }
}

/// How long ports may take to open.
const PATIENCE: Duration = Duration::from_secs(10);
