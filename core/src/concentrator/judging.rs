//! Who is at a console whose rule or whose right is not what it was: who may not be there any more leaves,
//! who may only watch types no more.

use crate::admin::lock::{Access, LockMode};
use crate::admin::operator::{self, Notice, Right};

use super::Concentrator;
use super::conn::{Conn, Role};
use super::console::Console;
use super::desk::Watch;
use super::event::CloseReason;
use super::id::{ConnId, ConsoleId};
use super::output::{LogOrder, Output};

impl Concentrator {
    /// Another list than until now says who may use a console, or none: those who are there are judged anew.
    /// What it printed under a list that it `had` is shown to nobody who comes.
    pub(super) fn list_has_changed(&mut self, at: ConsoleId, had: bool) {
        if had {
            self.consoles.hide_past(at);
        }
        self.judge_those_at(at);
    }

    /// Who has subscribed to consoles and may know of this one; nobody where no console has a list.
    pub(super) fn watching(&self, at: ConsoleId) -> Vec<ConnId> {
        match self.consoles.lists().next() {
            None => Vec::new(),
            Some(_) => self.watchers.iter().copied().filter(|&id| self.sees(id, at)).collect(),
        }
    }

    /// Of those subscribers who may not know of a console any more each is told that it is gone.
    pub(super) fn lose_sight(&mut self, at: ConsoleId, watching: &[ConnId]) {
        for &id in watching {
            if !self.sees(id, at)
                && let Some(watch) = self.watch_mut(id)
            {
                watch.lost.insert(at);
                watch.changed.insert(at);
                self.fx.outbox.transmit(id);
            }
        }
    }

    /// Which subscribers may know of each console. Costs a look at each console for each of them.
    pub(super) fn all_watching(&self) -> Vec<(ConsoleId, Vec<ConnId>)> {
        if self.watchers.is_empty() {
            return Vec::new();
        }
        let ids = self.consoles.iter().map(Console::id);
        ids.map(|at| (at, self.watchers.iter().copied().filter(|&id| self.sees(id, at)).collect())).collect()
    }

    fn watch_mut(&mut self, id: ConnId) -> Option<&mut Watch> {
        self.conns.get_mut(id)?.desk_mut()?.watch.as_mut()
    }

    /// Judges anew everybody who is at a console. Costs a look at each, and at each rule of its list.
    pub(super) fn judge_those_at(&mut self, at: ConsoleId) {
        let Some(console) = self.consoles.get(at) else { return };
        for id in console.clients().collect::<Vec<_>>() {
            self.judge(id, at);
        }
        self.end_logs_of(at);
        for id in self.desks() {
            self.judge_in_guest(id, at);
        }
    }

    /// One who may not reach into a console's guest any more leaves it.
    fn judge_in_guest(&mut self, id: ConnId, at: ConsoleId) {
        let right = self.right_at(id, at);
        if right < Right::Writer {
            self.leave_guests(id, Some(at));
        }
        if right < Right::Spectator
            && let Some(desk) = self.conns.get_mut(id).and_then(Conn::desk_mut)
        {
            desk.end_tellings_of(at);
            self.fx.outbox.transmit(id);
        }
    }

    fn judge(&mut self, id: ConnId, at: ConsoleId) {
        let Some(conn) = self.conns.get(id).filter(|conn| conn.closing.is_none()) else { return };
        if matches!(conn.role, Role::Local(_)) {
            return;
        }
        let is_visitor = conn.is_visitor();
        match self.right_at(id, at) {
            Right::None => {
                let line = match is_visitor {
                    true => "you may not use this console any more",
                    false => "this console is reached by the admin port only from now on",
                };
                self.show_line_to(id, line);
                self.end_attach(id, CloseReason::NoRight, None);
                if let Some(conn) = self.conns.get_mut(id) {
                    conn.doom(id, CloseReason::NoRight, &mut self.fx);
                }
            }
            Right::Spectator => {
                let types = self.consoles.get(at).and_then(|console| console.lock().access(id));
                if types == Some(Access::Writer) {
                    // Nobody stands in the way of one who only watches.
                    let _ = self.change_lock(id, LockMode::Readonly);
                    self.tell_of_reading(id, at);
                    self.show_line_to(id, "you may only watch from now on: what you type is dropped");
                }
            }
            Right::Writer | Right::Operator => {}
        }
    }

    /// Tells an attach that what is typed on it goes nowhere any more, also where that changes nobody's lock.
    fn tell_of_reading(&mut self, id: ConnId, at: ConsoleId) {
        let Some(Role::Attach(attach)) = self.conns.get(id).map(|conn| &conn.role) else { return };
        let (operator, stream) = (attach.operator, attach.stream);
        let (offset, lock) = (self.consoles.get(at).map_or(0, Console::offset), self.held_at(at));
        if let Some(desk) = self.conns.get_mut(operator).and_then(Conn::desk_mut) {
            desk.notify(&Notice::Access { stream, offset, access: operator::Access::Read, lock });
            self.fx.outbox.transmit(operator);
        }
    }

    /// Ends the reading of a console's log by those who may not any more.
    fn end_logs_of(&mut self, at: ConsoleId) {
        for id in self.desks() {
            if self.sees(id, at) {
                continue;
            }
            let Some(desk) = self.conns.get_mut(id).and_then(Conn::desk_mut) else { continue };
            for reader in desk.end_logs_of(id, at) {
                self.fx.outbox.push(Output::Log(LogOrder::Stop(reader)));
                self.fx.outbox.transmit(id);
            }
        }
    }

    /// What each operator's connection that has said hello may do, everywhere and by lists. Costs a look at
    /// each rule of each list for each of them.
    pub(super) fn all_rights(&self) -> Vec<(ConnId, Notice)> {
        let is_known =
            |id: &ConnId| self.conns.get(*id).and_then(Conn::desk).is_some_and(|desk| desk.standing.is_known);
        self.desks().into_iter().filter(is_known).map(|id| (id, self.rights_of(id))).collect()
    }

    fn rights_of(&self, id: ConnId) -> Notice {
        Notice::Rights { rights: self.right_anywhere(id).name().into(), lists: self.lists_of(id) }
    }

    /// Tells each of those whose rights are not what they were.
    pub(super) fn tell_of_rights(&mut self, before: Vec<(ConnId, Notice)>) {
        for (id, before) in before {
            let now = self.rights_of(id);
            if now != before
                && let Some(desk) = self.conns.get_mut(id).and_then(Conn::desk_mut)
            {
                desk.notify(&now);
                self.fx.outbox.transmit(id);
            }
        }
    }

    /// Judges anew every operator's connection. Subscriptions are told of the consoles that have come into
    /// them or gone out. Costs a look at each connection, and for each such at each console.
    pub(super) fn judge_operators(&mut self) {
        for id in self.desks() {
            let Some(desk) = self.conns.get_mut(id).and_then(Conn::desk_mut) else { continue };
            let before = desk.standing.right;
            desk.standing.judge(&self.config.admin_rights);
            let mut guests = desk.guests();
            guests.extend(self.consoles.guests.taken_by(id));
            if desk.standing.right != before
                && desk.standing.is_known
                && let Some(watch) = &mut desk.watch
            {
                watch.changed.extend(self.consoles.iter().map(Console::id));
                self.fx.outbox.transmit(id);
            }
            for at in guests {
                self.judge_in_guest(id, at);
            }
        }
    }

    fn desks(&self) -> Vec<ConnId> {
        let is_desk = |conn: &Conn| conn.desk().is_some();
        self.conns.iter().filter(|(_, conn)| is_desk(conn)).map(|(id, _)| id).collect()
    }
}
