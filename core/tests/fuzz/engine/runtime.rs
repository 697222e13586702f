//! A runtime that does what the program says, and keeps account of what the engine has said.
//!
//! `runtime/peers.rs` has those at the other ends.

mod peers;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use vspc_core::admin::operator::{ReloadOutcome, Rules};
use vspc_core::concentrator::{
    Address, Closed, CommandError, Concentrator, Config, ConnId, ConsoleId, EventKind, Identity,
    LEAST_LAG_LIMIT, ListenerId, LocalKind, LocalOptions, Mux, Order, Output, Peer, PortRange, Reservation,
    SerialLine, SlowClient, Takeover, TcpState,
};
use vspc_core::telnet::Decoder;
use vspc_core::time::Instant;

use super::Op;
use super::agent::Agent;
use super::operator::Operator;
use super::words::uuid;

/// The first of a few client ports.
pub(super) const FIRST_PORT: u16 = 50000;

/// Descriptors, few enough to run short.
const DESCRIPTORS: usize = 24;

/// The serial line whose guest has an agent. It is known by the UUID that a VM says it has, too.
const LINE: &str = "guest";

/// As many as a crowd of guests needs.
const MANY_DESCRIPTORS: usize = 128;

/// More outputs than that for each id that lives, or lived when the last drain ended, are a heap.
const OUTPUTS_PER_ID: usize = 64;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Vm,
    /// A serial line without telnet, whose guest has an agent.
    Line,
    Client,
    /// At the admin port.
    Operator,
    Local,
}

struct Link {
    id: ConnId,
    kind: Kind,
    /// Transmit or Local was said, and nothing has been offered in vain since.
    ready: bool,
    /// The end of its input, or of all, has been told.
    ended: bool,
    /// Reads what goes to a VM.
    heard: Decoder,
    /// What a proxy says before anything else, and has not said yet.
    header: VecDeque<u8>,
    /// The agent in its guest, where it may have one, and what that has said and its line has not brought.
    agent: Option<Agent>,
    /// The same of an operator.
    operator: Option<Box<Operator>>,
    unread: VecDeque<u8>,
}

pub(super) struct Runtime {
    engine: Concentrator,
    now: Instant,
    links: Vec<Link>,
    /// Listeners that were asked for; whether they are open.
    listeners: BTreeMap<ListenerId, (Address, bool)>,
    dead: Vec<ConnId>,
    /// Of which an event said why they ended.
    reasons: BTreeSet<ConnId>,
    dead_listeners: BTreeSet<ListenerId>,
    failed_listeners: BTreeSet<ListenerId>,
    /// Of whose TCP the engine has asked since time was last told.
    inspected: Vec<ConnId>,
    /// Sequence and secret of each GOAHEAD.
    secrets: Vec<Vec<u8>>,
    /// Consoles that were named, whether they live or not.
    consoles: Vec<ConsoleId>,
    /// Outputs since the last drain, and the most ids that lived meanwhile.
    polled: usize,
    most_ids: usize,
    may_wait: bool,
    has_proxies: bool,
    has_agents: bool,
    descriptors: usize,
    /// Somebody has typed, maybe to a guest that has just answered and is not known to have.
    was_typed: bool,
    going_down: bool,
    /// Names of events.
    happened: BTreeSet<String>,
}

