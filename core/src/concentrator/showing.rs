//! What operators' connections are given: answers, notices of what has changed, and output of the consoles
//! they are attached to, as far as each client has credit for it.

use std::io::IoSlice;

use crate::admin::operator::{Notice, write_id};

use super::Concentrator;
use super::conn::{Closing, Conn, Role};
use super::describing::{LOOKED_AT_MOST, matches};
use super::event::{Event, EventKind};
use super::id::{ConnId, ConsoleId};
use super::output::{LogOrder, LogReader, Output, Sent};
use super::timers::Timer;

impl Concentrator {
    /// To an operator: answers, notices, and output of its attaches.
    pub(super) fn offer_operator(&mut self, id: ConnId, take: impl FnOnce(&[IoSlice<'_>]) -> usize) -> Sent {
        let Some(conn) = self.conns.get_mut(id) else { return Sent::default() };
        let is_closing = conn.closing == Some(Closing::Farewell);
        let Some(desk) = conn.desk_mut() else { return Sent::default() };
        match (desk.is_short(), is_closing) {
            (true, _) => {}
            (false, true) => desk.flush(),
            (false, false) => self.fill(id),
        }
        let now = self.fx.now;
        let Some(desk) = self.conns.get_mut(id).and_then(Conn::desk_mut) else { return Sent::default() };
        let before = desk.receive_window();
        let (offered, taken) = desk.transmit(now, take);
        if before == 0 && desk.receive_window() > 0 {
            self.fx.outbox.receive(id);
        }
        if let Some(due) = desk.poll_timeout()
            && !self.fx.timers.is_set(Timer::Admin(id))
        {
            self.fx.timers.set(Timer::Admin(id), due);
        }
        Sent { offered, taken }
    }

    /// Hands the session what its client can take: what waits, what has changed, output.
    fn fill(&mut self, id: ConnId) {
        self.tell_of_consoles(id);
        let Some(desk) = self.conns.get_mut(id).and_then(Conn::desk_mut) else { return };
        desk.flush();
        let (mut filled, mut next) = (0, desk.next_ready());
        while let Some((stream, attach, credit)) = next {
            filled += self.fill_attach(id, stream, attach, credit);
            let Some(desk) = self.conns.get_mut(id).and_then(Conn::desk_mut) else { return };
            next = if filled < FILL_MOST { desk.next_ready() } else { None };
        }
        let Some(desk) = self.conns.get_mut(id).and_then(Conn::desk_mut) else { return };
        for stream in desk.show_logs() {
            self.fx.outbox.push(Output::Log(LogOrder::More(LogReader { conn: id, stream })));
        }
        // Notices of gaps.
        desk.flush();
    }

    /// Takes output of an attach's console, as much as its client has room for. Returns how much.
    fn fill_attach(&mut self, id: ConnId, stream: u64, attach: ConnId, credit: usize) -> usize {
        let Self { conns, consoles, scratch, fx, .. } = self;
        let Some((conn, reader)) = conns.get_two_mut(id, attach) else { return 0 };
        let (Some(desk), Role::Attach(attached)) = (conn.desk_mut(), &mut reader.role) else { return 0 };
        let Some(mut reading) = consoles.reading(attached.console) else { return 0 };
        let seat = attached.seat;
        let missed = reading.catch_up(seat);
        let fanout = reading.console.fanout();
        let (offset, _) = fanout.position(seat);
        let mut runs = [IoSlice::new(&[]); RUNS];
        let (count, layout) = fanout.offer(seat, &[], scratch, &mut runs);
        let offered: usize = runs[..count].iter().map(|run| run.len()).sum();
        let taken = offered.min(credit);
        if let Some(bytes) = missed {
            desk.notify(&Notice::Missed { stream, offset, bytes });
        }
        let mut left = taken;
        for run in &runs[..count] {
            let n = run.len().min(left);
            desk.show(stream, &run[..n]);
            left -= n;
        }
        if offered == 0 {
            fx.outbox.drained(attach);
        } else {
            desk.mark_ready(stream);
        }
        if missed.is_some() {
            reading.console.fanout_mut().told_of_gap(seat);
        }
        if taken > 0 {
            reading.took(seat, layout, taken, fx);
        }
        attached.visit.shown += taken as u64;
        if let Some(bytes) = missed {
            self.emit(attach, EventKind::ReaderSkipped(bytes));
        }
        taken
    }

    /// Tells a subscriber of consoles: those there were, then what has changed.
    fn tell_of_consoles(&mut self, id: ConnId) {
        for _ in 0..LOOKED_AT_MOST {
            let Some(desk) = self.conns.get_mut(id).and_then(Conn::desk_mut) else { return };
            if desk.waiting() > TOLD_MOST {
                return;
            }
            let Some(watch) = &mut desk.watch else { return };
            let next = match watch.next {
                Some(slot) => match self.consoles.iter_from(slot).next() {
                    Some(console) => {
                        watch.next = Some(console.id().index + 1);
                        watch.changed.remove(&console.id());
                        console.id()
                    }
                    None => {
                        watch.next = None;
                        desk.notify(&Notice::Synced);
                        continue;
                    }
                },
                None => match watch.changed.pop_first() {
                    Some(changed) => changed,
                    None => return,
                },
            };
            let is_seen = self.sees(id, next);
            let desk = self.conns.get_mut(id).and_then(Conn::desk_mut);
            let Some(watch) = desk.and_then(|desk| desk.watch.as_mut()) else { return };
            let was_hidden = watch.hidden.remove(&next);
            let is_lost = watch.lost.remove(&next);
            let notice = match self.consoles.get(next) {
                None if was_hidden && !is_lost => continue,
                None => Notice::ConsoleGone { id: write_id(next.to_bits()) },
                Some(_) if !is_seen => {
                    watch.hidden.insert(next);
                    if !is_lost {
                        continue;
                    }
                    Notice::ConsoleGone { id: write_id(next.to_bits()) }
                }
                Some(console) if matches(&watch.matching, console) => {
                    Notice::Console { console: Box::new(self.describe_console(console)) }
                }
                Some(_) => continue,
            };
            if let Some(desk) = self.conns.get_mut(id).and_then(Conn::desk_mut) {
                desk.notify(&notice);
            }
        }
        // There is more to look at, after others have had their turn.
        self.fx.timers.set(Timer::Admin(id), self.fx.now);
    }

    /// A console is not what it was: attaches and subscribers are told, as they have room.
    pub(super) fn spread_change(&mut self, at: ConsoleId) {
        self.refresh_attaches(at);
        for id in self.watchers.clone() {
            if let Some(watch) =
                self.conns.get_mut(id).and_then(Conn::desk_mut).and_then(|desk| desk.watch.as_mut())
            {
                watch.changed.insert(at);
                self.fx.outbox.transmit(id);
            }
        }
    }

    /// Something was logged: subscribers are told, as they have room.
    pub(super) fn spread_event(&mut self, event: &Event) {
        for id in self.loggers.clone() {
            if !self.hears_of(id, event.console.as_deref()) {
                continue;
            }
            let Some(desk) = self.conns.get_mut(id).and_then(Conn::desk_mut) else { continue };
            let is_full = desk.waiting() > TOLD_MOST;
            let Some(dropped) = &mut desk.log else { continue };
            if is_full {
                *dropped += 1;
                continue;
            }
            let count = std::mem::take(dropped);
            if count > 0 {
                desk.notify(&Notice::LogDropped { count });
            }
            event.put_line(desk.buffer());
            self.fx.outbox.transmit(id);
        }
    }
}

/// Output that is taken out of journals before the socket takes some.
const FILL_MOST: usize = 256 << 10;

/// Notices that wait for a client before newer ones wait to be made.
const TOLD_MOST: usize = 32 << 10;

/// Pieces of output that are looked at for one attach at a time.
const RUNS: usize = 16;
