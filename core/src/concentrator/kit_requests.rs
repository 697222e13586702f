//! What clients of VMware's protocol ask (admin.md §8): the list of ports, and to be connected to one.
//!
//! Who is connected is at its console as an attach, as operators are: one lock, one place in the log, one way
//! to be sent away. What it may is what vSPC.py's protocol may, because it cannot say who it is either.

use std::io::IoSlice;

use crate::admin::lock::LockMode;
use crate::admin::operator::Right;
use crate::admin::v3::STEP_TIMEOUT;
use crate::admin::vmware_kit::{
    KitEvent, KitMalformed, KitPort, KitPortList, KitRequest, KitServer, VSPC_ADMIN, put_connected,
    put_disconnected,
};
use crate::telnet::Command;
use crate::vmware::Uuid;

use super::Concentrator;
use super::conn::{Closing, Conn, NOISY_READS, Role, is_noise};
use super::effects::Effects;
use super::event::{CloseReason, EventKind, Fault};
use super::fanout::Form;
use super::feeding::offer;
use super::flow::{ASKING_READ_MAX, NOISY_READ_MAX};
use super::id::{ConnId, ConsoleId};
use super::kit::Kit;
use super::output::Sent;
use super::standing::older_right_at;
use super::timers::Timer;
use super::visitor::Asks;
use super::visits::typing_window;