impl Runtime {
    pub(super) fn new(shape: [u8; 3]) -> Self {
        let [policy, limits, sizes] = shape;
        let may_wait = policy % 3 == 2;
        let (has_agents, has_operators) = (sizes & 0x20 != 0, sizes & 0x40 != 0);
        let descriptors = if has_agents && limits & 0x40 != 0 { MANY_DESCRIPTORS } else { DESCRIPTORS };
        let line = || SerialLine {
            name: LINE.to_owned(),
            uuid: uuid(3),
            place: "tcp://:7001".parse().unwrap(),
            mux: Some(Mux::S2),
        };
        let config = Config {
            slow_client: [SlowClient::Skip, SlowClient::Disconnect, SlowClient::Wait]
                [usize::from(policy % 3)],
            multi_console: limits & 1 != 0,
            banner: limits & 2 != 0,
            max_clients: (limits & 4 != 0).then_some(2),
            service_uri: (limits & 8 != 0).then(|| "vSPC.py".to_owned()),
            client_ports: match limits >> 4 & 3 {
                0 => None,
                1 => Some(PortRange { first: 0, last: 0 }),
                _ => Some(PortRange { first: FIRST_PORT, last: FIRST_PORT + 2 }),
            },
            vm_expire: Duration::from_secs(60),
            client_scrollback: if sizes & 1 != 0 { 4096 } else { 0 },
            lag_limit: LEAST_LAG_LIMIT,
            journal_memory: if sizes & 2 != 0 { LEAST_LAG_LIMIT } else { 4 * LEAST_LAG_LIMIT },
            max_descriptors: descriptors,
            proxies: if sizes & 0x10 != 0 { vec![PROXY.parse().unwrap()] } else { Vec::new() },
            lines: if has_agents { vec![line()] } else { Vec::new() },
            admin_listen: if has_operators { vec![Address::Ip(ADMIN.parse().unwrap())] } else { Vec::new() },
            admin_rights: Rules::new(RIGHTS.iter().map(|rule| rule.parse().unwrap()).collect()),
            takeover: match sizes >> 2 & 3 {
                0 | 1 => Takeover::Probe,
                2 => Takeover::Newest,
                _ => Takeover::Refuse,
            },
            ..Config::default()
        };
        let now = Instant::from_millis(1000);
        let mut runtime = Self {
            engine: Concentrator::new(Arc::new(config), [7; 32], now),
            now,
            links: Vec::new(),
            listeners: BTreeMap::new(),
            dead: Vec::new(),
            reasons: BTreeSet::new(),
            dead_listeners: BTreeSet::new(),
            failed_listeners: BTreeSet::new(),
            inspected: Vec::new(),
            secrets: Vec::new(),
            consoles: Vec::new(),
            polled: 0,
            most_ids: 0,
            may_wait,
            has_proxies: sizes & 0x10 != 0,
            has_agents,
            descriptors,
            was_typed: false,
            going_down: false,
            happened: BTreeSet::new(),
        };
        runtime.poll(usize::MAX);
        for _ in 0..1 + usize::from(has_agents) + usize::from(has_operators) {
            runtime.listened(0, Ok(()));
        }
        runtime.poll(usize::MAX);
        runtime
    }

    pub(super) fn run(&mut self, op: &Op) {
        match op {
            Op::Accept(which, peer) => self.accept(*which, peer.clone()),
            Op::Listened(which, outcome) => self.listened(*which, *outcome),
            Op::Receive(which, words) => self.receive(*which, words),
            Op::Closed(which, how) => self.closed(*which, *how),
            Op::Transmit(which, most) => {
                if let Some(at) = self.nth(*which) {
                    self.take(at, *most);
                }
            }
            Op::Poll(n) => self.poll(if *n == 0 { usize::MAX } else { usize::from(*n) }),
            Op::Pass(time) => {
                self.now = self.now + *time;
                self.time_out();
            }
            Op::Timeout => self.time_out(),
            Op::OpenLocal(which, options) => self.open_local(*which, *options),
            Op::Kick(which) => {
                if let Some(at) = self.nth(*which) {
                    let _ = self.engine.kick(self.links[at].id, self.now);
                }
            }
            Op::Restore { uuid, port, idle_for } => self.restore(*uuid, *port, *idle_for),
            Op::Stale(which) => self.stale(*which),
            Op::Look => self.look(),
            Op::Crowd => self.crowd(),
            Op::ShutDown => {
                self.going_down = true;
                self.engine.shut_down(self.now);
            }
        }
        self.check();
    }

