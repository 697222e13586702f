//! The admin listener's connections: which protocol each speaks, and what it is told in those that are older
//! than ours (admin.md).
//!
//! A client of vSPC.py's becomes a client of a console like others once it is let in, an operator's
//! connection is handed on to `requests`, and everybody else gets an answer and is closed.

use std::io::IoSlice;
use std::net::SocketAddr;

use rand_chacha::rand_core::Rng;

use crate::admin::dialect::{Dialect, FirstBytes, SILENCE};
use crate::admin::lock::LockMode;
use crate::admin::openstack::{OpenStackLine, OpenStackRequest, put_address, put_entry, put_none};
use crate::admin::operator::{Caller, Right, User};
use crate::admin::pickle::EntryText;
use crate::admin::v3::{STEP_TIMEOUT, V3Event, V3Request, V3Server, put_refusal, seed};
use crate::admin::vmware_kit::KitServer;
use crate::vmware::Uuid;

use super::Concentrator;
use super::address::{Address, Peer};
use super::admission;
use super::conn::{CLIENT_POLICY, Conn, Role, Transport};
use super::desk::{Desk, HELLO_WITHIN};
use super::event::{CloseReason, EventKind};
use super::id::{ConnId, ConsoleId};
use super::output::Sent;
use super::requests::printable;
use super::standing::{Standing, older_right_at};
use super::timers::Timer;
use super::tls::await_handshake;
use super::visitor::{Asking, Asks};

impl Concentrator {
    /// A connection on the admin listener. `None`: it needs TLS, and there is none to be had.
    pub(super) fn accept_admin(&mut self, peer: Peer) -> Option<ConnId> {
        let transport = self.tls.for_admin(&self.config, &peer.address)?;
        let is_tls = transport.is_tls();
        let who = match peer.credentials {
            Some(user) => format!("uid {}", user.uid),
            None => place_of(&peer.address),
        };
        let standing = Standing::new(who, caller_of(&peer), &self.config.admin_rights);
        let asking = Asking { standing, dialogue: Asks::Undecided { begun: Vec::new(), offered: None } };
        let conn = Conn::new(peer.address, transport, CLIENT_POLICY, Role::Asking(Box::new(asking)));
        let source = conn.source();
        let id = self.insert(conn);
        self.admission.admit(id, admission::Kind::Client, source, true, self.fx.now);
        if is_tls {
            self.await_admin_handshake(id);
        } else {
            self.await_first_bytes(id);
        }
        Some(id)
    }

    /// One that says nothing for a while may wait for VMware's option, if that protocol is served.
    fn await_first_bytes(&mut self, id: ConnId) {
        let is_served = self.config.admin_rights.of_v3() > Right::None;
        let patience = if is_served { SILENCE } else { STEP_TIMEOUT };
        self.fx.timers.set(Timer::Admin(id), self.fx.now + patience);
    }

    /// A handshake begins. Of too many the oldest yields.
    fn await_admin_handshake(&mut self, id: ConnId) {
        self.fx.timers.cancel(Timer::Admin(id));
        while self.shaking.count(()) >= HANDSHAKES
            && let Some(oldest) = self.shaking.first(())
        {
            self.drop_conn(oldest, CloseReason::TooManyClients);
        }
        self.shaking.push((), id);
        await_handshake(id, &mut self.fx);
    }

    /// TLS is up on a connection on the admin port. Who shows a certificate is known by it, and has the
    /// rights that a rule gives to that, or else to its address.
    pub(super) fn admin_comes_up(&mut self, id: ConnId) {
        self.shaking.remove(id);
        self.await_first_bytes(id);
        let Some(conn) = self.conns.get_mut(id) else { return };
        let (Transport::Tls(tls), Role::Asking(asking)) = (&conn.transport, &mut conn.role) else { return };
        let names = tls.peer_names();
        let found = self.config.admin_rights.of_certificate(&names);
        let Some(name) = found.map(|(_, name)| name).or(names.first().map(|name| &**name)) else { return };
        let who = printable(&format!("cert {name}@{}", place_of(&conn.peer)));
        asking.standing.has_shown(who, names.into(), &self.config.admin_rights);
    }

