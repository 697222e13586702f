//! The bytes of all streams, in one pool.
//!
//! Owns every payload byte a session holds. A stream holds a [`Queue`] (16 bytes) and no heap of its own: its
//! bytes lie in segments threaded through the session's [`Pool`], so an idle stream costs its table entry and
//! nothing else. A queue's first segment is small, unless a large one lies spare or more is written, and each
//! next one twice as large, up to 4 KiB: a few bytes that wait on each of many streams cost little. Refuses
//! to know what the bytes are and how many a stream may have: the machines above count.

/// A first-in first-out run of bytes whose memory the pool owns.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    head: u32,
    tail: u32,
    /// Bytes of the head segment that are gone already.
    start: u32,
    len: u32,
}

impl Default for Queue {
    fn default() -> Self {
        Self { head: NONE, tail: NONE, start: 0, len: 0 }
    }
}

impl Queue {
    /// Bytes held.
    pub(super) const fn len(&self) -> u32 {
        self.len
    }

    /// Its segments have the places now that [`Pool::compact`] said.
    pub(super) fn handle_moved(&mut self, places: &[u32]) {
        for place in [&mut self.head, &mut self.tail] {
            *place = places.get(*place as usize).copied().unwrap_or(*place);
        }
    }
}

/// A place in a queue: valid until the byte before it is released with nothing after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    segment: u32,
    offset: u32,
}

impl Cursor {
    /// The front of whatever queue it is used with.
    pub(super) const FRONT: Self = Self { segment: NONE, offset: 0 };

    /// The segments have the places now that [`Pool::compact`] said.
    pub(super) fn handle_moved(&mut self, places: &[u32]) {
        self.segment = places.get(self.segment as usize).copied().unwrap_or(self.segment);
    }
}

#[derive(Debug)]
struct Segment {
    next: u32,
    /// What it may hold; `bytes` never grows beyond it.
    size: u32,
    bytes: Vec<u8>,
}

/// All segments of a session.
#[derive(Debug, Default)]
pub(super) struct Pool {
    segments: Vec<Segment>,
    /// Slots of `segments` that are in no queue.
    free: Vec<u32>,
    /// Of the largest size.
    spare: Vec<Vec<u8>>,
    /// Bytes that the segments in use may hold.
    used: usize,
}

impl Pool {
    /// Appends a copy of `data`: the one copy a payload byte sees on its way through a session.
    pub(super) fn append(&mut self, queue: &mut Queue, mut data: &[u8]) {
        queue.len += data.len() as u32;
        while !data.is_empty() {
            let tail = self.segments.get(queue.tail as usize);
            if tail.is_none_or(|tail| tail.bytes.len() == tail.size as usize) {
                let size = tail.map_or(SMALLEST, |tail| 2 * tail.size as usize).max(data.len().min(SEGMENT));
                let fresh = self.take(size.next_power_of_two().min(SEGMENT));
                if queue.tail == NONE {
                    queue.head = fresh;
                    queue.start = 0;
                } else {
                    self.segments[queue.tail as usize].next = fresh;
                }
                queue.tail = fresh;
            }
            let tail = &mut self.segments[queue.tail as usize];
            let (now, later) = data.split_at(data.len().min(tail.size as usize - tail.bytes.len()));
            tail.bytes.extend_from_slice(now);
            data = later;
        }
    }

    /// Drops the first `n` bytes; `cursor`, somewhere at or after them, stays where it is in the byte stream.
    pub(super) fn release(&mut self, queue: &mut Queue, n: u32, cursor: Option<&mut Cursor>) {
        let mut left = n.min(queue.len);
        queue.len -= left;
        let mut at = cursor.as_ref().map_or(Cursor::FRONT, |cursor| **cursor);
        while queue.head != NONE {
            let segment = &self.segments[queue.head as usize];
            let here = segment.bytes.len() as u32 - queue.start;
            let take = left.min(here);
            left -= take;
            queue.start += take;
            // The tail of a queue that still holds bytes is never used up; an empty queue owns nothing.
            if take < here || (queue.len > 0 && segment.next == NONE) {
                break;
            }
            let next = segment.next;
            if at.segment == queue.head {
                at = Cursor { segment: next, offset: 0 };
            }
            self.put(queue.head);
            queue.head = next;
            queue.start = 0;
        }
        if queue.head == NONE {
            queue.tail = NONE;
            at = Cursor::FRONT;
        }
        if let Some(cursor) = cursor {
            *cursor = at;
        }
    }

