//! The engine: every VM, console and client of one concentrator, behind `&mut self`.
//!
//! It owns all protocol state and does no I/O. A runtime tells it what happened (`handle_*`), takes what
//! is to be done ([`poll_output`](Concentrator::poll_output)), offers bytes to sockets that can take them
//! ([`transmit`](Concentrator::transmit)) and reads no more than it is granted
//! ([`receive_window`](Concentrator::receive_window)).
//!
//! This file only routes. Below it are two floors, and calls go down only: *operations*, methods of
//! [`Concentrator`] that need connections and consoles together, and *parts*, structs that do not know the
//! engine. docs/architecture.md has a line about each of them, and says which operations call which.

mod access_server;
mod address;
mod admin;
mod admission;
mod allowance;
mod announce;
mod announced;
mod answers;
mod aside;
mod attach;
mod attaching;
mod bonds;
mod carried;
mod channels;
mod client;
mod closing;
mod config;
mod conn;
mod console;
mod consoles;
mod control;
mod counters;
mod describing;
mod desk;
mod dials;
mod effects;
mod entering;
mod event;
mod event_facts;
mod event_line;
mod evicting;
mod fanout;
mod feeding;
mod flow;
mod foreign;
mod forwarding;
mod guest;
mod guests;
mod histogram;
mod id;
mod identifying;
mod index;
mod inherit;
mod interpreted;
#[cfg(debug_assertions)]
mod invariants;
mod join;
mod journal;
mod judging;
mod kit;
mod kit_requests;
mod label;
mod last_line;
mod legs;
mod lines;
mod listen;
mod local_line;
mod making_room;
mod moves;
mod moving;
mod namesakes;
mod operator;
mod outbox;
mod output;
mod packed;
mod ports;
mod proxies;
mod queues;
mod reaching;
mod reader;
mod reconfigure;
mod remote_ports;
mod requests;
mod restoring;
mod rules;
mod ruling;
mod rush;
mod sending;
mod serial;
mod serial_line;
mod showing;
mod sighting;
mod silence;
mod slab;
mod speech;
mod standing;
mod streams;
mod takeover;
mod target;
mod tenure;
mod timers;
mod tls;
mod unfinished;
mod unshown;
mod unused;
mod upgrade;
mod upgrade_backoff;
mod uplink;
mod visitor;
mod visits;
mod vm;
mod vmotion;
mod windows;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::mux::StreamId;
use crate::time::Instant;
use crate::transport::Acceptors;

pub use address::{ANY_CID, Address, ClientPlace, Credentials, Peer, SocketFile};
pub use config::{AdminTls, Config, InBandTls, PortRange, SlowClient, Takeover, VmTls};
pub use console::{LEAST_LAG_LIMIT, READ_MAX};
pub use counters::Counters;
pub use event::{
    AbortedBecause, CloseReason, Event, EventKind, Fault, ListenError, RefusedBecause, Severity, Stay,
    TakenBecause, VmotionStep,
};
pub use foreign::Foreign;
pub use guest::{GuestKey, Mux, NoMux};
pub use id::{ConnId, ConsoleId, ListenerId};
pub use label::{Identity, Label, Quoted};
pub use local_line::LocalLine;
pub use operator::{
    ClientView, CommandError, ConsoleView, LegView, LocalKind, LocalOptions, Reservation, Speaks,
};
pub use output::{Chunk, Closed, LogOrder, LogReader, Order, Output, Sent, Shutdown, TcpState};
pub use ports::BLOCK;
pub use proxies::{NoProxy, Proxy};
pub use rules::{ConsoleRule, NoPattern, Pattern, RulePort};
pub use serial_line::{LinePlace, NoLine, SerialLine, take_mux, uuid_of_line};
pub use target::{NoTarget, Place as TargetPlace, Target};

use crate::keyed::Keyed;
use admission::{Admission, Kind, Source};
use conn::{Conn, Role};
use consoles::Consoles;
use effects::Effects;
use listen::{Listener, Purpose};
use moves::Moves;
use ports::Ports;
use queues::Queue;
use remote_ports::RemotePorts;
use slab::Slab;
use timers::Timer;
use tls::TlsPolicy;
use unfinished::Unfinished;

