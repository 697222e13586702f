//! A VM's connection that has said who it is finds its console: it joins the legs of one that is there, opens
//! its own, or is put aside where there are too many.
//!
//! What it may hope for there is decided here ([`Welcome`]); what comes of it is `inherit`'s.

use std::time::Duration;

use super::Concentrator;
use super::admission::Source;
use super::config::Takeover;
use super::conn::{Conn, Early, Place};
use super::event::{EventKind, TakenBecause};
use super::id::{ConnId, ConsoleId};
use super::index::Placed;
use super::inherit::INHERIT_AFTER;
use super::label::Identity;
use super::legs::{Party, Standing, Welcome};
use super::takeover::{ANSWER_LIMIT, Action};
use super::timers::Timer;

impl Concentrator {
    /// A VM's connection that has said who it is joins the console where it belongs, which is opened if it is
    /// not there yet. Costs a look at each leg of that console.
    pub(super) fn join(&mut self, id: ConnId, placed: Placed, early: Early) {
        match placed {
            Placed::Same(console) => self.join_console(console, id, early, false),
            // Whoever is refused the input of a live VM is not renamed to it either.
            Placed::Other(console)
                if self.config.takeover == Takeover::Refuse || self.cannot_be_asked(console, id) =>
            {
                self.join_apart(console, id, early);
            }
            Placed::Other(console) => self.join_console(console, id, early, true),
            Placed::New(identity) => {
                let console = self.open_console(identity);
                self.join_console(console, id, early, false);
            }
            Placed::Unclear => self.consoles.drop_unshown(early.unshown),
        }
    }

    /// Whether who holds a console's input, or the newcomer that wants it, is a serial line's: to that a
    /// question would be input.
    fn cannot_be_asked(&self, at: ConsoleId, newcomer: ConnId) -> bool {
        let is_line = |id| self.conns.get(id).and_then(Conn::vm).is_some_and(|vm| vm.wire.is_lines());
        is_line(newcomer)
            || self.consoles.get(at).and_then(|console| console.legs.holder()).is_some_and(is_line)
    }

    fn open_console(&mut self, identity: Identity) -> ConsoleId {
        let console = self.consoles.open(identity, &mut self.fx);
        self.open_port(console);
        console
    }

    /// `is_other`: its VM is called otherwise than the console's, whose holder lives as far as one knows.
    fn join_console(&mut self, at: ConsoleId, id: ConnId, mut early: Early, is_other: bool) {
        self.fx.timers.cancel(Timer::Identify(id));
        if !self.make_room_for_leg(at, id) {
            self.put_aside(at, id, early.name.take());
            return self.consoles.drop_unshown(early.unshown);
        }
        self.set_place(id, Place::Console(at));
        self.fx.timers.set(Timer::Ask(id), self.fx.now + ASK_AFTER);
        let (welcome, because) = self.welcome(at, id, is_other);
        let name = early.name.take();
        let Some((console, buffers)) = self.consoles.with_buffers(at) else { return };
        let owed = console.take_half(buffers);
        let (before, action) = console.legs.attach(id, welcome);
        if is_other && let Some(name) = &name {
            let name = console.label.full_name(name);
            console.legs.set_other_name(id, name);
        }
        let holds = console.legs.holder() == Some(id);
        self.fx.outbox.changed(at);
        self.give_half(owed);
        if holds {
            self.fx.timers.cancel(Timer::Inherit(at));
            self.input_passes(at, id, before, because);
        } else {
            self.set_legs_timer(at);
        }
        if is_other && !holds {
            // What it prints waits until it is known whose that is.
            if let Some(vm) = self.conns.get_mut(id).and_then(Conn::vm_mut) {
                self.consoles.promote(&mut early.unshown);
                vm.early = Some(Box::new(Early { unshown: early.unshown, ..Early::default() }));
            }
        } else {
            self.show_early(at, id, early.unshown);
            if let Some(name) = name {
                self.name_leg(at, id, &name);
            }
        }
        self.obey_table(at, action);
        if !holds && action == Action::Nothing && self.config.takeover == Takeover::Refuse {
            self.emit_second(at, id);
        }
        self.consoles.consider_expiry(at, &mut self.fx);
        self.tell_modems(at);
    }

