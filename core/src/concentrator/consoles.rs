//! All consoles of one concentrator, and what they share: memory for what they print, buffers for what is
//! typed, and the index by which a VM finds its own.
//!
//! **Owns** the table, the pools and their limits; decides whose scrollback goes when memory is short.
//! **Refuses to know** connections.
//!
//! `consoles/ruled.rs` has what rules say of them, `consoles/read.rs` what comes of what readers take,
//! `consoles/early.rs` what was printed before, `consoles/beside_streams.rs` lines with a guest's streams on
//! them, `consoles/yielding.rs` who is forgotten.

mod beside_streams;
mod early;
mod read;
mod ruled;
mod yielding;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::keyed::Keyed;
use crate::telnet::com_port::Line;
use crate::telnet::wire_form::undouble_into;

use super::config::{Config, SlowClient};
use super::console::{Console, LEAST_LAG_LIMIT, ROOM_UNIT, ReaderKey};
use super::counters::Counters;
use super::dials::Dials;
use super::effects::Effects;
use super::fanout::Limits;
use super::guests::Guests;
use super::id::{ConnId, ConsoleId};
use super::index::{Index, Placed, Table};
use super::journal::Pool;
use super::label::{Identity, Label};
use super::rules::{Pattern, Rules};
use super::silence::SilenceList;
use super::slab::Slab;
use super::target::Target;
use super::unshown::Pools;
use super::unused::Unused;
use super::uplink::Buffers;

/// Every console, by id and by identity.
#[derive(Debug)]
pub(super) struct Consoles {
    table: Table,
    index: Index,
    by_silence: SilenceList,
    unused: Unused,
    /// How many of those are kept.
    most_unused: usize,
    pools: Pools,
    pub(super) buffers: Buffers,
    pub(super) limits: Limits,
    slow: SlowClient,
    expire: Duration,
    rules: Rules,
    /// What consoles are connected to by their names, where their rule does not say.
    forwards_by_name: Vec<(Pattern, Arc<Target>)>,
    /// What they are connected to.
    pub(super) dials: Dials,
    /// What agents in VMs have on their lines.
    pub(super) guests: Guests,
    /// The settings of consoles that somebody has taken for a serial port.
    lines: BTreeMap<ConsoleId, Line>,
    /// Consoles that have had another list of who may use them, and where what they printed under that ends.
    shown_from: BTreeMap<ConsoleId, u64>,
    /// Of each console for output from before the start, in units of [`ROOM_UNIT`].
    room_before: u8,
}

impl Consoles {
    pub(super) fn new(config: &Config, keys: Keyed) -> Self {
        Self {
            table: Slab::new(),
            index: Index::new(keys),
            by_silence: SilenceList::new(),
            unused: Unused::default(),
            most_unused: config.max_consoles,
            pools: Pools::new(config.journal_memory),
            buffers: Buffers::default(),
            limits: limits(config),
            slow: config.slow_client,
            expire: config.vm_expire,
            rules: Rules::new(&config.console_rules),
            forwards_by_name: config.forwards.clone(),
            dials: Dials::default(),
            guests: Guests::default(),
            lines: BTreeMap::new(),
            shown_from: BTreeMap::new(),
            room_before: config.restored_output.div_ceil(ROOM_UNIT).try_into().unwrap_or(u8::MAX),
        }
    }

    /// Takes these settings. What there is too much of by them goes at once. Costs a look at each console.
    pub(super) fn reconfigure(&mut self, config: &Config, fx: &mut Effects) {
        self.pools.set_limit(config.journal_memory);
        self.most_unused = config.max_consoles;
        self.limits = limits(config);
        self.slow = config.slow_client;
        let expired = std::mem::replace(&mut self.expire, config.vm_expire);
        for id in self.table.ids() {
            let Some(console) = self.table.get_mut(id) else { continue };
            console.change_expiry(expired, self.expire, fx);
            if console.fanout().journal().kept() > 0 {
                trim(console, self.limits, &mut self.pools.vms, fx);
                console.consider_resume(self.limits, fx);
            }
        }
        self.trim_memory(fx);
        self.keep_no_more_than_may(fx);
    }

    pub(super) fn get(&self, id: ConsoleId) -> Option<&Console> {
        self.table.get(id)
    }

