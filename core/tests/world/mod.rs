//! A world in memory around one engine: sockets with buffers, hosts and clients at their other ends, and a
//! clock that jumps.
//!
//! It keeps the runtime's side of the contract and checks the engine's at every step: a Transmit is not
//! said again before `transmit` has offered nothing, `transmit` asked twice gives the same bytes, a dead
//! id is never named again, a window that rises is told, each connection has one reason for its end,
//! outputs do not pile up, and after `handle_timeout` nothing is due.

#[cfg(feature = "tls")]
mod carry;
pub(crate) mod peer;
mod runtime;
#[cfg(feature = "tls")]
pub(crate) mod secure;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::Hasher;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use siphasher::sip::SipHasher13;
use vspc_core::concentrator::{
    Address, CloseReason, Closed, Concentrator, Config, ConnId, ConsoleId, ConsoleView, Event, EventKind,
    ListenerId, LocalOptions, LogOrder, Order, Peer, Shutdown, SlowClient, Target, TcpState, VmTls,
};
use vspc_core::time::Instant;
use vspc_core::vmware::{Uuid, VmConfig};

pub(crate) use peer::{Client, Host, Kind, Part};
#[cfg(feature = "tls")]
use runtime::{offered, take};
#[cfg(feature = "tls")]
use secure::Sealed;

/// A connection, from its socket outwards.
pub(crate) struct Link {
    /// Who is at the other end.
    pub(crate) part: Part,
    /// Sent by the peer, not yet read by the engine.
    pub(crate) inbound: VecDeque<u8>,
    /// The peer sends no more behind that.
    pub(crate) fin: bool,
    fin_told: bool,
    /// Taken by the engine's socket, not yet read by the peer.
    pub(crate) outbound: VecDeque<u8>,
    /// How many bytes of that the socket holds.
    pub(crate) capacity: usize,
    /// The peer does not read.
    pub(crate) stalled: bool,
    /// The engine has said Transmit and `transmit` has not offered nothing since.
    ready: bool,
    /// It is inside the process: what was printed before its next byte, once it knows.
    at: Option<u64>,
    /// How many bytes it was told, beside its output, that it has missed.
    pub(crate) lost: u64,
    /// How its TCP does, if its runtime can tell.
    pub(crate) tcp: Option<TcpState>,
    /// Why it ended, once that was told.
    pub(crate) reason: Option<CloseReason>,
    /// How it was closed.
    pub(crate) closed: Option<Shutdown>,
    /// The peer's end of it is gone.
    reset: bool,
    /// It is TLS: `inbound` is not sealed yet, `outbound` is opened.
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<Box<Sealed>>,
}

impl Link {
    /// Whether the engine still knows it.
    pub(crate) fn is_open(&self) -> bool {
        self.closed.is_none()
    }

    /// Whether it is inside the process.
    pub(crate) fn is_local(&self) -> bool {
        matches!(&self.part, Part::Client(client) if client.kind == Kind::Local)
    }

    fn is_busy(&self) -> bool {
        self.is_open() || !self.outbound.is_empty()
    }
}

/// One engine and everything around it.
pub(crate) struct World {
    pub(crate) engine: Concentrator,
    pub(crate) now: Instant,
    pub(crate) links: BTreeMap<ConnId, Link>,
    pub(crate) events: Vec<Event>,
    pub(crate) listening: BTreeMap<ListenerId, Address>,
    /// Ports that something else holds.
    pub(crate) foreign_ports: BTreeSet<u16>,
    /// Connections that the engine has asked for, and to what.
    pub(crate) dialled: Vec<(ConnId, Arc<Target>)>,
    /// At most so many bytes per read and per write.
    pub(crate) cut: usize,
    /// Gather lists have so many places.
    pub(crate) runs: usize,
    /// What operators have ordered of the process.
    pub(crate) orders: Vec<Order>,
    pub(crate) log_orders: Vec<LogOrder>,
    /// Consoles of which a change was told.
    pub(crate) changed: BTreeSet<ConsoleId>,
    /// What the engine offered last.
    pub(crate) offer: Vec<u8>,
    /// Everything the engine has said, for comparing runs.
    trace: SipHasher13,
    dead_listeners: BTreeSet<ListenerId>,
    /// The window was 0 and no Receive has come since.
    blocked: BTreeSet<ConnId>,
    /// Live connections and listeners, as the runtime knows them.
    ids: usize,
    shutting_down: bool,
    /// No connection of a VM is ever read no further.
    pub(crate) never_waits: bool,
    config: Config,
    /// Where whoever connects next comes from.
    pub(crate) from: Ipv4Addr,
    /// The test goes through upgrades and handshakes itself.
    pub(crate) by_hand: bool,
    /// So much happens that not every end is told of.
    pub(crate) leaves_out_events: bool,
}