    /// Bytes from one whose protocol is not known, or is an old one. Returns those that turn out to be TLS.
    pub(super) fn receive_asking(&mut self, id: ConnId, data: &[u8]) -> Option<Vec<u8>> {
        let conn = self.conns.get_mut(id)?;
        let Role::Asking(asking) = &mut conn.role else { return None };
        let Asks::Undecided { begun, .. } = &mut asking.dialogue else {
            self.continue_asking(id, data);
            return None;
        };
        if begun.is_empty() {
            self.fx.timers.set(Timer::Admin(id), self.fx.now + STEP_TIMEOUT);
        }
        begun.extend_from_slice(data);
        let dialect = match FirstBytes::of(begun) {
            FirstBytes::NeedsMore => return None,
            FirstBytes::Of(dialect) => Some(dialect),
            FirstBytes::Garbage => None,
        };
        let begun = std::mem::take(begun);
        if dialect == Some(Dialect::Tls) && self.tls.begin_admin(&self.config, conn) {
            self.await_admin_handshake(id);
            return Some(begun);
        }
        let Role::Asking(asking) = &mut conn.role else { return None };
        if dialect == Some(Dialect::VmwareKit) {
            self.become_kit(id, &begun);
            return None;
        }
        asking.dialogue = match dialect {
            Some(Dialect::V3) => Asks::V3 { server: V3Server::new(), next: 0 },
            Some(Dialect::OpenStack) => Asks::Lines { line: OpenStackLine::new(), next: None },
            _ => Asks::Nothing,
        };
        match dialect {
            Some(Dialect::V3 | Dialect::OpenStack) => self.continue_asking(id, &begun),
            Some(Dialect::Operator) => self.become_operator(id, &begun),
            Some(Dialect::Http) => self.turn_away_asking(id, |out| out.extend_from_slice(NO_HTTP)),
            Some(Dialect::VmwareKit | Dialect::Tls) | None => self.turn_away_asking(id, put_refusal),
        }
        None
    }

    fn continue_asking(&mut self, id: ConnId, data: &[u8]) {
        if let Some(Role::Asking(asking)) = self.conns.get(id).map(|conn| &conn.role) {
            match asking.dialogue {
                Asks::V3 { .. } => self.receive_v3(id, data),
                Asks::Lines { .. } => self.receive_line(id, data),
                Asks::Kit(_) => self.receive_kit(id, data),
                Asks::Undecided { .. } | Asks::Nothing => {}
            }
        }
    }

    fn become_operator(&mut self, id: ConnId, data: &[u8]) {
        let seed = [self.rng.next_u64(), self.rng.next_u64()];
        let now = self.fx.now;
        let Some(conn) = self.conns.get_mut(id) else { return };
        let Role::Asking(asking) = &conn.role else { return };
        conn.role = Role::Operator(Box::new(Desk::new(asking.standing.clone(), seed, now)));
        self.fx.timers.set(Timer::Admin(id), now + HELLO_WITHIN);
        self.receive_operator(id, data);
    }