/// The concentrator. `Send`; holds no descriptor, no clock and no callback.
#[derive(Debug)]
pub struct Concentrator {
    config: Arc<Config>,
    conns: Slab<ConnId, Conn>,
    consoles: Consoles,
    moves: Moves,
    listeners: Slab<ListenerId, Listener>,
    ports: Option<Ports>,
    admission: Admission,
    tls: TlsPolicy,
    /// Clients whose handshakes are not done.
    arriving: Queue,
    /// Connections on the admin port whose handshakes are not done.
    shaking: Queue<()>,
    /// Clients that will send no more.
    half_closed: Queue,
    /// What connections hold of messages that have not ended.
    unfinished: Unfinished,
    /// Connections that have printed before they said which VM they are, who began first in front. Some have
    /// left or said so since: they are found out when those behind them print.
    early: VecDeque<ConnId>,
    fx: Effects,
    rng: ChaCha12Rng,
    /// Where TLS puts what it has opened: room for one read and what a client was held back before it, and
    /// nothing without TLS.
    opened: Vec<u8>,
    /// Where the answer to one thing that a peer says is put together: some forty bytes.
    answer: Vec<u8>,
    /// Where guest bytes are put together whose slices would be crumbs. Up to 64 KiB.
    scratch: Vec<u8>,
    shutting_down: bool,
    /// Names the counts of this engine's offsets: another one after each start.
    epoch: u64,
    /// Operators' connections that want to hear of consoles, and of what is logged.
    watchers: BTreeSet<ConnId>,
    loggers: BTreeSet<ConnId>,
    /// Operators' connections that want to hear of facts.
    fact_readers: BTreeSet<ConnId>,
    /// Connections that we have made to serial lines, and which those are.
    dialled_lines: BTreeMap<ConnId, u16>,
    /// Connections at the listeners of serial lines whose handshakes are not done.
    arriving_lines: BTreeMap<ConnId, u16>,
    remote_ports: RemotePorts,
    /// Peers that said nothing, since that was last told.
    silent_peers: u32,
    /// Calls until all invariants are looked at again.
    #[cfg(debug_assertions)]
    until_check: usize,
}

impl Concentrator {
    /// A concentrator that has asked for its VM listeners and knows nobody.
    ///
    /// All randomness (secrets, hash keys) comes from `seed`, which must be secret in production. Same
    /// seed, same inputs: same outputs.
    #[must_use]
    pub fn new(config: Arc<Config>, seed: [u8; 32], now: Instant) -> Self {
        let mut rng = ChaCha12Rng::from_seed(seed);
        let keys = Keyed(rng.next_u64(), rng.next_u64());
        let mut engine = Self {
            conns: Slab::new(),
            consoles: Consoles::new(&config, keys),
            moves: Moves::new(keys),
            listeners: Slab::new(),
            ports: config.client_ports.map(|range| {
                let own = config.console_rules.iter().filter_map(ConsoleRule::own_port);
                Ports::new(range, config.ports_by_grant, own)
            }),
            admission: Admission::new(config.max_descriptors, config.client_ports.is_some()),
            tls: TlsPolicy::new(keys),
            arriving: Queue::default(),
            shaking: Queue::default(),
            half_closed: Queue::default(),
            unfinished: Unfinished::default(),
            early: VecDeque::new(),
            fx: Effects::new(now),
            rng,
            opened: Vec::new(),
            answer: Vec::new(),
            scratch: Vec::new(),
            shutting_down: false,
            epoch: 0,
            watchers: BTreeSet::new(),
            loggers: BTreeSet::new(),
            fact_readers: BTreeSet::new(),
            dialled_lines: BTreeMap::new(),
            arriving_lines: BTreeMap::new(),
            remote_ports: RemotePorts::default(),
            silent_peers: 0,
            #[cfg(debug_assertions)]
            until_check: 0,
            config,
        };
        for address in &engine.config.vm_listen {
            let id = engine.listeners.insert(Listener::vms(address.clone()));
            engine.fx.outbox.push(Output::Listen(id, address.clone()));
        }
        for address in &engine.config.admin_listen {
            let id = engine.listeners.insert(Listener::admin(address.clone()));
            engine.fx.outbox.push(Output::Listen(id, address.clone()));
        }
        engine.open_lines();
        engine.settle();
        if !engine.config.admin_listen.is_empty() {
            engine.epoch = engine.rng.next_u64();
        }
        engine
    }

