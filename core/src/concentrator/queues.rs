//! Connections in the order in which they came, of each console or of one place: whose handshakes are not
//! done, who has ended its input. The longest there yields first where a limit needs room.
//!
//! Knows ids and their order, nothing else. Every call costs the logarithm of how many there are.

use std::collections::{BTreeMap, BTreeSet};

use super::id::{ConnId, ConsoleId};

#[derive(Debug)]
pub(super) struct Queue<At = ConsoleId> {
    by_place: BTreeSet<(At, u64, ConnId)>,
    /// Of each its place and its number.
    members: BTreeMap<ConnId, (At, u64)>,
    /// The same in the order of their numbers.
    by_number: BTreeMap<u64, ConnId>,
    next: u64,
}

impl<At> Default for Queue<At> {
    fn default() -> Self {
        Self { by_place: BTreeSet::new(), members: BTreeMap::new(), by_number: BTreeMap::new(), next: 0 }
    }
}

impl<At: Copy + Ord> Queue<At> {
    /// It comes to the end of the queue. It is in it once.
    pub(super) fn push(&mut self, at: At, id: ConnId) {
        self.remove(id);
        self.by_place.insert((at, self.next, id));
        self.by_number.insert(self.next, id);
        self.members.insert(id, (at, self.next));
        self.next += 1;
    }

    /// It leaves the queue, if it was in it.
    pub(super) fn remove(&mut self, id: ConnId) {
        if let Some((at, number)) = self.members.remove(&id) {
            self.by_place.remove(&(at, number, id));
            self.by_number.remove(&number);
        }
    }

    /// How many of a place there are. Costs a look at each of them.
    pub(super) fn count(&self, at: At) -> usize {
        self.of(at).count()
    }

    /// The longest there of a place.
    pub(super) fn first(&self, at: At) -> Option<ConnId> {
        self.of(at).next()
    }

    /// The longest there of all.
    pub(super) fn first_of_all(&self) -> Option<ConnId> {
        self.by_number.values().next().copied()
    }

    fn of(&self, at: At) -> impl Iterator<Item = ConnId> {
        let nobody = ConnId { index: 0, generation: 0 };
        let from = self.by_place.range((at, 0, nobody)..);
        from.take_while(move |(of, ..)| *of == at).map(|&(_, _, id)| id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conn(index: u32) -> ConnId {
        ConnId { index, generation: 1 }
    }

    #[test]
    fn the_longest_there_comes_first_and_nothing_is_left_of_who_has_gone() {
        let [a, b] = [1, 2].map(|index| ConsoleId { index, generation: 1 });
        let mut queue = Queue::default();
        for (at, index) in [(b, 9), (a, 5), (a, 3), (b, 1)] {
            queue.push(at, conn(index));
        }
        assert_eq!((queue.count(a), queue.first(a), queue.first_of_all()), (2, Some(conn(5)), Some(conn(9))));
        queue.push(b, conn(9));
        assert_eq!((queue.first(b), queue.first_of_all()), (Some(conn(1)), Some(conn(5))));
        for index in [9, 5, 3, 1, 1] {
            queue.remove(conn(index));
        }
        assert_eq!((queue.count(a), queue.first(b), queue.first_of_all()), (0, None, None));
        assert!(queue.members.is_empty() && queue.by_place.is_empty());
    }
}
