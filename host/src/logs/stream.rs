//! What goes into one log next, and what of it got there.
//!
//! **Owns** where the log stands in what its console printed, and what is missing. **Refuses to know** files
//! and threads: whoever writes says how many bytes were taken.

use std::io::IoSlice;
use std::time::SystemTime;

use bytes::Bytes;

use vspc_logs::date::stamp;

/// A piece of what a console printed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Piece {
    /// How many guest bytes the console had printed before these.
    pub(super) at: u64,
    pub(super) bytes: Bytes,
    /// When it came.
    pub(super) time: SystemTime,
}

/// A log's place.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// How many guest bytes the console had printed before what comes next.
    next: u64,
    /// How many before that are missing, and the log does not say so yet.
    missing: u64,
    /// The last byte was in the middle of a line.
    is_inside: bool,
}

/// What is to be written at once. Large pieces are written from where they are; small ones, and what the log
/// has to say itself, are put together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    parts: Vec<Part>,
    /// What was put together.
    copied: Vec<u8>,
    len: usize,
    /// What the bytes are, in order.
    runs: Vec<Run>,
}

#[derive(Debug)]
enum Part {
    /// So many of the bytes that were put together.
    Copied(usize),
    Whole(Bytes),
}

#[derive(Clone, Copy, Debug)]
struct Run {
    len: usize,
    /// How many guest bytes are missing from the log unless all of the run is written: its own, or those that
    /// it tells of.
    tells_of: Tells,
}

#[derive(Clone, Copy, Debug)]
enum Tells {
    Time,
    Guest,
    Gap(u64),
}

impl Place {
    /// Of a console that begins to count at this many bytes.
    pub(super) fn at(next: u64) -> Self {
        Self { next, ..Self::default() }
    }

    /// How many bytes are missing that the log does not tell of.
    pub(super) fn missing(&self) -> u64 {
        self.missing
    }

    /// Puts what comes next behind what is in the batch, and what has to be said before it: before each line
    /// the time at which it began, where `stamps` says so. Returns how many bytes that the thread has never
    /// had are missing right before the piece.
    pub(super) fn put(&mut self, piece: Piece, stamps: bool, batch: &mut Batch) -> u64 {
        let gap = self.skip(&piece);
        self.put_gap(batch);
        if !stamps {
            batch.push_piece(piece.bytes);
            return gap;
        }
        let time = format!("{} ", stamp(piece.time));
        for line in piece.bytes.split_inclusive(|&byte| byte == b'\n') {
            if !self.is_inside {
                batch.push(time.as_bytes(), Tells::Time);
            }
            batch.push(line, Tells::Guest);
            self.is_inside = !line.ends_with(b"\n");
        }
        gap
    }

    /// A piece is not written at all. Returns how many bytes are missing right before it.
    pub(super) fn lose(&mut self, piece: &Piece) -> u64 {
        let gap = self.skip(piece);
        self.missing += piece.bytes.len() as u64;
        gap
    }

    /// Puts into the batch what is missing up to here.
    pub(super) fn put_gap(&mut self, batch: &mut Batch) {
        let missing = std::mem::take(&mut self.missing);
        if missing > 0 {
            let line = format!("{BEFORE_GAP}{missing}{BEHIND_GAP}");
            batch.push(line.as_bytes(), Tells::Gap(missing));
            self.is_inside = false;
        }
    }

    /// No more than `written` bytes of the batch got into the file.
    pub(super) fn fall_short(&mut self, batch: &Batch, written: usize) {
        let mut left = written;
        for run in &batch.runs {
            let taken = left.min(run.len);
            left -= taken;
            self.missing += match run.tells_of {
                Tells::Time => 0,
                Tells::Guest => (run.len - taken) as u64,
                Tells::Gap(missing) if taken < run.len => missing,
                Tells::Gap(_) => 0,
            };
        }
    }

    fn skip(&mut self, piece: &Piece) -> u64 {
        let gap = piece.at.saturating_sub(self.next);
        self.missing += gap;
        self.next = piece.at + piece.bytes.len() as u64;
        gap
    }
}

impl Batch {
    /// How many bytes it has.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// It is time to write it: more would have a disk work at one log for long.
    pub(super) fn is_full(&self) -> bool {
        self.len >= ENOUGH || self.parts.len() >= MOST_PARTS - 1
    }