    /// Answers TLS connections with these from now on; those that are up go on as they are. Without an
    /// acceptor, connections that need one are refused.
    pub fn set_acceptors(&mut self, acceptors: Acceptors) {
        self.tls.acceptors = acceptors;
    }

    /// The runtime has opened a listener, or could not.
    pub fn handle_listening(&mut self, id: ListenerId, bound: Result<Address, ListenError>, now: Instant) {
        self.fx.now = now;
        self.listening(id, bound);
        self.settle();
    }

    /// A connection came in on a listener. `None`: refuse it, there is no room or the listener is closed.
    pub fn handle_accepted(&mut self, on: ListenerId, peer: Peer, now: Instant) -> Option<ConnId> {
        self.fx.now = now;
        let purpose = self.listeners.get(on)?.purpose;
        let (kind, at) = match purpose {
            Purpose::Vms | Purpose::Line(_) => (Kind::Vm, None),
            Purpose::Clients(console, _) => (Kind::Client, Some(console)),
            Purpose::Admin => (Kind::Client, None),
        };
        let accepted = if self.shutting_down || !self.make_room(kind, at, Source::of(&peer.address)) {
            None
        } else {
            match purpose {
                Purpose::Vms | Purpose::Clients(..) if self.is_proxy(&peer.address) => {
                    Some(self.accept_announced(at, peer.address))
                }
                Purpose::Vms => self.accept_vm(peer.address, None),
                Purpose::Line(number) => self.accept_line(number, peer.address),
                Purpose::Clients(console, _) => self.accept_client(console, peer.address, None),
                Purpose::Admin => self.accept_admin(peer),
            }
        };
        self.settle();
        accepted
    }

    /// A connection that [`Output::Connect`] asked for is there, or cannot be had. Returns whether the
    /// runtime is to serve it: it may have been given up before this.
    pub fn handle_connected(&mut self, id: ConnId, outcome: Result<(), io::ErrorKind>, now: Instant) -> bool {
        self.fx.now = now;
        match outcome {
            Ok(()) => self.connected(id),
            Err(why) => self.not_connected(id, why),
        }
        self.settle();
        outcome.is_ok() && self.conns.get(id).is_some()
    }

    /// A connection has ended, or its peer's half of it.
    pub fn handle_closed(&mut self, id: ConnId, how: Closed, now: Instant) {
        self.fx.now = now;
        let Some(conn) = self.conns.get_mut(id) else { return };
        match (how, &conn.role) {
            // The farewell may still be taken.
            (Closed::Input, _) if conn.closing.is_some() => {}
            // Who came by the admin port holds a lock, or may: its end is its end.
            (Closed::Input, Role::Client(client)) if client.visit.who.is_none() => self.end_of_input(id),
            (Closed::Input, _) => conn.doom(id, CloseReason::PeerClosed, &mut self.fx),
            (Closed::Failed(why), _) => {
                self.deliver_last(id);
                self.drop_conn(id, CloseReason::Failed(why));
            }
        }
        self.settle();
    }

    /// How the TCP of this connection's peer does, as [`Output::Inspect`] asked.
    pub fn handle_tcp_state(&mut self, id: ConnId, tcp: TcpState, now: Instant) {
        self.fx.now = now;
        self.judge_tcp(id, tcp);
        self.settle();
    }

    /// A peer has ended its half, behind bytes that its window keeps from being read: they are read when they
    /// may be, and then comes [`handle_closed`](Self::handle_closed). Until then a client counts as one that
    /// sends no more. May be told more than once.
    pub fn handle_ending(&mut self, id: ConnId, now: Instant) {
        self.fx.now = now;
        self.note_end(id, true);
        self.settle();
    }

