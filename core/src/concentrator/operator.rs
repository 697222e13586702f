//! What an operator may ask: who is here, who are you, and a few things to be done. The caller can be wrong
//! here, and is told so.
//!
//! Also what mirrors of the engine's state live on (port maps, stores, fleet views): after an
//! [`Output::Changed`](super::Output::Changed) they read [`console`](Concentrator::console), and after a
//! restart they put back what they have kept with [`restore`](Concentrator::restore).

use std::net::IpAddr;
use std::time::Duration;

use crate::telnet::OptionPolicy;
use crate::time::Instant;
use crate::vmware::Uuid;

use super::Concentrator;
use super::address::Address;
use super::conn::{Conn, Local, Role, Transport};
use super::console::{Console, ReaderKey};
use super::counters::Counters;
use super::event::CloseReason;
use super::fanout::{Form, Kind, Spec};
use super::id::{ConnId, ConsoleId};
use super::label::{Identity, Label};
use super::speech::Mode;

/// A console as an operator sees it.
#[non_exhaustive]
#[derive(Clone, Copy, Debug)]
pub struct ConsoleView<'a> {
    /// Name, UUID, port.
    pub label: &'a Label,
    /// How many connections of its VM feed it.
    pub vms: usize,
    /// What is typed goes somewhere, or waits: for the target of a move, or for one of its VM's connections
    /// to inherit the input of one that has ended.
    pub takes_input: bool,
    /// VMs of other names have its UUID and URI, too.
    pub shared: bool,
    /// Its client port, also while that is being opened; 0 where the system chooses it.
    pub claims: Option<u16>,
    /// A store has reported its port to be kept.
    pub kept: bool,
    /// How many clients are attached; witnesses do not count.
    pub clients: usize,
    /// Its VM is on the way to another host.
    pub moving: bool,
    /// When its VM last printed something; when it was opened, if never.
    pub last_output: Instant,
    /// For how long its VM has been connected in total, over all of its connections and restarts.
    pub stayed: Duration,
    /// The address its VM has been connected from longest.
    pub home: Option<IpAddr>,
    /// What has been counted.
    pub counters: Counters,
}

/// A client as an operator sees it.
#[non_exhaustive]
#[derive(Clone, Copy, Debug)]
pub struct ClientView<'a> {
    /// Its connection, as for [`kick`](Concentrator::kick).
    pub id: ConnId,
    /// Where it is.
    pub peer: &'a Address,
    /// What it was found to be.
    pub speaks: Speaks,
    /// It will send no more.
    pub has_ended: bool,
}

/// A connection of a VM, as an operator sees it.
#[non_exhaustive]
#[derive(Clone, Copy, Debug)]
pub struct LegView<'a> {
    /// Its connection, as for [`kick`](Concentrator::kick) and [`give_input`](Concentrator::give_input).
    pub id: ConnId,
    /// Where it is.
    pub peer: &'a Address,
    /// It gets what is typed.
    pub holds_input: bool,
}

/// What a client was found to be.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Speaks {
    /// It has not shown.
    Undecided,
    /// It speaks telnet.
    Telnet,
    /// It takes the guest's bytes as they are.
    Raw,
    /// It is inside this process.
    Local,
    /// It came by the admin port with vSPC.py's protocol, and speaks telnet.
    V3,
    /// It came by the admin port with the operator protocol.
    Operator,
    /// It came by the admin port with VMware's protocol, and speaks telnet.
    Kit,
}

/// What a reader inside the process is to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LocalOptions {
    /// Of which kind.
    pub kind: LocalKind,
    /// How many guest bytes, about, it is shown of what was printed before it came; in bytes as they are
    /// kept.
    pub scrollback: usize,
}

/// Of which kind a reader inside the process is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LocalKind {
    /// Someone at the console: counts as a client and keeps it from expiring, may type, and a VM may be
    /// paused for it under `--slow-client wait`. Is disconnected where other clients would be.
    Person,
    /// A log, a recorder, a watch: nothing waits for it and nothing depends on it. Where it does not keep up
    /// it is told of the gap, whatever the policy for clients.
    Witness,
}

impl LocalOptions {
    /// Someone at the console, who sees what is printed from now on.
    #[must_use]
    pub fn person() -> Self {
        Self { kind: LocalKind::Person, scrollback: 0 }
    }

    /// A witness, who sees what is printed from now on.
    #[must_use]
    pub fn witness() -> Self {
        Self { kind: LocalKind::Witness, scrollback: 0 }
    }

    /// The same, with so many of the latest bytes first.
    #[must_use]
    pub fn scrollback(self, len: usize) -> Self {
        Self { scrollback: len, ..self }
    }
}

