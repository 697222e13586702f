//! The core as a target: no sockets, and time passes only when nothing else can happen.
//!
//! The only file of this crate that drives the engine.

use super::{Arrival, PeerId, Target, Trouble};
use crate::transcript::Setting;
use crate::tunnel::{Secure, VmForm};
use rustls::ClientConfig;
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use vspc_core::concentrator::{
    Address, Closed, Concentrator, Config, ConnId, ConsoleId, EventKind, InBandTls, ListenerId, Output, Peer,
    PortRange, VmTls,
};
use vspc_core::time::Instant;
use vspc_core::transport::Acceptors;

/// How the made-up sockets behave. What clients and VMs see must not depend on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pace {
    /// How many bytes a socket takes at once.
    pub write: usize,
    /// Are several reads handed over before the core is asked what to do?
    pub batched: bool,
}

impl Default for Pace {
    fn default() -> Self {
        Self { write: usize::MAX, batched: false }
    }
}

/// Both ends of TLS, for a concentrator in memory.
#[derive(Clone)]
pub struct Secured {
    /// What the concentrator answers with.
    pub acceptors: Acceptors,
    /// What the other ends trust and show.
    pub peers: Arc<ClientConfig>,
    /// How VMs begin.
    pub vms: VmForm,
    /// Clients speak TLS.
    pub clients: bool,
    /// What the concentrator makes of offers to go over to TLS.
    pub in_band: InBandTls,
}

/// A concentrator in this process, under virtual time.
pub struct Memory {
    core: Concentrator,
    now: Instant,
    pace: Pace,
    shows_all: bool,
    vm_listener: Option<ListenerId>,
    admin_listener: Option<ListenerId>,
    client_listeners: Vec<(ListenerId, SocketAddr)>,
    next_port: u16,
    secured: Option<Secured>,
    peers: Vec<Socket>,
    by_conn: HashMap<ConnId, PeerId>,
    arrivals: VecDeque<Arrival>,
    /// What no peer can take for the server's answer.
    fault: Option<String>,
}

#[derive(Default)]
struct Socket {
    /// `None` when the core has let it go.
    conn: Option<ConnId>,
    /// The console it feeds, once it has said so.
    console: Option<ConsoleId>,
    /// Sent by the peer and not yet read: the receive window was closed.
    unread: VecDeque<u8>,
    fin: bool,
    fin_told: bool,
    /// The peer's end of TLS.
    secure: Option<Box<Secure>>,
}

impl Memory {
    /// A fresh concentrator, told to do `settings`.
    #[must_use]
    pub fn new(settings: &[Setting], seed: u64, pace: Pace) -> Self {
        Self::with(config(settings), seed, pace, None)
    }

    /// The same behind TLS.
    #[must_use]
    pub fn secured(settings: &[Setting], seed: u64, pace: Pace, secured: Secured) -> Self {
        let config = Config {
            vm_tls: if secured.vms == VmForm::On { VmTls::On } else { VmTls::Off },
            in_band_tls: secured.in_band,
            client_tls: secured.clients,
            ..config(settings)
        };
        Self::with(config, seed, pace, Some(secured))
    }

    /// A fresh concentrator whose consoles forget nothing: they never expire, and whoever attaches sees all
    /// that was printed, up to a MiB of it, and nothing else.
    #[must_use]
    pub fn keeping_all(multi_console: bool) -> Self {
        let config = Config {
            client_ports: Some(PortRange { first: 50_000, last: u16::MAX }),
            vm_expire: Duration::from_secs(10 * 365 * 86_400),
            multi_console,
            scrollback: KEPT,
            client_scrollback: KEPT,
            banner: false,
            ..config(&[])
        };
        Self { shows_all: true, ..Self::with(config, 7, Pace::default(), None) }
    }