    /// Drops everything.
    pub(super) fn clear(&mut self, queue: &mut Queue) {
        let len = queue.len;
        self.release(queue, len, None);
    }

    /// The bytes of `queue` from `cursor` on that lie in one piece; empty at the end.
    pub(super) fn front(&self, queue: &Queue, cursor: Cursor) -> &[u8] {
        let at = self.settle(queue, cursor);
        if at.segment == NONE {
            return &[];
        }
        &self.segments[at.segment as usize].bytes[at.offset as usize..]
    }

    /// Moves `cursor` on by `n` bytes, which must be there. Visits `n / 4096 + 2` segments.
    pub(super) fn advance(&self, queue: &Queue, cursor: Cursor, mut n: u32) -> Cursor {
        let mut at = self.settle(queue, cursor);
        while n > 0 && at.segment != NONE {
            let segment = &self.segments[at.segment as usize];
            let here = segment.bytes.len() as u32 - at.offset;
            if n <= here || segment.next == NONE {
                at.offset += n.min(here);
                break;
            }
            n -= here;
            at = Cursor { segment: segment.next, offset: 0 };
        }
        at
    }

    /// Gives the runs of `n` bytes from `cursor` on to `push`, until that returns false; returns
    /// whether all of them went.
    pub(super) fn runs<'a>(
        &'a self,
        queue: &Queue,
        mut cursor: Cursor,
        mut n: u32,
        mut push: impl FnMut(&'a [u8]) -> bool,
    ) -> bool {
        while n > 0 {
            let run = self.front(queue, cursor);
            let run = &run[..run.len().min(n as usize)];
            if run.is_empty() || !push(run) {
                return false;
            }
            cursor = self.advance(queue, cursor, run.len() as u32);
            n -= run.len() as u32;
        }
        true
    }

    /// Bytes of heap held, in use or spare, and what notes them.
    pub(super) fn memory(&self) -> usize {
        self.used
            + self.spare.len() * SEGMENT
            + self.segments.capacity() * size_of::<Segment>()
            + self.free.capacity() * size_of::<u32>()
            + self.spare.capacity() * size_of::<Vec<u8>>()
    }

    /// Gives spare memory back; called when a session has fallen silent. Work in proportion to the segments
    /// not in use.
    pub(super) fn trim(&mut self) {
        self.spare = Vec::new();
        self.free.sort_unstable();
        while self.free.last().is_some_and(|last| *last as usize + 1 == self.segments.len()) {
            self.free.pop();
            self.segments.pop();
        }
        self.segments.shrink_to_fit();
        self.free.shrink_to_fit();
    }

    /// Moves the segments in use together and gives the places of the others back. Returns where each one is
    /// now, for every queue and cursor. Work in proportion to all places.
    pub(super) fn compact(&mut self) -> Vec<u32> {
        let mut places = vec![0; self.segments.len()];
        for slot in self.free.drain(..) {
            places[slot as usize] = NONE;
        }
        for (next, place) in places.iter_mut().filter(|place| **place != NONE).enumerate() {
            *place = next as u32;
        }
        let mut at = places.iter();
        self.segments.retain(|_| at.next().is_some_and(|place| *place != NONE));
        for segment in &mut self.segments {
            segment.next = places.get(segment.next as usize).copied().unwrap_or(NONE);
        }
        self.trim();
        places
    }

    /// A cursor at the end of a segment is the start of the next one.
    fn settle(&self, queue: &Queue, cursor: Cursor) -> Cursor {
        if cursor.segment == NONE {
            return Cursor { segment: queue.head, offset: queue.start };
        }
        let segment = &self.segments[cursor.segment as usize];
        if cursor.offset as usize == segment.bytes.len() && segment.next != NONE {
            return Cursor { segment: segment.next, offset: 0 };
        }
        cursor
    }

    /// An empty segment of this size, or of the largest where one lies spare.
    fn take(&mut self, size: usize) -> u32 {
        let (bytes, size) = match self.spare.pop() {
            Some(bytes) => (bytes, SEGMENT),
            None => (Vec::with_capacity(size), size),
        };
        self.used += size;
        let segment = Segment { next: NONE, size: size as u32, bytes };
        if let Some(slot) = self.free.pop() {
            self.segments[slot as usize] = segment;
            return slot;
        }
        self.segments.push(segment);
        self.segments.len() as u32 - 1
    }

