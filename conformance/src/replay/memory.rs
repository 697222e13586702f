//! The core in memory, in a time of its own: nothing waits, and a capture of a day is played in seconds.
//!
//! A client attaches to every console as soon as its port opens.

use std::collections::{HashMap, VecDeque};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use vspc_core::concentrator::{
    Address, Closed, Concentrator, Config, ConnId, ListenerId, Output, Peer, PortRange,
};
use vspc_core::time::Instant;

use super::client::Client;
use super::world::{Heard, Seen, World};
use crate::capture::How;

/// The core, and the sockets it believes in.
pub struct Memory {
    core: Concentrator,
    now: Duration,
    vm_port: u16,
    vm_listener: Option<ListenerId>,
    /// The id of each played connection.
    ids: HashMap<usize, ConnId>,
    sockets: HashMap<ConnId, Socket>,
    clients: Vec<Attached>,
    heard: VecDeque<Heard>,
}

/// What a connection of the core is to us.
enum Socket {
    Vm(usize),
    Client(usize),
}

struct Attached {
    id: Option<ConnId>,
    port: u16,
    client: Client,
}

impl Memory {
    /// A core that listens on `vm_port`.
    #[must_use]
    pub fn new(vm_port: u16, multi_console: bool) -> Self {
        let config = Config {
            vm_listen: vec![SocketAddr::from(([0, 0, 0, 0], vm_port))],
            client_ports: Some(PortRange { first: 50_000, last: 65_535 }),
            vm_expire: Duration::from_secs(10 * 365 * 86_400),
            multi_console,
            // What a VM said before it had a port must be seen too.
            scrollback: SCROLLBACK,
            client_scrollback: SCROLLBACK,
            banner: false,
            ..Config::default()
        };
        let mut memory = Self {
            core: Concentrator::new(Arc::new(config), [7; 32], Instant::ZERO),
            now: Duration::ZERO,
            vm_port,
            vm_listener: None,
            ids: HashMap::new(),
            sockets: HashMap::new(),
            clients: Vec::new(),
            heard: VecDeque::new(),
        };
        memory.settle();
        memory
    }

    fn instant(&self) -> Instant {
        Instant::from_micros(u64::try_from(self.now.as_micros()).unwrap_or(u64::MAX))
    }

    /// Does what the core asks for until it asks for nothing.
    fn settle(&mut self) {
        while let Some(output) = self.core.poll_output() {
            match output {
                Output::Listen(id, address) => self.listen(id, &address),
                Output::Transmit(id) => self.transmit(id),
                Output::Close(id, _) => match self.sockets.remove(&id) {
                    Some(Socket::Vm(conn)) => self.heard.push_back(Heard::Ended(conn, How::Fin)),
                    Some(Socket::Client(n)) => {
                        self.clients[n].id = None;
                        self.clients[n].client.closed = true;
                    }
                    None => {}
                },
                _ => {}
            }
        }
    }

    fn listen(&mut self, id: ListenerId, address: &Address) {
        let now = self.instant();
        self.core.handle_listening(id, Ok(address.clone()), now);
        let Address::Ip(address) = address else { return };
        if address.port() == self.vm_port && self.vm_listener.is_none() {
            self.vm_listener = Some(id);
            return;
        }
        let peer = Peer::new(Address::Ip(SocketAddr::from(([127, 0, 0, 1], 9))));
        if let Some(conn) = self.core.handle_accepted(id, peer, now) {
            self.sockets.insert(conn, Socket::Client(self.clients.len()));
            self.clients.push(Attached { id: Some(conn), port: address.port(), client: Client::default() });
        }
    }

    fn transmit(&mut self, id: ConnId) {
        let now = self.instant();
        loop {
            let mut runs = [IoSlice::new(&[]); 16];
            let count = self.core.transmit(id, &mut runs);
            let bytes: Vec<u8> = runs[..count].iter().flat_map(|run| run.iter().copied()).collect();
            if bytes.is_empty() {
                return;
            }
            self.core.handle_sent(id, bytes.len(), now);
            match self.sockets.get(&id) {
                Some(Socket::Vm(conn)) => self.heard.push_back(Heard::Said(*conn, bytes)),
                Some(Socket::Client(n)) => {
                    let mut answer = self.clients[*n].client.read(&bytes);
                    if !answer.is_empty() {
                        self.core.handle_received(id, &mut answer, now);
                    }
                }
                None => {}
            }
        }
    }
}

