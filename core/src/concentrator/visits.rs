//! Those who come to a console by the admin port: how they are seated, what a lock allows them, and what they
//! and others are told of it.

use std::net::IpAddr;

use crate::admin::lock::{Granted, LockMode, LockRefused};
use crate::admin::operator::{self, Held, Notice};
use crate::admin::v3::SEED_TIMEOUT;
use crate::telnet::OptionPolicy;

use super::Concentrator;
use super::conn::{Client, Conn, Role, Transport};
use super::console::{Console, READ_MAX, ReaderKey};
use super::consoles::Consoles;
use super::event::{CloseReason, EventKind};
use super::fanout::{Form, Kind, Spec};
use super::id::{ConnId, ConsoleId};
use super::speech::Mode;
use super::timers::Timer;
use super::visitor::{Attach, Visit};

/// What an attach was last told of its console: it is told of what differs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Told {
    state: State,
    host: Option<IpAddr>,
    lock: Option<(ConnId, LockMode)>,
    clients: usize,
}

/// How a console's VM is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Connected,
    Moving,
    Waiting,
}

impl State {
    /// Its name on the wire (operator.md §4).
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Moving => "moving",
            Self::Waiting => "waiting",
        }
    }
}

impl Concentrator {
    /// A client of vSPC.py's was granted its lock: it is seated, and hears of nothing until it has read what
    /// it was told.
    pub(super) fn admit_v3(&mut self, id: ConnId, at: ConsoleId, granted: Granted) {
        let who = self.who(id);
        let spec = Spec {
            key: ReaderKey { id, is_local: false },
            kind: Kind::Person,
            form: Form::Wire,
            skips: Console::may_skip(Kind::Person, false, self.slow_client_at(at)),
            scrollback: 0,
        };
        let Some(seat) = self.attach_reader(at, spec) else { return };
        self.admission.stop_judging(id);
        let Some(conn) = self.conns.get_mut(id) else { return };
        let Role::Asking(asking) = &mut conn.role else { return };
        let caller = Some(Box::new(std::mem::take(&mut asking.standing.caller)));
        conn.role = Role::Client(Box::new(Client {
            forward: None,
            console: at,
            seat,
            mode: Mode::Telnet,
            speech: None,
            epoch: u32::MAX,
            after_cr: false,
            ungreeted: false,
            ended: None,
            serial: None,
            visit: Visit { caller, ..Visit::of(&who, self.fx.now) },
            is_seeded: true,
        }));
        self.fx.timers.set(Timer::Admin(id), self.fx.now + SEED_TIMEOUT);
        self.emit(id, EventKind::Attached { who, lock: granted.applied });
        self.after_lock(at, None);
    }

    /// Attaches a stream of an operator's connection, on which nothing is attached yet, or a connection that
    /// speaks VMware's protocol.
    ///
    /// # Errors
    ///
    /// Others stand in its way.
    pub(super) fn attach_stream(
        &mut self,
        operator: ConnId,
        stream: u64,
        at: ConsoleId,
        mode: LockMode,
        scrollback: u64,
        form: Form,
    ) -> Result<(ConnId, Granted), LockRefused> {
        let who = self.who(operator);
        let Some(peer) = self.conns.get(operator).map(|conn| conn.peer.clone()) else {
            return Err(LockRefused::Exclusive);
        };
        let id = self.insert(Conn::new(peer, Transport::Plain, NO_TELNET, Role::Arriving(at)));
        let granted = match self.consoles.get_mut(at) {
            Some(console) => console.lock_mut().request(id, mode),
            None => Err(LockRefused::Exclusive),
        };
        let spec = Spec {
            key: ReaderKey { id, is_local: true },
            kind: Kind::Person,
            form,
            skips: self.slow_client_at(at) != super::SlowClient::Disconnect,
            scrollback,
        };
        let seated = granted.and_then(|granted| {
            self.attach_reader(at, spec).map(|seat| (seat, granted)).ok_or(LockRefused::Exclusive)
        });
        let (seat, granted) = match seated {
            Ok(seated) => seated,
            Err(refused) => {
                self.conns.remove(id);
                self.fx.outbox.forget(id);
                return Err(refused);
            }
        };
        let told = self.told_of(at);
        let visit = Visit::of(&who, self.fx.now);
        if let Some(conn) = self.conns.get_mut(id) {
            let attach = Attach { console: at, seat, epoch: u32::MAX, operator, stream, visit, told };
            conn.role = Role::Attach(Box::new(attach));
        }
        if let Some(desk) = self.conns.get_mut(operator).and_then(Conn::desk_mut) {
            desk.attach(stream, id);
        }
        self.emit(id, EventKind::Attached { who, lock: granted.applied });
        self.after_lock(at, None);
        self.fx.outbox.local(id);
        Ok((id, granted))
    }

