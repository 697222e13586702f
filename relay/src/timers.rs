//! When members of the loop are to be visited though nothing has come.

use std::collections::BTreeSet;

use vspc_core::time::Instant;

/// One deadline at most for each member.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    by_time: BTreeSet<(Instant, usize)>,
}

impl Timers {
    /// Puts another deadline in the place of a member's former one.
    pub(crate) fn set(&mut self, id: usize, former: Option<Instant>, next: Option<Instant>) {
        if former == next {
            return;
        }
        if let Some(former) = former {
            self.by_time.remove(&(former, id));
        }
        if let Some(next) = next {
            self.by_time.insert((next, id));
        }
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|&(at, _)| at)
    }

    /// The members whose deadlines have passed. These stay until others are set.
    pub(crate) fn due(&self, now: Instant) -> impl Iterator<Item = usize> {
        self.by_time.iter().take_while(move |&&(at, _)| at <= now).map(|&(_, id)| id)
    }
}
