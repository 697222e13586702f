//! A server over TCP as a target: any server, real time, every wait bounded.

use super::find::{Ports, Printing};
use super::{Arrival, PeerId, Target, Trouble};
use crate::tunnel::{Dial, Port};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Which server, and where its client ports are.
#[derive(Clone, Debug)]
pub struct LiveOptions {
    /// Where VMs connect.
    pub target: SocketAddr,
    /// Where clients connect.
    pub clients: ClientPort,
    /// The address of the client ports.
    pub client_host: IpAddr,
    /// Where the admin listener is, which speaks no TLS here.
    pub admin: Option<SocketAddr>,
    /// How VMs and clients are reached.
    pub dial: Dial,
}

/// How the client port of a VM is found.
#[derive(Clone, Debug)]
pub enum ClientPort {
    /// The server has none, or nobody told.
    Unknown,
    /// It is this one, for the one VM that there is.
    Fixed(u16),
    /// The server gives each VM one of its own, and it is one of these: what the VM prints tells which.
    Among(Arc<Ports>),
}

/// A server somewhere.
pub struct Live {
    options: LiveOptions,
    begun: Instant,
    poll: Poll,
    events: Events,
    peers: Vec<Socket>,
    arrivals: VecDeque<Arrival>,
    /// The client port of a VM connection, once it was found.
    ports: HashMap<PeerId, u16>,
    slack: u32,
    gap: Duration,
}

struct Socket {
    /// `None` once it was reset.
    stream: Option<TcpStream>,
    ended: bool,
    last_send: Option<Instant>,
}

impl Live {
    /// A server.
    ///
    /// # Errors
    ///
    /// The system has no poller to give.
    pub fn new(options: LiveOptions) -> io::Result<Self> {
        Ok(Self {
            options,
            begun: Instant::now(),
            poll: Poll::new()?,
            events: Events::with_capacity(64),
            peers: Vec::new(),
            arrivals: VecDeque::new(),
            ports: HashMap::new(),
            slack: 1,
            gap: BETWEEN_SEGMENTS,
        })
    }

    /// Allows so many times the time for finding a client port.
    #[must_use]
    pub fn with_slack(self, slack: u32) -> Self {
        Self { slack, ..self }
    }

    /// Sends without pauses: how the server cuts its reads does not matter.
    #[must_use]
    pub fn without_gaps(self) -> Self {
        Self { gap: Duration::ZERO, ..self }
    }

    fn connect(&mut self, port: Port, to: SocketAddr) -> Result<PeerId, Trouble> {
        let dial = self.options.dial.clone();
        self.connect_by(&dial, port, to)
    }

    fn connect_by(&mut self, dial: &Dial, port: Port, to: SocketAddr) -> Result<PeerId, Trouble> {
        let peer = self.peers.len();
        let stream = connect(dial, port, to, CONNECT).and_then(|mut stream| {
            self.poll.registry().register(&mut stream, Token(peer), Interest::READABLE)?;
            Ok(stream)
        });
        let stream = stream.map_err(|error| Trouble::Failed(format!("cannot connect to {to}: {error}")))?;
        self.peers.push(Socket { stream: Some(stream), ended: false, last_send: None });
        Ok(peer)
    }

