//! What ties streams of guests to connections here is tied, and cut when either end goes.

use super::Concentrator;
use super::carried::Carried;
use super::conn::Conn;
use super::desk::{Desk, Join, JoinState};
use super::event::CloseReason;
use super::guest::{Chance, Guest, Mux};
use super::id::{ConnId, ConsoleId};
use super::timers::Timer;

impl Concentrator {
    /// Another connection holds a console's input, or its rule has changed: whether its line carries streams
    /// is what that connection's port says, or else the rule.
    pub(super) fn meet_guest(&mut self, at: ConsoleId) {
        if self.consoles.guests.parent(at).is_some() {
            return;
        }
        let Some(console) = self.consoles.get(at) else { return };
        let Some(holder) = console.legs.holder() else { return };
        let had_guest = console.has_guest;
        let own = self.consoles.guests.wish(holder);
        match own.or(self.consoles.rule(at).and_then(|rule| rule.mux)) {
            Some(mux) => self.expect_guest(at, mux),
            None if had_guest => {
                self.lose_guest(at);
                if let Some(console) = self.consoles.get_mut(at) {
                    console.has_guest = false;
                }
            }
            None => {}
        }
    }

    fn expect_guest(&mut self, at: ConsoleId, mux: Mux) {
        let key = self.consoles.rule(at).and_then(|rule| rule.guest_key.clone());
        let key = key.or_else(|| self.config.guest_key.clone());
        if let Some(guest) = self.consoles.guests.get_mut(at).filter(|guest| guest.mux == mux) {
            guest.set_key(key.as_ref());
            return self.fx.look_after_guest(at);
        }
        if mux == Mux::V1Control {
            self.lose_guest(at);
            self.consoles.guests.add_control(at);
            if let Some(console) = self.consoles.get_mut(at) {
                console.has_guest = true;
            }
            return self.fx.look_after_guest(at);
        }
        let chance = Chance::of(&mut self.rng);
        let guest = Guest::new(mux, key.as_ref(), chance, self.fx.now);
        self.lose_guest(at);
        self.consoles.guests.insert(at, guest);
        if let Some(console) = self.consoles.get_mut(at) {
            console.has_guest = true;
        }
        self.fx.look_after_guest(at);
    }

    /// All that a guest has here ends.
    pub(super) fn lose_guest(&mut self, at: ConsoleId) {
        let Some(guest) = self.consoles.guests.get(at) else { return self.consoles.guests.remove(at) };
        let (mut legs, mut joined) = (Vec::new(), Vec::new());
        for (_, carried) in guest.streams() {
            match carried {
                Carried::Leg { conn, .. } => legs.push(*conn),
                Carried::Joined(with) => joined.push((with.operator, with.stream)),
                _ => {}
            }
        }
        legs.into_iter().for_each(|leg| self.fx.doom(leg, CloseReason::PeerClosed));
        joined.into_iter().for_each(|(operator, stream)| self.cut_joined(operator, stream));
        for id in self.fact_readers.clone() {
            if let Some(desk) = self.conns.get_mut(id).and_then(Conn::desk_mut) {
                desk.end_tellings_of(at);
                self.fx.outbox.transmit(id);
            }
        }
        self.fx.timers.cancel(Timer::Guest(at));
        self.consoles.guests.remove(at);
    }

    /// The guest's end of a joined stream is gone.
    pub(super) fn cut_joined(&mut self, operator: ConnId, stream: u64) {
        if let Some(desk) = self.conns.get_mut(operator).and_then(Conn::desk_mut) {
            desk.reset_joined(stream);
            self.fx.outbox.transmit(operator);
        }
    }

    /// A client has left a stream that is joined with one of a guest's.
    pub(super) fn left_joined(&mut self, join: &Join, in_order: bool) {
        let JoinState::Open(with) = join.state else { return };
        let Some(guest) = self.consoles.guests.get_mut(join.at) else { return };
        if !in_order {
            guest.reset(with);
            self.fx.look_after_guest(join.at);
        }
    }

    /// Both ends of a joined stream are cut.
    pub(super) fn leave_guest(&mut self, id: ConnId, stream: u64) {
        let Some(desk) = self.conns.get_mut(id).and_then(Conn::desk_mut) else { return };
        let with = desk.joined_with(stream);
        desk.reset_joined(stream);
        self.fx.outbox.transmit(id);
        if let Some((at, with)) = with
            && let Some(guest) = self.consoles.guests.get_mut(at)
        {
            guest.reset(with);
            self.fx.look_after_guest(at);
        }
    }

    /// An operator's connection has ended, or may not reach into this guest any more (`None`: any of them).
    pub(super) fn leave_guests(&mut self, id: ConnId, at: Option<ConsoleId>) {
        let desk = self.conns.get(id).and_then(Conn::desk);
        let all: Vec<u64> = desk
            .into_iter()
            .flat_map(Desk::all_joined)
            .filter(|&(_, of, _)| at.is_none_or(|at| at == of))
            .map(|(stream, ..)| stream)
            .collect();
        for stream in all {
            self.leave_guest(id, stream);
        }
        self.consoles.guests.forget_taker(id, at);
        if at.is_none() {
            self.fact_readers.remove(&id);
        }
    }

    /// A connection that is a stream has ended here.
    pub(super) fn end_stream_of(&mut self, leg: ConnId) {
        self.consoles.guests.windows.forget_leg(leg);
        let Some((at, id)) = self.conns.get_mut(leg).and_then(Conn::take_stream) else { return };
        if let Some(guest) = self.consoles.guests.get_mut(at)
            && matches!(guest.carried(id), Some(Carried::Leg { conn, .. }) if *conn == leg)
        {
            guest.end_window(id);
            guest.reset(id);
            self.fx.look_after_guest(at);
        }
    }
}
