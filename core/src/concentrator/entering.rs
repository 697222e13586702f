//! How clients come in: a handshake if there is to be one, evicting half-closed clients where `--max-clients`
//! is reached, a seat, and our offers.

use std::sync::Arc;

use serde_json::json;

use crate::admin::operator::Right;

use super::Concentrator;
use super::address::Address;
use super::admission;
use super::conn::{CLIENT_POLICY, Client, Conn, Role};
use super::console::{Console, ReaderKey};
use super::dials::DialKey;
use super::event::{CloseReason, EventKind};
use super::fanout::{Form, Kind, Spec};
use super::id::{ConnId, ConsoleId};
use super::speech::{Mode, Speech};
use super::tls::await_handshake;
use super::visitor::Visit;

impl Concentrator {
    /// A connection on a console's client port; `announced`: which is there already. `None`: it needs TLS,
    /// and there is none to be had, or the console is gone.
    pub(super) fn accept_client(
        &mut self,
        console: ConsoleId,
        peer: Address,
        announced: Option<ConnId>,
    ) -> Option<ConnId> {
        self.consoles.get(console)?;
        let transport = self.tls.for_client(&self.config)?;
        let is_tls = transport.is_tls();
        if is_tls {
            self.make_room_at_door(console);
        }
        let conn = Conn::new(peer, transport, CLIENT_POLICY, Role::Arriving(console));
        let source = conn.source();
        let id = self.take_up(conn, announced);
        self.admission.admit(id, admission::Kind::Client, source, true, self.fx.now);
        if is_tls {
            self.arriving.push(console, id);
            await_handshake(id, &mut self.fx);
        } else {
            self.enter(id, console);
        }
        Some(id)
    }

    /// Of a console's handshakes the oldest yields, so that there are never more of them than the console may
    /// have clients.
    fn make_room_at_door(&mut self, at: ConsoleId) {
        while let Some(limit) = self.max_clients_at(at)
            && self.arriving.count(at) >= limit
            && let Some(oldest) = self.arriving.first(at)
        {
            self.drop_conn(oldest, CloseReason::TooManyClients);
        }
    }

    /// Of a full console's clients those that will send no more yield.
    fn make_room_inside(&mut self, at: ConsoleId) {
        while let Some(limit) = self.max_clients_at(at)
            && self.consoles.get(at).is_some_and(|console| console.fanout().persons() >= limit)
            && let Some(oldest) = self.half_closed.first(at)
        {
            self.close(oldest, CloseReason::Yielded);
        }
    }

    /// Lets in what we have connected to.
    pub(super) fn enter_dialled(&mut self, id: ConnId) {
        let Some(Conn { role: Role::Dialled(dialled), peer: Address::Target(target), .. }) =
            self.conns.get(id)
        else {
            return;
        };
        let (DialKey::Console(at, _), target) = (dialled.key, Arc::clone(target)) else { return };
        let key = dialled.key;
        self.seat_client(id, at, !target.is_telnet(), Some(key));
        if self.conns.get(id).is_none_or(|conn| conn.closing.is_some()) {
            return;
        }
        if let Some(before) = self.consoles.dials.last(key) {
            // It was to take the rest before its VM came back.
            self.drop_conn(before, CloseReason::Gone);
        }
        self.consoles.dials.joined(key, id, self.fx.now);
        let (shown, hidden) = (self.consoles.dials.shown(key), self.consoles.shown_from(at));
        let missed = match (self.conns.get(id).and_then(Conn::seat), self.consoles.get_mut(at)) {
            (Some((_, seat)), Some(console)) => {
                let fanout = console.fanout_mut();
                let from = if shown.at < hidden { fanout.stand_at(hidden) } else { shown };
                fanout.go_on_from(seat, from)
            }
            _ => return,
        };
        if missed > 0 {
            self.count_in(at).bytes_skipped += missed;
            self.emit(id, EventKind::ReaderSkipped(missed));
        }
        if target.has_hello()
            && let Some(label) = self.consoles.label(at)
            && let Some(conn) = self.conns.get_mut(id)
        {
            let hello = json!({ "name": label.name, "uuid": label.uuid.simple().to_string() });
            conn.queue_control(id, &mut self.fx, |out| {
                out.extend_from_slice(format!("{hello}\r\n").as_bytes());
            });
        }
        if target.is_telnet() {
            self.offer_options(id);
            self.becomes_telnet(id);
        }
        self.fx.outbox.transmit(id);
    }

    /// Lets a client in.
    pub(super) fn enter(&mut self, id: ConnId, at: ConsoleId) {
        self.admission.stop_judging(id);
        self.arriving.remove(id);
        if self.right_at(id, at) == Right::None {
            // A rule has come since it connected.
            if let Some(conn) = self.conns.get_mut(id) {
                conn.doom(id, CloseReason::NoRight, &mut self.fx);
            }
            return;
        }
        let is_raw = self.is_raw_at(at);
        self.seat_client(id, at, is_raw, None);
        let is_in = self.conns.get(id).is_some_and(|conn| conn.closing.is_none());
        if !is_raw && is_in {
            self.open_negotiation(id);
        }
    }

    /// Gives a client its seat, if its console has one for it.
    fn seat_client(&mut self, id: ConnId, at: ConsoleId, is_raw: bool, forward: Option<DialKey>) {
        self.make_room_inside(at);
        let spec = Spec {
            key: ReaderKey { id, is_local: false },
            kind: Kind::Person,
            form: if is_raw { Form::Guest } else { Form::Undecided },
            skips: Console::may_skip(Kind::Person, is_raw, self.slow_client_at(at)),
            scrollback: 0,
        };
        let seat = self.attach_reader(at, spec);
        let persons = self.consoles.get(at).map_or(0, |console| console.fanout().persons());
        let clients = persons.saturating_sub(self.half_closed.count(at));
        let limit = self.max_clients_at(at);
        let Some(conn) = self.conns.get_mut(id) else { return };
        let Some(seat) = seat else {
            return conn.doom(id, CloseReason::Gone, &mut self.fx);
        };
        conn.role = Role::Client(Box::new(Client {
            console: at,
            seat,
            mode: if is_raw { Mode::Raw { last: true } } else { Mode::Undecided },
            speech: None,
            epoch: u32::MAX,
            after_cr: false,
            ungreeted: false,
            ended: None,
            serial: None,
            visit: Visit::new(self.fx.now),
            forward,
            is_seeded: false,
        }));
        if limit.is_some_and(|limit| persons > limit) {
            if forward.is_none() {
                conn.queue_control(id, &mut self.fx, |out| out.extend_from_slice(TOO_MANY));
            }
            return conn.doom(id, CloseReason::TooManyClients, &mut self.fx);
        }
        self.emit(id, EventKind::ClientAttached { clients });
    }

    /// Offers what telnet clients answer.
    fn open_negotiation(&mut self, id: ConnId) {
        self.offer_options(id);
        if let Some(client) = self.conns.get_mut(id).and_then(Conn::client_mut) {
            client.speech = Some(Box::new(Speech::new(self.fx.now)));
        }
        self.with_speech(id, |_, _, _| ());
    }
}

const TOO_MANY: &[u8] = b"\r\nThis console has as many clients as it may have.\r\n";