/// What was known of a console before a restart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reservation {
    /// Whose it is.
    pub identity: Identity,
    /// What its VM was called; empty if that was never known.
    pub name: String,
    /// Its client port.
    pub port: Option<u16>,
    /// For how long its VM had been connected in total.
    pub stayed: Duration,
    /// The address its VM had been connected from longest.
    pub home: Option<IpAddr>,
    /// For how long nobody had been at it: the expiry time begins that much earlier.
    pub idle_for: Duration,
    /// VMs of other names have its UUID and URI, too. A clone's console says that by itself.
    pub shared: bool,
}

impl Reservation {
    /// A console of which only this is known.
    #[must_use]
    pub fn new(identity: Identity) -> Self {
        Self {
            identity,
            name: String::new(),
            port: None,
            stayed: Duration::ZERO,
            home: None,
            idle_for: Duration::ZERO,
            shared: false,
        }
    }
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
    /// The connection does not feed the console.
    #[error("the connection does not feed this console")]
    NotFeeding,
    /// A move of the VM keeps the input to its end, or the connection is about to move away.
    #[error("a move is under way")]
    Moving,
    /// A console of this identity is there already.
    #[error("there is a console of this identity already")]
    AlreadyThere,
    /// The port belongs to another console, or is outside the range of client ports.
    #[error("port {0} is not free, or not one of the client ports")]
    PortNotFree(u16),
}

impl Concentrator {
    /// Opens a reader inside the process: a connection without a socket, that is shown guest bytes
    /// ([`read_local`](Self::read_local), told by [`Output::Local`](super::Output::Local)). A person may type
    /// ([`handle_received`](Self::handle_received)). It ends by [`kick`](Self::kick), by
    /// [`handle_closed`](Self::handle_closed), or with an [`Output::Close`](super::Output::Close).
    ///
    /// # Errors
    ///
    /// The console is gone, or the server is going.
    pub fn open_local(
        &mut self,
        console: ConsoleId,
        options: LocalOptions,
        now: Instant,
    ) -> Result<ConnId, CommandError> {
        self.fx.now = now;
        if self.shutting_down {
            return Err(CommandError::ShuttingDown);
        }
        self.consoles.get(console).ok_or(CommandError::NoConsole)?;
        let kind = match options.kind {
            LocalKind::Person => Kind::Person,
            LocalKind::Witness => Kind::Witness,
        };
        let conn = Conn::new(Address::Local, Transport::Plain, NO_TELNET, Role::Arriving(console));
        let id = self.insert(conn);
        let spec = Spec {
            key: ReaderKey { id, is_local: true },
            kind,
            form: Form::Guest,
            skips: Console::may_skip(kind, false, self.slow_client_at(console)),
            scrollback: options.scrollback as u64,
        };
        if let Some(seat) = self.attach_reader(console, spec)
            && let Some(conn) = self.conns.get_mut(id)
        {
            conn.role = Role::Local(Local { console, seat, epoch: u32::MAX, may_type: kind == Kind::Person });
        }
        self.fx.outbox.local(id);
        self.settle();
        Ok(id)
    }

    /// Closes a connection in order.
    ///
    /// # Errors
    ///
    /// The connection has ended.
    pub fn kick(&mut self, id: ConnId, now: Instant) -> Result<(), CommandError> {
        self.fx.now = now;
        let conn = self.conns.get_mut(id).ok_or(CommandError::NoConnection)?;
        conn.doom(id, CloseReason::Kicked, &mut self.fx);
        self.settle();
        Ok(())
    }

    /// Gives a console's input to one of the connections that feed it, whoever holds it now.
    ///
    /// # Errors
    ///
    /// The console or the connection is gone, the connection does not feed the console, or a move keeps the
    /// input or the connection.
    pub fn give_input(&mut self, console: ConsoleId, to: ConnId, now: Instant) -> Result<(), CommandError> {
        self.fx.now = now;
        self.conns.get(to).ok_or(CommandError::NoConnection)?;
        let legs = &self.consoles.get(console).ok_or(CommandError::NoConsole)?.legs;
        legs.standing(to).ok_or(CommandError::NotFeeding)?;
        if legs.is_held() || legs.is_mover(to) {
            return Err(CommandError::Moving);
        }
        self.order_input(console, to);
        self.settle();
        Ok(())
    }

    /// A store has made sure of it that this console has this client port also after a restart. Nothing where
    /// the console is gone.
    pub fn handle_kept(&mut self, id: ConsoleId, port: u16, now: Instant) {
        self.fx.now = now;
        let Some(console) = self.consoles.get_mut(id) else { return };
        let was_kept = console.is_kept();
        console.note_kept(Some(port));
        if console.is_kept() != was_kept {
            self.fx.outbox.changed(id);
        }
        self.settle();
    }

    /// A store has written what had changed, so long after the first of it had.
    pub fn note_store_lag(&mut self, lag: Duration) {
        self.fx.histograms.store_lag.record(lag.as_micros() as u64);
    }

