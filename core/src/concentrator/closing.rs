//! How connections end: in order, with a farewell they are given time to take, or at once; and the end of
//! all of them.

use std::time::Duration;

use crate::telnet::{Command, put_command};
use crate::time::Instant;

use super::Concentrator;
use super::conn::{Client, Closing, Conn, Ended, HALF_CLOSED_PATIENCE, Role, Wire};
use super::console::Console;
use super::desk::Desk;
use super::dials::DialKey;
use super::effects::Newcomer;
use super::event::{CloseReason, EventKind};
use super::id::{ConnId, ConsoleId};
use super::output::Shutdown;
use super::speech::Mode;
use super::timers::Timer;
use rand_chacha::rand_core::Rng;

impl Concentrator {
    /// Ends everything in order: accepts nothing more, gives each connection what is queued for it and a
    /// little time to take it, and closes it. [`is_empty`](Self::is_empty) tells when that is done.
    pub fn shut_down(&mut self, now: Instant) {
        self.fx.now = now;
        self.shutting_down = true;
        self.close_listeners();
        for id in self.conns.ids() {
            // An attach ends with the connection that it came by.
            match self.conns.get(id).map(|conn| &conn.role) {
                None | Some(Role::Attach(_)) => {}
                // So does a stream with its guest.
                Some(Role::Vm(vm)) if vm.wire == Wire::Stream => {}
                Some(Role::Dialled(_)) => self.drop_conn(id, CloseReason::ShuttingDown),
                Some(_) => self.drain(id, CloseReason::ShuttingDown),
            }
        }
        self.settle();
    }

    /// Does what the present call has left to be done: ends the connections that it has doomed, takes in who
    /// was put aside where there is room, and gives legs of other VMs consoles of their own. To be called at
    /// the end of every call from the runtime.
    pub(super) fn settle(&mut self) {
        loop {
            if let Some(next) = self.consoles.dials.change() {
                self.end_obsolete_forwards(next);
            }
            while let Some((id, why)) = self.fx.next_doomed() {
                self.close(id, why);
            }
            while let Some(at) = self.fx.next_roomy() {
                self.take_in(at);
            }
            while let Some(at) = self.fx.next_ruled() {
                self.apply_rule(at);
            }
            while !self.fx.has_doomed()
                && let Some((at, was_cut)) = self.fx.next_guest()
            {
                self.look_after_guest(at, was_cut);
            }
            while let Some((id, newcomer)) = self.fx.next_yielding() {
                self.yield_console(id, newcomer);
            }
            let has_parted = self.part_others();
            let has_more = self.fx.has_doomed() || self.fx.has_guest() || self.consoles.dials.has_changed();
            if !has_parted && !has_more {
                break;
            }
        }
        #[cfg(debug_assertions)]
        self.check_now_and_then();
    }

    /// Ends connections to targets that no console wants any more. `next`: when something is to be
    /// connected to.
    fn end_obsolete_forwards(&mut self, next: Option<Instant>) {
        match next {
            Some(at) => self.fx.timers.set(Timer::Dial, at),
            None => self.fx.timers.cancel(Timer::Dial),
        }
        while let Some(id) = self.consoles.dials.next_obsolete() {
            match self.conns.get(id).map(|conn| &conn.role) {
                Some(Role::Dialled(_)) => self.drop_conn(id, CloseReason::Gone),
                Some(role) => {
                    let at = match role {
                        Role::Client(client) => Some(client.console),
                        _ => None,
                    };
                    match at.is_some_and(|at| self.consoles.may(at).is_some()) {
                        // What it prints from now on is for those who are named.
                        true => self.close(id, CloseReason::NoRight),
                        false => self.drain(id, CloseReason::Gone),
                    }
                }
                None => {}
            }
        }
    }

