//! What a console printed: kept once, in wire form, for all who read it.
//!
//! ```text
//!   oldest                                         open
//!  ┌────────┐┌────────────┐┌────────────────┐┌──────────┄┄┄┄┐
//!  │  256   ││    …       ││     8 KiB      ││   8 KiB      ┆   segments, each whole pairs only
//!  └────────┘└────────────┘└────────────────┘└──────────┄┄┄┄┘
//!  ▲ tail            ▲ a reader                         ▲ head (absolute offset, never wraps)
//! ```
//!
//! Bytes are copied in once and from then on only borrowed. A doubled IAC is never cut by a segment's
//! end, so that a segment's start is always a place where a reader can begin. A journal that has never
//! been written to owns no heap. It knows nothing of who reads: the console tells it from where bytes are
//! still needed.

use std::collections::VecDeque;

use memchr::memchr;

use crate::telnet::IAC;
use crate::telnet::wire_form::{
    count_pairs, guest_slices, trailing_iacs, undouble_into, whole_pairs, wire_len,
};

/// Size of a full-grown segment. Large enough that a full read is 32 borrowed runs, small enough
/// that a silent console keeps little more than the scrollback it was told to keep.
pub(super) const SEGMENT: usize = 8 << 10;

/// Size of a journal's first segment: a prompt or two.
const FIRST_SEGMENT: usize = 256;

/// Full-grown segments kept for the next to need one. One megabyte: what one turn of the loop over a few
/// busy VMs recycles, and it stays warm in the cache.
const SPARE_SEGMENTS: usize = 128;

/// How far a scrollback's start is moved to meet the start of a line.
const LINE_SEARCH: u64 = 512;

/// The memory of all journals: counts it, and hands out segments.
#[derive(Debug)]
pub(super) struct Pool {
    spare: Vec<Vec<u8>>,
    /// Bytes of capacity that journals hold.
    used: usize,
    limit: usize,
}

impl Pool {
    pub(super) fn new(limit: usize) -> Self {
        Self { spare: Vec::new(), used: 0, limit }
    }

    /// How much journals may hold together.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Whether that leaves room for so many bytes more.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.used.saturating_add(bytes) <= self.limit
    }

    /// Changes how much journals may hold together. What is beyond that is for others to let go of.
    pub(super) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Whether journals hold more than they may together.
    pub(super) fn is_over(&self) -> bool {
        self.used > self.limit
    }

    #[cfg(test)]
    fn used(&self) -> usize {
        self.used
    }

    fn take(&mut self, size: usize) -> Vec<u8> {
        self.used += size;
        if size == SEGMENT
            && let Some(segment) = self.spare.pop()
        {
            return segment;
        }
        Vec::with_capacity(size)
    }

    fn put(&mut self, mut bytes: Vec<u8>, size: usize) {
        self.used -= size;
        if size == SEGMENT && self.spare.len() < SPARE_SEGMENTS {
            bytes.clear();
            self.spare.push(bytes);
        }
    }
}

#[derive(Debug)]
struct Segment {
    /// Absolute offset of its first byte.
    start: u64,
    bytes: Vec<u8>,
    /// The capacity it was taken with, at most [`SEGMENT`].
    size: u16,
    /// How many guest bytes those are, once it is full and somebody has asked.
    guest: Option<u16>,
}

impl Segment {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// How many guest bytes it holds, which does not change any more. Looks at them once.
    fn count_guest(&mut self) -> u64 {
        let bytes = &self.bytes;
        u64::from(*self.guest.get_or_insert_with(|| (bytes.len() - count_pairs(bytes)) as u16))
    }
}

/// One console's output, or what a connection said before it was known whose it is.
#[derive(Debug, Default)]
pub(super) struct Journal {
    segments: VecDeque<Segment>,
    head: u64,
    guest_head: u64,
}

impl Journal {
    /// One that holds nothing, with room for so many bytes [before](Self::put_before) its first.
    pub(super) const fn behind(room: u64) -> Self {
        Self { segments: VecDeque::new(), head: room, guest_head: room }
    }

    /// Offset behind the last byte.
    pub(super) fn head(&self) -> u64 {
        self.head
    }

    /// Offset of the oldest byte still here; the head when there is none.
    pub(super) fn tail(&self) -> u64 {
        self.segments.front().map_or(self.head, |segment| segment.start)
    }

