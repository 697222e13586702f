//! What a console's readers have taken, and what comes of that for its VM and for memory.
//!
//! **Owns** nothing; where readers are is [`fanout`](super::super::fanout)'s.

use super::super::console::Console;
use super::super::effects::Effects;
use super::super::fanout::{Limits, Offer, Seat, Took};
use super::super::id::ConsoleId;
use super::super::journal::Pool;
use super::super::reader::Kind;
use super::{Consoles, trim};

/// A console while one of its readers is served, with what all consoles share for that: found once for all
/// that is done in one call.
pub(in crate::concentrator) struct Reading<'c> {
    pub(in crate::concentrator) console: &'c mut Console,
    limits: Limits,
    pool: &'c mut Pool,
}

impl Reading<'_> {
    /// A reader took `n` of the bytes it was offered.
    pub(in crate::concentrator) fn took(
        &mut self,
        seat: Seat,
        offer: Offer,
        n: usize,
        fx: &mut Effects,
    ) -> Took {
        let console = &mut *self.console;
        let lag = match console.fanout().kind(seat) {
            Some(Kind::Witness) => &mut fx.histograms.log_lag,
            _ => &mut fx.histograms.lag,
        };
        lag.record(console.fanout().lag(seat));
        let took = console.fanout_mut().took(seat, offer, n);
        if took.data > 0 {
            console.count().bytes_to_clients += took.data as u64;
        }
        if took.frees {
            trim(console, self.limits, self.pool, fx);
        }
        console.consider_resume(self.limits, fx);
        took
    }

    /// A reader that was overtaken is brought back, now that it can take bytes again. Returns how many guest
    /// bytes it has missed.
    pub(in crate::concentrator) fn catch_up(&mut self, seat: Seat) -> Option<u64> {
        let missed = self.console.fanout_mut().catch_up(seat, self.limits.keep)?;
        self.console.count().bytes_skipped += missed;
        Some(missed)
    }
}

impl Consoles {
    /// A console whose readers are served now.
    pub(in crate::concentrator) fn reading(&mut self, id: ConsoleId) -> Option<Reading<'_>> {
        let console = self.table.get_mut(id)?;
        Some(Reading { console, limits: self.limits, pool: &mut self.pools.vms })
    }

    /// A reader leaves. Returns whether it is owed the second half of a pair.
    pub(in crate::concentrator) fn detach_reader(
        &mut self,
        id: ConsoleId,
        seat: Seat,
        fx: &mut Effects,
    ) -> bool {
        let Some(console) = self.table.get_mut(id) else { return false };
        let half = console.detach_reader(seat, fx);
        trim(console, self.limits, &mut self.pools.vms, fx);
        console.consider_resume(self.limits, fx);
        self.consider_expiry(id, fx);
        half
    }

    /// A reader does not want the rest of the older output that it is shown.
    pub(in crate::concentrator) fn end_replay(&mut self, id: ConsoleId, seat: Seat) {
        if let Some(console) = self.table.get_mut(id) {
            console.fanout_mut().end_replay(seat);
        }
    }

    /// A reader does not want what it has not taken.
    pub(in crate::concentrator) fn skip_output(&mut self, id: ConsoleId, seat: Seat, fx: &mut Effects) {
        let Some(console) = self.table.get_mut(id) else { return };
        console.fanout_mut().skip(seat);
        trim(console, self.limits, &mut self.pools.vms, fx);
        console.consider_resume(self.limits, fx);
    }
}