    /// Ends a connection when it has taken what is queued for it, for which it is given a little time.
    fn drain(&mut self, id: ConnId, why: CloseReason) {
        let Some(conn) = self.conns.get_mut(id).filter(|conn| conn.closing.is_none()) else { return };
        conn.closing = Some(Closing::Drain(why));
        conn.release(id, &mut self.fx);
        self.fx.timers.set(Timer::Linger(id), self.fx.now + LINGER);
        if conn.client().is_some_and(Client::is_suspended) {
            // It is sent the rest now.
            self.fx.outbox.transmit(id);
        }
        self.consider_closed(id);
    }

    /// Takes a connection out of everything and closes it once its control bytes are taken.
    pub(super) fn close(&mut self, id: ConnId, reason: CloseReason) {
        if self.conns.get(id).is_none_or(|conn| conn.closing == Some(Closing::Farewell)) {
            return;
        }
        self.detach(id, reason);
        if let Some(conn) = self.conns.get_mut(id) {
            conn.closing = Some(Closing::Farewell);
            conn.release(id, &mut self.fx);
            if conn.client().is_some_and(Client::is_suspended) {
                self.fx.outbox.transmit(id);
            }
        }
        self.fx.timers.set(Timer::Linger(id), self.fx.now + LINGER);
        self.consider_closed(id);
        // A peer that waits to be read takes no farewell; its window may have been 0.
        if self.conns.get(id).is_some() {
            self.fx.outbox.receive(id);
        }
    }

    /// Takes a connection out of everything and forgets it; its socket is of no more use.
    pub(super) fn drop_conn(&mut self, id: ConnId, reason: CloseReason) {
        let Some(conn) = self.conns.get(id) else { return };
        if conn.closing != Some(Closing::Farewell) {
            self.detach(id, reason);
        }
        self.forget(id, Shutdown::Abort);
    }

    fn detach(&mut self, id: ConnId, reason: CloseReason) {
        self.arriving_lines.remove(&id);
        self.note_end_of_forward(id, reason);
        let Some(conn) = self.conns.get(id) else { return };
        match conn.role {
            Role::Vm(_) => {
                self.tls.note_end(conn, reason, self.fx.now);
                self.emit(id, EventKind::VmDisconnected(reason));
                self.detach_vm(id);
            }
            Role::Client(_) | Role::Local(_) | Role::Attach(_) => {
                // A witness comes and goes unannounced: it is nobody's client.
                if !matches!(&conn.role, Role::Local(local) if !local.may_type) {
                    self.emit_departure(id, reason);
                }
                self.end_attach(id, reason, None);
                self.leave_lock(id);
                self.detach_reader(id);
            }
            Role::Asking(_) => {
                self.emit(id, EventKind::AdminClosed(reason));
                self.admission.stop_judging(id);
                self.shaking.remove(id);
                if let Some(attach) = self.conns.get(id).and_then(Conn::kit).and_then(|kit| kit.attach) {
                    self.drop_conn(attach, reason);
                }
            }
            Role::Operator(_) => {
                self.emit(id, EventKind::AdminClosed(reason));
                self.admission.stop_judging(id);
                self.watchers.remove(&id);
                self.loggers.remove(&id);
                self.leave_guests(id, None);
                let desk = self.conns.get(id).and_then(Conn::desk);
                let attaches: Vec<ConnId> = desk.into_iter().flat_map(Desk::attaches).collect();
                for attach in attaches {
                    self.drop_conn(attach, reason);
                }
            }
            Role::Announced(ref announced) => {
                let kind = match announced.console {
                    None => EventKind::VmDisconnected(reason),
                    Some(_) => EventKind::ClientNotLetIn(reason),
                };
                self.emit(id, kind);
                self.admission.stop_judging(id);
            }
            Role::Dialled(_) => {}
            Role::Arriving(_) => {
                self.emit(id, EventKind::ClientNotLetIn(reason));
                self.admission.stop_judging(id);
                self.arriving.remove(id);
            }
        }
    }