    pub(super) fn get_mut(&mut self, id: ConsoleId) -> Option<&mut Console> {
        self.table.get_mut(id)
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Every console, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Console> {
        self.table.iter().map(|(_, console)| console)
    }

    /// Every console from a slot on, in the order of their slots: for who looks at them piece by piece.
    pub(super) fn iter_from(&self, slot: u32) -> impl Iterator<Item = &Console> {
        self.table.iter_from(slot).map(|(_, console)| console)
    }

    /// A console together with the buffers that its uplink uses.
    pub(super) fn with_buffers(&mut self, id: ConsoleId) -> Option<(&mut Console, &mut Buffers)> {
        self.table.get_mut(id).map(|console| (console, &mut self.buffers))
    }

    /// The same of a console at which somebody types; and whether nothing but frames may go on its line.
    pub(super) fn typed_at(&mut self, id: ConsoleId) -> Option<(&mut Console, &mut Buffers, bool)> {
        let console = self.table.get_mut(id)?;
        let is_taken = console.has_guest && self.guests.owns_line(id);
        Some((console, &mut self.buffers, is_taken))
    }

    /// The settings of a console as a serial port, kept from now on until it is forgotten.
    pub(super) fn keep_line(&mut self, id: ConsoleId) -> &mut Line {
        self.lines.entry(id).or_default()
    }

    /// Whether a console has such settings.
    pub(super) fn has_line(&self, id: ConsoleId) -> bool {
        self.lines.contains_key(&id)
    }

    /// What a console is called now.
    pub(super) fn label(&self, id: ConsoleId) -> Option<Arc<Label>> {
        self.table.get(id).map(|console| Arc::clone(&console.label))
    }

    /// The counters of a console, or `others` where there is none.
    pub(super) fn count_in<'a>(
        &'a mut self,
        id: Option<ConsoleId>,
        others: &'a mut Counters,
    ) -> &'a mut Counters {
        match id.and_then(|id| self.table.get_mut(id)) {
            Some(console) => console.count(),
            None => others,
        }
    }

    /// The console of this identity.
    pub(super) fn by_identity(&self, identity: &Identity) -> Option<ConsoleId> {
        self.index.find(&self.table, identity)
    }

    /// Two names were live on this console's UUID and URI: from now on a name is part of who is who.
    pub(super) fn share(&mut self, id: ConsoleId) {
        if let Some(console) = self.table.get(id) {
            self.index.share(&console.label);
        }
    }

    /// Whether VMs of several names have this console's UUID and URI.
    pub(super) fn is_shared(&self, label: &Label) -> bool {
        self.index.is_shared(label)
    }

    /// Whether this console is the one that its UUID and URI alone mean.
    pub(super) fn is_first(&self, label: &Label) -> bool {
        self.index.is_first(&self.table, label)
    }

    /// Where a VM belongs that has this UUID and URI, and this name if that is known.
    pub(super) fn place(&self, first: &Identity, name: Option<&str>) -> Placed {
        self.index.place(&self.table, first, name)
    }

    /// Where it belongs if it does not tell its name.
    pub(super) fn place_without_name(&self, first: &Identity) -> Placed {
        self.index.place_without_name(&self.table, first)
    }

    /// Where a VM belongs that has this name and is known not to be the one of its UUID and URI that was here
    /// before.
    pub(super) fn place_apart(&self, from: &Label, name: &str) -> Placed {
        self.index.place_apart(&self.table, from, name)
    }

    /// Opens a console. There must be none of this identity.
    pub(super) fn open(&mut self, identity: Identity, fx: &mut Effects) -> ConsoleId {
        self.open_as(identity, None, fx)
    }

    /// The same, of one that is a stream of the guest's at `parent`.
    pub(super) fn open_member(
        &mut self,
        identity: Identity,
        parent: ConsoleId,
        fx: &mut Effects,
    ) -> ConsoleId {
        self.open_as(identity, Some(parent), fx)
    }

    fn open_as(&mut self, identity: Identity, parent: Option<ConsoleId>, fx: &mut Effects) -> ConsoleId {
        debug_assert!(self.by_identity(&identity).is_none(), "a console is opened twice");
        let Identity { uuid, suffix, clone } = identity;
        let label = Label {
            id: ConsoleId { index: 0, generation: 0 },
            uuid,
            suffix,
            clone,
            name: String::new(),
            port: None,
            of_guest: false,
        };
        let id = self.table.insert(Console::new(label, self.room_before, fx.now));
        if let Some(opened) = self.table.get_mut(id) {
            Arc::make_mut(&mut opened.label).id = id;
        }
        match parent {
            Some(parent) => self.add_member(id, parent),
            None => drop(self.find_rule(id)),
        }
        self.index.add(&self.table, id);
        fx.outbox.changed(id);
        id
    }

    /// A console is a stream of the guest's at another one.
    pub(super) fn add_member(&mut self, member: ConsoleId, of: ConsoleId) {
        self.guests.add_member(member, of);
        if let Some(console) = self.table.get_mut(member) {
            Arc::make_mut(&mut console.label).of_guest = true;
        }
        self.find_rule(member);
    }

    /// Forgets a console.
    pub(super) fn remove(&mut self, id: ConsoleId, fx: &mut Effects) {
        let Some(mut console) = self.table.remove(id) else { return };
        let is_withheld = self.rules.get(console.rule).is_some_and(|rule| rule.may.is_some());
        self.index.remove(&console.label);
        self.by_silence.remove(id.index);
        self.shown_from.remove(&id);
        self.dials.forget(id);
        self.guests.remove(id);
        self.guests.disown(id);
        console.clear_output(&mut self.pools.vms);
        fx.timers.forget_console(id);
        self.unused.remove(id);
        self.unused.note_port(id, false);
        self.lines.remove(&id);
        *match is_withheld {
            true => &mut fx.withheld,
            false => &mut fx.counters,
        } += console.counters();
        fx.outbox.changed(id);
    }

    /// Takes in what a VM's connection printed: a run of wire form with whole pairs, `pairs` of them. Costs
    /// one copy and a look at each reader.
    pub(super) fn print(&mut self, id: ConsoleId, from: ConnId, wire: &[u8], pairs: usize, fx: &mut Effects) {
        let Some(console) = self.table.get_mut(id) else { return };
        if console.has_guest {
            let mut came = Vec::with_capacity(wire.len());
            undouble_into(wire, usize::MAX, &mut came);
            return self.print_beside_streams(id, from, &came, fx);
        }
        console.fanout_mut().print(wire, pairs, &mut self.pools.vms);
        console.count().bytes_from_vm += (wire.len() - pairs) as u64;
        let waits = self.rules.slow_client(console.rule).unwrap_or(self.slow) == SlowClient::Wait;
        after_print(console, self.limits, waits, &mut self.pools.vms, fx);
        self.by_silence.touch(id.index);
        self.trim_memory(fx);
    }

    /// Puts what a console printed before the start before all that it has printed since, as much of its end
    /// as it may have; once, and only as far as there is memory that nobody else uses. Returns how many bytes
    /// that were.
    pub(super) fn put_before(&mut self, id: ConsoleId, guest: &[u8], fx: &mut Effects) -> usize {
        let Some(console) = self.table.get_mut(id).filter(|_| !guest.is_empty()) else { return 0 };
        if !self.pools.vms.has_room(2 * guest.len()) {
            return 0;
        }
        let put = console.put_before(guest, &mut self.pools.vms);
        self.by_silence.add(id.index);
        trim(console, self.limits, &mut self.pools.vms, fx);
        put
    }

    /// Keeps all journals within their common memory: the longest silent gives first.
    fn trim_memory(&mut self, fx: &mut Effects) {
        while self.pools.vms.is_over()
            && let Some(index) = self.by_silence.longest_silent()
        {
            let silent = self.table.id_at(index).and_then(|id| self.table.get_mut(id));
            let gave = silent.is_some_and(|console| {
                let gave = overtake(console, &mut self.pools.vms, fx);
                // It may have waited for a reader that is overtaken now.
                console.consider_resume(self.limits, fx);
                gave
            });
            if !gave {
                self.by_silence.remove(index);
            }
        }
    }

    /// A number that stands for a console's identity, also for one that comes again after it was forgotten.
    pub(super) fn number(&self, id: ConsoleId) -> u64 {
        self.table.get(id).map_or(0, |console| self.index.number(&console.label.identity()))
    }

    /// Fails a debug build where what is kept twice does not agree. Costs a look at everything.
    #[cfg(any(debug_assertions, test))]
    pub(super) fn check_invariants(&self) {
        assert_eq!(self.index.len(), self.table.len(), "consoles and their index differ");
        for (id, console) in self.table.iter() {
            assert_eq!(console.label.id, id, "a label has another console's id");
            let identity = console.label.identity();
            assert_eq!(
                self.by_identity(&identity),
                Some(id),
                "{} is not found by its identity",
                console.label
            );
            console.check_invariants();
            let has_guest = self.guests.get(id).is_some() || self.guests.is_control(id);
            assert_eq!(console.has_guest, has_guest, "{}: whether a guest is on its line", console.label);
        }
        self.guests.check_invariants(|id| self.table.get(id).is_some());
    }
}