    /// Lays out what comes behind the first `written` bytes. Returns how many slices that are, and at least
    /// one where anything is left.
    pub(super) fn slices<'a>(&'a self, written: usize, slices: &mut [IoSlice<'a>; MOST_PARTS]) -> usize {
        let (mut copied, mut skipped, mut count) = (&self.copied[..], written, 0);
        for part in &self.parts {
            let bytes = match part {
                Part::Copied(len) => {
                    let (bytes, rest) = copied.split_at(*len);
                    copied = rest;
                    bytes
                }
                Part::Whole(bytes) => &bytes[..],
            };
            let skip = skipped.min(bytes.len());
            skipped -= skip;
            if skip < bytes.len() && count < slices.len() {
                slices[count] = IoSlice::new(&bytes[skip..]);
                count += 1;
            }
        }
        count
    }

    /// Empties it; `done` gets the large pieces. Memory beyond what is usual goes back.
    pub(super) fn clear(&mut self, mut done: impl FnMut(Bytes)) {
        for part in self.parts.drain(..) {
            if let Part::Whole(bytes) = part {
                done(bytes);
            }
        }
        self.copied.clear();
        self.copied.shrink_to(USUAL);
        self.len = 0;
        self.runs.clear();
        self.runs.shrink_to(USUAL_RUNS);
    }

    fn push_piece(&mut self, bytes: Bytes) {
        if bytes.len() < WORTH_A_PART {
            return self.push(&bytes, Tells::Guest);
        }
        self.note(bytes.len(), Tells::Guest);
        self.parts.push(Part::Whole(bytes));
    }

    fn push(&mut self, bytes: &[u8], tells_of: Tells) {
        self.note(bytes.len(), tells_of);
        self.copied.extend_from_slice(bytes);
        match self.parts.last_mut() {
            Some(Part::Copied(len)) => *len += bytes.len(),
            _ => self.parts.push(Part::Copied(bytes.len())),
        }
    }

    fn note(&mut self, len: usize, tells_of: Tells) {
        self.len += len;
        self.runs.push(Run { len, tells_of });
    }
}