    /// The server goes down, peers take nothing and say nothing: all the same everything ends.
    pub(super) fn finish(mut self) -> BTreeSet<String> {
        self.poll(usize::MAX);
        for at in 0..self.links.len() {
            self.check_offered_twice(at);
        }
        self.check_answers();
        self.run(&Op::ShutDown);
        for _ in 0..100 {
            self.poll(usize::MAX);
            self.run(&Op::Pass(Duration::from_secs(1)));
        }
        self.poll(usize::MAX);
        let left: Vec<(ConnId, Kind)> = self.links.iter().map(|link| (link.id, link.kind)).collect();
        assert!(self.engine.is_empty() && left.is_empty(), "{left:?} are left when the server is down");
        assert!(self.listeners.is_empty(), "{:?} are left when the server is down", self.listeners);
        self.happened
    }

    fn check(&mut self) {
        #[cfg(debug_assertions)]
        self.engine.check_invariants();
        self.most_ids = self.most_ids.max(self.links.len() + self.listeners.len());
    }

    /// With nothing left to poll, what lives here lives there.
    fn check_vms_are_read(&self) {
        for link in self.links.iter().filter(|link| link.kind == Kind::Vm) {
            assert!(
                self.may_wait || self.engine.receive_window(link.id) > 0,
                "{} is a VM's and is not read though nobody may wait",
                link.id
            );
        }
    }

    fn nth(&self, which: u8) -> Option<usize> {
        usize::from(which).checked_rem(self.links.len())
    }

    /// What is not taken is offered again, the same; and nobody has something and was not told.
    fn check_offered_twice(&mut self, at: usize) {
        let (id, kind, was_ready) = (self.links[at].id, self.links[at].kind, self.links[at].ready);
        if kind == Kind::Local {
            return;
        }
        let now = self.now;
        let mut offers = [Vec::new(), Vec::new()];
        for offer in &mut offers {
            let _ = self.engine.transmit(id, now, |runs| {
                offer.extend(runs.iter().flat_map(|run| run.iter().copied()));
                0
            });
        }
        assert_eq!(offers[0], offers[1], "{id} was offered other bytes the second time");
        assert!(was_ready || offers[0].is_empty(), "{id} has bytes and was not told");
        self.links[at].ready = !offers[0].is_empty();
    }

    fn time_out(&mut self) {
        // Asked for at once; who is late with it answers for the dead, too.
        for id in std::mem::take(&mut self.inspected) {
            let n = id.index() as u64 + self.now.as_micros() / 1000;
            let acknowledged = Duration::from_millis(n % 4096);
            let window = [Some(0), Some(1460), None][n as usize % 3];
            let tcp = TcpState { outstanding: n & 1 == 0, acknowledged, window };
            self.engine.handle_tcp_state(id, tcp, self.now);
        }
        self.engine.handle_timeout(self.now);
        let due = self.engine.poll_timeout();
        assert!(due.is_none_or(|due| due > self.now), "something is left that is due");
    }

    fn open_local(&mut self, which: u8, options: LocalOptions) {
        let Some(at) = usize::from(which).checked_rem(self.consoles.len()) else { return };
        let console = self.consoles[at];
        let is_there = self.engine.console(console).is_some();
        match self.engine.open_local(console, options, self.now) {
            Ok(id) => {
                assert!(is_there && !self.going_down);
                self.insert(id, Kind::Local);
                if options.kind == LocalKind::Witness {
                    // Of its end nobody is told.
                    self.reasons.insert(id);
                }
            }
            Err(CommandError::NoConsole) => assert!(!is_there),
            Err(why) => assert!(self.going_down && why == CommandError::ShuttingDown, "{why}"),
        }
    }