    /// Gives one who is at a console another lock, or none.
    ///
    /// # Errors
    ///
    /// Others stand in its way; it has what it had.
    pub(super) fn change_lock(&mut self, id: ConnId, mode: LockMode) -> Result<Granted, LockRefused> {
        let Some(at) = self.conns.get(id).and_then(Conn::console) else { return Err(LockRefused::Exclusive) };
        let Some(console) = self.consoles.get_mut(at) else { return Err(LockRefused::Exclusive) };
        let before = console.lock().holder();
        let granted = console.lock_mut().request(id, mode)?;
        let who = self.who(id);
        self.emit(id, EventKind::LockChanged { who, lock: granted.applied });
        self.after_lock(at, before);
        Ok(granted)
    }

    /// One who was at a console by the admin port leaves it.
    pub(super) fn leave_lock(&mut self, id: ConnId) {
        let Some(at) = self.conns.get(id).and_then(Conn::console) else { return };
        let Some(console) = self.consoles.get_mut(at) else { return };
        let before = console.lock().holder();
        if console.lock_mut().release(id).is_some() {
            self.after_lock(at, before);
        }
    }

    /// Who holds a console's lock may have changed: those at its port are told in a line,
    /// those whose typing was dropped until now are read again, and attaches hear of it by
    /// [`refresh_attaches`](Self::refresh_attaches).
    fn after_lock(&mut self, at: ConsoleId, before: Option<(ConnId, LockMode)>) {
        self.fx.outbox.changed(at);
        self.settle_size(at);
        let Some(console) = self.consoles.get(at) else { return };
        let after = console.lock().holder();
        if before == after || self.config.ports_ignore_locks {
            return;
        }
        let line = match after {
            Some((holder, _)) => {
                format!("{} has locked this console: what you type is dropped", self.who(holder))
            }
            None => "the console is not locked any more: what you type is sent".to_owned(),
        };
        // What others may do was settled when they came.
        let at_its_port: Vec<ConnId> = console
            .clients()
            .filter(|&id| self.conns.get(id).is_some_and(|conn| !conn.is_visitor()))
            .collect();
        for id in at_its_port {
            self.show_line_to(id, &line);
        }
    }

    /// Who somebody who came by the admin port is, for logs and for others.
    pub(super) fn who(&self, id: ConnId) -> Box<str> {
        match self.conns.get(id).map(|conn| (conn, &conn.role)) {
            Some((_, Role::Asking(asking))) => asking.standing.who.as_str().into(),
            Some((_, Role::Operator(desk))) => desk.standing.who.as_str().into(),
            Some((conn, _)) => match conn.visit().and_then(|visit| visit.who.clone()) {
                Some(who) => who,
                None => conn.peer.to_string().into(),
            },
            None => Box::default(),
        }
    }

    /// Whether a console has as many clients as it may have.
    pub(super) fn is_full(&self, at: ConsoleId) -> bool {
        let persons = self.consoles.get(at).map_or(0, |console| console.fanout().persons());
        self.max_clients_at(at).is_some_and(|limit| persons >= limit)
    }

    /// Whether what a connection types reaches its console's VM.
    pub(super) fn may_type(&self, id: ConnId, at: ConsoleId) -> bool {
        let is_visitor = self.conns.get(id).is_some_and(Conn::is_visitor);
        self.consoles
            .get(at)
            .is_some_and(|console| console.lets_type(id, is_visitor, self.config.ports_ignore_locks))
    }

    pub(super) fn told_of(&self, at: ConsoleId) -> Told {
        let Some(console) = self.consoles.get(at) else {
            return Told { state: State::Waiting, host: None, lock: None, clients: 0 };
        };
        Told {
            state: self.state_of(console),
            host: self.host_of(console),
            lock: console.lock().holder(),
            clients: console.fanout().persons(),
        }
    }