    /// A connection to a target ends: the target is connected to again, if it is still wanted. That it is
    /// down is told once.
    fn note_end_of_forward(&mut self, id: ConnId, reason: CloseReason) {
        let Some(conn) = self.conns.get(id) else { return };
        let line = self.dialled_lines.remove(&id).map(DialKey::Line);
        let Some(key) = conn.forward().or(line) else { return };
        if let Some((at, seat)) = conn.seat()
            && let Some(console) = self.consoles.get_mut(at)
        {
            let shown = console.fanout_mut().stand(seat);
            self.consoles.dials.note_shown(key, id, shown, self.fx.now);
        }
        let chance = self.chance();
        let is_news = self.consoles.dials.failed(key, Some(id), self.fx.now, chance);
        if is_news && reason != CloseReason::ShuttingDown {
            self.emit(id, EventKind::NotConnected(reason));
        }
    }

    /// A number that nobody can foresee.
    pub(super) fn chance(&mut self) -> u32 {
        self.rng.next_u32()
    }

    /// Tells that somebody who was at a console is not any more.
    fn emit_departure(&mut self, id: ConnId, reason: CloseReason) {
        let Some(conn) = self.conns.get(id) else { return };
        let visit = conn.visit();
        let stay = visit.map(|visit| visit.stay(self.fx.now)).unwrap_or_default();
        let kind = match visit.and_then(|visit| visit.who.clone()) {
            None => EventKind::ClientDetached(reason, stay),
            Some(who) => EventKind::Left { who, because: reason, stay },
        };
        self.emit(id, kind);
    }

    /// Forgets a console that no VM feeds, and closes whoever still reads it. `why` is told.
    pub(super) fn end_console(&mut self, at: ConsoleId, why: EventKind) {
        self.emit_of_console(at, why);
        self.close_port(at);
        let Some(console) = self.consoles.get(at) else { return };
        let readers: Vec<ConnId> = console.fanout().readers().map(|(_, key, _)| key.id).collect();
        for id in readers {
            self.close(id, CloseReason::Gone);
        }
        self.end_members_of(at);
        self.consoles.remove(at, &mut self.fx);
    }

    /// Forgets the consoles that were streams of a guest, with that.
    fn end_members_of(&mut self, at: ConsoleId) {
        self.lose_guest(at);
        for member in self.consoles.guests.members(at).collect::<Vec<_>>() {
            self.end_console(member, EventKind::ConsoleExpired);
        }
    }

    /// A console that nobody used was picked to yield, to `newcomer` if that needs a port.
    fn yield_console(&mut self, at: ConsoleId, newcomer: Option<Newcomer>) {
        if self.consoles.get(at).is_some_and(Console::may_yield) {
            self.end_console(at, EventKind::ConsoleYielded);
        }
        if let Some(newcomer) = newcomer {
            self.open_port_for(newcomer);
        }
    }

