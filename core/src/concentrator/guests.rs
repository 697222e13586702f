//! Which consoles have a guest with an agent, which ones are streams of it, and who takes what comes of it.
//!
//! **Owns** these tables. **Refuses to know** what is on the streams.

use std::collections::{BTreeMap, BTreeSet};

use super::guest::{Guest, Mux};
use super::id::{ConnId, ConsoleId};
use super::packed::Unpacked;
use super::windows::Windows;

/// All guests of one concentrator.
#[derive(Debug, Default)]
pub(super) struct Guests {
    guests: BTreeMap<ConsoleId, Box<Guest>>,
    /// Connections whose port's URI, or whose line's entry, says that they carry streams.
    wishes: BTreeMap<ConnId, Mux>,
    /// Consoles that are streams of the guest at another one.
    parents: BTreeMap<ConsoleId, ConsoleId>,
    /// The same, by that one.
    members: BTreeSet<(ConsoleId, ConsoleId)>,
    /// Who takes what connects to a listener of this name in a guest.
    takers: BTreeMap<(ConsoleId, Box<str>), ConnId>,
    /// Consoles that are the control channel of the guest at another one.
    controls: BTreeSet<ConsoleId>,
    awake: Awake,
    pub(super) windows: Windows,
    /// Guests of whose logs something was unpacked of late.
    pub(super) unpacked: BTreeMap<ConsoleId, Unpacked>,
}

impl Guests {
    pub(super) fn get(&self, at: ConsoleId) -> Option<&Guest> {
        self.guests.get(&at).map(|guest| &**guest)
    }

    pub(super) fn get_mut(&mut self, at: ConsoleId) -> Option<&mut Guest> {
        self.guests.get_mut(&at).map(|guest| &mut **guest)
    }

    pub(super) fn insert(&mut self, at: ConsoleId, guest: Guest) {
        self.guests.insert(at, Box::new(guest));
    }

    /// A guest was looked after. While there are too many whose sessions are awake, those that have not been
    /// looked after for longest rest, unless something of them is under way: a few a call, so that they
    /// become fewer. Work in proportion to the streams of those few.
    pub(super) fn looked_after(&mut self, at: ConsoleId) {
        let Self { guests, awake, .. } = self;
        let Some(guest) = guests.get_mut(&at) else { return };
        // One that nobody has answered yet cannot rest.
        let is_awake = guest.trunk.is_up() && !guest.trunk.is_resting();
        guest.awake_as = awake.list(at, guest.awake_as, is_awake);
        for _ in 0..RESTS {
            let Some((number, idle)) = awake.too_many() else { return };
            if let Some(guest) = guests.get_mut(&idle) {
                let is_awake = !guest.trunk.rest();
                guest.awake_as = awake.list(idle, number, is_awake);
            }
        }
    }

    /// There is no guest at this console any more.
    pub(super) fn remove(&mut self, at: ConsoleId) {
        if let Some(guest) = self.guests.remove(&at) {
            self.awake.list(at, guest.awake_as, false);
        }
        self.controls.remove(&at);
        self.unpacked.remove(&at);
        self.takers.retain(|(of, _), _| *of != at);
    }

    /// A console is forgotten, or is no stream any more.
    pub(super) fn disown(&mut self, member: ConsoleId) {
        if let Some(parent) = self.parents.remove(&member) {
            self.members.remove(&(parent, member));
        }
    }

    /// A connection says that it carries streams, or has ended.
    pub(super) fn wishes(&mut self, id: ConnId, mux: Option<Mux>) {
        match mux {
            Some(mux) => drop(self.wishes.insert(id, mux)),
            None => drop(self.wishes.remove(&id)),
        }
    }

    pub(super) fn wish(&self, id: ConnId) -> Option<Mux> {
        self.wishes.get(&id).copied()
    }

    /// How a console's line is carried.
    pub(super) fn mux(&self, at: ConsoleId) -> Option<Mux> {
        if self.is_control(at) { Some(Mux::V1Control) } else { self.get(at).map(|guest| guest.mux) }
    }

    /// A console is the control channel of a guest's.
    pub(super) fn add_control(&mut self, at: ConsoleId) {
        self.controls.insert(at);
    }