    pub(super) fn state_of(&self, console: &Console) -> State {
        match (console.legs.has_holder(), console.legs.is_moving()) {
            (_, true) => State::Moving,
            (true, false) => State::Connected,
            (false, false) => State::Waiting,
        }
    }

    /// Where the connection is that gets what is typed.
    pub(super) fn host_of(&self, console: &Console) -> Option<IpAddr> {
        self.conns.get(console.legs.holder()?)?.peer.ip()
    }

    /// The lock that somebody holds at a console.
    pub(super) fn held_at(&self, at: ConsoleId) -> Option<Held> {
        let (holder, mode) = self.consoles.get(at)?.lock().holder()?;
        let mode = match mode {
            LockMode::Exclusive => operator::Mode::Exclusive,
            _ => operator::Mode::Write,
        };
        Some(Held { mode, by: self.who(holder).into() })
    }

    /// A console has changed: its attaches are told of what concerns them.
    pub(super) fn refresh_attaches(&mut self, at: ConsoleId) {
        let Some(console) = self.consoles.get(at) else { return };
        let offset = console.offset();
        let attached =
            |id: &ConnId| matches!(self.conns.get(*id).map(|conn| &conn.role), Some(Role::Attach(_)));
        let attaches: Vec<ConnId> = console.clients().filter(attached).collect();
        if attaches.is_empty() {
            return;
        }
        let now = self.told_of(at);
        let held = self.held_at(at);
        for id in attaches {
            let access = if self.may_type(id, at) { operator::Access::Write } else { operator::Access::Read };
            let Some(Role::Attach(attach)) = self.conns.get_mut(id).map(|conn| &mut conn.role) else {
                continue;
            };
            let before = std::mem::replace(&mut attach.told, now);
            let (operator, stream) = (attach.operator, attach.stream);
            let Some(desk) = self.conns.get_mut(operator).and_then(Conn::desk_mut) else { continue };
            if (before.state, before.host) != (now.state, now.host) {
                let host = now.host.map(|host| host.to_string());
                desk.notify(&Notice::State { stream, offset, state: now.state.name().into(), host });
            }
            if before.lock != now.lock {
                desk.notify(&Notice::Access { stream, offset, access, lock: held.clone() });
            }
            if before.clients != now.clients {
                desk.notify(&Notice::Present { stream, offset, clients: now.clients });
            }
            self.fx.outbox.transmit(operator);
        }
    }

    /// An attach has ended on our side: its client is told why.
    pub(super) fn end_attach(&mut self, id: ConnId, why: CloseReason, message: Option<(String, String)>) {
        let Some(Role::Attach(attach)) = self.conns.get(id).map(|conn| &conn.role) else { return };
        let (operator, stream, at) = (attach.operator, attach.stream, attach.console);
        let offset = self.consoles.get(at).map_or(0, Console::offset);
        if self.conns.get_mut(operator).is_some_and(|conn| conn.disconnect_kit(id)) {
            self.fx.outbox.transmit(operator);
            return self.fx.outbox.receive(operator);
        }
        let Some(desk) = self.conns.get_mut(operator).and_then(Conn::desk_mut) else { return };
        if desk.attached(stream) != Some(id) {
            return;
        }
        let (message, by) = message.unzip();
        desk.notify(&Notice::Detached { stream, offset, reason: why.word().into(), message, by });
        desk.detach(stream);
        self.fx.outbox.transmit(operator);
    }
}

/// An attach negotiates nothing.
const NO_TELNET: &[OptionPolicy] = &[];

/// What someone at a console may type; everything while there is no VM or somebody else's lock, because it is
/// dropped then. `doubles`: it does not come in wire form.
pub(super) fn typing_window(
    id: ConnId,
    conn: &Conn,
    consoles: &Consoles,
    doubles: bool,
    ports_ignore_locks: bool,
) -> usize {
    let Some((at, epoch)) = conn.types_at() else { return READ_MAX };
    match consoles.get(at) {
        Some(console)
            if !console.legs.is_empty() && console.lets_type(id, conn.is_visitor(), ports_ignore_locks) =>
        {
            console.uplink.window(epoch, doubles)
        }
        _ => READ_MAX,
    }
}