impl Concentrator {
    /// A connection on the admin port speaks telnet, or nothing, for which VMware's client waits to be
    /// offered its option.
    pub(super) fn become_kit(&mut self, id: ConnId, data: &[u8]) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let Role::Asking(asking) = &mut conn.role else { return };
        if asking.of_older(&self.config.admin_rights) == Right::None {
            conn.doom(id, CloseReason::NotUnderstood, &mut self.fx);
            return self.emit(id, EventKind::AdminRefused("VMware's protocol has no rights here".into()));
        }
        let offered = match &mut asking.dialogue {
            Asks::Undecided { offered, .. } => offered.take(),
            _ => return,
        };
        let server = offered.unwrap_or_else(|| KitServer::open(conn.control.buffer()));
        asking.dialogue = Asks::Kit(Box::new(Kit::new(server)));
        self.fx.outbox.transmit(id);
        self.fx.timers.set(Timer::Admin(id), self.fx.now + STEP_TIMEOUT);
        self.receive_kit(id, data);
    }

    /// Bytes from a client of VMware's protocol.
    pub(super) fn receive_kit(&mut self, id: ConnId, data: &[u8]) {
        let Some(mut server) = self.kit_mut(id).and_then(|kit| kit.take_server(data)) else { return };
        let (mut rest, mut commands) = (data, 0);
        while let Some(conn) = self.conns.get_mut(id).filter(|conn| conn.closing.is_none())
            && let Some(event) = server.receive(&mut rest, conn.control.buffer())
        {
            commands += usize::from(!matches!(event, KitEvent::Data(_)));
            match event {
                KitEvent::Data(bytes) => {
                    if let Some(attach) = self.kit(id).and_then(|kit| kit.attach) {
                        self.type_guest(attach, bytes);
                    }
                }
                KitEvent::Command(Command::BRK) => {
                    let attach = self.kit(id).and_then(|kit| kit.attach);
                    let at = attach.and_then(|attach| self.conns.get(attach)).and_then(Conn::console);
                    if let (Some(attach), Some(at)) = (attach, at) {
                        // Where others stand in the way nothing can be said.
                        let _ = self.send_break(attach, at, "");
                    }
                }
                KitEvent::Negotiated(Some(change)) if change.opt == VSPC_ADMIN => {
                    if change.on {
                        self.fx.timers.cancel(Timer::Admin(id));
                        self.admission.stop_judging(id);
                    } else {
                        conn.doom(id, CloseReason::NotUnderstood, &mut self.fx);
                    }
                }
                KitEvent::Command(_) | KitEvent::Negotiated(_) => {}
                KitEvent::Request(KitRequest::Connect { lock, port }) => self.connect_kit(id, lock, port),
                KitEvent::Request(KitRequest::Disconnect) => {
                    self.leave_kit_console(id);
                    self.tell_kit(id, put_disconnected);
                }
                KitEvent::Request(KitRequest::PortList) => {
                    let list = KitPortList::begin(conn.control.buffer());
                    if let Some(kit) = self.kit_mut(id) {
                        kit.listing = Some((list, 0));
                    }
                    // What is behind that waits until the list is told.
                    break;
                }
                KitEvent::Malformed(KitMalformed::Telnet(fault)) => self.malformed(id, Fault::Telnet(fault)),
                KitEvent::Malformed(KitMalformed::OptionIsOff(opt)) => {
                    self.malformed(id, Fault::OptionOff(opt));
                }
                KitEvent::Malformed(malformed) => {
                    // It was told that it is not connected.
                    if matches!(malformed, KitMalformed::UnknownLock(_) | KitMalformed::NotAPort) {
                        self.leave_kit_console(id);
                    }
                    self.malformed(id, Fault::OptionOff(VSPC_ADMIN));
                }
            }
        }
        if let Some(conn) = self.conns.get_mut(id) {
            conn.heard_noise(is_noise(commands, data.len()), NOISY_READS);
        }
        if let Some(kit) = self.kit_mut(id) {
            kit.give_server(server, rest);
        }
        self.fx.outbox.transmit(id);
    }

    /// Carries out what was kept back while a list was told.
    pub(super) fn receive_kit_unread(&mut self, id: ConnId) {
        let unread = self.kit_mut(id).map(Kit::take_unread).unwrap_or_default();
        if !unread.is_empty() {
            self.receive_kit(id, &unread);
            self.settle();
        }
    }

    /// Connects a client to a port, or tells it that it is not connected: to that one or any.
    fn connect_kit(&mut self, id: ConnId, lock: LockMode, port: KitPort<'_>) {
        self.leave_kit_console(id);
        let found = self.console_of_port(port).filter(|&at| self.sees(id, at));
        let Some(at) = found else { return self.tell_kit(id, put_disconnected) };
        let right = self.right_at(id, at);
        let lock = match (right, lock) {
            (Right::Spectator, LockMode::FreeForAllOrReadonly) => LockMode::Readonly,
            (_, lock) => lock,
        };
        let may = lock == LockMode::Readonly || right >= Right::Writer;
        let seated = match may && !self.is_full(at) {
            true => self.attach_stream(id, ONLY, at, lock, 0, Form::Wire).ok(),
            false => None,
        };
        match seated {
            Some((attach, _)) => {
                if let Some(kit) = self.kit_mut(id) {
                    kit.attach = Some(attach);
                }
                self.tell_kit(id, put_connected);
            }
            None => {
                let who = self.who(id);
                self.emit_event(Some(id), Some(at), EventKind::LockRefused { who, mode: lock });
                self.tell_kit(id, put_disconnected);
            }
        }
    }

    /// The console of a port that a client names: of several VMs with one UUID the first.
    fn console_of_port(&self, port: KitPort<'_>) -> Option<ConsoleId> {
        let uuid = Uuid::from_bytes(port.uuid);
        let all = self.consoles.iter();
        let found = all.map(|console| &console.label).find(|label| {
            label.uuid == uuid && port_label(&label.suffix) == port.label && self.consoles.is_first(label)
        });
        found.map(|label| label.id)
    }

    /// A client wants to be connected no longer, or to something else.
    fn leave_kit_console(&mut self, id: ConnId) {
        if let Some(attach) = self.kit_mut(id).and_then(|kit| kit.attach.take()) {
            self.drop_conn(attach, CloseReason::PeerClosed);
        }
    }

    fn tell_kit(&mut self, id: ConnId, put: impl FnOnce(&mut Vec<u8>)) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.queue_control(id, &mut self.fx, put);
        }
    }

    /// To a client of VMware's protocol: answers, a list piece by piece, and output of its console.
    pub(super) fn offer_kit<const MOST: usize>(
        &mut self,
        id: ConnId,
        take: impl FnOnce(&[IoSlice<'_>]) -> usize,
    ) -> Sent {
        self.continue_port_list(id);
        let Self { conns, consoles, scratch, fx, .. } = self;
        let Some(conn) = conns.get_mut(id) else { return Sent::default() };
        let Some(kit) = conn.kit() else { return Sent::default() };
        let (is_listing, attach) = (kit.listing.is_some(), kit.attach);
        let Some(attach) = attach.filter(|_| conn.closing != Some(Closing::Farewell)) else {
            return offer_control(id, conn, fx, take);
        };
        let Some((conn, reader)) = conns.get_two_mut(id, attach) else { return Sent::default() };
        let Role::Attach(attached) = &mut reader.role else { return Sent::default() };
        let Some(mut reading) = consoles.reading(attached.console) else {
            return offer_control(id, conn, fx, take);
        };
        let seat = attached.seat;
        let missed = if is_listing { None } else { reading.catch_up(seat) };
        if let Some(missed) = missed {
            let notice = format!("\r\n[vspc: {missed} bytes skipped, this client did not keep up]\r\n");
            conn.control.buffer().extend_from_slice(notice.as_bytes());
        }
        let was_over_limit = conn.control.is_over_limit();
        let mut runs = [IoSlice::new(&[]); MOST];
        let front = conn.control.pending();
        let (mut count, layout) = reading.console.fanout().offer(seat, front, scratch, &mut runs);
        if is_listing {
            count = count.min(layout.runs_before_output());
        }
        let offered: usize = runs[..count].iter().map(|run| run.len()).sum();
        if offered == 0 {
            if !is_listing {
                fx.outbox.drained(attach);
            }
            return Sent::default();
        }
        let taken = take(&runs[..count]).min(offered);
        let took = reading.took(seat, layout, taken, fx);
        conn.control.took(took.front);
        attached.visit.shown += took.data as u64;
        if was_over_limit && !conn.control.is_over_limit() {
            fx.outbox.receive(id);
        }
        if let Some(missed) = missed {
            self.emit(attach, EventKind::ReaderSkipped(missed));
        }
        Sent { offered, taken }
    }

    /// Writes on at a list of ports, as far as what waits for the socket stays small.
    fn continue_port_list(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id).filter(|conn| conn.closing.is_none()) else { return };
        let Role::Asking(asking) = &mut conn.role else { return };
        let (caller, rules) = (&asking.standing.caller, &self.config.admin_rights);
        let Asks::Kit(kit) = &mut asking.dialogue else { return };
        let Some((list, next)) = &mut kit.listing else { return };
        let mut is_done = false;
        while conn.control.pending().len() < LISTING_ROOM {
            let Some(console) = self.consoles.iter_from(*next).next() else {
                is_done = true;
                break;
            };
            let label = &console.label;
            *next = label.id.index + 1;
            let right = older_right_at(caller, rules, self.consoles.may(label.id));
            if self.consoles.is_first(label) && right > Right::None {
                let port = KitPort { uuid: *label.uuid.as_bytes(), label: port_label(&label.suffix) };
                list.port(port, &label.name, "", conn.control.buffer());
            }
        }
        if is_done {
            kit.end_list(&mut conn.control);
            // It is read again.
            self.fx.outbox.receive(id);
        }
    }

    /// How much a client of VMware's protocol may send.
    pub(super) fn kit_window(&self, conn: &Conn, kit: &Kit) -> usize {
        let most = if conn.is_noisy() { NOISY_READ_MAX } else { ASKING_READ_MAX };
        let attach = kit.attach.and_then(|attach| Some((attach, self.conns.get(attach)?)));
        match attach {
            _ if kit.is_held_back() => 0,
            Some((id, typist)) => {
                typing_window(id, typist, &self.consoles, true, self.config.ports_ignore_locks).min(most)
            }
            None => most,
        }
    }

    fn kit(&self, id: ConnId) -> Option<&Kit> {
        self.conns.get(id).and_then(Conn::kit)
    }

    fn kit_mut(&mut self, id: ConnId) -> Option<&mut Kit> {
        self.conns.get_mut(id).and_then(Conn::kit_mut)
    }
}

/// Offers a connection that is shown nothing what it is told.
fn offer_control(
    id: ConnId,
    conn: &mut Conn,
    fx: &mut Effects,
    take: impl FnOnce(&[IoSlice<'_>]) -> usize,
) -> Sent {
    let was_over_limit = conn.control.is_over_limit();
    let (sent, taken) = offer([conn.control.pending()], take);
    conn.control.took(taken);
    if was_over_limit && !conn.control.is_over_limit() {
        fx.outbox.receive(id);
    }
    sent
}

/// A port's label on the wire: what multi-console puts behind `_`.
fn port_label(suffix: &str) -> &str {
    suffix.strip_prefix('_').unwrap_or(suffix)
}

/// Such a connection carries one attach.
const ONLY: u64 = 0;

/// How much of a list waits for the socket.
const LISTING_ROOM: usize = 16 << 10;