    /// It is told why it gets nothing, and closed.
    fn turn_away_asking(&mut self, id: ConnId, put: impl FnOnce(&mut Vec<u8>)) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.queue_control(id, &mut self.fx, put);
        conn.doom(id, CloseReason::NotUnderstood, &mut self.fx);
    }

    /// One that has not said in time what it wants. If it has said nothing at all it may wait for an offer.
    pub(super) fn give_up_asking(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let Role::Asking(asking) = &mut conn.role else { return };
        let is_served = asking.of_older(&self.config.admin_rights) > Right::None;
        if let Asks::Undecided { begun, offered: offered @ None } = &mut asking.dialogue
            && begun.is_empty()
            && is_served
        {
            *offered = Some(KitServer::open(conn.control.buffer()));
            self.fx.outbox.transmit(id);
            return self.fx.timers.set(Timer::Admin(id), self.fx.now + STEP_TIMEOUT);
        }
        let hears_pickles = !matches!(asking.dialogue, Asks::Kit(_));
        match conn.spoken && hears_pickles {
            true => self.turn_away_asking(id, put_refusal),
            false => self.turn_away_asking(id, |_| ()),
        }
    }

    fn receive_v3(&mut self, id: ConnId, mut data: &[u8]) {
        loop {
            let Some(conn) = self.conns.get_mut(id).filter(|conn| conn.closing.is_none()) else { return };
            let Role::Asking(asking) = &mut conn.role else {
                // It was let in: what follows is telnet's.
                if !data.is_empty() {
                    self.receive_client(id, data);
                }
                return;
            };
            let Asks::V3 { server, .. } = &mut asking.dialogue else { return };
            let event = server.receive(&mut data, conn.control.buffer());
            self.fx.outbox.transmit(id);
            match event {
                None => return,
                Some(V3Event::Request(request)) => self.answer_v3(id, &request),
                Some(V3Event::Refused(why)) => {
                    conn.doom(id, CloseReason::NotUnderstood, &mut self.fx);
                    self.emit(id, EventKind::AdminRefused(why.to_string().into()));
                    return;
                }
                Some(V3Event::Hello { .. } | V3Event::Telnet) => {
                    self.fx.timers.set(Timer::Admin(id), self.fx.now + STEP_TIMEOUT);
                }
            }
        }
    }

    fn answer_v3(&mut self, id: ConnId, request: &V3Request) {
        if self.right_anywhere(id) == Right::None {
            self.emit(id, EventKind::AdminRefused("vSPC.py's protocol has no rights here".into()));
            return self.turn_away_asking(id, put_refusal);
        }
        let found = request.name.as_deref().and_then(|name| self.find(name).find(|&at| self.sees(id, at)));
        let Some(at) = found else {
            let count = self.count_seen(id);
            return self.say_v3(id, |server, out| server.not_found(count, out));
        };
        let Ok(mode) = request.lock else {
            return self.say_v3(id, V3Server::lock_invalid);
        };
        let mode = match (self.right_at(id, at), mode) {
            (Right::Spectator, LockMode::FreeForAllOrReadonly) => LockMode::Readonly,
            (Right::Spectator, _) => return self.refuse_lock(id, at, mode),
            (_, mode) => mode,
        };
        if self.is_full(at) {
            return self.refuse_lock(id, at, mode);
        }
        let Some(granted) =
            self.consoles.get_mut(at).and_then(|console| console.lock_mut().request(id, mode).ok())
        else {
            return self.refuse_lock(id, at, mode);
        };
        let seed = self.seed(at);
        self.say_v3(id, |server, out| server.found(granted.applied, &seed, out));
        self.admit_v3(id, at, granted);
    }

    /// Has the client's dialogue say something.
    fn say_v3(&mut self, id: ConnId, say: impl FnOnce(&mut V3Server, &mut Vec<u8>)) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let Role::Asking(asking) = &mut conn.role else { return };
        let Asks::V3 { server, .. } = &mut asking.dialogue else { return };
        say(server, conn.control.buffer());
        if server.is_ended() {
            conn.doom(id, CloseReason::Answered, &mut self.fx);
        }
        self.fx.timers.cancel(Timer::Admin(id));
        self.fx.outbox.transmit(id);
    }

    fn refuse_lock(&mut self, id: ConnId, at: ConsoleId, mode: LockMode) {
        let who = self.who(id);
        self.emit_event(Some(id), Some(at), EventKind::LockRefused { who, mode });
        self.say_v3(id, V3Server::lock_failed);
    }

    /// What a client of vSPC.py's is shown of what was printed before it came.
    fn seed(&self, at: ConsoleId) -> String {
        let characters = self.config.admin_context;
        let Some(console) = self.consoles.get(at).filter(|_| characters > 0) else { return String::new() };
        let journal = console.fanout().journal();
        let mut printed = Vec::new();
        // Four bytes to a character, and each may be doubled.
        let from = journal.scrollback_start(journal.head(), 8 * characters as u64 + 16);
        let from = from.max(self.consoles.shown_from(at));
        journal.copy_guest(from, usize::MAX, &mut printed);
        seed(&printed, characters)
    }

    fn receive_line(&mut self, id: ConnId, mut data: &[u8]) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let Role::Asking(asking) = &mut conn.role else { return };
        let right = asking.standing.right.max(asking.of_older(&self.config.admin_rights));
        let Asks::Lines { line, next } = &mut asking.dialogue else { return };
        let Some(request) = line.receive(&mut data) else { return };
        self.fx.timers.cancel(Timer::Admin(id));
        match request {
            _ if right == Right::None => conn.doom(id, CloseReason::NotUnderstood, &mut self.fx),
            OpenStackRequest::List => {
                *next = Some(0);
                self.fx.outbox.transmit(id);
            }
            OpenStackRequest::Get(uuid) => {
                let host = self.config.client_interface.ip();
                let port = uuid.and_then(|uuid| {
                    let mut all = self.consoles.iter().map(|console| &console.label);
                    all.find(|label| label.uuid == Uuid::from_bytes(uuid) && label.port.is_some())?.port
                });
                conn.queue_control(id, &mut self.fx, |out| match host.zip(port) {
                    Some((host, port)) => put_address(SocketAddr::new(host, port), out),
                    None => put_none(out),
                });
                conn.doom(id, CloseReason::Answered, &mut self.fx);
            }
            OpenStackRequest::Unknown => conn.doom(id, CloseReason::NotUnderstood, &mut self.fx),
        }
    }

    /// To one that asks: answers, and lists piece by piece.
    pub(super) fn offer_asking(&mut self, id: ConnId, take: impl FnOnce(&[IoSlice<'_>]) -> usize) -> Sent {
        let is_done = self.continue_listing(id);
        let Some(conn) = self.conns.get_mut(id) else { return Sent::default() };
        let offered = conn.control.pending().len();
        if offered == 0 {
            if is_done {
                conn.doom(id, CloseReason::Answered, &mut self.fx);
            }
            return Sent::default();
        }
        let taken = take(&[IoSlice::new(conn.control.pending())]).min(offered);
        conn.control.took(taken);
        Sent { offered, taken }
    }

    /// The socket of one that asks has taken something. If that was the end of a list, the connection ends.
    pub(super) fn consider_answered(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id).filter(|conn| conn.control.is_empty()) else { return };
        let Role::Asking(asking) = &conn.role else { return };
        let is_done = match &asking.dialogue {
            Asks::V3 { server, .. } => server.is_ended(),
            Asks::Lines { next: Some(next), .. } => self.consoles.iter_from(*next).next().is_none(),
            _ => false,
        };
        if is_done {
            conn.doom(id, CloseReason::Answered, &mut self.fx);
        }
    }

    /// Writes on at a list, as far as what waits for the socket stays small. Returns whether it is at its
    /// end.
    fn continue_listing(&mut self, id: ConnId) -> bool {
        let Some(conn) = self.conns.get_mut(id).filter(|conn| conn.closing.is_none()) else { return false };
        let Role::Asking(asking) = &mut conn.role else { return false };
        if conn.control.pending().len() >= LISTING_ROOM {
            return false;
        }
        let out = conn.control.buffer();
        let rules = &self.config.admin_rights;
        match &mut asking.dialogue {
            Asks::V3 { server, next } => {
                let room = out.len() + LISTING_ROOM;
                while server.entries_left() > 0 && out.len() < room {
                    match self.consoles.iter_from(*next).next() {
                        Some(console) => {
                            let label = &console.label;
                            *next = label.id.index + 1;
                            let list = self.consoles.may(label.id);
                            if older_right_at(&asking.standing.caller, rules, list) == Right::None {
                                continue;
                            }
                            let uuid = dashed(label.uuid) + &label.suffix;
                            let name = if label.name.is_empty() { &label.title() } else { &label.name };
                            let port = label.port.filter(|_| self.config.client_interface.ip().is_some());
                            let entry = EntryText { name, uuid: &uuid, port };
                            let one_more = out.len() + 1;
                            server.entries(&mut [entry].into_iter(), one_more, out);
                        }
                        // Some have gone since they were counted.
                        None => drop(server.entries(&mut [].into_iter(), usize::MAX, out)),
                    }
                }
                server.is_ended()
            }
            Asks::Lines { next: Some(next), .. } => {
                let host = self.config.client_interface.ip();
                let mut is_done = true;
                for console in self.consoles.iter_from(*next).take(PAGE) {
                    is_done = false;
                    *next = console.label.id.index + 1;
                    if let Some((host, port)) = host.zip(console.label.port) {
                        put_entry(*console.label.uuid.as_bytes(), SocketAddr::new(host, port), out);
                    }
                }
                is_done
            }
            _ => false,
        }
    }
}

