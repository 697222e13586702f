//! The engine: every VM, console and client of one concentrator, behind `&mut self`.
//!
//! It owns all protocol state and does no I/O. A runtime tells it what happened (`handle_*`), takes what
//! is to be done ([`poll_output`](Concentrator::poll_output)), pulls bytes when a socket can take them
//! ([`transmit`](Concentrator::transmit)) and reads no more than it is granted
//! ([`receive_window`](Concentrator::receive_window)). Implements vmware.md, vmotion.md and flow.md.
//!
//! This file only routes. Each state machine has its own:
//!
//! | file | owns |
//! |---|---|
//! | `vm` | a host's connection from its first byte to its identity |
//! | `secure`, `upgrade`, `spared` | TLS: carrying it; when it begins; who is not offered it again |
//! | `vmotion`, `migrate` | the table of a move; carrying it out |
//! | `client` | who is telnet, who is raw, what each may send |
//! | `closing` | how a connection ends, and all of them |
//! | `console` | readers and legs of one serial port, lag, pauses, expiry |
//! | `journal` | what a console printed, once for all readers |
//! | `uplink` | what clients typed and the VM has not taken |
//! | `transmit` | the order in which a connection's bytes leave |
//! | `admission` | who leaves when descriptors run short |
//! | `listen`, `ports` | listeners; which client port is whose |
//! | `control`, `timers`, `outbox`, `order`, `slab` | bytes owed, deadlines, orders to the runtime, silence, ids |

mod admission;
mod client;
mod closing;
mod config;
mod conn;
mod console;
mod control;
mod counters;
mod event;
mod id;
mod journal;
mod listen;
mod migrate;
mod order;
mod outbox;
mod output;
mod ports;
mod secure;
mod slab;
mod spared;
mod timers;
mod transmit;
mod upgrade;
mod uplink;
mod vm;
mod vmotion;

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use siphasher::sip::SipHasher13;

use crate::telnet::{Decoder, Negotiator};
use crate::time::Instant;
use crate::transport::Acceptors;

pub use config::{Config, InBandTls, PortRange, SlowClient, VmTls};
pub use counters::Counters;
pub use event::{CloseReason, Event, Label, Severity, VmotionStep, What};
pub use id::{ConnId, ConsoleId, ListenerId};
pub use output::{Address, Closed, Output, Peer, Shutdown};

use admission::Admission;
use conn::{Conn, Mode, Role, Transport};
use console::{Console, Identity};
use control::Control;
use journal::Pool;
use listen::Listener;
use order::Order;
use outbox::{Announced, Outbox};
use ports::Ports;
use slab::Slab;
use spared::Spared;
use timers::{Timer, Timers};
use uplink::Buffers;
use vmotion::{Move, MoveId, SECRET};

/// The part of the journals' memory that is for connections without a console.
const EARLY_PART: usize = 8;

/// The concentrator. `Send`; holds no descriptor, no clock and no callback.
#[derive(Debug)]
pub struct Concentrator {
    config: Arc<Config>,
    conns: Slab<ConnId, Conn>,
    consoles: Slab<ConsoleId, Console>,
    listeners: Slab<ListenerId, Listener>,
    moves: Slab<MoveId, Move>,
    by_identity: HashMap<Identity, ConsoleId, Keyed>,
    by_secret: HashMap<[u8; SECRET], MoveId, Keyed>,
    by_silence: Order,
    ports: Option<Ports>,
    /// The memory of consoles' journals.
    pool: Pool,
    /// The memory of what connections say before they have a console: strangers' words must not push out
    /// what VMs have said.
    early_pool: Pool,
    buffers: Buffers,
    acceptors: Acceptors,
    /// Hosts whose upgrade to TLS failed.
    spared: Spared,
    /// Where TLS puts what it has opened: room for one read and what a client was held back before it, and
    /// nothing without TLS.
    opened: Vec<u8>,
    /// Where guest bytes are put together whose slices would be crumbs. Up to 64 KiB.
    scratch: Vec<u8>,
    outbox: Outbox,
    timers: Timers,
    admission: Admission,
    rng: ChaCha12Rng,
    /// Counts that belong to no console, or to one that was forgotten.
    retired: Counters,
    /// The latest moment the runtime has told.
    now: Instant,
    shutting_down: bool,
}

/// Tables are hashed under a key from the engine's seed: strangers cannot aim at one bucket, and a run
/// can be repeated.
#[derive(Clone, Copy, Debug)]
struct Keyed(u64, u64);

impl BuildHasher for Keyed {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.0, self.1)
    }
}

/// A console as an operator sees it.
#[non_exhaustive]
#[derive(Clone, Copy, Debug)]
pub struct ConsoleView<'a> {
    /// Name, UUID, port.
    pub label: &'a Label,
    /// How many connections of its VM feed it.
    pub vms: usize,
    /// How many clients are attached.
    pub clients: usize,
    /// Its VM is on the way to another host.
    pub moving: bool,
    /// What has been counted.
    pub counters: Counters,
}

/// From where a local consumer reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Attach {
    /// What is printed from now on.
    Now,
    /// The last so many bytes first.
    Scrollback(usize),
}