/// A log without the lines that tell of gaps: what its VM printed.
pub(super) fn without_gaps(log: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(log.len());
    let mut rest = log;
    while let Some(at) = find(rest, BEFORE_GAP.as_bytes()) {
        let behind = &rest[at + BEFORE_GAP.len()..];
        let digits = behind.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let is_gap = digits > 0 && behind[digits..].starts_with(BEHIND_GAP.as_bytes());
        let (kept, skipped) = match is_gap {
            true => (at, at + BEFORE_GAP.len() + digits + BEHIND_GAP.len()),
            false => (at + 1, at + 1),
        };
        text.extend_from_slice(&rest[..kept]);
        rest = &rest[skipped..];
    }
    text.extend_from_slice(rest);
    text
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// How a gap is told: a line of its own, with the number of bytes in the middle.
const BEFORE_GAP: &str = "\r\n[vspc: ";
const BEHIND_GAP: &str = " bytes are missing here]\r\n";

/// What a batch keeps of its memory.
const USUAL: usize = 256 << 10;
const USUAL_RUNS: usize = 4096;

/// How many bytes are written at once, and a piece more at most. The room that they take is given back then:
/// the loop has this much to copy while the next are written.
const ENOUGH: usize = 1 << 20;

/// How many parts a batch has at most, so that one system call takes them.
pub(super) const MOST_PARTS: usize = 64;

/// A piece of this length is cheaper to name than to copy.
const WORTH_A_PART: usize = 4 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(at: u64, bytes: &'static [u8]) -> Piece {
        Piece { at, bytes: Bytes::from_static(bytes), time: SystemTime::UNIX_EPOCH }
    }

    fn rest(batch: &Batch, written: usize) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); MOST_PARTS];
        let count = batch.slices(written, &mut slices);
        slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect()
    }

    fn whole(batch: &Batch) -> Vec<u8> {
        rest(batch, 0)
    }

    #[test]
    fn large_pieces_are_written_from_where_they_are_in_their_order_and_handed_back() {
        let (mut place, mut batch) = (Place::default(), Batch::default());
        let large = Bytes::from(vec![b'x'; WORTH_A_PART]);
        let mut at = 0;
        let mut expected = Vec::new();
        let small = Bytes::from_static(b"small");
        for bytes in [&small, &large, &large, &small, &small, &large] {
            expected.extend_from_slice(bytes);
            place.put(Piece { at, bytes: bytes.clone(), time: SystemTime::UNIX_EPOCH }, false, &mut batch);
            at += bytes.len() as u64;
        }
        assert_eq!((batch.len(), batch.parts.len()), (expected.len(), 5));
        for written in 0..=expected.len() {
            assert!(rest(&batch, written) == expected[written..], "{written} bytes were written");
        }
        let mut done = 0;
        batch.clear(|bytes| done += usize::from(bytes.as_ptr() == large.as_ptr()));
        assert_eq!((done, batch.len(), whole(&batch).len()), (3, 0, 0));
    }

    #[test]
    fn a_batch_is_full_before_one_system_call_cannot_take_it() {
        let (mut place, mut batch) = (Place::default(), Batch::default());
        let mut at = 0;
        while !batch.is_full() {
            for len in [WORTH_A_PART, 1] {
                let bytes = Bytes::from(vec![b'x'; len]);
                place.put(Piece { at, bytes, time: SystemTime::UNIX_EPOCH }, false, &mut batch);
                at += len as u64;
            }
        }
        assert_eq!(whole(&batch).len() as u64, at);
    }

    #[test]
    fn bytes_without_a_gap_are_all_that_is_written() {
        let (mut place, mut batch) = (Place::default(), Batch::default());
        assert_eq!(place.put(piece(0, b"login: "), false, &mut batch), 0);
        assert_eq!(place.put(piece(7, b"root\xff\0"), false, &mut batch), 0);
        assert_eq!(whole(&batch), b"login: root\xff\0");
    }

    #[test]
    fn a_line_has_the_time_at_which_it_began_and_its_bytes_are_what_they_were() {
        let (mut place, mut batch) = (Place::default(), Batch::default());
        let later = |at, bytes, seconds| {
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            Piece { time, ..piece(at, bytes) }
        };
        place.put(later(0, b"log", 0), true, &mut batch);
        place.put(later(3, b"in:\xff\r\n", 1), true, &mut batch);
        place.put(later(9, b"\n\nroot", 2), true, &mut batch);
        place.put(later(20, b"gone", 3), true, &mut batch);
        let text = &whole(&batch)[..];
        let expected: &[u8] = b"1970-01-01T00:00:00.000Z login:\xff\r\n1970-01-01T00:00:02.000Z \n\
            1970-01-01T00:00:02.000Z \n1970-01-01T00:00:02.000Z root\
            \r\n[vspc: 5 bytes are missing here]\r\n1970-01-01T00:00:03.000Z gone";
        assert!(text == expected, "{}", String::from_utf8_lossy(text));
    }

    #[test]
    fn what_is_missing_is_told_in_its_place_once() {
        let (mut place, mut batch) = (Place::default(), Batch::default());
        place.put(piece(0, b"one"), false, &mut batch);
        assert_eq!(place.put(piece(10, b"two"), false, &mut batch), 7);
        place.put(piece(13, b"three"), false, &mut batch);
        assert_eq!(whole(&batch), b"one\r\n[vspc: 7 bytes are missing here]\r\ntwothree");
    }

    #[test]
    fn whatever_a_write_leaves_out_is_told_by_the_next() {
        let (mut place, mut batch) = (Place::default(), Batch::default());
        place.put(piece(0, b"one"), false, &mut batch);
        place.put(piece(10, b"two"), false, &mut batch);
        let whole = whole(&batch).len();
        for written in 0..=whole {
            let mut place = Place { next: 13, ..Place::default() };
            place.fall_short(&batch, written);
            let there = written.min(3) + written.saturating_sub(whole - 3);
            let is_gap_told = written >= whole - 3;
            let told = if is_gap_told { 7 } else { 0 };
            assert_eq!(place.missing(), 13 - there as u64 - told, "{written} bytes written");
        }
    }

    #[test]
    fn pieces_that_are_not_written_are_a_gap_with_those_that_never_came() {
        let (mut place, mut batch) = (Place::default(), Batch::default());
        place.lose(&piece(0, b"one"));
        assert_eq!(place.lose(&piece(5, b"two")), 2);
        place.put(piece(8, b"three"), false, &mut batch);
        assert_eq!(whole(&batch), b"\r\n[vspc: 8 bytes are missing here]\r\nthree");
        assert_eq!(place.missing(), 0);
    }
}