    /// Removes a closing connection once its socket has taken everything queued for it; one that drains, also
    /// what its console holds for it.
    pub(super) fn consider_closed(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id) else { return };
        let Some(closing) = conn.closing else { return };
        let is_mute = conn.transport.is_mute();
        if closing == Closing::Doomed || (!conn.control.is_empty() && !is_mute) {
            return;
        }
        if let Closing::Drain(reason) = closing {
            if !is_mute && self.is_unserved(id) {
                return;
            }
            self.detach(id, reason);
            if let Some(conn) = self.conns.get_mut(id) {
                conn.closing = Some(Closing::Farewell);
            }
        }
        let Some(conn) = self.conns.get_mut(id) else { return };
        if let Some(desk) = conn.desk_mut()
            && !is_mute
        {
            desk.end();
            if desk.has_output() {
                return self.fx.outbox.transmit(id);
            }
        }
        let is_silent = conn.control.is_empty() || is_mute;
        if is_silent && conn.close_transport(id, &mut self.fx) {
            self.forget(id, Shutdown::Graceful);
        }
    }

    /// Whether a connection's console still holds something for it.
    fn is_unserved(&self, id: ConnId) -> bool {
        let Some(conn) = self.conns.get(id) else { return false };
        if let Some(kit) = conn.kit() {
            return kit.attach.is_some_and(|attach| self.is_unserved(attach));
        }
        if let Some(desk) = conn.desk() {
            return desk.attaches().any(|attach| self.is_unserved(attach));
        }
        let Some(console) = conn.console().and_then(|console| self.consoles.get(console)) else {
            return false;
        };
        match conn.seat() {
            Some((_, seat)) => console.fanout().is_unserved(seat),
            None if console.legs.input() != Some(id) => false,
            None => {
                let is_raw = conn.vm().is_some_and(|vm| vm.wire == Wire::Raw);
                !console.uplink.is_empty() || is_raw && self.consoles.has_frames(console.id())
            }
        }
    }

    /// A closing connection has had its time to take its last bytes.
    pub(super) fn end_of_linger(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id) else { return };
        match conn.closing {
            Some(Closing::Drain(reason)) => self.drop_conn(id, reason),
            Some(Closing::Farewell | Closing::Doomed) => self.forget(id, Shutdown::Abort),
            None => debug_assert!(false, "a connection that is not closing lingers"),
        }
    }

    /// A client has ended its input; it is shown output for as long as it takes it.
    pub(super) fn end_input(&mut self, id: ConnId) {
        self.with_speech(id, |speech, now, act| speech.end(now, act));
        self.note_end(id, false);
    }

    /// A client has ended its input, `unread` of which is still in its socket or nothing.
    pub(super) fn note_end(&mut self, id: ConnId, unread: bool) {
        let Some(conn) = self.conns.get_mut(id).filter(|conn| conn.closing.is_none()) else { return };
        let Some(client) = conn.client_mut() else { return };
        let console = client.console;
        match &mut client.ended {
            // It has been read to its end.
            Some(ended) if ended.unread && !unread => *ended = Ended::default(),
            Some(_) => return,
            None => {
                client.ended = Some(Ended { unread, ..Ended::default() });
                self.half_closed.push(console, id);
            }
        }
        self.look_after_half_closed(id);
    }

    /// A client that will send no more is looked at from time to time: it is freed when it has taken nothing
    /// for all of that time though there was something to take. To a telnet client something is sent: one
    /// that is gone answers with a reset. Of a raw one that is gone the keepalive tells, and of one whose
    /// input is unread: a reset would leave no time to type that.
    pub(super) fn look_after_half_closed(&mut self, id: ConnId) {
        let is_owed = self.is_owed(id);
        let Some(conn) = self.conns.get_mut(id).filter(|conn| conn.closing.is_none()) else { return };
        let Some(client) = conn.client_mut() else { return };
        let Some(ended) = &mut client.ended else { return };
        let (unread, was_stuck) = (ended.unread, ended.owed && !ended.took);
        *ended = Ended { owed: is_owed, took: false, unread };
        if is_owed && was_stuck {
            return self.drop_conn(id, CloseReason::PeerClosed);
        }
        if client.mode == Mode::Telnet && !is_owed && !unread {
            conn.queue_control(id, &mut self.fx, |out| put_command(Command::NOP, out));
            if let Some(client) = conn.client_mut() {
                client.ended = Some(Ended { owed: true, took: false, unread });
            }
        }
        self.fx.timers.set(Timer::HalfClosed(id), self.fx.now + HALF_CLOSED_PATIENCE);
    }

    /// Whether there is something for a connection to take.
    fn is_owed(&self, id: ConnId) -> bool {
        self.conns.get(id).is_some_and(|conn| {
            !conn.control.is_empty() || conn.transport.pending().is_some_and(|bytes| !bytes.is_empty())
        }) || self.is_unserved(id)
    }

    fn forget(&mut self, id: ConnId, how: Shutdown) {
        self.fx.timers.forget_conn(id);
        if let Some(conn) = self.conns.remove(id) {
            self.unfinished.release(conn.unfinished());
            if let Some(side) = conn.side() {
                self.admission.gone(id, side);
            }
            match conn.role {
                Role::Attach(_) => self.fx.outbox.forget(id),
                Role::Vm(vm) if vm.wire == Wire::Stream => self.fx.outbox.forget(id),
                _ => self.fx.outbox.close(id, how),
            }
        }
    }
}

/// How long a closing connection may take to accept its last bytes.
const LINGER: Duration = Duration::from_secs(2);
