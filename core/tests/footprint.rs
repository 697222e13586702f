//! Law 8: what an idle VM costs, counted by the allocator. The engine's share: a runtime adds its own
//! entry and the kernel its socket.
//!
//! One process, one thread, no harness: nothing else may allocate while it counts. Prints a line per
//! measurement, so that a change of the numbers shows in the log.

use std::alloc::System;
use std::collections::BTreeMap;
use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use vspc_core::concentrator::{Address, Closed, Concentrator, Config, ConnId, ListenerId, Output, Peer};
use vspc_core::mux::link::{Link, LinkConfig, carry};
use vspc_core::mux::{Config as MuxConfig, Event, Role, Session, StreamId};
use vspc_core::telnet::{Command, Decoder, IAC, Item, escape_into, put_command};
use vspc_core::time::Instant;
use vspc_core::vmware::{Message, Uuid};

#[cfg(feature = "tls")]
#[allow(dead_code, reason = "every test binary plays on its own part of the stage")]
#[path = "world/secure.rs"]
mod secure;

#[cfg(feature = "tls")]
use secure::{Sealed, Version};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const VMS: usize = 10_000;

/// How many of them print a megabyte each.
const TALKERS: usize = 2_000;

/// What the runtime keeps per connection comes on top, well within the kilobyte of law 8.
const RUNTIMES_SHARE: usize = 100;
const IDLE: usize = 640;
/// A guest's session, which rests, and three consoles that its streams are.
const GUEST: usize = 3072;
/// The link under it, besides.
const GUEST_OVER_SL: usize = 3700;
/// One that has just come up, with its VM.
const GUEST_AT_ONCE: usize = 4500;
const GUESTS: usize = 1000;
/// Exchanges between a server and an agent, until both have said all.
const ROUNDS: usize = 24;
const WITH_PORT: usize = 1536 - RUNTIMES_SHARE;

/// Size of a full-grown segment of a journal: what is kept is kept in whole ones.
const SEGMENT: usize = 8 << 10;

/// Counts and journal of a console that has seen traffic are kept from then on.
const TALKED: usize = 332;

/// A handshake costs more than a connection.
#[cfg(feature = "tls")]
const TLS_VMS: usize = 500;
#[cfg(feature = "tls")]
const TLS_IDLE: usize = (8 << 10) - RUNTIMES_SHARE;

struct Fleet {
    engine: Concentrator,
    now: Instant,
    vms: Vec<ConnId>,
    ports: BTreeMap<u16, ListenerId>,
    hosts: ListenerId,
    /// What sockets took, where that is kept.
    taken: Option<BTreeMap<ConnId, Vec<u8>>>,
}

impl Fleet {
    fn new(config: Config) -> Self {
        let now = Instant::from_millis(1);
        let mut engine = Concentrator::new(Arc::new(config), [1; 32], now);
        let Some(Output::Listen(hosts, address)) = engine.poll_output() else { panic!("no listener") };
        engine.handle_listening(hosts, Ok(address), now);
        let mut fleet = Self { engine, now, vms: Vec::new(), ports: BTreeMap::new(), hosts, taken: None };
        fleet.drain();
        fleet
    }