    fn with(config: Config, seed: u64, pace: Pace, secured: Option<Secured>) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        let now = START;
        let mut memory = Self {
            core: Concentrator::new(Arc::new(config), key, now),
            now,
            pace,
            shows_all: false,
            vm_listener: None,
            admin_listener: None,
            client_listeners: Vec::new(),
            next_port: FIRST_OWN_PORT,
            secured,
            peers: Vec::new(),
            by_conn: HashMap::new(),
            arrivals: VecDeque::new(),
            fault: None,
        };
        if let Some(secured) = &memory.secured {
            memory.core.set_acceptors(secured.acceptors.clone());
        }
        memory.drain();
        memory
    }

    /// The concentrator itself.
    #[must_use]
    pub fn core(&self) -> &Concentrator {
        &self.core
    }

    fn accept(
        &mut self,
        on: ListenerId,
        form: VmForm,
        address: Option<SocketAddr>,
    ) -> Result<PeerId, Trouble> {
        self.next_port = self.next_port.checked_add(1).unwrap_or(FIRST_OWN_PORT);
        let made_up = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), self.next_port);
        let address = address.unwrap_or(made_up);
        let conn = self.core.handle_accepted(on, Peer::new(Address::Ip(address)), self.now);
        let peer = self.peers.len();
        let secure = self.secure(form)?;
        self.peers.push(Socket { conn, secure, ..Socket::default() });
        match conn {
            Some(conn) => drop(self.by_conn.insert(conn, peer)),
            None => self.arrivals.push_back(Arrival::Ended(peer)),
        }
        self.input_done();
        self.flush(peer);
        Ok(peer)
    }

    fn accept_vm(&mut self, from: Option<SocketAddr>) -> Result<PeerId, Trouble> {
        let listener = self.vm_listener.ok_or_else(|| Trouble::Failed("nobody listens for VMs".into()))?;
        self.accept(listener, self.secured.as_ref().map_or(VmForm::Off, |secured| secured.vms), from)
    }

    /// A peer's end of a connection that is to be `form`.
    fn secure(&self, form: VmForm) -> Result<Option<Box<Secure>>, Trouble> {
        let Some(secured) = self.secured.as_ref().filter(|_| form != VmForm::Off) else { return Ok(None) };
        let name = ServerName::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST).into());
        let tls = ClientConnection::new(Arc::clone(&secured.peers), name)
            .map_err(|error| Trouble::Failed(error.to_string()))?;
        Ok(Some(Box::new(Secure::new(tls, form == VmForm::InBand))))
    }

    /// What a peer's TLS has to say goes on its way.
    fn flush(&mut self, peer: PeerId) {
        let socket = &mut self.peers[peer];
        if let Some(secure) = &mut socket.secure {
            while secure.wants_write() {
                // Into memory.
                let _ = secure.write_to(&mut socket.unread);
            }
            self.read(peer);
        }
    }

    /// Reads what the window lets through, then the end.
    fn read(&mut self, peer: PeerId) {
        while let Some(conn) = self.peers[peer].conn {
            let socket = &mut self.peers[peer];
            let window = self.core.receive_window(conn).min(socket.unread.len());
            if window > 0 {
                let mut bytes: Vec<u8> = socket.unread.drain(..window).collect();
                self.core.handle_received(conn, &mut bytes, self.now);
                self.input_done();
                continue;
            }
            if socket.unread.is_empty() && socket.fin && !socket.fin_told {
                socket.fin_told = true;
                self.core.handle_closed(conn, Closed::Input, self.now);
                self.input_done();
            }
            return;
        }
    }

    fn input_done(&mut self) {
        if !self.pace.batched {
            self.drain();
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.core.poll_output() {
            match output {
                Output::Transmit(conn) => self.transmit(conn),
                Output::Receive(conn) => {
                    if let Some(peer) = self.by_conn.get(&conn) {
                        self.read(*peer);
                    }
                }
                Output::Listen(id, address) => {
                    self.listen(id, &address);
                    self.core.handle_listening(id, Ok(address), self.now);
                }
                Output::Unlisten(id) => self.client_listeners.retain(|(known, _)| *known != id),
                Output::Close(conn, _) => {
                    if let Some(peer) = self.by_conn.remove(&conn) {
                        self.peers[peer].conn = None;
                        self.arrivals.push_back(Arrival::Ended(peer));
                    }
                }
                // Nobody here reads inside the process, mirrors a console or is to be dialled.
                Output::Local(_)
                | Output::Connect(..)
                | Output::Changed(_)
                | Output::Inspect(_)
                | Output::Host(_)
                | Output::Log(_) => {}
                Output::Event(event) => {
                    if let (EventKind::VmIdentified, Some(conn), Some(label)) =
                        (&event.kind, event.conn, &event.console)
                        && let Some(peer) = self.by_conn.get(&conn)
                    {
                        self.peers[*peer].console = Some(label.id);
                    }
                }
            }
        }
    }

    /// Lets time pass up to the next timer; false when none is due by `until`.
    fn turn(&mut self, until: Instant) -> Result<bool, String> {
        let Some(timer) = self.core.poll_timeout().filter(|timer| *timer <= until) else { return Ok(false) };
        self.now = self.now.max(timer);
        self.core.handle_timeout(self.now);
        if self.core.poll_timeout().is_some_and(|next| next <= self.now) {
            return Err(format!("a timer that stays due at {:?}: a busy loop", self.now));
        }
        self.drain();
        Ok(true)
    }

    fn listen(&mut self, id: ListenerId, address: &Address) {
        match address {
            Address::Ip(address) if address.port() == VM_PORT => self.vm_listener = Some(id),
            Address::Ip(address) if address.port() == ADMIN_PORT => self.admin_listener = Some(id),
            Address::Ip(address) => self.client_listeners.push((id, *address)),
            _ => {}
        }
    }

    fn transmit(&mut self, conn: ConnId) {
        let write = self.pace.write;
        loop {
            let mut bytes = Vec::new();
            let sent = self.core.transmit(conn, self.now, |runs| {
                bytes.extend(runs.iter().flat_map(|run| run.iter()).take(write));
                bytes.len()
            });
            if sent.is_idle() {
                return;
            }
            if let Some(peer) = self.by_conn.get(&conn).copied() {
                self.arrive(peer, bytes);
            }
        }
    }
}