    /// A VM of a console's UUID and URI turns out to be another one: it gets a console of its own.
    fn join_apart(&mut self, from: ConsoleId, id: ConnId, early: Early) {
        let Some(label) = self.consoles.label(from) else { return };
        let name = early.name.clone().unwrap_or_default();
        self.consoles.share(from);
        self.fx.outbox.changed(from);
        let placed = self.consoles.place_apart(&label, &name);
        self.join(id, placed, early);
        self.emit_cloned(from, id);
    }

    /// Gives legs that are those of other VMs consoles of their own. Returns whether there were any.
    pub(super) fn part_others(&mut self) -> bool {
        let mut any = false;
        while let Some((id, from, name)) = self.fx.next_parted() {
            self.part(id, from, &name);
            any = true;
        }
        any
    }

    /// A leg of the console `from` is that of another VM of its UUID and URI, of this name (as the console
    /// would be called): it gets a console of its own, if it is there still.
    fn part(&mut self, id: ConnId, from: ConsoleId, name: &str) {
        if self.conns.get(id).and_then(Conn::vm).map(|vm| vm.place) != Some(Place::Console(from)) {
            return;
        }
        let Some(label) = self.consoles.label(from) else { return };
        let name = name.strip_suffix(&*label.suffix).unwrap_or(name).to_owned();
        // Its move was one of the VM that it was taken for.
        if let Some(moving) = self.conns.get_mut(id).and_then(Conn::vm_mut).and_then(|vm| vm.moving.take()) {
            self.give_up_move(moving, Some(id));
        }
        let early = self.conns.get_mut(id).and_then(Conn::vm_mut).and_then(|vm| vm.early.take());
        self.detach_leg(from, |console| console.legs.detach(id));
        let early = Early { name: Some(name), ..early.map_or_else(Early::default, |early| *early) };
        self.join_apart(from, id, early);
    }

    /// How a newcomer is received, and why the holder loses the input if it does.
    fn welcome(&self, at: ConsoleId, id: ConnId, is_other: bool) -> (Welcome, TakenBecause) {
        let from = self.conns.get(id).and_then(|conn| conn.peer.ip());
        let Some(console) = self.consoles.get(at) else { return (Welcome::Ask, TakenBecause::Silent) };
        let holder = console.legs.holder().and_then(|holder| console.legs.standing(holder));
        let is_line = self.conns.get(id).and_then(Conn::vm).is_some_and(|vm| vm.wire.is_lines());
        let is_its_place = from.is_some() && from == console.tenure.last_holder();
        if is_other {
            (Welcome::Ask, TakenBecause::Silent)
        } else if holder == Some(Standing::Heir) {
            (Welcome::Take(Standing::Second), TakenBecause::LeftOver)
        } else if console.tenure.is_homecoming(from, self.fx.now) {
            (Welcome::Take(Standing::Second), TakenBecause::Home)
        } else if is_line && is_its_place && console.tenure.is_young(self.fx.now) {
            // It has started again, and its end was not heard of.
            (Welcome::Take(Standing::Second), TakenBecause::Home)
        } else {
            match self.config.takeover {
                Takeover::Probe if self.cannot_be_asked(at, id) => (Welcome::Refuse, TakenBecause::Silent),
                Takeover::Probe => (Welcome::Ask, TakenBecause::Silent),
                Takeover::Newest => (Welcome::Take(Standing::Elder), TakenBecause::Newest),
                Takeover::Refuse => (Welcome::Refuse, TakenBecause::Silent),
            }
        }
    }

    /// Sees to it that a console has room for one more leg. Returns whether the newcomer gets it.
    fn make_room_for_leg(&mut self, at: ConsoleId, id: ConnId) -> bool {
        let Some(from) = self.conns.get(id).map(Conn::source) else { return false };
        let now = self.fx.now;
        let Some(console) = self.consoles.get_mut(at) else { return false };
        if !console.legs.is_full() {
            return true;
        }
        let may_displace = console.legs.rivals().displaced.is_none_or(|last| now >= last + DISPLACE_AFTER);
        let address = |party| self.address_of(party);
        let Some(console) = self.consoles.get(at) else { return false };
        let Some(party) = console.legs.yields::<Source>(&from, may_displace, address) else { return false };
        let displaces_own = self.address_of(party) == Some(from);
        if displaces_own && let Some(console) = self.consoles.get_mut(at) {
            console.legs.rivals().displaced = Some(now);
        }
        match party {
            Party::Orphan(moving) => self.give_up_move(moving, None),
            Party::Conn(other) => {
                if let Some(moving) = self.conns.get(other).and_then(Conn::vm).and_then(|vm| vm.moving) {
                    self.give_up_move(moving, Some(other));
                }
                if let Some(vm) = self.conns.get_mut(other).and_then(Conn::vm_mut) {
                    vm.moving = None;
                }
                let name = self.consoles.get(at).and_then(|console| {
                    let name = console.legs.other_name(other)?;
                    Some(name.strip_suffix(&*console.label.suffix).unwrap_or(name).to_owned())
                });
                self.detach_leg(at, |console| console.legs.detach(other));
                self.drop_early_of(other);
                self.put_aside(at, other, name);
            }
        }
        true
    }

