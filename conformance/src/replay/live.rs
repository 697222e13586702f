//! A server that runs: real connections, real time.
//!
//! Which client port belongs to which VM is not told by any protocol, so nothing depends on it: a client
//! attaches to every port of the server's range that is open at first and to each that opens when a VM has
//! said who it is, and which of them saw a VM's bytes is found out in the end by comparing. One thread per
//! connection reads; everything else happens in the player's.

use std::collections::{HashMap, VecDeque};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::client::Client;
use super::telnet::{Item, Said};
use super::world::{Heard, Seen, World};
use crate::capture::How;
use crate::tunnel::{Dial, Port};

/// A server, and our connections to it.
#[derive(Debug)]
pub struct Live {
    dial: Dial,
    target: SocketAddr,
    client_port: u16,
    start: Instant,
    sender: Sender<(Source, Option<Vec<u8>>)>,
    /// Bytes read, or `None` for the end.
    events: Receiver<(Source, Option<Vec<u8>>)>,
    vms: HashMap<usize, TcpStream>,
    clients: Vec<Attached>,
    heard: VecDeque<Heard>,
}

#[derive(Clone, Copy, Debug)]
enum Source {
    Vm(usize),
    Client(usize),
}

#[derive(Debug)]
struct Attached {
    stream: TcpStream,
    port: u16,
    /// The UUID of the VM after whose introduction the port opened.
    uuid: Option<String>,
    attached_at: usize,
    greeting: usize,
    client: Client,
}

impl Live {
    /// Connects to the server at `target` by `dial`, and attaches to those of its client ports that are open.
    ///
    /// # Errors
    ///
    /// No server answers there; why, in words.
    pub fn new(target: &str, client_port: u16, dial: Dial) -> Result<Self, String> {
        let addresses = target.to_socket_addrs().map_err(|why| format!("cannot find {target}: {why}"))?;
        let mut last = format!("{target} has no address");
        let mut found = None;
        for address in addresses {
            match dial.try_out(Port::Vm, address) {
                Ok(()) => {
                    found = Some(address);
                    break;
                }
                Err(why) => last = format!("{target}: {why}"),
            }
        }
        let target = found.ok_or(last)?;
        let (sender, events) = channel();
        let (vms, clients, heard) = (HashMap::new(), Vec::new(), VecDeque::new());
        let mut live =
            Self { dial, target, client_port, start: Instant::now(), sender, events, vms, clients, heard };
        live.attach_all(0, None);
        live.settle();
        Ok(live)
    }

    /// Attaches a client to each open port that has none; how many there were.
    fn attach_all(&mut self, step: usize, uuid: Option<&str>) -> usize {
        let (mut new, mut closed, mut port) = (0, 0, self.client_port);
        while closed < GAP && self.clients.len() < MAX_CLIENTS {
            let taken = self.clients.iter().any(|client| client.port == port && !client.client.closed);
            if !taken {
                let address = SocketAddr::new(self.target.ip(), port);
                let stream = self.dial.connect(Port::Client, address, KNOCK);
                if stream.is_ok_and(|stream| self.add_client(stream, port, step, uuid)) {
                    (new, closed) = (new + 1, 0);
                } else {
                    closed += 1;
                }
            }
            match port.checked_add(1) {
                Some(next) => port = next,
                None => break,
            }
        }
        new
    }

    fn add_client(&mut self, stream: TcpStream, port: u16, step: usize, uuid: Option<&str>) -> bool {
        if !self.listen_to(&stream, Source::Client(self.clients.len())) {
            return false;
        }
        let (uuid, client) = (uuid.map(str::to_owned), Client::default());
        self.clients.push(Attached { stream, port, uuid, attached_at: step, greeting: 0, client });
        true
    }