    /// Time has passed. Fires what is due; [`poll_timeout`](Self::poll_timeout) is later than `now`
    /// afterwards.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.fx.now = now;
        while let Some(timer) = self.fx.timers.pop_due(now) {
            self.fire(timer);
            self.settle();
        }
    }

    fn fire(&mut self, timer: Timer) {
        match timer {
            Timer::Ask(id) => self.ask(id),
            Timer::Header(id) => self.header_timer(id),
            Timer::Tls(id) => self.tls_timer(id),
            Timer::Identify(id) => self.give_up_identifying(id),
            Timer::Admin(id) => match self.conns.get(id).map(|conn| &conn.role) {
                Some(Role::Operator(_)) => self.operator_timer(id),
                Some(Role::Client(_)) => self.begin_telnet(id),
                _ => self.give_up_asking(id),
            },
            Timer::Decide(id) => self.decide(id, self.receive_window(id) > 0),
            Timer::Connect(id) => self.not_connected(id, io::ErrorKind::TimedOut),
            Timer::Linger(id) => self.end_of_linger(id),
            Timer::HalfClosed(id) => self.look_after_half_closed(id),
            Timer::Source(id) => self.end_of_source(id),
            Timer::Goahead(id) => self.goahead_timer(id),
            Timer::Move(id) => self.move_timer(id),
            Timer::Quiet(id) => self.quiet_timer(id),
            Timer::Expire(id) => self.end_console(id, EventKind::ConsoleExpired),
            Timer::Takeover(id) => self.takeover_timer(id),
            Timer::Inherit(id) => self.inherit(id),
            Timer::Legs(id) => self.legs_timer(id),
            Timer::Wait(id) => self.end_wait(id),
            Timer::Guest(id) => self.guest_timer(id),
            Timer::Ports => self.ports_timer(),
            Timer::Dial => self.dial_due(),
            Timer::Break(id) => self.end_break(id),
            Timer::Answers(id) => self.answers_timer(id),
            Timer::Summary => self.emit_summary(),
        }
    }

    /// Whether an [`Output::Unlisten`] waits to be polled. Its descriptor counts as free already: a runtime
    /// carries that out before it accepts more.
    #[must_use]
    pub fn closes_listener(&self) -> bool {
        self.fx.outbox.has_unlisten()
    }

    /// Takes the next thing to do; events come after everything else. Any number of inputs may come before
    /// a drain.
    pub fn poll_output(&mut self) -> Option<Output> {
        loop {
            match self.fx.outbox.pop()? {
                // What TLS has opened already comes before what is still in the socket.
                Output::Receive(id) if !self.deliver_unread(id) => {}
                // Of connections without a socket their operator's is told.
                Output::Receive(id) if self.is_attach(id) => {
                    self.take_typed(id);
                    self.settle();
                }
                Output::Receive(id) if let Some((at, stream)) = self.stream_of(id) => {
                    self.read_stream(at, stream);
                    self.settle();
                }
                Output::Transmit(id) if self.stream_of(id).is_some() => {
                    self.feed_leg(id);
                    self.settle();
                }
                Output::Local(id) if self.is_attach(id) => self.wake_attach(id),
                Output::Changed(id) => {
                    self.spread_change(id);
                    return Some(Output::Changed(id));
                }
                Output::Event(event) => {
                    self.spread_event(&event);
                    return Some(Output::Event(event));
                }
                output => return Some(output),
            }
        }
    }

    /// Which stream of a guest's a connection is.
    fn stream_of(&self, id: ConnId) -> Option<(ConsoleId, StreamId)> {
        self.conns.get(id).and_then(Conn::stream)
    }

    /// When [`handle_timeout`](Self::handle_timeout) is next due. Constant cost.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.fx.timers.next()
    }

    fn is_attach(&self, id: ConnId) -> bool {
        matches!(self.conns.get(id).map(|conn| &conn.role), Some(Role::Attach(_)))
    }

    /// An attach has output: its operator's connection has.
    fn wake_attach(&mut self, id: ConnId) {
        let Some(Role::Attach(attach)) = self.conns.get(id).map(|conn| &conn.role) else { return };
        let (operator, stream) = (attach.operator, attach.stream);
        if let Some(desk) = self.conns.get_mut(operator).and_then(Conn::desk_mut) {
            desk.mark_ready(stream);
        }
        self.fx.outbox.transmit(operator);
    }

    /// A VM has waited long enough for its slowest reader.
    fn end_wait(&mut self, id: ConsoleId) {
        let limits = self.consoles.limits;
        if let Some(console) = self.consoles.get_mut(id) {
            console.end_wait(limits, &mut self.fx);
        }
    }
}