impl World {
    pub(crate) fn new(config: Config) -> Self {
        Self::seeded(config, 7)
    }

    pub(crate) fn seeded(mut config: Config, seed: u8) -> Self {
        if crate::SEALED {
            config.vm_tls = VmTls::On;
            config.client_tls = true;
        }
        let never_waits = config.slow_client != SlowClient::Wait;
        let now = Instant::from_millis(1000);
        let mut world = Self {
            engine: Concentrator::new(Arc::new(config.clone()), [seed; 32], now),
            now,
            links: BTreeMap::new(),
            events: Vec::new(),
            listening: BTreeMap::new(),
            foreign_ports: BTreeSet::new(),
            dialled: Vec::new(),
            cut: usize::MAX,
            runs: 16,
            orders: Vec::new(),
            log_orders: Vec::new(),
            changed: BTreeSet::new(),
            offer: Vec::new(),
            trace: SipHasher13::new(),
            dead_listeners: BTreeSet::new(),
            blocked: BTreeSet::new(),
            ids: 0,
            shutting_down: false,
            never_waits,
            config,
            from: Ipv4Addr::new(192, 0, 2, 1),
            by_hand: false,
            leaves_out_events: false,
        };
        #[cfg(feature = "tls")]
        world.engine.set_acceptors(secure::acceptors(false));
        world.drain();
        world
    }

    // Coming in.

    /// A connection on the VM listener.
    pub(crate) fn connect_to_vms(&mut self, part: Part) -> Option<ConnId> {
        let port = 13370;
        self.connect_to(port, part)
    }

    /// A connection on a port; `None` if nobody listens there or the engine has no room.
    pub(crate) fn connect_to(&mut self, port: u16, part: Part) -> Option<ConnId> {
        let on = *self
            .listening
            .iter()
            .find(|(_, address)| matches!(address, Address::Ip(at) if at.port() == port))?
            .0;
        let from = SocketAddr::new(self.from.into(), 1024 + (self.links.len() % 60000) as u16);
        let id = self.engine.handle_accepted(on, Peer::new(Address::Ip(from)), self.now);
        if let Some(id) = id {
            self.insert(id, part);
            self.drain();
            #[cfg(feature = "tls")]
            self.secure(id);
        }
        self.drain();
        id
    }

    /// What the engine has asked for first is there, and is this.
    pub(crate) fn answer_dial(&mut self, part: Part) -> ConnId {
        self.pass(Duration::ZERO);
        assert!(!self.dialled.is_empty(), "nothing is dialled");
        let (id, _) = self.dialled.remove(0);
        self.insert(id, part);
        self.ids -= 1;
        assert!(self.engine.handle_connected(id, Ok(()), self.now));
        self.settle();
        id
    }

    /// What the engine has asked for first cannot be had.
    pub(crate) fn refuse_dial(&mut self, why: ErrorKind) {
        self.pass(Duration::ZERO);
        assert!(!self.dialled.is_empty(), "nothing is dialled");
        assert!(!self.engine.handle_connected(self.dialled[0].0, Err(why), self.now));
        self.settle();
    }

    /// A reader inside the process.
    pub(crate) fn open_local(&mut self, uuid: Uuid, options: LocalOptions) -> ConnId {
        let console = self.console(uuid).expect("it is known").label.id;
        let id = self.engine.open_local(console, options, self.now).expect("the console is there");
        self.insert(id, Part::Client(Client::new(Kind::Local)));
        self.drain();
        id
    }

    fn insert(&mut self, id: ConnId, part: Part) {
        let link = Link {
            part,
            inbound: VecDeque::new(),
            fin: false,
            fin_told: false,
            outbound: VecDeque::new(),
            capacity: usize::MAX,
            stalled: false,
            ready: false,
            at: None,
            lost: 0,
            tcp: None,
            reason: None,
            closed: None,
            reset: false,
            #[cfg(feature = "tls")]
            tls: None,
        };
        assert!(self.links.insert(id, link).is_none(), "{id} was given out twice");
        self.ids += 1;
    }

    /// A VM's host connects and goes through its session start.
    pub(crate) fn vm(&mut self, config: VmConfig) -> ConnId {
        let id = self.vm_connects(config);
        self.settle();
        id
    }

    /// A VM's host connects.
    pub(crate) fn vm_connects(&mut self, config: VmConfig) -> ConnId {
        self.connect_to_vms(Part::Host(Host::new(config))).expect("there is room")
    }

    /// Something that is no VM connects to the VM listener.
    pub(crate) fn stranger(&mut self) -> ConnId {
        self.connect_to_vms(Part::Mute).expect("there is room")
    }