    fn put(&mut self, slot: u32) {
        let segment = &mut self.segments[slot as usize];
        let (mut bytes, size) = (std::mem::take(&mut segment.bytes), segment.size as usize);
        self.used -= size;
        if size == SEGMENT && self.spare.len() < SPARE {
            bytes.clear();
            self.spare.push(bytes);
        }
        self.free.push(slot);
    }
}

/// Bytes in a segment at most: one frame of the default size, one page.
pub const SEGMENT: usize = 4096;
/// Bytes in a segment at least: a line of text, a few keystrokes.
const SMALLEST: usize = 256;
/// Empty segments kept for the next writer while the session is busy: 512 KiB, as much as a window that has
/// grown; given back when it falls silent.
const SPARE: usize = 128;
/// The most heap that spare segments hold.
pub(super) const SPARE_BYTES: u64 = (SPARE * (SEGMENT + 2 * size_of::<Vec<u8>>())) as u64;
/// Segments of a queue that are smaller than the largest, at most.
pub(super) const SMALL: u64 = (SEGMENT / SMALLEST).ilog2() as u64;
/// The most that the pool notes per segment, its vectors up to twice as long as they need be.
pub(super) const BOOKKEEPING: u64 = 2 * (size_of::<Segment>() + size_of::<u32>()) as u64;
const NONE: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;
    use std::collections::VecDeque;

    quickcheck! {
        /// Two queues in one pool against two plain ones, with a cursor that runs ahead of the release point.
        /// Also while the pool is made compact.
        fn a_queue_is_a_queue(steps: Vec<(bool, u8, u16)>) -> bool {
            let mut pool = Pool::default();
            let mut queues = [Queue::default(), Queue::default()];
            let mut models = [VecDeque::new(), VecDeque::new()];
            let mut cursors = [(Cursor::FRONT, 0u32); 2];
            let mut next = 0u8;
            for (which, what, n) in steps {
                let which = usize::from(which);
                if what % 8 == 7 {
                    let places = pool.compact();
                    queues.iter_mut().for_each(|queue| queue.handle_moved(&places));
                    cursors.iter_mut().for_each(|(cursor, _)| cursor.handle_moved(&places));
                    assert_eq!((pool.free.len(), pool.spare.len()), (0, 0));
                }
                let (queue, model) = (&mut queues[which], &mut models[which]);
                let (cursor, ahead) = &mut cursors[which];
                match what / 8 % 3 {
                    0 => {
                        let mut more = || {
                            next = next.wrapping_mul(5).wrapping_add(3);
                            next
                        };
                        let data: Vec<u8> = (0..n % 9000).map(|_| more()).collect();
                        pool.append(queue, &data);
                        model.extend(data);
                    }
                    1 => {
                        let n = u32::from(n).min(queue.len() - *ahead);
                        let mut left = n;
                        while left > 0 {
                            let run = pool.front(queue, *cursor);
                            let take = (run.len() as u32).min(left);
                            assert!(take > 0);
                            let want = model.iter().skip(*ahead as usize).take(take as usize);
                            assert!(run[..take as usize].iter().eq(want));
                            *cursor = pool.advance(queue, *cursor, take);
                            *ahead += take;
                            left -= take;
                        }
                    }
                    _ => {
                        let n = u32::from(n).min(*ahead);
                        pool.release(queue, n, Some(cursor));
                        *ahead -= n;
                        model.drain(..n as usize);
                    }
                }
                assert_eq!(queue.len() as usize, model.len());
            }
            for (queue, model) in queues.iter_mut().zip(&models) {
                let mut all = Vec::new();
                let mut cursor = Cursor::FRONT;
                while all.len() < model.len() {
                    let run = pool.front(queue, cursor);
                    all.extend_from_slice(run);
                    cursor = pool.advance(queue, cursor, run.len() as u32);
                }
                assert!(all.iter().eq(model));
                pool.clear(queue);
            }
            pool.trim();
            pool.memory() == 0 && pool.segments.capacity() == 0
        }
    }
}