    fn restore(&mut self, n: u8, port: Option<u16>, idle_for: Duration) {
        let identity = Identity::of(uuid(n));
        let mut reservation = Reservation::new(identity);
        reservation.port = port;
        reservation.idle_for = idle_for;
        match self.engine.restore(reservation, self.now) {
            Ok(id) => {
                let console = self.engine.console(id).expect("it was put back");
                assert_eq!((console.label.uuid, console.vms, console.clients), (uuid(n), 0, 0));
                assert!(!self.going_down);
                assert!(self.engine.restore_output(id, b"old\xff", self.now) <= 4);
            }
            Err(CommandError::AlreadyThere) => {
                assert!(self.engine.consoles().any(|console| console.label.uuid == uuid(n)));
            }
            Err(CommandError::PortNotFree(refused)) => assert_eq!(Some(refused), port),
            Err(why) => assert!(self.going_down && why == CommandError::ShuttingDown, "{why}"),
        }
    }

    /// Operators that read again have their answers.
    fn check_answers(&mut self) {
        if self.going_down {
            return;
        }
        let ids: Vec<ConnId> = self
            .links
            .iter()
            .filter(|link| link.kind == Kind::Operator && !link.ended)
            .map(|it| it.id)
            .collect();
        for id in ids {
            for _ in 0..ANSWERS_WITHIN {
                if let Some(operator) = self.links.iter_mut().find(|link| link.id == id) {
                    operator.operator.as_mut().expect("it is one").catch_up();
                }
                self.converse(id);
                self.now = self.now + Duration::from_millis(200);
                self.time_out();
            }
            if let Some(link) = self.links.iter().find(|link| link.id == id && !link.ended) {
                link.operator.as_ref().expect("it is one").check_answered();
                self.happened.insert("an operator has all answers".to_owned());
            }
        }
    }

    /// A stale id is a no-op everywhere.
    fn stale(&mut self, which: u8) {
        let Some(at) = usize::from(which).checked_rem(self.dead.len()) else { return };
        let id = self.dead[at];
        self.poll(usize::MAX);
        let before = (self.engine.poll_timeout(), self.engine.totals());
        assert_eq!(self.engine.receive_window(id), 0);
        assert!(self.engine.transmit(id, self.now, |_| panic!("{id} is dead")).is_idle());
        assert!(self.engine.read_local(id, self.now, |_| panic!("{id} is dead")).is_idle());
        self.engine.handle_received(id, &mut b"\xff\xfb\xe8hello".to_vec(), self.now);
        self.engine.handle_closed(id, Closed::Input, self.now);
        self.engine.handle_closed(id, Closed::Failed(ErrorKind::Other), self.now);
        assert_eq!(self.engine.kick(id, self.now), Err(CommandError::NoConnection));
        if let Some(&dead) = self.dead_listeners.first() {
            let address = Address::Ip(([127, 0, 0, 1], 1).into());
            self.engine.handle_listening(dead, Ok(address.clone()), self.now);
            assert!(self.engine.handle_accepted(dead, Peer::new(address), self.now).is_none());
        }
        assert!(self.engine.poll_output().is_none(), "something came of words to the dead");
        assert_eq!((self.engine.poll_timeout(), self.engine.totals()), before);
    }

    /// What is listed is there, is found, and has the clients that it says. A UUID that several VMs have
    /// means the first of them.
    fn look(&self) {
        for listed in self.engine.consoles() {
            let id = listed.label.id;
            let console = self.engine.console(id).expect("it is listed");
            assert_eq!(console.clients, self.engine.clients(id).count(), "clients of {id:?}");
            let found: Vec<_> = self.engine.find(&listed.label.uuid.to_string()).collect();
            // A VM's UUID means the VM, and not what its guest has announced.
            let is_stream = listed.label.suffix.contains('/');
            assert!(
                !found.is_empty() && (listed.shared || is_stream || found.contains(&id)),
                "{} by its uuid",
                listed.label
            );
            assert!(
                listed.label.name.is_empty() || self.engine.find(&listed.label.name).any(|found| found == id)
            );
        }
    }

