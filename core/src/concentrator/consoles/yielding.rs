//! Consoles that nobody uses: when one is forgotten, and who yields where there is not room for all.
//!
//! **Owns** these decisions. **Refuses to know** the order in which they yield
//! ([`unused`](super::super::unused)).

use super::super::effects::Effects;
use super::super::id::ConsoleId;
use super::super::tenure::SETTLED;
use super::Consoles;
use crate::time::Instant;

impl Consoles {
    /// Starts or stops the clock of a console that nobody uses, and has one yield if there are too many.
    pub(in crate::concentrator) fn consider_expiry(&mut self, id: ConsoleId, fx: &mut Effects) {
        let Some(console) = self.table.get(id) else { return };
        console.consider_expiry(self.expire, fx);
        self.dials.follow(id, self.has_vm(id));
        self.serve_wish(id);
        self.consider_yielding(id);
        self.keep_no_more_than_may(fx);
    }

    /// Has consoles that nobody uses yield if there are too many.
    pub(super) fn keep_no_more_than_may(&mut self, fx: &mut Effects) {
        while self.unused.len() > self.most_unused
            && let Some((_, first)) = self.unused.first()
        {
            self.unused.remove(first);
            fx.yields(first, None);
        }
    }

    /// Whether a console may yield has changed, or whether it has a port.
    pub(in crate::concentrator) fn consider_yielding(&mut self, id: ConsoleId) {
        match self.table.get(id).filter(|console| console.may_yield()) {
            Some(console) => self.unused.insert(id, console.tenure.before(), console.listener.is_some()),
            None => self.unused.remove(id),
        }
        let has_no_vm =
            self.table.get(id).is_some_and(|console| console.listener.is_some() && console.legs.is_empty());
        self.unused.note_port(id, has_no_vm);
    }

    /// How many client ports are open whose consoles have no VM.
    pub(in crate::concentrator) fn ports_without_vm(&self) -> usize {
        self.unused.ports_without_vm()
    }

    /// Who yields its port to a console that needs one. One whose VM was connected for ten minutes does so
    /// only to one of which the same is true. It is to be forgotten then: it is not named again.
    pub(in crate::concentrator) fn yields_port(&mut self, to: ConsoleId, now: Instant) -> Option<ConsoleId> {
        let (connected, first) = self.unused.first_with_port(None)?;
        let own = self.table.get(to)?.tenure.stayed(now).as_micros();
        if connected >= SETTLED && own < u128::from(SETTLED) {
            return None;
        }
        self.unused.remove(first);
        Some(first)
    }

    /// Whose port's descriptor goes to a newcomer of whom nothing is known, unless that comes for this
    /// console. It is to be forgotten then.
    pub(in crate::concentrator) fn yields_descriptor(&mut self, at: Option<ConsoleId>) -> Option<ConsoleId> {
        let (connected, first) = self.unused.first_with_port(at)?;
        if connected >= SETTLED {
            return None;
        }
        self.unused.remove(first);
        Some(first)
    }
}
