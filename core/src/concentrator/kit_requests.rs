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
use super::event::{CloseReason, EventKind, Fault};
use super::fanout::Form;
use super::flow::{ASKING_READ_MAX, NOISY_READ_MAX};
use super::id::{ConnId, ConsoleId};
use super::kit::Kit;
use super::output::Sent;
use super::standing::older_right_at;
use super::timers::Timer;
use super::visitor::Asks;

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
        let is_listing = self.kit(id).is_some_and(|kit| kit.listing.is_some());
        let attach = self.kit(id).and_then(|kit| kit.attach);
        let seat = attach.and_then(|attach| Some((attach, self.conns.get(attach)?.seat()?)));
        if let Some((attach, (at, seat))) = seat.filter(|_| !is_listing)
            && let Some(missed) = self.consoles.catch_up(at, seat)
        {
            let notice = format!("\r\n[vspc: {missed} bytes skipped, this client did not keep up]\r\n");
            self.tell_kit(id, |out| out.extend_from_slice(notice.as_bytes()));
            self.emit(attach, EventKind::ReaderSkipped(missed));
        }
        let Some(conn) = self.conns.get_mut(id) else { return Sent::default() };
        let was_over_limit = conn.control.is_over_limit();
        let shown = seat.filter(|_| conn.closing != Some(Closing::Farewell));
        let shown = shown.and_then(|(attach, (at, seat))| Some((attach, at, seat, self.consoles.get(at)?)));
        let mut runs = [IoSlice::new(&[]); MOST];
        let sent = match shown {
            None => {
                let offered = conn.control.pending().len();
                if offered == 0 {
                    return Sent::default();
                }
                let taken = take(&[IoSlice::new(conn.control.pending())]).min(offered);
                conn.control.took(taken);
                Sent { offered, taken }
            }
            Some((attach, at, seat, console)) => {
                let front = conn.control.pending();
                let (mut count, layout) = console.fanout().offer(seat, front, &mut self.scratch, &mut runs);
                if is_listing {
                    count = count.min(layout.runs_before_output());
                }
                let offered: usize = runs[..count].iter().map(|run| run.len()).sum();
                if offered == 0 {
                    if !is_listing {
                        self.fx.outbox.drained(attach);
                    }
                    return Sent::default();
                }
                let taken = take(&runs[..count]).min(offered);
                let took = self.consoles.took(at, seat, layout, taken, &mut self.fx);
                conn.control.took(took.front);
                if let Some(visit) = self.conns.get_mut(attach).and_then(Conn::visit_mut) {
                    visit.shown += took.data as u64;
                }
                Sent { offered, taken }
            }
        };
        if was_over_limit && self.conns.get(id).is_some_and(|conn| !conn.control.is_over_limit()) {
            self.fx.outbox.receive(id);
        }
        sent
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
            Some((id, Conn { role: Role::Attach(attach), .. })) => {
                self.typing_window(id, attach.console, attach.epoch, true).min(most)
            }
            _ => most,
        }
    }

    fn kit(&self, id: ConnId) -> Option<&Kit> {
        self.conns.get(id).and_then(Conn::kit)
    }

    fn kit_mut(&mut self, id: ConnId) -> Option<&mut Kit> {
        self.conns.get_mut(id).and_then(Conn::kit_mut)
    }
}

/// A port's label on the wire: what multi-console puts behind `_`.
fn port_label(suffix: &str) -> &str {
    suffix.strip_prefix('_').unwrap_or(suffix)
}

/// Such a connection carries one attach.
const ONLY: u64 = 0;

/// How much of a list waits for the socket.
const LISTING_ROOM: usize = 16 << 10;