    /// Whether it is one.
    pub(super) fn is_control(&self, at: ConsoleId) -> bool {
        self.controls.contains(&at)
    }

    /// Nothing but frames may be sent on a console's line now.
    pub(super) fn owns_line(&self, at: ConsoleId) -> bool {
        self.is_control(at) || self.get(at).is_some_and(Guest::owns_line)
    }

    /// A console is a stream of the guest at another one.
    pub(super) fn add_member(&mut self, member: ConsoleId, of: ConsoleId) {
        self.parents.insert(member, of);
        self.members.insert((of, member));
    }

    /// The console whose guest a console is a stream of.
    pub(super) fn parent(&self, member: ConsoleId) -> Option<ConsoleId> {
        self.parents.get(&member).copied()
    }

    /// Consoles that are streams of this guest.
    pub(super) fn members(&self, of: ConsoleId) -> impl Iterator<Item = ConsoleId> {
        let all = (of, ConsoleId::from_bits(0))..=(of, ConsoleId::from_bits(u64::MAX));
        self.members.range(all).map(|&(_, member)| member)
    }

    /// Somebody takes what connects to this listener. `false`: another one does.
    pub(super) fn take(&mut self, at: ConsoleId, name: &str, who: ConnId) -> bool {
        *self.takers.entry((at, name.into())).or_insert(who) == who
    }

    pub(super) fn taker(&self, at: ConsoleId, name: &str) -> Option<ConnId> {
        self.takers.get(&(at, name.into())).copied()
    }

    /// An operator's connection has ended, or may not take from this guest any more.
    pub(super) fn forget_taker(&mut self, who: ConnId, at: Option<ConsoleId>) {
        self.takers.retain(|(of, _), taker| *taker != who || at.is_some_and(|at| at != *of));
    }

    /// The consoles from whose guests somebody takes connections, one for each listener. Costs a look at all.
    pub(super) fn taken_by(&self, who: ConnId) -> impl Iterator<Item = ConsoleId> {
        self.takers.iter().filter(move |(_, taker)| **taker == who).map(|((at, _), _)| *at)
    }

    /// Fails a debug build where what is kept twice does not agree. `is_there`: whether there is a console.
    #[cfg(any(debug_assertions, test))]
    pub(super) fn check_invariants(&self, is_there: impl Fn(ConsoleId) -> bool) {
        let by_member = self.parents.iter().map(|(&member, &parent)| (parent, member));
        assert_eq!(by_member.collect::<BTreeSet<_>>(), self.members, "streams and their guests");
        for &at in self.guests.keys().chain(self.parents.keys()).chain(&self.controls) {
            assert!(is_there(at), "{at}, of a guest, is gone");
        }
        for &(number, at) in &self.awake.listed {
            let listed = self.get(at).map(|guest| guest.awake_as);
            assert_eq!(listed, Some(number), "as what the guest at {at} is listed");
        }
    }
}

/// Guests whose sessions were awake when they were looked after, in that order. A fleet that comes up at one
/// moment would have them all awake until they have been silent for a while, and an allocator hardly gives
/// back what so many take at once.
#[derive(Debug, Default)]
struct Awake {
    /// Each once, with the number that it was last listed as.
    listed: BTreeSet<(u32, ConsoleId)>,
    last: u32,
}

impl Awake {
    /// Lists a guest that was listed as `before` behind all others, if it is awake, and tells as what; 0: it
    /// is not listed. Once in four thousand million times the order begins anew.
    fn list(&mut self, at: ConsoleId, before: u32, is_awake: bool) -> u32 {
        if before != 0 {
            self.listed.remove(&(before, at));
        }
        if !is_awake {
            return 0;
        }
        self.last = self.last.checked_add(1).unwrap_or(1);
        self.listed.insert((self.last, at));
        self.last
    }

    /// The first, if there are too many.
    fn too_many(&self) -> Option<(u32, ConsoleId)> {
        self.listed.first().copied().filter(|_| self.listed.len() > AWAKE)
    }
}

/// How many sessions stay awake for a while after they were used: then no key of somebody who types has to
/// wake one. More than people type to at once, and together a tenth of a megabyte.
const AWAKE: usize = 64;

/// How many are tried in a call: more than one, since what is tried may be in the middle of something.
const RESTS: usize = 4;
