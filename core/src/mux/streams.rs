//! The table of open streams and the three lists threaded through it.
//!
//! Owns one [`Stream`] per open stream and nothing else on the heap: the lists (ready to send, words due, events due)
//! are links inside the entries, so queueing allocates nothing and unlinking is constant. Refuses to know the protocol.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::ops::{Index, IndexMut};

use siphasher::sip::SipHasher13;

use super::event::ResetReason;
use super::receiver::Receiver;
use super::segments::{Cursor, Queue};
use super::sender::Sender;
use super::v1::Pace;
use super::wire::StreamId;

/// No entry.
pub(super) const NONE: u32 = u32::MAX;
/// Streams with payload that may be sent, served in turn.
pub(super) const READY: usize = 0;
/// Streams with words due.
pub(super) const CONTROL: usize = 1;
/// Streams with events due.
pub(super) const EVENTS: usize = 2;

/// Words and events that wait for a stream, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bits(u8);

impl Bits {
    /// Word: REQUEST.
    pub(super) const REQUEST: Self = Self(0x01);
    /// Word: REWIND.
    pub(super) const REWIND: Self = Self(0x02);
    /// Word: CLOSE, or v1's end of file.
    pub(super) const CLOSE: Self = Self(0x04);
    /// Word: v1's exit code.
    pub(super) const EXIT: Self = Self(0x08);
    /// Event: the peer opened it.
    pub(super) const OPENED: Self = Self(0x01);
    /// Event: something to read.
    pub(super) const READABLE: Self = Self(0x02);
    /// Event: room to write.
    pub(super) const WRITABLE: Self = Self(0x04);
    /// Event: v1's exit code came.
    pub(super) const EXITED: Self = Self(0x08);
    /// Event: the end.
    pub(super) const DEAD: Self = Self(0x10);

    /// Whether all of `other` is in it.
    pub(super) const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Adds `other`.
    pub(super) fn set(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Takes `other` out; says whether it was in.
    pub(super) fn take(&mut self, other: Self) -> bool {
        let had = self.has(other);
        self.0 &= !other.0;
        had
    }

    /// Whether nothing waits.
    pub(super) const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

#[derive(Clone, Copy, Debug)]
struct Link {
    prev: u32,
    next: u32,
}

/// In no list; `NONE` as a neighbour means an end of one.
const OUT: Link = Link { prev: NONE - 1, next: NONE - 1 };

/// One open stream: counts, states and links; its bytes are in the pool.
#[derive(Debug)]
pub(super) struct Stream {
    pub id: StreamId,
    pub sender: Sender,
    pub receiver: Receiver,
    /// Written and not acked.
    pub output: Queue,
    /// The next byte of `output` to send.
    pub cursor: Cursor,
    /// Received and not consumed.
    pub input: Queue,
    /// Consumed bytes whose ACK has not been sent.
    pub ack: u32,
    /// Words due.
    pub due: Bits,
    /// Events due.
    pub events: Bits,
    /// The app wrote less than it wanted.
    pub wants_room: bool,
    /// v1: the exit code to send, or the one received.
    pub exit: u8,
    /// v1: the exit code came.
    pub exited: bool,
    /// v1: its buffer is full and the line waits for it.
    pub blocks: bool,
    /// The peer may know of it: it opened it, or a frame of it has begun to leave.
    pub spoken: bool,
    /// Gone; the entry waits for its last event to be polled.
    pub dead: bool,
    /// Why, unless it retired in good order.
    pub reset: Option<ResetReason>,
    /// Bytes promised in the plan of the last `transmit`, and where they end.
    pub planned: u32,
    pub plan_cursor: Cursor,
    pub pace: Pace,
    links: [Link; 3],
}

impl Stream {
    fn new(id: StreamId, max_frame: u16) -> Self {
        Self {
            id,
            sender: Sender::new(max_frame),
            receiver: Receiver::new(),
            output: Queue::default(),
            cursor: Cursor::FRONT,
            input: Queue::default(),
            ack: 0,
            due: Bits::default(),
            events: Bits::default(),
            wants_room: false,
            exit: 0,
            exited: false,
            blocks: false,
            spoken: false,
            dead: false,
            reset: None,
            planned: 0,
            plan_cursor: Cursor::FRONT,
            pace: Pace::default(),
            links: [OUT; 3],
        }
    }
}

/// The table. Lookup is one keyed hash, and none for the stream of the last lookup.
#[derive(Debug)]
pub(super) struct Streams {
    entries: Vec<Stream>,
    free: Vec<u32>,
    slots: HashMap<u64, u32, Keyed>,
    last: (StreamId, u32),
    heads: [Link; 3],
}

impl Streams {
    /// Empty; `seed` keys the hash, for the peer chooses ids.
    pub(super) fn new(seed: [u64; 2]) -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            slots: HashMap::with_hasher(Keyed(seed)),
            last: (StreamId::SESSION, NONE),
            heads: [Link { prev: NONE, next: NONE }; 3],
        }
    }