fn limits(config: &Config) -> Limits {
    Limits {
        keep: config.scrollback as u64,
        lag: config.lag_limit.max(config.scrollback).max(LEAST_LAG_LIMIT) as u64,
    }
}

/// Has readers know of new output. With `waits` the VM is paused where one of them is too far behind.
fn after_print(console: &mut Console, limits: Limits, waits: bool, pool: &mut Pool, fx: &mut Effects) {
    console.last_output = fx.now;
    trim(console, limits, pool, fx);
    console.wake_readers(fx);
    if waits {
        console.consider_pause(limits, fx);
    }
}

/// Lets go of what nobody needs.
fn trim(console: &mut Console, limits: Limits, pool: &mut Pool, fx: &mut Effects) {
    let mut lost: Vec<ReaderKey> = Vec::new();
    console.fanout_mut().trim(limits, pool, |key| lost.push(key));
    lost.into_iter().for_each(|key| console.lose_reader(key, fx));
}

/// Lets go of the oldest segment whoever needs it. Returns whether there was one.
fn overtake(console: &mut Console, pool: &mut Pool, fx: &mut Effects) -> bool {
    let mut lost: Vec<ReaderKey> = Vec::new();
    let gave = console.fanout_mut().overtake(pool, |key| lost.push(key));
    lost.into_iter().for_each(|key| console.lose_reader(key, fx));
    gave
}
