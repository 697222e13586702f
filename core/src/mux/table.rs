//! The table of open streams and the lists threaded through it.
//!
//! Owns one [`Stream`] per open stream and nothing else on the heap: the lists (live, words due, events due,
//! payload to send) are links inside the entries, so queueing allocates nothing and unlinking is constant.
//! Refuses to know the protocol.

use std::collections::HashMap;
use std::ops::{Index, IndexMut};

use super::stream::{Link, List, OUT, Stream};
use super::wire::StreamId;
use crate::keyed::Keyed;

/// The table. Lookup is one keyed hash, and none for the stream of the last lookup.
#[derive(Debug)]
pub(super) struct Table {
    entries: Vec<Stream>,
    free: Vec<u32>,
    slots: HashMap<u64, u32, Keyed>,
    last: (StreamId, u32),
    heads: [Link; List::COUNT],
    /// Entries whose ids have bit 63 set, and those whose have not.
    counts: [u32; 2],
}

impl Table {
    /// Empty; `seed` keys the hash, for the peer chooses ids.
    pub(super) fn new(seed: [u64; 2]) -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            slots: HashMap::with_hasher(Keyed(seed[0], seed[1])),
            last: (StreamId::SESSION, NONE),
            heads: [Link { prev: NONE, next: NONE }; List::COUNT],
            counts: [0; 2],
        }
    }

    /// Entries, those that wait for their last event included.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Entries of streams that the guest opened, or of those that the host did.
    pub(super) fn count(&self, guests: bool) -> u32 {
        self.counts[usize::from(guests)]
    }

    /// The entry of `id`.
    pub(super) fn find(&mut self, id: StreamId) -> Option<u32> {
        if self.last.0 == id && self.last.1 != NONE {
            return Some(self.last.1);
        }
        let slot = *self.slots.get(&id.0)?;
        self.last = (id, slot);
        Some(slot)
    }

    /// The entry of `id`, without remembering it.
    pub(super) fn peek(&self, id: StreamId) -> Option<u32> {
        if self.last.0 == id && self.last.1 != NONE {
            Some(self.last.1)
        } else {
            self.slots.get(&id.0).copied()
        }
    }

    /// Whether `slot` still is the live stream `id`.
    pub(super) fn is_live(&self, slot: u32, id: StreamId) -> bool {
        self.entries.get(slot as usize).is_some_and(|stream| stream.id == id && !stream.dead)
    }

    /// Adds a stream that is not there; `served`: the round in which it counts as having had its last turn.
    pub(super) fn insert(&mut self, id: StreamId, max_frame: u16, served: u32) -> u32 {
        let stream = Stream::new(id, max_frame, served);
        let slot = if let Some(slot) = self.free.pop() {
            self.entries[slot as usize] = stream;
            slot
        } else {
            if self.entries.len() == self.entries.capacity() {
                // A quarter at a time: doubling would double what an idle stream costs.
                self.entries.reserve_exact(self.entries.len() / 4 + 4);
            }
            self.entries.push(stream);
            self.entries.len() as u32 - 1
        };
        self.slots.insert(id.0, slot);
        self.counts[usize::from(id.is_guests())] += 1;
        self.link(List::Live, slot);
        slot
    }

    /// Removes an entry whose buffers are empty. When the last one goes a table of more
    /// than 16 gives its memory back.
    pub(super) fn remove(&mut self, slot: u32) {
        for list in [List::Live, List::Words, List::Events] {
            self.unlink(list, slot);
        }
        self.unlink_sends(slot);
        let entry = &mut self.entries[slot as usize];
        let id = std::mem::replace(&mut entry.id, StreamId::SESSION);
        entry.dead = true;
        self.slots.remove(&id.0);
        self.counts[usize::from(id.is_guests())] -= 1;
        if self.last.1 == slot {
            self.last = (StreamId::SESSION, NONE);
        }
        if self.slots.is_empty() && self.entries.len() > 16 {
            self.entries = Vec::new();
            self.free = Vec::new();
            self.slots.shrink_to_fit();
        } else {
            self.free.push(slot);
        }
    }

    /// The first of a list.
    pub(super) fn front(&self, list: List) -> Option<u32> {
        let head = self.heads[list.head()].next;
        (head != NONE).then_some(head)
    }

    /// The one after `slot` in a list it is in.
    pub(super) fn after(&self, list: List, slot: u32) -> Option<u32> {
        let next = self.entries[slot as usize].links[list.link()].next;
        (next != NONE).then_some(next)
    }

    /// Whether `slot` is in a list. `Fresh` and `Turn` are told apart by [`Self::sends_in`].
    fn is_linked(&self, list: List, slot: u32) -> bool {
        self.entries[slot as usize].links[list.link()].next != OUT.next
    }

    /// The list of streams to send that `slot` is in.
    pub(super) fn sends_in(&self, slot: u32) -> Option<List> {
        let list = self.entries[slot as usize].sends_in;
        self.is_linked(list, slot).then_some(list)
    }

    /// Appends to a list, unless it is in it (or, of the lists of streams to send, in one).
    pub(super) fn link(&mut self, list: List, slot: u32) {
        if self.is_linked(list, slot) {
            return;
        }
        let (head, link) = (list.head(), list.link());
        let tail = self.heads[head].prev;
        self.entries[slot as usize].links[link] = Link { prev: tail, next: NONE };
        if tail == NONE {
            self.heads[head].next = slot;
        } else {
            self.entries[tail as usize].links[link].next = slot;
        }
        self.heads[head].prev = slot;
        if matches!(list, List::Fresh(_) | List::Turn(_)) {
            self.entries[slot as usize].sends_in = list;
        }
    }

    /// Takes out of a list, if it is in it.
    pub(super) fn unlink(&mut self, list: List, slot: u32) {
        if !self.is_linked(list, slot) {
            return;
        }
        let (head, at) = (list.head(), list.link());
        let link = std::mem::replace(&mut self.entries[slot as usize].links[at], OUT);
        if link.prev == NONE {
            self.heads[head].next = link.next;
        } else {
            self.entries[link.prev as usize].links[at].next = link.next;
        }
        if link.next == NONE {
            self.heads[head].prev = link.prev;
        } else {
            self.entries[link.next as usize].links[at].prev = link.prev;
        }
    }

    /// Takes out of the list of streams to send that it is in, if it is in one.
    pub(super) fn unlink_sends(&mut self, slot: u32) {
        let list = self.entries[slot as usize].sends_in;
        self.unlink(list, slot);
    }

    /// Moves entries from the end of the table into the gaps before them and gives the rest back;
    /// `moved(from, to)` is called for each. Work in proportion to the table.
    pub(super) fn compact(&mut self, mut moved: impl FnMut(u32, u32)) {
        self.free.sort_unstable();
        let keep = self.slots.len();
        let mut gaps = std::mem::take(&mut self.free).into_iter().filter(|gap| (*gap as usize) < keep);
        for from in keep..self.entries.len() {
            if self.entries[from].id == StreamId::SESSION {
                continue;
            }
            let Some(to) = gaps.next() else { break };
            self.entries.swap(from, to as usize);
            self.relink(from as u32, to);
            let id = self.entries[to as usize].id;
            self.slots.insert(id.0, to);
            moved(from as u32, to);
        }
        self.entries.truncate(keep);
        self.entries.shrink_to_fit();
        self.slots.shrink_to_fit();
        self.last = (StreamId::SESSION, NONE);
    }

    /// All entries, in the order of their places.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.entries.iter_mut()
    }

    /// The entry that was in `from` is in `to` now: its neighbours are set right.
    fn relink(&mut self, from: u32, to: u32) {
        let sends_in = self.entries[to as usize].sends_in;
        for list in [List::Live, List::Words, List::Events, sends_in] {
            let (head, at) = (list.head(), list.link());
            let link = self.entries[to as usize].links[at];
            if link.next == OUT.next {
                continue;
            }
            let before = if link.prev == NONE {
                &mut self.heads[head]
            } else {
                &mut self.entries[link.prev as usize].links[at]
            };
            debug_assert_eq!(before.next, from);
            before.next = to;
            let after = if link.next == NONE {
                &mut self.heads[head]
            } else {
                &mut self.entries[link.next as usize].links[at]
            };
            debug_assert_eq!(after.prev, from);
            after.prev = to;
        }
    }

    /// Bytes of heap the table holds, by capacity.
    pub(super) fn memory(&self) -> usize {
        let buckets = self.slots.capacity() * 8 / 7;
        self.entries.capacity() * size_of::<Stream>()
            + self.free.capacity() * size_of::<u32>()
            + buckets * (size_of::<(u64, u32)>() + 1)
    }
}

