//! Connections get their places and lose them: a VM's connection leaves the legs of a console, a reader gets
//! its seat. Who joins which console is `join`'s, who of several holds the input `inherit`'s.

use super::Concentrator;
use super::conn::{Conn, Place};
use super::console::{Console, ReaderKey};
use super::fanout::{Kind, Seat, Spec};
use super::id::{ConnId, ConsoleId};
use super::legs::Left;
use super::timers::Timer;

impl Concentrator {
    /// Adds a connection to the table and to the outbox.
    pub(super) fn insert(&mut self, conn: Conn) -> ConnId {
        let id = self.conns.insert(conn);
        self.fx.outbox.open(id);
        id
    }

    /// Adds a connection, or puts it in the place of the one that has announced it.
    pub(super) fn take_up(&mut self, conn: Conn, announced: Option<ConnId>) -> ConnId {
        let Some(id) = announced else { return self.insert(conn) };
        self.fx.timers.cancel(Timer::Header(id));
        if let Some(before) = self.conns.get_mut(id) {
            if let Some(side) = before.side() {
                self.admission.gone(id, side);
            }
            *before = conn;
        }
        id
    }

    /// Moves a VM connection to its next place.
    pub(super) fn set_place(&mut self, id: ConnId, place: Place) {
        let was_paused = self.is_paused(id);
        let Some(conn) = self.conns.get_mut(id) else { return };
        let source = conn.source();
        let Some(vm) = conn.vm_mut() else { return };
        let before = std::mem::replace(&mut vm.place, place);
        match place {
            // It takes part in nothing any more.
            Place::Rejected | Place::Aside(_) if before != place => {
                self.admission.judge_again(id, source, self.fx.now);
            }
            _ if before.is_unidentified() && !place.is_unidentified() => self.admission.stop_judging(id),
            _ => {}
        }
        if let Place::Aside(console) = before
            && before != place
            && let Some(console) = self.consoles.get_mut(console)
        {
            console.legs.leave_aside(id);
        }
        if was_paused && !self.is_paused(id) {
            self.fx.outbox.receive(id);
        }
    }

    /// Whether a VM's connection is not read because its console waits for a reader.
    pub(super) fn is_paused(&self, id: ConnId) -> bool {
        match self.conns.get(id).and_then(Conn::vm).map(|vm| vm.place) {
            Some(Place::Console(console)) => self.consoles.is_paused(console),
            _ => false,
        }
    }

    /// Runs `leave`, which removes a leg or finds none, and passes the input on if that leg held it.
    pub(super) fn detach_leg(&mut self, at: ConsoleId, leave: impl FnOnce(&mut Console) -> Option<Left>) {
        let Some((console, buffers)) = self.consoles.with_buffers(at) else { return };
        let owed = console.take_half(buffers);
        let left = leave(console);
        if left == Some(Left::Others) && console.legs.is_empty() {
            // What was typed waited for one of those that are gone now.
            console.leave_input(buffers, &mut self.fx);
            self.fx.timers.cancel(Timer::Inherit(at));
        }
        self.give_half(owed);
        match left {
            None => {}
            Some(Left::Others) => self.fx.outbox.changed(at),
            Some(Left::Holder) => self.input_is_left(at),
        }
        self.after_contest(at);
        if self.consoles.get(at).is_some_and(|console| console.legs.has_room_for_aside()) {
            self.fx.take_in(at);
        }
        self.consoles.consider_expiry(at, &mut self.fx);
        self.tell_modems(at);
    }

    /// What a connection has printed that is not shown yet is forgotten.
    pub(super) fn drop_early_of(&mut self, id: ConnId) {
        if let Some(early) = self.conns.get_mut(id).and_then(Conn::vm_mut).and_then(|vm| vm.early.take()) {
            self.consoles.drop_unshown(early.unshown);
        }
    }

    /// Seats a reader at a console. `None`: there is no such console any more.
    pub(super) fn attach_reader(&mut self, at: ConsoleId, spec: Spec<ReaderKey>) -> Option<Seat> {
        let not_before = match spec.kind {
            Kind::Person => self.consoles.shown_from(at),
            Kind::Witness => 0,
        };
        let console = self.consoles.get_mut(at)?;
        let seat = console.fanout_mut().attach(spec, not_before);
        self.fx.outbox.changed(at);
        self.consoles.consider_expiry(at, &mut self.fx);
        Some(seat)
    }
}