    /// Does what a runtime does, with sockets that take everything.
    fn drain(&mut self) {
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Transmit(id) => self.take_all(id),
                Output::Listen(id, address) => {
                    if let Address::Ip(at) = &address {
                        self.ports.insert(at.port(), id);
                    }
                    self.engine.handle_listening(id, Ok(address), self.now);
                }
                _ => {}
            }
        }
    }

    fn take_all(&mut self, id: ConnId) {
        let mut into = self.taken.as_mut().map(|taken| taken.entry(id).or_default());
        loop {
            let sent = self.engine.transmit(id, self.now, |runs: &[IoSlice<'_>]| {
                if let Some(into) = &mut into {
                    runs.iter().for_each(|run| into.extend_from_slice(run));
                }
                runs.iter().map(|run| run.len()).sum()
            });
            if sent.is_idle() {
                break;
            }
        }
    }

    fn accept(&mut self, on: ListenerId) -> ConnId {
        let address = Address::Ip(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 40000));
        let id = self.engine.handle_accepted(on, Peer::new(address), self.now).expect("there is room");
        self.drain();
        id
    }

    fn say(&mut self, id: ConnId, bytes: &[u8]) {
        self.engine.handle_received(id, &mut bytes.to_vec(), self.now);
        self.drain();
    }

    /// A VM connects, a while after the last one, and says all that a host says.
    fn connect(&mut self, n: usize) {
        self.connect_with(n, "vSPC.py");
    }

    /// The same, with this URI.
    fn connect_with(&mut self, n: usize, uri: &str) {
        self.now = self.now + std::time::Duration::from_millis(1);
        let id = self.accept(self.hosts);
        self.say(id, &host_says(n, uri));
        self.vms.push(id);
    }

    /// As [`connect`](Self::connect), over TLS, and prints `printed` bytes. Its own end is forgotten after
    /// that.
    #[cfg(feature = "tls")]
    fn connect_over_tls(&mut self, n: usize, printed: usize) {
        let id = self.accept(self.hosts);
        let mut tls = Sealed::new(if n.is_multiple_of(2) { Version::V12 } else { Version::V13 });
        while !tls.is_up() {
            let said = tls.seal(&[]);
            self.engine.handle_received(id, &mut said.clone(), self.now);
            let brought = self.take_bytes(id);
            tls.open(&brought);
        }
        let said = tls.seal(&host_says(n, "vSPC.py"));
        self.say(id, &said);
        for _ in 0..printed >> 16 {
            let said = tls.seal(&[b'x'; 1 << 16]);
            self.say(id, &said);
        }
        self.vms.push(id);
    }

    #[cfg(feature = "tls")]
    fn take_bytes(&mut self, id: ConnId) -> Vec<u8> {
        let mut bytes = Vec::new();
        let _ = self.engine.transmit(id, self.now, |runs| {
            bytes.extend(runs.iter().flat_map(|run| run.iter().copied()));
            bytes.len()
        });
        bytes
    }

    /// Everything has been said: what is only on its way to being forgotten goes.
    fn rest(&mut self) {
        self.now = self.now + std::time::Duration::from_secs(60);
        self.engine.handle_timeout(self.now);
        self.drain();
    }
}

/// All that a host says, for VM number `n`.
fn host_says(n: usize, uri: &str) -> Vec<u8> {
    let mut said = Vec::new();
    for opt in [0, 3, 232] {
        said.extend([IAC, 251, opt]);
    }
    for opt in [0, 3, 1] {
        said.extend([IAC, 253, opt]);
    }
    Message::KnownSuboptions1(&[0, 1, 2, 3, 40, 41]).put(&mut said);
    Message::DoProxy { direction: b'S', uri: uri.as_bytes() }.put(&mut said);
    let (mut uuid, mut text) = ([0xee; 16], Vec::new());
    uuid[..8].copy_from_slice(&(n as u64).to_le_bytes());
    Uuid::from_bytes(uuid).put_vmware(&mut text);
    Message::VmVcUuid(&text).put(&mut said);
    Message::VmName(format!("a-vm-with-a-name-{n:05}").as_bytes()).put(&mut said);
    said
}

fn heap() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

/// Bytes per VM that `fleet` holds beyond `before`, printed and held against `budget`.
fn check(what: &str, before: usize, vms: usize, budget: usize) {
    let each = (heap() - before) / vms;
    println!("footprint: {what}: {each} bytes per vm of {budget}");
    assert!(each <= budget, "{what}: {each} bytes per vm, {budget} were to be enough");
}

fn main() {
    idle_vms_without_ports();
    idle_vms_with_ports_and_clients();
    vms_that_printed_a_megabyte(0);
    vms_that_printed_a_megabyte(16 << 10);
    #[cfg(feature = "tls")]
    idle_tls_vms();
    memory_comes_back();
    slow_readers_of_answers_make_nothing_grow();
    guests_with_idle_streams("a guest with four idle streams, beyond a VM", false, GUEST);
    guests_with_idle_streams("the same on a line that may lose bytes", true, GUEST_OVER_SL);
    guests_that_come_up_at_one_moment();
}

/// The end of a line that an agent has.
struct AgentEnd {
    session: Session,
    /// Where the line may lose bytes.
    link: Option<Link>,
    decoder: Decoder,
    announced: bool,
}

impl AgentEnd {
    fn new(over_sl: bool, now: Instant) -> Self {
        let mut link = over_sl.then(|| Link::new(LinkConfig::new(5)));
        if let Some(link) = &mut link {
            link.open(now);
        }
        let session = Session::new(MuxConfig::new(Role::Guest), now).expect("sizes that can work");
        Self { session, link, decoder: Decoder::new(), announced: false }
    }