impl Index<u32> for Table {
    type Output = Stream;

    fn index(&self, slot: u32) -> &Stream {
        &self.entries[slot as usize]
    }
}

impl IndexMut<u32> for Table {
    fn index_mut(&mut self, slot: u32) -> &mut Stream {
        &mut self.entries[slot as usize]
    }
}

/// The most heap of one entry: the table grows by a quarter, its hash by the double.
pub(super) const ENTRY: u64 = 2 * (size_of::<Stream>() + 64) as u64;

/// No entry.
pub(super) const NONE: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use super::super::config::Priority;
    use super::*;
    use quickcheck::quickcheck;

    const LISTS: [List; 5] = [
        List::Words,
        List::Events,
        List::Fresh(Priority::High),
        List::Turn(Priority::High),
        List::Turn(Priority::Low),
    ];

    fn in_order(table: &Table, list: List) -> Vec<StreamId> {
        let mut found = Vec::new();
        let mut at = table.front(list);
        while let Some(slot) = at {
            found.push(table[slot].id);
            at = table.after(list, slot);
        }
        found
    }

    quickcheck! {
        /// Also while entries come and go and the table is made compact.
        fn lists_keep_order_and_forget_who_left(steps: Vec<(u8, u8, u8)>) -> bool {
            let mut table = Table::new([1, 2]);
            let mut models: [Vec<StreamId>; 5] = Default::default();
            for (what, list, id) in steps {
                let (which, id) = (usize::from(list % 5), StreamId(u64::from(id % 16)+1));
                let Some(slot) = table.find(id) else {
                    table.insert(id, 1, 0);
                    continue;
                };
                match what % 8 {
                    0..=3 => {
                        let sends = |list: &List| matches!(list, List::Fresh(_) | List::Turn(_));
                        let is_in = |model: &usize| models[*model].contains(&id);
                        let occupied = sends(&LISTS[which]) && (2..5).any(|other| is_in(&other));
                        table.link(LISTS[which], slot);
                        if !is_in(&which) && !occupied {
                            models[which].push(id);
                        }
                    }
                    4 | 5 => {
                        if which < 2 {
                            table.unlink(LISTS[which], slot);
                            models[which].retain(|other| *other != id);
                        } else {
                            table.unlink_sends(slot);
                            models[2..].iter_mut().for_each(|model| model.retain(|other| *other != id));
                        }
                    }
                    6 => {
                        table.remove(slot);
                        models.iter_mut().for_each(|model| model.retain(|other| *other != id));
                    }
                    _ => {
                        let mut places: Vec<(u32, StreamId)> = in_order(&table, List::Live)
                            .into_iter().map(|id| (table.find(id).unwrap(), id)).collect();
                        table.compact(|from, to| {
                            for (slot, _) in places.iter_mut().filter(|(slot, _)| *slot == from) {
                                *slot = to;
                            }
                        });
                        assert!(places.into_iter().all(|(slot, id)| table.find(id) == Some(slot)));
                        assert_eq!(table.entries.len(), table.len());
                    }
                }
            }
            let all = in_order(&table, List::Live);
            let is_alike = |(list, model): (&List, &Vec<StreamId>)| in_order(&table, *list) == *model;
            all.len() == table.len() && LISTS.iter().zip(&models).all(is_alike)
        }
    }

    #[test]
    fn an_entry_is_small_and_so_is_its_share_of_the_table() {
        assert!(size_of::<Stream>() <= 176, "{}", size_of::<Stream>());
        for count in [100u64, 1000, 4097, 10_000, 100_000] {
            let mut table = Table::new([1, 2]);
            for id in 1..=count {
                table.insert(StreamId(id), 4096, 0);
            }
            let each = table.memory() as u64 / count;
            assert!(each <= 256, "{each} bytes at {count} streams");
        }
    }
}