    /// Starts a thread that reads from `stream`.
    fn listen_to(&self, stream: &TcpStream, source: Source) -> bool {
        let _ = stream.set_nodelay(true);
        let _ = stream.set_write_timeout(Some(WRITE));
        let (Ok(mut stream), sender) = (stream.try_clone(), self.sender.clone()) else { return false };
        std::thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            loop {
                let bytes = match stream.read(&mut buffer) {
                    Ok(0) => None,
                    Ok(n) => Some(buffer[..n].to_vec()),
                    Err(why) if why.kind() == std::io::ErrorKind::Interrupted => continue,
                    Err(_) => None,
                };
                let over = bytes.is_none();
                if sender.send((source, bytes)).is_err() || over {
                    return;
                }
            }
        });
        true
    }

    /// Waits until nobody has said anything for a while.
    fn settle(&mut self) {
        let limit = Instant::now() + SETTLE_LIMIT;
        while Instant::now() < limit {
            match self.events.recv_timeout(QUIET) {
                Ok(event) => self.take(event),
                Err(_) => break,
            }
        }
        for client in &mut self.clients {
            if client.greeting == 0 {
                client.greeting = client.client.bytes.len();
            }
        }
    }

    fn take(&mut self, (source, bytes): (Source, Option<Vec<u8>>)) {
        match (source, bytes) {
            (Source::Vm(conn), Some(bytes)) => self.heard.push_back(Heard::Said(conn, bytes)),
            (Source::Vm(conn), None) => self.heard.push_back(Heard::Ended(conn, How::Fin)),
            (Source::Client(n), Some(bytes)) => {
                let answer = self.clients[n].client.read(&bytes);
                let _ = self.clients[n].stream.write_all(&answer);
            }
            (Source::Client(n), None) => self.clients[n].client.closed = true,
        }
    }

    fn take_until(&mut self, until: Instant, once: bool) {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Ok(event) => {
                    self.take(event);
                    if once {
                        while let Ok(event) = self.events.try_recv() {
                            self.take(event);
                        }
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

impl World for Live {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn advance(&mut self, to: Duration) {
        self.take_until(self.start + to, false);
    }

    fn wait(&mut self, limit: Duration) {
        self.take_until(self.start + limit, true);
    }

    fn open(&mut self, conn: usize, _peer: SocketAddr) -> Result<(), String> {
        let why = |why| format!("cannot connect to {}: {why}", self.target);
        let stream = self.dial.connect(Port::Vm, self.target, CONNECT).map_err(why)?;
        if !self.listen_to(&stream, Source::Vm(conn)) {
            return Err("no descriptor left".into());
        }
        self.vms.insert(conn, stream);
        Ok(())
    }

    fn send(&mut self, conn: usize, bytes: &[u8]) {
        // A failure shows as the end of the connection.
        if let Some(stream) = self.vms.get_mut(&conn) {
            let _ = stream.write_all(bytes);
        }
        while let Ok(event) = self.events.try_recv() {
            self.take(event);
        }
    }

    fn end(&mut self, conn: usize, how: How) {
        let Some(stream) = self.vms.remove(&conn) else { return };
        match how {
            How::Fin => drop(stream.shutdown(Shutdown::Write)),
            How::Rst => {
                // The reader lets go of its end first; closing the last one resets.
                let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                let _ = stream.shutdown(Shutdown::Read);
            }
        }
    }

    fn type_in(&mut self, uuid: &str, bytes: &[u8]) -> bool {
        let fits = |client: &&mut Attached| client.uuid.as_deref() == Some(uuid) && !client.client.closed;
        let Some(client) = self.clients.iter_mut().find(fits) else { return false };
        client.stream.write_all(&Item::new(Said::Data(bytes.to_vec())).raw).is_ok()
    }

    fn heard(&mut self) -> Option<Heard> {
        self.heard.pop_front()
    }

    fn attach(&mut self, step: usize, uuid: &str) {
        // A port that was open before, for this VM or another, is attached to already.
        let patience = if self.clients.is_empty() { OPENS } else { OPENS_OR_IS };
        let limit = Instant::now() + patience;
        loop {
            if self.attach_all(step, Some(uuid)) > 0 {
                self.settle();
                return;
            }
            if Instant::now() >= limit {
                return;
            }
            self.take_until((Instant::now() + RETRY).min(limit), false);
        }
    }

    fn finish(&mut self, expected: &[&[u8]]) {
        let limit = Instant::now() + FINISH;
        loop {
            // The end of a stream tells that it has arrived.
            let seen = |bytes: &&[u8]| {
                let tail = &bytes[bytes.len().saturating_sub(TAIL)..];
                self.clients.iter().any(|client| client.client.bytes.ends_with(tail))
            };
            let quiet = if expected.iter().all(seen) { QUIET } else { LAST_QUIET };
            match self.events.recv_timeout(quiet) {
                Ok(event) => self.take(event),
                Err(_) => return,
            }
            if Instant::now() > limit {
                return;
            }
        }
    }

    fn seen(&mut self) -> Vec<Seen> {
        let seen = |client: Attached| Seen {
            port: client.port,
            console: None,
            attached_at: client.attached_at,
            greeting: client.greeting,
            client: client.client,
        };
        self.clients.drain(..).map(seen).collect()
    }
}

const CONNECT: Duration = Duration::from_secs(5);

/// How long a client port may take to accept: a closed one refuses at once.
const KNOCK: Duration = Duration::from_millis(300);

/// After this many closed ports in a row no further one is tried.
const GAP: usize = 8;

/// Ports attached to at most: the range of a server with many VMs is not ours to fill.
const MAX_CLIENTS: usize = 256;

/// How long a server may take to open a VM's port.
const OPENS: Duration = Duration::from_secs(3);

/// The same, if it may have been open before.
const OPENS_OR_IS: Duration = Duration::from_millis(500);

/// Time between looks at the ports.
const RETRY: Duration = Duration::from_millis(20);

/// A greeting or negotiation has ended when nothing has come for this long; and it ends.
const QUIET: Duration = Duration::from_millis(150);
const SETTLE_LIMIT: Duration = Duration::from_secs(2);

/// In the end, what has not come after this long of silence will not come; and it ends.
const LAST_QUIET: Duration = Duration::from_secs(2);
const FINISH: Duration = Duration::from_secs(60);

/// This much of the end of a stream is looked at.
const TAIL: usize = 4096;

/// A server that takes nothing for this long has failed.
const WRITE: Duration = Duration::from_secs(10);