    fn hear(&mut self, mut wire: &[u8], now: Instant) {
        while let Some(item) = self.decoder.decode(&mut wire) {
            match (item, &mut self.link) {
                (Item::Data(data), Some(link)) => link.handle_received(data, now),
                (Item::Data(data), None) => self.session.handle_received(data, now),
                _ => {}
            }
        }
        if let Some(link) = &mut self.link {
            link.handle_timeout(now);
            carry(&mut self.session, link, now);
        }
        while let Some(event) = self.session.poll_event() {
            if let Event::Readable(id) = event {
                let mut line = [0; 4096];
                let _ = self.session.read(id, &mut line);
                if !std::mem::replace(&mut self.announced, true) {
                    self.answer(id);
                }
            }
        }
    }

    /// Hello, and what there is: two logs, a shell and facts.
    fn answer(&mut self, hello: StreamId) {
        let _ = self.session.write(hello, b"{\"ok\":{\"v\":1,\"agent\":\"a\",\"may\":[\"exec\"]}}\n");
        let _ = self.session.finish(hello);
        for is in ["shell\",\"key\":\"0123456789abcdef", "log", "log", "facts"] {
            let own = self.session.open().expect("there is room");
            let name = format!("{{\"is\":\"{is}\",\"name\":\"s{}\"}}\n", own.number());
            let _ = self.session.write(own, name.as_bytes());
        }
    }

    fn say(&mut self, now: Instant) -> Vec<u8> {
        let mut said = Vec::new();
        let Some(link) = &mut self.link else {
            let put = |runs: &[IoSlice<'_>]| {
                runs.iter().for_each(|run| escape_into(run, &mut said));
                runs.iter().map(|run| run.len()).sum()
            };
            self.session.transmit_with(now, put);
            return said;
        };
        loop {
            carry(&mut self.session, link, now);
            let put = |frame: &[u8]| {
                escape_into(frame, &mut said);
                frame.len()
            };
            if link.transmit_with(now, put) == 0 {
                return said;
            }
        }
    }
}

/// VMs whose agents have announced four streams each, which are idle: three consoles and facts.
fn guests_with_idle_streams(what: &str, over_sl: bool, budget: usize) {
    let empty = heap();
    let mut fleet = Fleet::new(Config { client_ports: None, ..Config::default() });
    (0..GUESTS).for_each(|n| fleet.connect(n));
    fleet.rest();
    let plain = heap() - empty;
    drop(fleet);
    let before = heap() + plain;
    let mut fleet = Fleet::new(Config { client_ports: None, ..Config::default() });
    fleet.taken = Some(BTreeMap::new());
    let uri = if over_sl { "vSPC.py?mux=s2%2Bsl" } else { "vSPC.py?mux=s2" };
    (0..GUESTS).for_each(|n| fleet.connect_with(n, uri));
    for n in 0..GUESTS {
        let vm = fleet.vms[n];
        let mut agent = AgentEnd::new(over_sl, fleet.now);
        for _ in 0..ROUNDS {
            fleet.now = fleet.now + std::time::Duration::from_millis(20);
            fleet.engine.handle_timeout(fleet.now);
            fleet.drain();
            let taken = fleet.taken.as_mut().expect("it is kept").entry(vm).or_default();
            agent.hear(&std::mem::take(taken), fleet.now);
            let said = agent.say(fleet.now);
            fleet.say(vm, &said);
        }
    }
    fleet.taken = None;
    fleet.rest();
    assert_eq!(fleet.engine.consoles().count(), 4 * GUESTS, "three streams of each are consoles");
    check(what, before, GUESTS, budget);
}

/// Their sessions do not all stay awake until each has been silent for a while: an
/// allocator hardly gives back what so many take at once.
fn guests_that_come_up_at_one_moment() {
    let before = heap();
    let mut fleet = Fleet::new(Config { client_ports: None, ..Config::default() });
    fleet.taken = Some(BTreeMap::new());
    (0..GUESTS).for_each(|n| fleet.connect_with(n, "vSPC.py?mux=s2"));
    let mut agents: Vec<_> = (0..GUESTS).map(|_| AgentEnd::new(false, fleet.now)).collect();
    for _ in 0..ROUNDS {
        for (agent, vm) in agents.iter_mut().zip(fleet.vms.clone()) {
            fleet.drain();
            let taken = fleet.taken.as_mut().expect("it is kept").entry(vm).or_default();
            agent.hear(&std::mem::take(taken), fleet.now);
            let said = agent.say(fleet.now);
            fleet.say(vm, &said);
        }
    }
    drop(agents);
    fleet.taken = None;
    assert_eq!(fleet.engine.consoles().count(), 4 * GUESTS, "three streams of each are consoles");
    check("a guest with its VM, of those that have just come up", before, GUESTS, GUEST_AT_ONCE);
}