    /// Bytes that are still here.
    pub(super) fn kept(&self) -> u64 {
        self.head - self.tail()
    }

    /// Guest bytes ever printed.
    pub(super) fn guest_head(&self) -> u64 {
        self.guest_head
    }

    /// Appends a run of wire form that holds whole pairs only, `pairs` of them. Copies it once.
    pub(super) fn append(&mut self, mut bytes: &[u8], pairs: usize, pool: &mut Pool) {
        self.guest_head += (bytes.len() - pairs) as u64;
        let is_pairs_only = 2 * pairs == bytes.len();
        while !bytes.is_empty() {
            let room = match self.segments.back() {
                Some(open) => usize::from(open.size) - open.bytes.len(),
                None => 0,
            };
            let part = if is_pairs_only { room.min(bytes.len()) & !1 } else { whole_pairs(bytes, room) };
            if part == 0 {
                self.grow(bytes.len(), pool);
                continue;
            }
            let open = self.segments.back_mut().expect("room was found in it");
            open.bytes.extend_from_slice(&bytes[..part]);
            self.head += part as u64;
            bytes = &bytes[part..];
        }
    }

    /// Puts the last of these guest bytes in front of all that it holds, as many as there is room for. Its
    /// first byte must still be here, or none have been appended. Returns how many. Copies them once.
    pub(super) fn put_before(&mut self, guest: &[u8], pool: &mut Pool) -> usize {
        let mut rest = guest;
        loop {
            let (before, wire) = double_last(rest, (SEGMENT as u64).min(self.tail()) as usize);
            if wire.is_empty() {
                break;
            }
            let size = wire.len().next_power_of_two().clamp(FIRST_SEGMENT, SEGMENT);
            let mut bytes = pool.take(size);
            bytes.extend_from_slice(&wire);
            let start = self.tail() - wire.len() as u64;
            self.segments.push_front(Segment { start, bytes, size: size as u16, guest: None });
            rest = before;
        }
        guest.len() - rest.len()
    }

    /// Opens a segment for `len` bytes to come.
    fn grow(&mut self, len: usize, pool: &mut Pool) {
        let last = self.segments.back().map_or(0, |segment| usize::from(segment.size));
        let size = len.max(2 * last).next_power_of_two().clamp(FIRST_SEGMENT, SEGMENT);
        let bytes = pool.take(size);
        self.segments.push_back(Segment { start: self.head, bytes, size: size as u16, guest: None });
    }

    /// Gives back whole segments that end at or before `keep_from`.
    pub(super) fn release(&mut self, keep_from: u64, pool: &mut Pool) {
        while let Some(oldest) = self.segments.front()
            && oldest.end() <= keep_from
        {
            self.drop_oldest(pool);
        }
    }

    /// Drops the oldest segment whatever it holds. Returns how many wire bytes that were.
    pub(super) fn drop_oldest(&mut self, pool: &mut Pool) -> Option<usize> {
        let oldest = self.segments.pop_front()?;
        let len = oldest.bytes.len();
        pool.put(oldest.bytes, oldest.size.into());
        if self.segments.is_empty() {
            self.segments = VecDeque::new();
        }
        Some(len)
    }

    /// Appends all that it holds, in wire form, to `into`.
    pub(super) fn copy_wire(&self, into: &mut Vec<u8>) {
        self.segments.iter().for_each(|segment| into.extend_from_slice(&segment.bytes));
    }

    /// Gives everything back.
    pub(super) fn clear(&mut self, pool: &mut Pool) {
        while self.drop_oldest(pool).is_some() {}
    }

    /// End of the oldest segment: what has to be skipped at least to free memory.
    pub(super) fn oldest_end(&self) -> u64 {
        self.segments.front().map_or(self.head, Segment::end)
    }

    /// Moves the bytes of `other`, whose memory comes `from` another pool, behind the own ones. Copies them.
    pub(super) fn adopt(&mut self, mut other: Journal, from: &mut Pool, pool: &mut Pool) {
        while let Some(segment) = other.segments.pop_front() {
            self.append(&segment.bytes, count_pairs(&segment.bytes), pool);
            from.put(segment.bytes, segment.size.into());
        }
    }