    /// These blocks of [`BLOCK`](super::BLOCK) ports, by the number of the first port over that, may be given
    /// out from now on, as far as they are in the range; `may_grow`: more may come, for which consoles
    /// without a port wait. For where [`ports_by_grant`](super::Config::ports_by_grant) is set.
    pub fn grant_ports(&mut self, blocks: &[u8], may_grow: bool, now: Instant) {
        self.fx.now = now;
        if let Some(ports) = &mut self.ports {
            ports.grant(blocks, may_grow);
            self.retry_ports(0);
        }
        self.settle();
    }

    /// This block is somebody else's now: none of its ports is given out again. Consoles that have one keep
    /// it.
    pub fn revoke_ports(&mut self, block: u8, now: Instant) {
        self.fx.now = now;
        if let Some(ports) = &mut self.ports {
            ports.revoke(block);
        }
        self.settle();
    }

    /// Whether no connection is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.conns.len() == 0
    }

    /// All counts together. Costs a look at each console.
    #[must_use]
    pub fn totals(&self) -> Counters {
        let mut totals = self.fx.counters;
        totals += self.fx.withheld;
        for console in self.consoles.iter() {
            totals += console.counters();
        }
        totals
    }

    /// Every console, in no order.
    pub fn consoles(&self) -> impl Iterator<Item = ConsoleView<'_>> {
        self.consoles.iter().map(|console| self.view(console))
    }

    /// One console; `None` once it is gone. Costs a look at each of its connections.
    #[must_use]
    pub fn console(&self, id: ConsoleId) -> Option<ConsoleView<'_>> {
        self.consoles.get(id).map(|console| self.view(console))
    }

    fn view<'a>(&self, console: &'a Console) -> ConsoleView<'a> {
        ConsoleView {
            label: &console.label,
            vms: console.legs.live(),
            takes_input: !console.legs.is_empty(),
            shared: self.consoles.is_shared(&console.label),
            claims: console.label.port.or_else(|| self.port_asked_for(console.listener?)),
            kept: console.is_kept(),
            clients: console.fanout().persons(),
            moving: console.legs.is_moving(),
            last_output: console.last_output,
            stayed: console.tenure.stayed(self.fx.now),
            home: console.tenure.home(self.fx.now),
            counters: console.counters(),
        }
    }

    /// The consoles that people may mean by `text`: those of this name, or of this UUID in whatever form it
    /// is written, the `_<uri>` suffix with it or not. Of VMs that share a UUID the first is meant by it.
    /// Costs a look at each console.
    pub fn find(&self, text: &str) -> impl Iterator<Item = ConsoleId> {
        let uuid = Uuid::parse(text.as_bytes()).ok();
        let named = self.consoles.iter().filter(move |console| {
            let label = &console.label;
            label.name == text
                || (uuid == Some(label.uuid) && !label.of_guest && self.consoles.is_first(label))
                || (!label.suffix.is_empty()
                    && text
                        .strip_suffix(&*label.suffix)
                        .is_some_and(|front| Uuid::parse(front.as_bytes()).ok() == Some(label.uuid))
                    && self.consoles.is_first(label))
        });
        named.map(|console| console.label.id)
    }

    /// The connections that feed a console, oldest first.
    pub fn legs(&self, id: ConsoleId) -> impl Iterator<Item = LegView<'_>> {
        let legs = self.consoles.get(id).map(|console| &console.legs);
        legs.into_iter().flat_map(|legs| {
            legs.conns().filter_map(|id| {
                let peer = &self.conns.get(id)?.peer;
                Some(LegView { id, peer, holds_input: legs.holder() == Some(id) })
            })
        })
    }

    /// The clients of a console, those inside the process among them.
    pub fn clients(&self, id: ConsoleId) -> impl Iterator<Item = ClientView<'_>> {
        let clients = self.consoles.get(id).into_iter().flat_map(Console::clients);
        clients.filter_map(|id| {
            let conn = self.conns.get(id)?;
            let (speaks, has_ended) = match &conn.role {
                Role::Client(client) if client.visit.who.is_some() => (Speaks::V3, client.ended.is_some()),
                Role::Client(client) => (client.mode.into(), client.ended.is_some()),
                Role::Local(_) => (Speaks::Local, false),
                Role::Attach(attach) => match self.conns.get(attach.operator).and_then(Conn::kit) {
                    Some(_) => (Speaks::Kit, false),
                    None => (Speaks::Operator, false),
                },
                Role::Vm(_)
                | Role::Arriving(_)
                | Role::Announced(_)
                | Role::Dialled(_)
                | Role::Asking(_)
                | Role::Operator(_) => return None,
            };
            Some(ClientView { id, peer: &conn.peer, speaks, has_ended })
        })
    }
}

impl From<Mode> for Speaks {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Undecided => Self::Undecided,
            Mode::Telnet => Self::Telnet,
            Mode::Raw { .. } => Self::Raw,
        }
    }
}

/// A reader inside the process negotiates nothing.
const NO_TELNET: &[OptionPolicy] = &[];