    /// A client connects to the port of a console, and answers what is offered.
    pub(crate) fn client(&mut self, uuid: Uuid, kind: Kind) -> ConnId {
        let port = self.port(uuid).expect("it has a port");
        let id = self.connect_to(port, Part::Client(Client::new(kind))).expect("there is room");
        self.settle();
        id
    }

    // What is known.

    pub(crate) fn console(&self, uuid: Uuid) -> Option<ConsoleView<'_>> {
        self.engine.consoles().find(|console| console.label.uuid == uuid)
    }

    pub(crate) fn port(&self, uuid: Uuid) -> Option<u16> {
        self.console(uuid)?.label.port
    }

    pub(crate) fn is_open(&self, id: ConnId) -> bool {
        self.links[&id].is_open()
    }

    /// Live connections and listeners.
    pub(crate) fn open(&self) -> usize {
        self.ids
    }

    pub(crate) fn reason(&self, id: ConnId) -> Option<CloseReason> {
        self.links[&id].reason
    }

    pub(crate) fn host(&mut self, id: ConnId) -> &mut Host {
        match &mut self.link(id).part {
            Part::Host(host) => host,
            _ => panic!("{id} is no host"),
        }
    }

    /// What the guest got typed.
    pub(crate) fn typed(&mut self, id: ConnId) -> String {
        show(&self.host(id).typed)
    }

    /// What a client's program got to show, in order: guest bytes, and lines of ours.
    pub(crate) fn seen(&mut self, id: ConnId) -> String {
        match &self.link(id).part {
            Part::Client(client) => show(&client.seen),
            _ => panic!("{id} is no client"),
        }
    }

    /// What a peer's socket brought, byte for byte.
    pub(crate) fn wire(&mut self, id: ConnId) -> &mut Vec<u8> {
        match &mut self.link(id).part {
            Part::Client(client) => &mut client.wire,
            Part::Host(host) => &mut host.wire,
            Part::Mute => panic!("{id} reads nothing"),
        }
    }

    pub(crate) fn link(&mut self, id: ConnId) -> &mut Link {
        self.links.get_mut(&id).expect("it was connected")
    }

    pub(crate) fn told(&self, wanted: impl Fn(&EventKind) -> bool) -> usize {
        self.events.iter().filter(|event| wanted(&event.kind)).count()
    }

    // What peers do.

    /// The guest prints, and everyone gets what they can take.
    pub(crate) fn print(&mut self, id: ConnId, guest: &[u8]) {
        self.host(id).session.print(guest);
        self.settle();
    }

    /// A client sends bytes as they are, and everything goes its way.
    pub(crate) fn type_wire(&mut self, id: ConnId, wire: &[u8]) {
        self.link(id).inbound.extend(wire);
        self.settle();
    }

    /// The peer closes its half.
    pub(crate) fn end(&mut self, id: ConnId) {
        self.link(id).fin = true;
        if self.blocked.contains(&id) {
            self.engine.handle_ending(id, self.now);
            self.drain();
        }
        self.settle();
    }

    /// The connection breaks: what is on its way is lost.
    pub(crate) fn reset(&mut self, id: ConnId) {
        self.break_off(id);
        self.settle();
    }

    /// As [`reset`](Self::reset), and nothing else happens.
    pub(crate) fn break_off(&mut self, id: ConnId) {
        let link = self.link(id);
        link.reset = true;
        link.inbound.clear();
        link.outbound.clear();
        if link.is_open() {
            self.engine.handle_closed(id, Closed::Failed(ErrorKind::ConnectionReset), self.now);
            self.drain();
            assert!(!self.is_open(id), "{id} is broken and not closed");
        }
    }

    /// The peer stops reading, with `room` bytes left in the socket.
    pub(crate) fn stall(&mut self, id: ConnId, room: usize) {
        let link = self.link(id);
        link.stalled = true;
        link.capacity = link.outbound.len() + room;
    }

    pub(crate) fn unstall(&mut self, id: ConnId) {
        let link = self.link(id);
        link.stalled = false;
        link.capacity = usize::MAX;
        self.settle();
    }

    pub(crate) fn shut_down(&mut self) {
        self.shutting_down = true;
        self.engine.shut_down(self.now);
        self.settle();
    }

    /// A number that stands for everything that has happened.
    pub(crate) fn trace(&self) -> u64 {
        self.trace.finish()
    }
}

/// Bytes for people.
pub(crate) fn show(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

pub(crate) fn uuid(n: u8) -> Uuid {
    Uuid::from_bytes([n; 16])
}

/// A VM that does what hosts do.
pub(crate) fn vm_config(n: u8) -> VmConfig {
    VmConfig { name: format!("vm{n:02}"), vc_uuid: Some(uuid(n)), ..VmConfig::default() }
}