    /// Moves the bytes of `other`, whose memory comes from the same pool, behind the own ones. Costs a look
    /// at each byte and copies none.
    pub(super) fn join(&mut self, mut other: Journal) {
        while let Some(mut segment) = other.segments.pop_front() {
            segment.start = self.head;
            self.head += segment.bytes.len() as u64;
            self.guest_head += (segment.bytes.len() - count_pairs(&segment.bytes)) as u64;
            self.segments.push_back(segment);
        }
    }

    /// The stored bytes between two offsets, a slice per segment.
    pub(super) fn slices(&self, at: u64, until: u64) -> impl Iterator<Item = &[u8]> {
        let first = self.segment_index(at);
        self.segments
            .range(first..)
            .map_while(move |segment| {
                if segment.start >= until {
                    return None;
                }
                let from = at.saturating_sub(segment.start) as usize;
                let to = segment.bytes.len().min((until - segment.start) as usize);
                Some(&segment.bytes[from.min(to)..to])
            })
            .filter(|slice| !slice.is_empty())
    }

    /// The guest bytes from `at` on, in slices, each with the offset behind it. Nothing is copied.
    pub(super) fn guest_slices(&self, at: u64) -> impl Iterator<Item = (&[u8], u64)> {
        let mut position = at;
        self.slices(at, self.head).flat_map(guest_slices).map(move |slice| {
            // The second halves of the pairs that a slice ends in are passed over.
            position += (slice.len() + trailing_iacs(slice)) as u64;
            (slice, position)
        })
    }

    /// Appends guest bytes from `at` on to `out`, up to `limit` of them. Returns the offset behind them.
    pub(super) fn copy_guest(&self, at: u64, limit: usize, out: &mut Vec<u8>) -> u64 {
        let mut position = at;
        for bytes in self.slices(at, self.head) {
            if out.len() >= limit {
                break;
            }
            position += undouble_into(bytes, limit - out.len(), out) as u64;
        }
        position
    }

    /// The offset `guest` guest bytes behind `at`; never between the two halves of a pair.
    pub(super) fn advance_guest(&self, at: u64, mut guest: usize) -> u64 {
        let mut position = at;
        for bytes in self.slices(at, self.head) {
            if guest == 0 {
                break;
            }
            let (wire, covered) = wire_len(bytes, guest);
            position += wire as u64;
            guest -= covered;
        }
        position
    }

    /// Whether `at` lies between the two halves of a doubled IAC. Looks back no further than the last
    /// byte that is not an IAC, or the segment's start.
    pub(super) fn is_mid_pair(&self, at: u64) -> bool {
        let Some(segment) = self.segments.get(self.segment_index(at)) else {
            return false;
        };
        let before = &segment.bytes[..(at.saturating_sub(segment.start) as usize).min(segment.bytes.len())];
        trailing_iacs(before) % 2 == 1
    }

    /// Guest bytes printed before `at`, which must still be here. Looks once at each byte behind it, for
    /// however many readers: those that stalled together are overtaken together.
    pub(super) fn guest_at(&mut self, at: u64) -> u64 {
        let first = self.segment_index(at);
        let open = self.segments.len().saturating_sub(1);
        let mut behind = 0;
        for (index, segment) in self.segments.iter_mut().enumerate().skip(first) {
            behind += if index == first || index == open {
                let from = (at.saturating_sub(segment.start) as usize).min(segment.bytes.len());
                (segment.bytes.len() - from - count_pairs(&segment.bytes[from..])) as u64
            } else {
                segment.count_guest()
            };
        }
        self.guest_head - behind
    }

    /// Where a reader that was overtaken goes on: a segment's start at most `back` bytes behind the head.
    pub(super) fn resume_at(&self, back: u64) -> u64 {
        let wanted = self.head.saturating_sub(back);
        self.segments.iter().map(|segment| segment.start).find(|&start| start >= wanted).unwrap_or(self.head)
    }

    /// Where the last `len` bytes before `end` begin, moved on to the start of a line where one is near.
    pub(super) fn scrollback_start(&self, end: u64, len: u64) -> u64 {
        let tail = self.tail();
        let wanted = end.saturating_sub(len);
        if wanted <= tail {
            return tail.min(end);
        }
        let start = if self.is_mid_pair(wanted) { wanted + 1 } else { wanted };
        let mut position = start;
        for bytes in self.slices(start, end.min(start + LINE_SEARCH)) {
            if let Some(newline) = memchr(b'\n', bytes) {
                return position + newline as u64 + 1;
            }
            position += bytes.len() as u64;
        }
        start.min(end)
    }

