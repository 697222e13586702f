//! Consoles that yield when ports, descriptors or the cap on unused consoles run out: those that nobody uses,
//! the one whose VM was connected for the shortest time in total first.
//!
//! Owns that order. Refuses to know what "unused" means and who asks: [`Consoles`](super::consoles::Consoles)
//! tells both. Every call costs the logarithm of how many there are.

use std::collections::{BTreeMap, BTreeSet};

use super::id::ConsoleId;

#[derive(Debug, Default)]
pub(super) struct Unused {
    /// By the time that their VMs were connected in total, in microseconds.
    by_time: BTreeSet<(u64, ConsoleId)>,
    /// Those of them that have a client port.
    with_port: BTreeSet<(u64, ConsoleId)>,
    members: BTreeMap<ConsoleId, u64>,
    /// Consoles with a client port and no VM, whether they may yield or not.
    without_vm: BTreeSet<ConsoleId>,
}

impl Unused {
    /// A console is unused, its VM having been connected for so long in total.
    pub(super) fn insert(&mut self, id: ConsoleId, connected: u64, has_port: bool) {
        self.remove(id);
        self.members.insert(id, connected);
        self.by_time.insert((connected, id));
        if has_port {
            self.with_port.insert((connected, id));
        }
    }

    /// A console has a client port and no VM, or not any more.
    pub(super) fn note_port(&mut self, id: ConsoleId, has_no_vm: bool) {
        if has_no_vm {
            self.without_vm.insert(id);
        } else {
            self.without_vm.remove(&id);
        }
    }

    /// A console is used, or gone.
    pub(super) fn remove(&mut self, id: ConsoleId) {
        if let Some(connected) = self.members.remove(&id) {
            self.by_time.remove(&(connected, id));
            self.with_port.remove(&(connected, id));
        }
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// How many consoles have a client port and no VM.
    pub(super) fn ports_without_vm(&self) -> usize {
        self.without_vm.len()
    }

    /// Who yields first, and for how long its VM was connected.
    pub(super) fn first(&self) -> Option<(u64, ConsoleId)> {
        self.by_time.first().copied()
    }

    /// Who yields first of those that have a client port, but for this one.
    pub(super) fn first_with_port(&self, but: Option<ConsoleId>) -> Option<(u64, ConsoleId)> {
        self.with_port.iter().find(|&&(_, id)| Some(id) != but).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_connected_yields_first_and_ports_have_an_order_of_their_own() {
        let console = |index| ConsoleId { index, generation: 1 };
        let mut unused = Unused::default();
        unused.insert(console(1), 50, true);
        unused.insert(console(2), 10, false);
        unused.insert(console(3), 70, true);
        assert_eq!(unused.first(), Some((10, console(2))));
        assert_eq!(unused.first_with_port(None), Some((50, console(1))));
        assert_eq!(unused.first_with_port(Some(console(1))), Some((70, console(3))));
        unused.insert(console(1), 90, true);
        assert_eq!(unused.first_with_port(None), Some((70, console(3))));
        unused.remove(console(2));
        assert_eq!((unused.first(), unused.len()), (Some((70, console(3))), 2));
    }
}