    /// Takes up to `most` outputs.
    fn poll(&mut self, most: usize) {
        for _ in 0..most {
            let Some(output) = self.engine.poll_output() else {
                let told = self.dead.iter().filter(|id| self.reasons.contains(id)).count();
                assert_eq!(told, self.dead.len(), "a connection was closed without a reason");
                self.check_vms_are_read();
                self.polled = 0;
                self.most_ids = self.links.len() + self.listeners.len();
                return;
            };
            self.polled += 1;
            assert!(
                self.polled <= OUTPUTS_PER_ID * (self.most_ids + 4),
                "{} outputs for {} ids",
                self.polled,
                self.most_ids
            );
            self.note(output);
        }
    }

    fn note(&mut self, output: Output) {
        match output {
            Output::Transmit(id) | Output::Local(id) => {
                let is_local = matches!(output, Output::Local(_));
                let link = self.live(id);
                assert_eq!(link.kind == Kind::Local, is_local, "{id}");
                assert!(!std::mem::replace(&mut link.ready, true), "{id} was told of its bytes twice");
            }
            Output::Receive(id) => drop(self.live(id)),
            Output::Host(Order::Reload(asker)) => {
                self.engine.handle_reloaded(asker, &ReloadOutcome::default(), self.now);
            }
            Output::Host(_) | Output::Log(_) | Output::Connect(..) => {}
            Output::Inspect(id) => {
                self.live(id);
                self.inspected.push(id);
            }
            Output::Listen(id, address) => {
                assert!(!self.dead_listeners.contains(&id), "{id} was given out twice");
                assert!(
                    self.listeners.values().all(|(open, _)| *open != address || is_any(&address)),
                    "{address}"
                );
                assert!(self.listeners.insert(id, (address, false)).is_none(), "{id} was asked for twice");
            }
            Output::Unlisten(id) => {
                // What could not be opened may have been given up before that was told.
                let is_known = self.listeners.remove(&id).is_some() || self.failed_listeners.remove(&id);
                assert!(is_known, "{id} is not open");
                self.dead_listeners.insert(id);
            }
            Output::Close(id, _) => {
                if self.live(id).kind == Kind::Operator {
                    // Of its end nobody is told.
                    self.reasons.insert(id);
                }
                self.links.retain(|link| link.id != id);
                self.dead.push(id);
            }
            Output::Changed(id) => {
                if !self.consoles.contains(&id) {
                    self.consoles.push(id);
                }
            }
            Output::Event(event) => {
                let _ = event.severity();
                self.happened.insert(name(&event.kind));
                if let (
                    EventKind::VmDisconnected(_)
                    | EventKind::ClientDetached(..)
                    | EventKind::ClientNotLetIn(_),
                    Some(id),
                ) = (&event.kind, event.conn)
                {
                    assert!(self.reasons.insert(id), "{id} has ended twice");
                }
            }
        }
    }

    fn live(&mut self, id: ConnId) -> &mut Link {
        let link = self.links.iter_mut().find(|link| link.id == id);
        link.unwrap_or_else(|| panic!("{id} was named and does not live"))
    }
}

/// An event without its particulars, but for a move's step and the reason of an end.
fn name(kind: &EventKind) -> String {
    let said = format!("{kind:?}");
    let depth = match kind {
        EventKind::Vmotion(_) | EventKind::VmDisconnected(_) | EventKind::ClientDetached(..) => 2,
        _ => 1,
    };
    said.split(['(', ' ', ')', ',']).take(depth).collect::<Vec<_>>().join(" ")
}

/// Any port, any number of times.
fn is_any(address: &Address) -> bool {
    matches!(address, Address::Ip(at) if at.port() == 0)
}

/// Where operators connect, in some programs, and what those who come may.
const ADMIN: &str = "127.0.0.1:13371";
const RIGHTS: [&str; 2] = ["192.0.2.0/25=operator", "192.0.2.2=writer"];

/// Looks, a fifth of a second apart, by which an operator that reads has its answers, or is sent away: who
/// was kicked is given time to hear why.
const ANSWERS_WITHIN: usize = 50;

/// Who says for whom it connects, in some programs: one of those who come.
const PROXY: &str = "192.0.2.3";