/// An operator asked for something that cannot be.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CommandError {
    /// The console has expired or never was.
    #[error("no such console")]
    NoConsole,
    /// The connection has ended.
    #[error("no such connection")]
    NoConnection,
    /// Nothing new begins.
    #[error("the server is shutting down")]
    ShuttingDown,
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
            consoles: Slab::new(),
            listeners: Slab::new(),
            moves: Slab::new(),
            by_identity: HashMap::with_hasher(keys),
            by_secret: HashMap::with_hasher(keys),
            by_silence: Order::new(),
            ports: config.client_ports.map(Ports::new),
            pool: Pool::new(config.journal_memory - config.journal_memory / EARLY_PART),
            early_pool: Pool::new(config.journal_memory / EARLY_PART),
            buffers: Buffers::default(),
            acceptors: Acceptors::default(),
            spared: Spared::new(keys),
            opened: Vec::new(),
            scratch: Vec::new(),
            outbox: Outbox::default(),
            timers: Timers::default(),
            admission: Admission::new(config.max_descriptors, config.client_ports.is_some()),
            rng,
            retired: Counters::default(),
            now,
            shutting_down: false,
            config,
        };
        for &address in &engine.config.vm_listen {
            let address = Address::Ip(address);
            let id = engine.listeners.insert(Listener::vms(address.clone()));
            engine.outbox.push(Output::Listen(id, address));
        }
        engine
    }

    /// Bytes were read from a connection, no more than its window. One pass over them.
    pub fn handle_received(&mut self, id: ConnId, data: &mut [u8], now: Instant) {
        self.now = now;
        let Some(conn) = self.conns.get(id) else { return };
        if conn.closing.is_some() || data.is_empty() {
            return;
        }
        let was_nobody = conn.is_nobody();
        match conn.transport {
            Transport::Plain => self.receive_plain(id, data, now),
            Transport::Held(_) => self.receive_held(id, data, now),
            Transport::Tls(_) => self.receive_sealed(id, data, now),
        }
        if was_nobody && let Some(conn) = self.conns.get(id) {
            self.admission.heard(id, conn.heard(), now);
        }
    }

    /// Bytes of the peer's own, whatever they came through.
    fn receive_plain(&mut self, id: ConnId, data: &[u8], now: Instant) {
        match self.conns.get(id).map(|conn| &conn.role) {
            Some(Role::Vm(_)) => self.receive_vm(id, data, now),
            Some(Role::Client(_)) => self.receive_client(id, data, now),
            Some(Role::Arriving(_)) | None => {}
        }
    }

    /// A connection has ended, or its peer's half of it.
    pub fn handle_closed(&mut self, id: ConnId, how: Closed, now: Instant) {
        self.now = now;
        let Some(conn) = self.conns.get(id) else { return };
        match (how, &conn.role) {
            // The farewell may still be taken.
            (Closed::Input, _) if conn.closing.is_some() => {}
            (Closed::Input, Role::Client(_)) => self.end_of_input(id, now),
            (Closed::Input, _) => self.close(id, CloseReason::PeerClosed, now),
            (Closed::Failed(why), _) => self.drop_conn(id, CloseReason::Failed(why), now),
        }
    }

    /// Time has passed. Fires what is due; [`poll_timeout`](Self::poll_timeout) is later than `now`
    /// afterwards.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        while let Some(timer) = self.timers.pop_due(now) {
            match timer {
                Timer::Ask(id) => self.ask(id),
                Timer::Secure(id) => self.secure_timer(id, now),
                Timer::Identify(id) => self.give_up_identifying(id, now),
                Timer::Decide(id) => self.decide(id),
                Timer::Linger(id) => self.end_of_linger(id, now),
                Timer::Goahead(id) => self.goahead_timer(id, now),
                Timer::Move(id) => self.move_timer(id, now),
                Timer::Quiet(id) => self.quiet_timer(id, now),
                Timer::Expire(id) => self.expire(id),
                Timer::Wait(id) => self.end_wait(id, now),
                Timer::Ports => self.retry_ports(now),
            }
        }
    }

    /// Takes the next thing to do; events come after everything else. Any number of inputs may come before
    /// a drain.
    pub fn poll_output(&mut self) -> Option<Output> {
        loop {
            let output = self.outbox.pop()?;
            match &output {
                Output::Transmit(id) if self.conns.get(*id).is_none() => {}
                &Output::Receive(id) => {
                    if let Some(conn) = self.conns.get_mut(id) {
                        conn.announced.receive = false;
                        // What TLS has opened already comes before what is still in the socket.
                        if self.deliver_held(id) {
                            return Some(output);
                        }
                    }
                }
                Output::Event(event) => {
                    let id = event.conn;
                    if let Some(suppressed) =
                        id.and_then(|id| self.conns.get_mut(id)).and_then(|conn| conn.announced.event_taken())
                        && let Some(id) = id
                    {
                        self.tell(id, What::Suppressed(suppressed));
                    }
                    return Some(output);
                }
                _ => return Some(output),
            }
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is next due. Constant cost.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// A consumer inside this process reads a console: a connection without a socket, that gets guest
    /// bytes and may send them.
    ///
    /// # Errors
    ///
    /// The console is gone, or the server is going.
    pub fn open_local(
        &mut self,
        console: ConsoleId,
        how: Attach,
        now: Instant,
    ) -> Result<ConnId, CommandError> {
        self.now = now;
        if self.shutting_down {
            return Err(CommandError::ShuttingDown);
        }
        let negotiator = Negotiator::new(&[]);
        self.consoles.get(console).ok_or(CommandError::NoConsole)?;
        let id = self.insert_conn(Address::Local, Transport::Plain, negotiator, Role::Arriving(console));
        self.attach_client(id, console, Mode::Local, now);
        if let Attach::Scrollback(len) = how
            && let Some(console) = self.consoles.get(console)
            && let Some(client) = self.conns.get_mut(id).and_then(|conn| conn.client_mut())
        {
            client.at = console.journal.scrollback_start(client.at, len as u64);
            self.wake(id);
        }
        Ok(id)
    }

    /// Closes a connection in order.
    ///
    /// # Errors
    ///
    /// The connection has ended.
    pub fn kick(&mut self, id: ConnId, now: Instant) -> Result<(), CommandError> {
        self.now = now;
        self.conns.get(id).ok_or(CommandError::NoConnection)?;
        self.close(id, CloseReason::Kicked, now);
        Ok(())
    }

    /// Whether no connection is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.conns.len() == 0
    }

    /// All counts together.
    #[must_use]
    pub fn totals(&self) -> Counters {
        let mut totals = self.retired;
        for (_, console) in self.consoles.iter() {
            totals += console.counters();
        }
        totals
    }

    /// Every console, in no order.
    pub fn consoles(&self) -> impl Iterator<Item = ConsoleView<'_>> {
        self.consoles.iter().map(|(_, console)| ConsoleView {
            label: &console.label,
            vms: console.legs.iter().filter(|leg| leg.conn.is_some()).count(),
            clients: console.clients.len(),
            moving: console.legs.iter().any(|leg| leg.moving.is_some()),
            counters: console.counters(),
        })
    }

    fn insert_conn(
        &mut self,
        peer: Address,
        transport: Transport,
        negotiator: Negotiator,
        role: Role,
    ) -> ConnId {
        self.conns.insert(Conn {
            peer,
            transport,
            announced: Announced::default(),
            control: Control::default(),
            decoder: Decoder::new(),
            negotiator,
            closing: None,
            malformed_told: false,
            role,
        })
    }

    /// Puts bytes that a connection is owed beside its data, and says so.
    fn say(&mut self, id: ConnId, put: impl FnOnce(&mut Vec<u8>)) {
        if let Some(conn) = self.conns.get_mut(id) {
            put(conn.control.buffer());
        }
        self.wake(id);
    }

    /// As [`say`](Self::say), in answer to what a peer may send without end: bounded. Clients that do not
    /// read are not read either; VMs always are, so what they do not take is dropped.
    fn reply(&mut self, id: ConnId, put: impl FnOnce(&mut Vec<u8>)) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if conn.control.is_over_limit() {
            self.count_for(id).replies_dropped += 1;
        } else {
            self.say(id, put);
        }
    }

    /// Tells the runtime that a connection has bytes, if it has control bytes or a reader's.
    fn wake(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id)
            && (!conn.control.is_empty()
                || conn.client().is_some()
                || conn.transport.pending().is_some_and(|bytes| !bytes.is_empty()))
        {
            self.outbox.transmit(id, &mut conn.announced);
        }
    }

    /// The counters that an event of this connection belongs to.
    fn count_for(&mut self, id: ConnId) -> &mut Counters {
        match self.conns.get(id).and_then(Conn::console) {
            Some(console) => self.count_in(console),
            None => &mut self.retired,
        }
    }

    /// The counters of a console.
    fn count_in(&mut self, console: ConsoleId) -> &mut Counters {
        match self.consoles.get_mut(console) {
            Some(console) => console.count(),
            None => &mut self.retired,
        }
    }

    /// Tells an event of a connection.
    fn tell(&mut self, id: ConnId, what: What) {
        self.tell_both(Some(id), None, what);
    }

    /// Tells an event of a console.
    fn tell_console(&mut self, console: ConsoleId, what: What) {
        self.tell_both(None, Some(console), what);
    }

    fn tell_plain(&mut self, what: What) {
        self.tell_both(None, None, what);
    }

    fn tell_both(&mut self, id: Option<ConnId>, console: Option<ConsoleId>, what: What) {
        let conn = id.and_then(|id| self.conns.get_mut(id));
        let console = console.or_else(|| conn.as_ref().and_then(|conn| conn.console()));
        let console = console.and_then(|id| self.consoles.get(id)).map(|console| Arc::clone(&console.label));
        let event = |peer| Event { what, conn: id, peer, console };
        match conn {
            Some(conn) => self.outbox.event(event(Some(conn.peer.clone())), &mut conn.announced),
            None => self.outbox.plain_event(event(None)),
        }
    }
}