    fn segment_index(&self, at: u64) -> usize {
        // A reader is nearly always in the newest segment or in the one before.
        match self.segments.back() {
            Some(open) if at >= open.start => self.segments.len() - 1,
            _ => self.segments.partition_point(|segment| segment.end() <= at),
        }
    }
}

/// Cuts off as many of the last guest bytes as make up to `limit` bytes of wire form. Returns those before,
/// and that.
fn double_last(guest: &[u8], limit: usize) -> (&[u8], Vec<u8>) {
    let mut len = 0;
    let count = guest.iter().rev().take_while(|&&byte| {
        len += 1 + usize::from(byte == IAC);
        len <= limit
    });
    let (before, last) = guest.split_at(guest.len() - count.count());
    let mut wire = Vec::with_capacity(limit.min(2 * last.len()));
    for run in last.split_inclusive(|&byte| byte == IAC) {
        wire.extend_from_slice(run);
        if run.ends_with(&[IAC]) {
            wire.push(IAC);
        }
    }
    (before, wire)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doubled(guest: &[u8]) -> Vec<u8> {
        guest.iter().flat_map(|&byte| if byte == IAC { vec![IAC, IAC] } else { vec![byte] }).collect()
    }

    fn append(journal: &mut Journal, guest: &[u8], pool: &mut Pool) {
        let wire = doubled(guest);
        journal.append(&wire, wire.len() - guest.len(), pool);
    }

    fn wire(journal: &Journal, at: u64) -> Vec<u8> {
        journal.slices(at, journal.head()).flatten().copied().collect()
    }

    fn patterned(len: usize) -> Vec<u8> {
        (0..len).map(|i| if i % 7 < 3 { IAC } else { (i % 251) as u8 }).collect()
    }

    #[test]
    fn silent_journal_owns_no_heap() {
        let journal = Journal::default();
        assert_eq!(journal.segments.capacity(), 0);
        assert_eq!((journal.head(), journal.tail()), (0, 0));
    }

    #[test]
    fn bytes_come_back_as_they_went_in_and_pairs_are_never_cut_by_a_segment() {
        let mut pool = Pool::new(usize::MAX);
        let mut journal = Journal::default();
        let guest = patterned(100_000);
        for chunk in guest.chunks(977) {
            append(&mut journal, chunk, &mut pool);
        }
        assert_eq!(wire(&journal, 0), doubled(&guest));
        assert_eq!(journal.guest_head(), guest.len() as u64);
        assert!(journal.segments.iter().all(|segment| trailing_iacs(&segment.bytes).is_multiple_of(2)));
        let starts: Vec<_> = journal.segments.iter().map(|segment| segment.start).collect();
        for start in starts {
            let pairs = count_pairs(&wire(&journal, 0)[..start as usize]) as u64;
            assert_eq!(journal.guest_at(start), start - pairs);
            assert!(!journal.is_mid_pair(start));
        }
        let mut undoubled = Vec::new();
        assert_eq!(journal.copy_guest(0, usize::MAX, &mut undoubled), journal.head());
        assert_eq!(undoubled, guest);
    }

    #[test]
    fn guest_positions_never_fall_inside_a_pair() {
        let mut pool = Pool::new(usize::MAX);
        let mut journal = Journal::default();
        let guest = patterned(20_000);
        append(&mut journal, &guest, &mut pool);
        for n in (0..guest.len()).step_by(37) {
            let at = journal.advance_guest(0, n);
            assert!(!journal.is_mid_pair(at));
            assert_eq!(journal.guest_at(at), n as u64);
        }
    }

    #[test]
    fn release_keeps_what_is_needed_and_returns_the_rest() {
        let mut pool = Pool::new(usize::MAX);
        let mut journal = Journal::default();
        append(&mut journal, &[b'x'; 100_000], &mut pool);
        journal.release(50_000, &mut pool);
        assert!(journal.tail() <= 50_000 && journal.tail() > 50_000 - SEGMENT as u64);
        journal.release(journal.head(), &mut pool);
        assert_eq!(pool.used(), 0);
        assert_eq!(journal.segments.capacity(), 0);
    }

    #[test]
    fn overtaken_reader_resumes_at_a_segment_start() {
        let mut pool = Pool::new(usize::MAX);
        let mut journal = Journal::default();
        append(&mut journal, &patterned(200_000), &mut pool);
        let at = journal.resume_at(16 << 10);
        assert!(journal.head() - at <= 16 << 10);
        assert!(!journal.is_mid_pair(at));
    }

    #[test]
    fn scrollback_begins_at_a_line_where_one_is_near() {
        let mut pool = Pool::new(usize::MAX);
        let mut journal = Journal::default();
        append(&mut journal, b"one\r\ntwo\r\nthree", &mut pool);
        let end = journal.head();
        assert_eq!(wire(&journal, journal.scrollback_start(end, 8)), b"three");
        assert_eq!(wire(&journal, journal.scrollback_start(end, 1000)), b"one\r\ntwo\r\nthree");
        append(&mut journal, &[IAC; 1000], &mut pool);
        let start = journal.scrollback_start(journal.head(), 501);
        assert!(!journal.is_mid_pair(start));
    }

    #[test]
    fn older_bytes_are_put_before_the_first_as_many_as_there_is_room_for() {
        for (room, kept) in [(0, 0), (10_000, 1), (100_000, 1000), (100_000, 30_000)] {
            let mut pool = Pool::new(usize::MAX);
            let mut journal = Journal::behind(room);
            append(&mut journal, b"new", &mut pool);
            let old = patterned(kept);
            let put = journal.put_before(&old, &mut pool);
            assert_eq!(put, if room == 0 { 0 } else { kept });
            append(&mut journal, b"er", &mut pool);
            let mut guest = Vec::new();
            assert_eq!(journal.copy_guest(journal.tail(), usize::MAX, &mut guest), journal.head());
            assert_eq!(guest, [&old[..put], b"newer"].concat());
            assert_eq!(journal.guest_head(), room + 5, "what comes first is at the same place as without");
            assert_eq!(journal.guest_at(journal.tail()), room - put as u64);
            journal.clear(&mut pool);
            assert_eq!(pool.used(), 0);
        }
    }

    #[test]
    fn of_older_bytes_without_room_the_last_are_put() {
        let mut pool = Pool::new(usize::MAX);
        let mut journal = Journal::behind(10_000);
        let old = patterned(30_000);
        let put = journal.put_before(&old, &mut pool);
        assert!((5000..10_000).contains(&put));
        assert_eq!(wire(&journal, journal.tail()), doubled(&old[old.len() - put..]));
        append(&mut journal, b"new", &mut pool);
        assert_eq!(wire(&journal, 10_000), b"new");
    }

    #[test]
    fn adopting_moves_bytes_and_counts() {
        let (mut pool, mut from) = (Pool::new(usize::MAX), Pool::new(usize::MAX));
        let (mut console, mut early) = (Journal::default(), Journal::default());
        append(&mut console, b"before ", &mut pool);
        append(&mut early, &patterned(9000), &mut from);
        console.adopt(early, &mut from, &mut pool);
        assert_eq!(from.used(), 0);
        assert_eq!(console.guest_head(), 7 + 9000);
        assert_eq!(wire(&console, 7), doubled(&patterned(9000)));
        console.clear(&mut pool);
        assert_eq!(pool.used(), 0);
    }

    #[test]
    fn bytes_of_the_same_pool_are_joined_as_they_lie() {
        let mut pool = Pool::new(usize::MAX);
        let (mut console, mut waiting) = (Journal::default(), Journal::default());
        let (first, second) = (patterned(10_000), patterned(20_000));
        append(&mut console, &first, &mut pool);
        append(&mut waiting, &second, &mut pool);
        let used = pool.used();
        console.join(waiting);
        assert_eq!(pool.used(), used);
        append(&mut console, b"more", &mut pool);
        let mut guest = Vec::new();
        assert_eq!(console.copy_guest(0, usize::MAX, &mut guest), console.head());
        assert_eq!(guest, [first, second, b"more".to_vec()].concat());
        console.clear(&mut pool);
        assert_eq!(pool.used(), 0);
    }
}
