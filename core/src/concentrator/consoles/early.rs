//! What connections print before a console shows it: kept within its limits, and taken over.

use super::super::config::SlowClient;
use super::super::effects::Effects;
use super::super::id::{ConnId, ConsoleId};
use super::super::unshown::Unshown;
use super::{Consoles, after_print};
use crate::telnet::wire_form::undouble_into;

impl Consoles {
    /// Takes over what was printed before its console was known.
    pub(in crate::concentrator) fn adopt(
        &mut self,
        id: ConsoleId,
        from: ConnId,
        unshown: Unshown,
        fx: &mut Effects,
    ) {
        if unshown.kept() == 0 || self.table.get(id).is_none() {
            return self.drop_unshown(unshown);
        }
        let Some(console) = self.table.get_mut(id) else { return };
        if console.has_guest {
            let mut unshown = unshown;
            let wire = unshown.take_wire(&mut self.pools);
            let mut came = Vec::with_capacity(wire.len());
            undouble_into(&wire, usize::MAX, &mut came);
            return self.print_beside_streams(id, from, &came, fx);
        }
        let printed = unshown.give_to(console.fanout_mut(), &mut self.pools);
        if printed > 0 {
            console.count().bytes_from_vm += printed;
            let waits = self.rules.slow_client(console.rule).unwrap_or(self.slow) == SlowClient::Wait;
            after_print(console, self.limits, waits, &mut self.pools.vms, fx);
            self.by_silence.touch(id.index);
            self.trim_memory(fx);
        }
    }

    /// Keeps what a connection prints that no console shows yet. Beyond the limit the oldest is dropped and
    /// counted; where memory is short, scrollback goes before what a VM has printed here. Strangers together
    /// may have more than there is room for afterwards: see
    /// [`strangers_have_too_much`](Self::strangers_have_too_much).
    pub(in crate::concentrator) fn keep_unshown(
        &mut self,
        unshown: &mut Unshown,
        wire: &[u8],
        pairs: usize,
        fx: &mut Effects,
    ) {
        unshown.append(wire, pairs, &mut self.pools);
        self.trim_memory(fx);
        fx.counters.early_bytes_dropped += unshown.shorten(self.limits.lag / 2, &mut self.pools);
    }

    /// The same for a VM whose output waits in full: a move's target whose source is still printing. Returns
    /// whether that is as much as can wait: half a lag limit or a quarter of the memory of all, and no more
    /// where that is used up and no scrollback is left that could give way.
    pub(in crate::concentrator) fn keep_waiting(
        &mut self,
        unshown: &mut Unshown,
        wire: &[u8],
        pairs: usize,
        fx: &mut Effects,
    ) -> bool {
        self.promote(unshown);
        unshown.append(wire, pairs, &mut self.pools);
        self.trim_memory(fx);
        let most = (self.limits.lag / 2).min(self.pools.vms.limit() as u64 / 4);
        unshown.kept() > most || self.pools.vms.is_over()
    }

    /// This is a VM's, by the secret of its move or because it has joined a console: strangers cannot take
    /// its memory. Copies what there is, once.
    pub(in crate::concentrator) fn promote(&mut self, unshown: &mut Unshown) {
        unshown.promote(&mut self.pools);
    }

    /// Whether connections that have not said which VM they are keep more than they may together.
    pub(in crate::concentrator) fn strangers_have_too_much(&self) -> bool {
        self.pools.strangers.is_over()
    }

    /// Drops the oldest of what a stranger has printed. Returns whether there was any.
    pub(in crate::concentrator) fn drop_oldest_of(
        &mut self,
        unshown: &mut Unshown,
        fx: &mut Effects,
    ) -> bool {
        let dropped = unshown.drop_oldest(&mut self.pools);
        fx.counters.early_bytes_dropped += dropped.unwrap_or(0);
        dropped.is_some()
    }

    /// Nobody will read this.
    pub(in crate::concentrator) fn drop_unshown(&mut self, mut unshown: Unshown) {
        unshown.clear(&mut self.pools);
    }
}