impl Memory {
    /// The peer's socket brought these.
    fn arrive(&mut self, peer: PeerId, bytes: Vec<u8>) {
        let Some(secure) = &mut self.peers[peer].secure else {
            return self.arrivals.push_back(Arrival::Bytes(peer, bytes));
        };
        let mut plain = Vec::new();
        let outcome = secure.open(&bytes, &mut plain);
        if !plain.is_empty() {
            self.arrivals.push_back(Arrival::Bytes(peer, plain));
        }
        match outcome {
            Ok(()) => self.flush(peer),
            Err(why) => self.fault = Some(format!("TLS: {why}")),
        }
    }
}

impl Target for Memory {
    fn now(&self) -> Duration {
        self.now.duration_since(START)
    }

    fn shows_all(&self) -> bool {
        self.shows_all
    }

    fn connect_vm(&mut self) -> Result<PeerId, Trouble> {
        self.accept_vm(None)
    }

    fn connect_vm_from(&mut self, address: SocketAddr) -> Result<PeerId, Trouble> {
        self.accept_vm(Some(address))
    }

    fn client_port(&mut self, vm: PeerId) -> Result<u16, Trouble> {
        self.drain();
        // An engine tells late of a VM that does not tell its name: let it.
        let limit = self.now + TOLD_WITHIN;
        while self.peers[vm].console.is_none() && self.turn(limit).map_err(Trouble::Failed)? {}
        let console = self.peers[vm]
            .console
            .ok_or_else(|| Trouble::Failed("this connection has not been identified".to_owned()))?;
        let view = self.core.consoles().find(|view| view.label.id == console);
        view.and_then(|view| view.label.port)
            .ok_or_else(|| Trouble::Failed("this console has no port".to_owned()))
    }

    fn connect_client(&mut self, port: u16) -> Result<PeerId, Trouble> {
        let listener = self.client_listeners.iter().find(|(_, address)| address.port() == port);
        let (listener, _) =
            *listener.ok_or_else(|| Trouble::Failed(format!("nobody listens on port {port}")))?;
        let is_tls = self.secured.as_ref().is_some_and(|secured| secured.clients);
        self.accept(listener, if is_tls { VmForm::On } else { VmForm::Off }, None)
    }

    fn connect_admin(&mut self) -> Result<PeerId, Trouble> {
        let listener =
            self.admin_listener.ok_or_else(|| Trouble::Failed("nobody listens for admins".into()))?;
        self.accept(listener, VmForm::Off, None)
    }

    fn send(&mut self, peer: PeerId, bytes: &[u8]) {
        let socket = &mut self.peers[peer];
        match &mut socket.secure {
            Some(secure) => secure.seal(bytes),
            None => socket.unread.extend(bytes),
        }
        self.flush(peer);
        self.read(peer);
    }

    fn close(&mut self, peer: PeerId) {
        if let Some(secure) = &mut self.peers[peer].secure {
            secure.close();
        }
        self.flush(peer);
        self.peers[peer].fin = true;
        self.read(peer);
    }

    fn reset(&mut self, peer: PeerId) {
        if let Some(conn) = self.peers[peer].conn.take() {
            self.by_conn.remove(&conn);
            self.core.handle_closed(conn, Closed::Failed(std::io::ErrorKind::ConnectionReset), self.now);
            self.input_done();
        }
    }

    fn pump(&mut self, until: Duration) -> Result<Option<Arrival>, String> {
        let until = START + until;
        loop {
            self.drain();
            if let Some(fault) = self.fault.take() {
                return Err(fault);
            }
            if let Some(arrival) = self.arrivals.pop_front() {
                return Ok(Some(arrival));
            }
            if !self.turn(until)? {
                self.now = self.now.max(until);
                return Ok(None);
            }
        }
    }
}

/// What `settings` mean to the engine.
fn config(settings: &[Setting]) -> Config {
    let mut config = Config {
        vm_listen: vec![Address::Ip(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), VM_PORT))],
        client_ports: Some(PortRange { first: 50_000, last: 50_099 }),
        admin_listen: vec![Address::Ip(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), ADMIN_PORT))],
        ..Config::default()
    };
    for setting in settings {
        match setting {
            Setting::MultiConsole => config.multi_console = true,
            Setting::ServiceUri(uri) => config.service_uri = Some(uri.clone()),
            Setting::IdentifyTimeout(time) => config.identify_timeout = *time,
            Setting::VmExpire(time) => config.vm_expire = *time,
            Setting::MaxClients(n) => config.max_clients = Some(*n),
            Setting::Scrollback(n) => config.client_scrollback = *n,
        }
    }
    config
}

/// Where VMs connect.
const VM_PORT: u16 = 13370;

/// Where admins connect.
const ADMIN_PORT: u16 = 13371;

/// The first of the made-up ports that peers connect from.
const FIRST_OWN_PORT: u16 = 40_000;

/// When the engine's time begins: not at 0, which would hide what is subtracted from it.
const START: Instant = Instant::from_millis(1000);

/// How long the core may take to tell of a VM that said its UUID but not its name.
const TOLD_WITHIN: Duration = Duration::from_secs(5);

/// More than any capture in the tests prints before its client attaches.
const KEPT: usize = 1 << 20;