fn idle_vms_without_ports() {
    let before = heap();
    let mut fleet = Fleet::new(Config { client_ports: None, ..Config::default() });
    (0..VMS).for_each(|n| fleet.connect(n));
    fleet.rest();
    check("idle", before, VMS, IDLE);
}

fn idle_vms_with_ports_and_clients() {
    let before = heap();
    let mut fleet = Fleet::new(Config::default());
    (0..VMS).for_each(|n| fleet.connect(n));
    fleet.rest();
    // The table of listeners here is the test's own, and small.
    check("idle, client port open", before, VMS, WITH_PORT);
    let with_ports = heap();
    for port in fleet.ports.clone().into_values() {
        let client = fleet.accept(port);
        fleet.say(client, &[IAC, 253, 0, IAC, 253, 3, IAC, 253, 1, IAC, 251, 0, IAC, 251, 3]);
    }
    fleet.rest();
    check("an idle client of its own", with_ports, VMS, IDLE);
}

fn vms_that_printed_a_megabyte(scrollback: usize) {
    let before = heap();
    let config = Config { client_ports: None, scrollback, journal_memory: usize::MAX, ..Config::default() };
    let mut fleet = Fleet::new(config);
    (0..TALKERS).for_each(|n| fleet.connect(n));
    let line = b"0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopq\n".repeat(1024);
    let mut scratch = line.clone();
    for id in fleet.vms.clone() {
        for _ in 0..16 {
            scratch.copy_from_slice(&line);
            fleet.engine.handle_received(id, &mut scratch, fleet.now);
            fleet.drain();
        }
    }
    fleet.rest();
    let kept = if scrollback == 0 { 0 } else { scrollback + SEGMENT };
    let what = format!("printed 1 MiB, scrollback {scrollback}");
    check(&what, before, TALKERS, IDLE + TALKED + kept);
}

/// Over TLS; every tenth has printed a megabyte through its records.
#[cfg(feature = "tls")]
fn idle_tls_vms() {
    use vspc_core::concentrator::VmTls;

    let config = Config { client_ports: None, vm_tls: VmTls::On, scrollback: 0, ..Config::default() };
    let mut fleet = Fleet::new(config);
    fleet.engine.set_acceptors(secure::acceptors(false));
    // What is made once for all, and what the engine keeps for the next, is not of these VMs.
    fleet.connect_over_tls(0, 1 << 20);
    let before = heap();
    for n in 1..=TLS_VMS {
        fleet.connect_over_tls(n, if n % 10 == 0 { 1 << 20 } else { 0 });
    }
    fleet.rest();
    check("idle, over tls", before, TLS_VMS, TLS_IDLE);
}

fn memory_comes_back() {
    let before = heap();
    let config = Config { vm_expire: std::time::Duration::from_secs(1), ..Config::default() };
    let mut fleet = Fleet::new(config);
    let empty = heap();
    (0..VMS).for_each(|n| fleet.connect(n));
    for id in fleet.vms.clone() {
        fleet.say(id, &[b'x'; 3000]);
        fleet.engine.handle_closed(id, Closed::Failed(std::io::ErrorKind::ConnectionReset), fleet.now);
        fleet.drain();
    }
    fleet.rest();
    fleet.rest();
    // Tables keep their slots, a few dozen bytes each, and the pool its spare segments.
    let left = heap().saturating_sub(empty).saturating_sub(1 << 20) / VMS;
    println!("footprint: gone and expired: {left} bytes per vm that was");
    assert!(left <= 256, "{left} bytes are left of each vm that was");
    drop(fleet);
    assert!(heap() <= before + 4096, "{} bytes outlive the engine", heap() - before);
}

fn slow_readers_of_answers_make_nothing_grow() {
    let mut fleet = Fleet::new(Config::default());
    fleet.connect(0);
    let id = fleet.vms[0];
    let mut asks = Vec::new();
    put_command(Command::AYT, &mut asks);
    let before = heap();
    for _ in 0..200_000 {
        // Always one more than it takes.
        fleet.engine.handle_received(id, &mut asks.clone(), fleet.now);
        while let Some(output) = fleet.engine.poll_output() {
            drop(output);
        }
        let all_but_one = |runs: &[IoSlice<'_>]| runs.iter().map(|run| run.len()).sum::<usize>() - 1;
        let _ = fleet.engine.transmit(id, fleet.now, all_but_one);
    }
    let grown = heap().saturating_sub(before);
    println!("footprint: 200000 answers, read slowly: {grown} bytes");
    assert!(grown < 8 << 10, "{grown} bytes");
}
