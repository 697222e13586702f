//! What a connection has printed that no console shows yet: it has not said which VM it is, or its move is
//! not over.
//!
//! **Owns** the two memories that this and all consoles' journals take up, and which of them a connection's
//! words are in. **Refuses to know** connections, and who has to give way where memory is short.

use super::console::ReaderKey;
use super::fanout::Fanout;
use super::journal::{Journal, Pool};

/// The memory of journals.
#[derive(Debug)]
pub(super) struct Pools {
    /// Of consoles, and of VMs that are known for such.
    pub(super) vms: Pool,
    /// Of connections that have not said which VM they are: their words must not push out what VMs have
    /// said.
    pub(super) strangers: Pool,
}

impl Pools {
    /// So much in all.
    pub(super) fn new(limit: usize) -> Self {
        let mut pools = Self { vms: Pool::new(0), strangers: Pool::new(0) };
        pools.set_limit(limit);
        pools
    }

    /// So much in all from now on.
    pub(super) fn set_limit(&mut self, limit: usize) {
        let strangers = limit / STRANGERS_PART;
        self.strangers.set_limit(strangers);
        self.vms.set_limit(limit - strangers);
    }
}

/// What one connection has printed. It is given to a console or cleared, never just dropped.
#[derive(Debug, Default)]
pub(super) struct Unshown {
    journal: Journal,
    /// Its memory is that of VMs, not that of strangers.
    is_a_vms: bool,
    /// Wire bytes of it that were dropped, oldest first.
    dropped: u64,
}

impl Unshown {
    /// A stranger's, and not empty.
    pub(super) fn is_a_strangers(&self) -> bool {
        !self.is_a_vms && self.journal.kept() > 0
    }

    /// Wire bytes that were dropped.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Wire bytes that are kept.
    pub(super) fn kept(&self) -> u64 {
        self.journal.kept()
    }

    /// Takes in a run of wire form with whole pairs, `pairs` of them. Copies it once.
    pub(super) fn append(&mut self, wire: &[u8], pairs: usize, pools: &mut Pools) {
        self.journal.append(wire, pairs, self.pool(pools));
    }

    /// Drops the oldest beyond what it may have: `most` of a VM's, and none where those have no memory left;
    /// [`STRANGER_MOST`] of a stranger's. Returns how many bytes that were.
    pub(super) fn shorten(&mut self, most: u64, pools: &mut Pools) -> u64 {
        let before = self.dropped;
        let most = if self.is_a_vms { most } else { STRANGER_MOST };
        while self.kept() > most || (self.is_a_vms && self.kept() > 0 && pools.vms.is_over()) {
            self.drop_oldest(pools);
        }
        self.dropped - before
    }

    /// Drops the oldest. Returns how many bytes; `None`: there is nothing.
    pub(super) fn drop_oldest(&mut self, pools: &mut Pools) -> Option<u64> {
        let dropped = self.journal.drop_oldest(self.pool(pools))? as u64;
        self.dropped += dropped;
        Some(dropped)
    }

    /// It is a VM's from now on. Copies what there is, once.
    pub(super) fn promote(&mut self, pools: &mut Pools) {
        if !std::mem::replace(&mut self.is_a_vms, true) {
            let early = std::mem::take(&mut self.journal);
            self.journal.adopt(early, &mut pools.strangers, &mut pools.vms);
        }
    }

    /// Its console shows it. Returns how many guest bytes that are.
    pub(super) fn give_to(self, fanout: &mut Fanout<ReaderKey>, pools: &mut Pools) -> u64 {
        let Pools { vms, strangers } = pools;
        fanout.adopt(self.journal, (!self.is_a_vms).then_some(strangers), vms)
    }

    /// Takes all of it out, in wire form.
    pub(super) fn take_wire(&mut self, pools: &mut Pools) -> Vec<u8> {
        let mut wire = Vec::new();
        self.journal.copy_wire(&mut wire);
        self.clear(pools);
        wire
    }

    /// Nobody will read it.
    pub(super) fn clear(&mut self, pools: &mut Pools) {
        self.journal.clear(self.pool(pools));
    }

    fn pool<'p>(&self, pools: &'p mut Pools) -> &'p mut Pool {
        if self.is_a_vms { &mut pools.vms } else { &mut pools.strangers }
    }
}

/// What a VM connection may say before it is known whose it is; then the oldest is dropped and counted.
/// Reading never stops: the UUID may be behind the data.
const STRANGER_MOST: u64 = 64 << 10;

/// The part of the journals' memory that is for connections without a console.
const STRANGERS_PART: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_keeps_its_latest_words_and_a_vm_as_much_as_it_is_allowed() {
        let mut pools = Pools::new(64 << 20);
        let mut unshown = Unshown::default();
        for _ in 0..100 {
            unshown.append(&[b'x'; 1 << 10], 0, &mut pools);
            unshown.shorten(1 << 20, &mut pools);
        }
        assert!(unshown.is_a_strangers() && unshown.kept() <= STRANGER_MOST);
        assert_eq!(unshown.kept() + unshown.dropped(), 100 << 10);
        let before = unshown.kept();
        unshown.promote(&mut pools);
        for _ in 0..100 {
            unshown.append(&[b'x'; 1 << 10], 0, &mut pools);
            assert_eq!(unshown.shorten(1 << 20, &mut pools), 0);
        }
        assert!(!unshown.is_a_strangers());
        assert_eq!(unshown.kept(), before + (100 << 10));
        unshown.clear(&mut pools);
        assert_eq!(unshown.kept(), 0);
    }

    #[test]
    fn where_vms_have_no_memory_left_even_theirs_goes() {
        let mut pools = Pools::new(32 << 10);
        let mut unshown = Unshown::default();
        unshown.promote(&mut pools);
        unshown.append(&[b'x'; 256 << 10], 0, &mut pools);
        assert!(unshown.shorten(1 << 20, &mut pools) > 0);
        assert!(!pools.vms.is_over());
    }
}