    /// Where a leg is; where its source was, if it has ended.
    fn address_of(&self, party: Party) -> Option<Source> {
        match party {
            Party::Conn(id) => self.conns.get(id).map(Conn::source),
            Party::Orphan(moving) => self.moves.get(moving).map(|moved| moved.from),
        }
    }

    /// A connection takes no part in the console that it belongs to before that has room again. It stays
    /// open: its host would connect again, and so on for ever.
    fn put_aside(&mut self, at: ConsoleId, id: ConnId, name: Option<String>) {
        self.set_place(id, Place::Aside(at));
        self.fx.timers.cancel(Timer::Ask(id));
        if let Some(conn) = self.conns.get_mut(id) {
            conn.is_watched = false;
        }
        if let Some(console) = self.consoles.get_mut(at) {
            console.count().legs_beyond += 1;
            console.legs.put_aside(id, name);
            console.legs.rivals().beyond += 1;
        }
        self.emit_beyond(at);
    }

    /// Those that were put aside take part in their console, who came first in front, while it has room.
    pub(super) fn take_in(&mut self, at: ConsoleId) {
        while let Some(console) = self.consoles.get_mut(at)
            && let Some((id, name)) = console.legs.next_aside()
        {
            let first = Identity { clone: Box::default(), ..console.label.identity() };
            let early = Early { name, ..Early::default() };
            match self.consoles.place(&first, early.name.as_deref().filter(|name| !name.is_empty())) {
                Placed::Other(console) => self.join_apart(console, id, early),
                Placed::Same(own) if own == at => self.join_second(at, id, early.name),
                Placed::Unclear => self.join_second(at, id, early.name),
                placed => self.join(id, placed, early),
            }
        }
    }

    /// One that was put aside becomes a leg that came second, whoever holds the input, and inherits as such.
    fn join_second(&mut self, at: ConsoleId, id: ConnId, name: Option<String>) {
        self.set_place(id, Place::Console(at));
        self.fx.timers.set(Timer::Ask(id), self.fx.now + ASK_AFTER);
        let Some(console) = self.consoles.get_mut(at) else { return };
        console.legs.attach_second(id);
        let name = name.map(|name| console.label.full_name(&name));
        if let Some(name) = name.filter(|name| *name != console.label.name) {
            console.legs.set_other_name(id, name);
        }
        self.fx.outbox.changed(at);
        if console.legs.has_hopes() && !self.fx.timers.is_set(Timer::Inherit(at)) {
            self.fx.timers.set(Timer::Inherit(at), self.fx.now + INHERIT_AFTER);
        }
        self.set_legs_timer(at);
        self.consoles.consider_expiry(at, &mut self.fx);
    }

    /// A VM has turned out to be another one than that of the console `from`, of which it had the UUID and
    /// URI.
    fn emit_cloned(&mut self, from: ConsoleId, id: ConnId) {
        let of = self.consoles.label(from).map(|label| label.title()).unwrap_or_default();
        let Some(own) = self.conns.get(id).and_then(Conn::console) else { return };
        let title = self.consoles.label(own).map(|label| label.title()).unwrap_or_default();
        self.show_line(
            from,
            &format!("another VM, {title:?}, has the UUID of this one; it has a console of its own"),
        );
        self.emit_event(Some(id), Some(own), EventKind::Cloned { of });
    }
}

/// How often a newcomer from an address that has the most legs of a console takes the place of one of them: a
/// VM that is started again behind the relay that others have come by gets its turn, and a crowd there costs
/// the holder of the input a question in this time. As long as one question may take.
const DISPLACE_AFTER: Duration = ANSWER_LIMIT;

/// A VM that does not tell its name in this time is announced without it; the same that it has to say which
/// VM it is, since the two are asked for together.
const ASK_AFTER: Duration = Duration::from_secs(2);