/// A UUID as vSPC.py shows it, and as its clients ask for it: VMware's form without the spaces.
fn dashed(uuid: Uuid) -> String {
    let digits = uuid.simple().to_string();
    match digits.split_at_checked(16) {
        Some((front, back)) => format!("{front}-{back}"),
        None => digits,
    }
}

/// A peer, as rules know it.
fn caller_of(peer: &Peer) -> Caller {
    let user = peer.credentials.map(|user| User { uid: user.uid, gid: user.gid, is_ours: user.is_ours });
    Caller { address: peer.address.ip(), user, names: Box::default() }
}

/// Where a peer is, for people.
fn place_of(address: &Address) -> String {
    match (address, address.ip()) {
        (_, Some(ip)) => ip.to_string(),
        (Address::Vsock { cid, .. }, None) => format!("vsock:{cid}"),
        (_, None) => "local".to_owned(),
    }
}

/// Handshakes on the admin port that are not done: one takes milliseconds, so that many at once are a flood.
const HANDSHAKES: usize = 64;

/// How much of a list waits for the socket.
const LISTING_ROOM: usize = 16 << 10;

/// Consoles of a list that are looked at in one go.
const PAGE: usize = 128;

const NO_HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 52\r\n\
    Connection: close\r\n\r\nThis port speaks vspc's protocols, and no HTTP here\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_http_is_as_long_as_it_says() {
        let text = String::from_utf8(NO_HTTP.to_vec()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{}", body.len());
    }

    #[test]
    fn a_uuid_has_its_dash_where_vmware_has_it() {
        assert_eq!(dashed(Uuid::from_bytes([0x50; 16])), "5050505050505050-5050505050505050");
    }
}