    /// Entries, those that wait for their last event included.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
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
    pub(super) fn peek(&self, id: StreamId) -> Option<&Stream> {
        let slot =
            if self.last.0 == id && self.last.1 != NONE { self.last.1 } else { *self.slots.get(&id.0)? };
        Some(&self.entries[slot as usize])
    }

    /// Adds a stream that is not there.
    pub(super) fn insert(&mut self, id: StreamId, max_frame: u16) -> u32 {
        let stream = Stream::new(id, max_frame);
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
        slot
    }

    /// Removes an entry whose buffers are empty. The table gives its memory back when the last one goes.
    pub(super) fn remove(&mut self, slot: u32) {
        for list in [READY, CONTROL, EVENTS] {
            self.unlink(list, slot);
        }
        let id = self.entries[slot as usize].id;
        self.slots.remove(&id.0);
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

    /// Slots of all entries, in no order.
    pub(super) fn slots(&self) -> Vec<u32> {
        let mut slots: Vec<u32> = self.slots.values().copied().collect();
        // In slot order, so that a run does not depend on the hash.
        slots.sort_unstable();
        slots
    }

    /// The first of a list.
    pub(super) fn front(&self, list: usize) -> Option<u32> {
        let head = self.heads[list].next;
        (head != NONE).then_some(head)
    }

    /// The one after `slot` in a list it is in.
    pub(super) fn after(&self, list: usize, slot: u32) -> Option<u32> {
        let next = self.entries[slot as usize].links[list].next;
        (next != NONE).then_some(next)
    }

    /// Whether `slot` is in a list.
    pub(super) fn is_linked(&self, list: usize, slot: u32) -> bool {
        self.entries[slot as usize].links[list].next != OUT.next
    }

    /// Appends to a list, unless it is in it.
    pub(super) fn link(&mut self, list: usize, slot: u32) {
        if self.is_linked(list, slot) {
            return;
        }
        let tail = self.heads[list].prev;
        self.entries[slot as usize].links[list] = Link { prev: tail, next: NONE };
        if tail == NONE {
            self.heads[list].next = slot;
        } else {
            self.entries[tail as usize].links[list].next = slot;
        }
        self.heads[list].prev = slot;
    }

    /// Takes out of a list, if it is in it.
    pub(super) fn unlink(&mut self, list: usize, slot: u32) {
        if !self.is_linked(list, slot) {
            return;
        }
        let link = std::mem::replace(&mut self.entries[slot as usize].links[list], OUT);
        if link.prev == NONE {
            self.heads[list].next = link.next;
        } else {
            self.entries[link.prev as usize].links[list].next = link.next;
        }
        if link.next == NONE {
            self.heads[list].prev = link.prev;
        } else {
            self.entries[link.next as usize].links[list].prev = link.prev;
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

impl Index<u32> for Streams {
    type Output = Stream;

    fn index(&self, slot: u32) -> &Stream {
        &self.entries[slot as usize]
    }
}

impl IndexMut<u32> for Streams {
    fn index_mut(&mut self, slot: u32) -> &mut Stream {
        &mut self.entries[slot as usize]
    }
}

#[derive(Clone, Debug)]
struct Keyed([u64; 2]);

impl BuildHasher for Keyed {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        let hasher = SipHasher13::new_with_keys(self.0[0], self.0[1]);
        debug_assert_ne!(hasher.finish(), 0);
        hasher
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;

    quickcheck! {
        fn lists_keep_order_and_forget_who_left(steps: Vec<(u8, u8, u8)>) -> bool {
            let mut streams = Streams::new([1, 2]);
            for id in 1..=8 {
                streams.insert(StreamId(id), 1);
            }
            let mut models: [Vec<u32>; 3] = Default::default();
            for (what, list, slot) in steps {
                let (list, slot) = (usize::from(list % 3), u32::from(slot % 8));
                let model = &mut models[list];
                if what % 2 == 0 {
                    streams.link(list, slot);
                    if !model.contains(&slot) {
                        model.push(slot);
                    }
                } else {
                    streams.unlink(list, slot);
                    model.retain(|other| *other != slot);
                }
            }
            models.iter().enumerate().all(|(list, model)| {
                let mut at = streams.front(list);
                let same = model.iter().all(|want| {
                    let ok = at == Some(*want);
                    at = at.and_then(|slot| streams.after(list, slot));
                    ok
                });
                same && at.is_none()
            })
        }
    }

    #[test]
    fn an_entry_is_small_and_so_is_its_share_of_the_table() {
        assert!(size_of::<Stream>() <= 160, "{}", size_of::<Stream>());
        for count in [100u64, 1000, 4097, 10_000, 100_000] {
            let mut streams = Streams::new([1, 2]);
            for id in 1..=count {
                streams.insert(StreamId(id), 4096);
            }
            let each = streams.memory() as u64 / count;
            assert!(each <= 256, "{each} bytes at {count} streams");
        }
    }
}