impl World for Memory {
    fn now(&self) -> Duration {
        self.now
    }

    fn advance(&mut self, to: Duration) {
        loop {
            let due = self.core.poll_timeout().map(|at| Duration::from_micros(at.as_micros()));
            let Some(due) = due.filter(|due| *due <= to) else { break };
            self.now = self.now.max(due);
            self.core.handle_timeout(self.instant());
            self.settle();
        }
        self.now = self.now.max(to);
    }

    fn wait(&mut self, limit: Duration) {
        let due = self.core.poll_timeout().map(|at| Duration::from_micros(at.as_micros()));
        let to = due.map_or(limit, |due| due.min(limit));
        self.advance(to);
    }

    fn open(&mut self, conn: usize, peer: SocketAddr) -> Result<(), String> {
        let now = self.instant();
        let peer = Peer::new(Address::Ip(peer));
        let listener = self.vm_listener.ok_or("the core does not listen for vms")?;
        let id = self.core.handle_accepted(listener, peer, now).ok_or("the core refused the connection")?;
        self.ids.insert(conn, id);
        self.sockets.insert(id, Socket::Vm(conn));
        self.settle();
        Ok(())
    }

    fn send(&mut self, conn: usize, bytes: &[u8]) {
        let now = self.instant();
        let Some(id) = self.ids.get(&conn).copied().filter(|id| self.sockets.contains_key(id)) else {
            return;
        };
        for chunk in bytes.chunks(CHUNK) {
            self.core.handle_received(id, &mut chunk.to_vec(), now);
            self.settle();
        }
    }

    fn end(&mut self, conn: usize, how: How) {
        let now = self.instant();
        let Some(id) = self.ids.remove(&conn) else { return };
        let how = match how {
            How::Fin => Closed::Input,
            How::Rst => Closed::Failed(io::ErrorKind::ConnectionReset),
        };
        self.core.handle_closed(id, how, now);
        self.settle();
    }

    fn type_in(&mut self, uuid: &str, bytes: &[u8]) -> bool {
        let now = self.instant();
        let ports: Vec<u16> = self.ports_of(uuid);
        let attached = self.clients.iter().find(|attached| ports.contains(&attached.port));
        let Some(id) = attached.and_then(|attached| attached.id) else { return false };
        let mut wire: Vec<u8> = Vec::with_capacity(bytes.len());
        for byte in bytes {
            wire.push(*byte);
            if *byte == super::telnet::IAC {
                wire.push(*byte);
            }
        }
        if self.core.receive_window(id) < wire.len() {
            return false;
        }
        self.core.handle_received(id, &mut wire, now);
        self.settle();
        true
    }

    fn heard(&mut self) -> Option<Heard> {
        self.heard.pop_front()
    }

    fn attach(&mut self, _step: usize, _uuid: &str) {}

    fn finish(&mut self, _expected: &[&[u8]]) {}

    fn seen(&mut self) -> Vec<Seen> {
        let labels: Vec<_> = self.core.consoles().map(|console| console.label.clone()).collect();
        let seen = |attached: &mut Attached| {
            let label = labels.iter().find(|label| label.port == Some(attached.port));
            let uuid = label.map(|label| label.uuid.to_string().replace('-', ""));
            let uri = label.map(|label| label.suffix.trim_start_matches('_').to_owned()).unwrap_or_default();
            let client = std::mem::take(&mut attached.client);
            Seen {
                port: attached.port,
                console: uuid.map(|uuid| (uuid, uri)),
                attached_at: 0,
                greeting: 0,
                client,
            }
        };
        self.clients.iter_mut().map(seen).collect()
    }
}

impl Memory {
    fn ports_of(&self, uuid: &str) -> Vec<u16> {
        let is = |label: &vspc_core::concentrator::Label| label.uuid.to_string().replace('-', "") == uuid;
        self.core.consoles().filter(|view| is(view.label)).filter_map(|view| view.label.port).collect()
    }
}

/// Bytes read from a VM at once (flow.md §1).
const CHUNK: usize = 64 << 10;

/// More than a VM may say before it is known.
const SCROLLBACK: usize = 1 << 20;