    /// Writes all of it, and goes on reading meanwhile: nobody here may be the slow one. A peer that has
    /// gone, or does not read for [`STALLED`], loses the rest.
    fn write(&mut self, peer: PeerId, mut bytes: &[u8]) {
        let mut last = Instant::now();
        while !bytes.is_empty() && last.elapsed() < STALLED {
            let Some(stream) = &mut self.peers[peer].stream else { return };
            match stream.write(&bytes[..bytes.len().min(CHUNK)]) {
                Ok(n) => {
                    bytes = &bytes[n..];
                    last = Instant::now();
                    if !bytes.is_empty() {
                        self.read(Duration::ZERO);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.read(Duration::from_millis(1));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    /// Waits at most `timeout` for something to read and reads it.
    fn read(&mut self, timeout: Duration) {
        // An interrupted wait is a short one; whoever waits looks at the clock.
        let _ = self.poll.poll(&mut self.events, Some(timeout));
        let ready: Vec<usize> = self.events.iter().map(|event| event.token().0).collect();
        for peer in ready {
            let Some(socket) = self.peers.get_mut(peer) else { continue };
            let Some(stream) = &mut socket.stream else { continue };
            let mut bytes = Vec::new();
            let ended = read_all(stream, &mut bytes);
            if !bytes.is_empty() {
                self.arrivals.push_back(Arrival::Bytes(peer, bytes));
            }
            if ended && !socket.ended {
                socket.ended = true;
                self.arrivals.push_back(Arrival::Ended(peer));
            }
        }
    }
}

/// A connection that does not block from here on.
fn connect(dial: &Dial, port: Port, to: SocketAddr, within: Duration) -> io::Result<TcpStream> {
    let stream = dial.connect(port, to, within)?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(TcpStream::from_std(stream))
}

/// Reads until there is nothing more; true when the connection has ended.
fn read_all(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> bool {
    let mut chunk = [0; 16 << 10];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return true,
            Ok(n) => bytes.extend_from_slice(&chunk[..n]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return true,
        }
    }
}

/// A VM whose client port is looked for.
struct OneVm<'a> {
    live: &'a mut Live,
    vm: PeerId,
}

impl Printing for OneVm<'_> {
    fn print(&mut self, _vm: usize, bytes: &[u8]) -> bool {
        self.live.write(self.vm, bytes);
        let socket = &self.live.peers[self.vm];
        socket.stream.is_some() && !socket.ended
    }

    fn serve(&mut self) {
        self.live.read(Duration::ZERO);
    }
}

impl Target for Live {
    fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    fn quiet_before_client(&self) -> Duration {
        Duration::from_millis(50)
    }

    fn connect_vm(&mut self) -> Result<PeerId, Trouble> {
        self.connect(Port::Vm, self.options.target)
    }

    fn client_port(&mut self, vm: PeerId) -> Result<u16, Trouble> {
        if let Some(port) = self.ports.get(&vm) {
            return Ok(*port);
        }
        let port = match self.options.clients.clone() {
            ClientPort::Unknown => {
                let why = "no client port is known: --client-port-base tells it";
                return Err(Trouble::NotOffered(why.into()));
            }
            ClientPort::Fixed(port) => port,
            ClientPort::Among(ports) => {
                let slack = self.slack;
                ports.find(&mut OneVm { live: self, vm }, 1, slack).map_err(Trouble::Failed)?[0]
            }
        };
        self.ports.insert(vm, port);
        Ok(port)
    }

    fn connect_client(&mut self, port: u16) -> Result<PeerId, Trouble> {
        self.connect(Port::Client, SocketAddr::new(self.options.client_host, port))
    }

    fn connect_admin(&mut self) -> Result<PeerId, Trouble> {
        let Some(admin) = self.options.admin else {
            return Err(Trouble::NotOffered("no admin listener is known: --admin tells it".into()));
        };
        self.connect_by(&Dial::default(), Port::Client, admin)
    }

    fn send(&mut self, peer: PeerId, bytes: &[u8]) {
        let last = self.peers[peer].last_send;
        if let Some(wait) = last.and_then(|last| self.gap.checked_sub(last.elapsed())) {
            std::thread::sleep(wait);
        }
        self.write(peer, bytes);
        self.peers[peer].last_send = Some(Instant::now());
    }

    fn send_urgent(&mut self, peer: PeerId, bytes: &[u8]) {
        if let Some(stream) = &self.peers[peer].stream {
            // A few bytes; if they do not go now, the server is not reading and will be found out.
            let _ = socket2::SockRef::from(stream).send_out_of_band(bytes);
        }
    }

    fn close(&mut self, peer: PeerId) {
        if let Some(stream) = &self.peers[peer].stream {
            // It may have gone by itself already.
            let _ = stream.shutdown(std::net::Shutdown::Write);
        }
    }

    fn reset(&mut self, peer: PeerId) {
        if let Some(mut stream) = self.peers[peer].stream.take() {
            let _ = self.poll.registry().deregister(&mut stream);
            // Closing with a linger time of zero is what sends RST.
            let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        }
    }

    fn pump(&mut self, until: Duration) -> Result<Option<Arrival>, String> {
        if self.arrivals.is_empty() {
            self.read(Duration::ZERO);
        }
        loop {
            if let Some(arrival) = self.arrivals.pop_front() {
                return Ok(Some(arrival));
            }
            match until.checked_sub(self.begun.elapsed()) {
                Some(left) if !left.is_zero() => self.read(left),
                _ => return Ok(None),
            }
        }
    }
}

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(3);

/// How long a server may leave a send unread.
const STALLED: Duration = Duration::from_secs(5);

/// Between two segments: long enough that a server that is awake reads them one by one.
const BETWEEN_SEGMENTS: Duration = Duration::from_millis(2);

/// How much is written between two looks at what has come: a fraction of what any socket holds.
const CHUNK: usize = 16 << 10;
