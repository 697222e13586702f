//! What several legs of a console make of each other: how their VMs are called, who waits for room, and how
//! far a contest for the input is.
//!
//! **Owns** what is kept only while there is, or a minute ago was, more than one. **Refuses to know** who
//! gets the input ([`succession`](super::succession)).

use super::super::aside::Aside;
use super::super::id::ConnId;
use super::super::takeover::ContestState;
use super::Legs;
use crate::time::Instant;

/// What several legs make of each other.
#[derive(Debug, Default)]
pub(in crate::concentrator) struct Rivals {
    pub(super) state: ContestState,
    /// When the holder was asked, or got more time.
    pub(in crate::concentrator) since: Instant,
    /// How their VMs are called, of those whose VM is not called as the console.
    pub(in crate::concentrator) names: Vec<(ConnId, String)>,
    /// When a leg last made room for a newcomer from the address that has the most anyway.
    pub(in crate::concentrator) displaced: Option<Instant>,
    /// Connections beyond [`LEGS`](super::LEGS).
    aside: Aside,
    /// How many those were since that was last told.
    pub(in crate::concentrator) beyond: u32,
    /// What was told of them is not told again before this is over.
    pub(in crate::concentrator) told: bool,
}

impl Legs {
    /// A connection waits for room: there are as many legs as there may be.
    pub(in crate::concentrator) fn put_aside(&mut self, id: ConnId, name: Option<String>) {
        self.rivals().aside.push(id, name);
    }

    /// The VM of one that waits for room says what it is called.
    pub(in crate::concentrator) fn name_aside(&mut self, id: ConnId, name: &str) {
        if let Some(rivals) = &mut self.rivals {
            rivals.aside.name(id, name);
        }
    }

    /// One that waits for room waits no longer.
    pub(in crate::concentrator) fn leave_aside(&mut self, id: ConnId) {
        if let Some(rivals) = &mut self.rivals {
            rivals.aside.remove(id);
        }
    }

    /// Who has waited for room for longest, where there is some.
    pub(in crate::concentrator) fn next_aside(&mut self) -> Option<(ConnId, Option<String>)> {
        if self.has_room_for_aside() { self.rivals().aside.take_first() } else { None }
    }

    /// Whether somebody waits for room in vain.
    pub(in crate::concentrator) fn has_room_for_aside(&self) -> bool {
        !self.is_full() && self.rivals.as_ref().is_some_and(|rivals| !rivals.aside.is_empty())
    }

    /// How the VM of this leg is called, where that is not what the console is called.
    pub(in crate::concentrator) fn other_name(&self, id: ConnId) -> Option<&str> {
        let names = &self.rivals.as_ref()?.names;
        names.iter().find(|(other, _)| *other == id).map(|(_, name)| name.as_str())
    }

    /// This leg's VM says that it is called otherwise than the console is.
    pub(in crate::concentrator) fn set_other_name(&mut self, id: ConnId, name: String) {
        let rivals = self.rivals.get_or_insert_default();
        rivals.names.retain(|(other, _)| *other != id);
        rivals.names.push((id, name));
    }

    /// Takes what [`other_name`](Self::other_name) gives.
    pub(in crate::concentrator) fn take_other_name(&mut self, id: ConnId) -> Option<String> {
        let names = &mut self.rivals.as_mut()?.names;
        let index = names.iter().position(|(other, _)| *other == id)?;
        Some(names.swap_remove(index).1)
    }

    /// The console is called `new` after its holder now, and was called `old`: which of the others is called
    /// otherwise has changed.
    pub(in crate::concentrator) fn renamed(&mut self, old: &str, new: &str) {
        let holder = self.holder();
        for id in self.conns().filter(|&id| Some(id) != holder).collect::<Vec<_>>() {
            match self.take_other_name(id) {
                Some(name) if name == new => {}
                Some(name) => self.set_other_name(id, name),
                None => self.set_other_name(id, old.to_owned()),
            }
        }
    }

    pub(in crate::concentrator) fn state(&self) -> ContestState {
        self.rivals.as_ref().map_or(ContestState::Calm, |rivals| rivals.state)
    }

    pub(in crate::concentrator) fn rivals(&mut self) -> &mut Rivals {
        self.rivals.get_or_insert_default()
    }

    /// Forgets what several legs make of each other, where there are not several. Returns whether it did.
    pub(in crate::concentrator) fn forget_rivals(&mut self) -> bool {
        let is_over = self.legs.len() <= 1 && !self.has_room_for_aside();
        if is_over {
            self.rivals = None;
        }
        is_over
    }

    /// Whether anything is kept for several legs.
    pub(in crate::concentrator) fn has_rivals(&self) -> bool {
        self.rivals.is_some()
    }

    pub(super) fn calm_if_unclaimed(&mut self) {
        if !self.is_claimed() {
            self.calm();
        }
    }

    pub(super) fn calm(&mut self) {
        if let Some(rivals) = &mut self.rivals {
            rivals.state = ContestState::Calm;
        }
    }
}
