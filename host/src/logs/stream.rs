//! What goes into one log next, and what of it got there.
//!
//! **Owns** where the log stands in what its console printed, and what is missing. **Refuses to know** files
//! and threads: whoever writes says how many bytes were taken.

use std::time::SystemTime;

use bytes::Bytes;

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
}

/// What is to be written at once.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    /// What those are, in order.
    runs: Vec<Run>,
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
    Guest,
    Gap(u64),
}

impl Place {
    /// How many bytes are missing that the log does not tell of.
    pub(super) fn missing(&self) -> u64 {
        self.missing
    }

    /// Puts what comes next behind what is in the batch, and what has to be said before it. Returns how many
    /// bytes are missing right before the piece that the thread has never had.
    pub(super) fn put(&mut self, piece: &Piece, batch: &mut Batch) -> u64 {
        let gap = self.skip(piece);
        self.put_gap(batch);
        batch.push(&piece.bytes, Tells::Guest);
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
            let line = format!("\r\n[vspc: {missing} bytes are missing here]\r\n");
            batch.push(line.as_bytes(), Tells::Gap(missing));
        }
    }

    /// No more than `written` bytes of the batch got into the file.
    pub(super) fn fall_short(&mut self, batch: &Batch, written: usize) {
        let mut left = written;
        for run in &batch.runs {
            let taken = left.min(run.len);
            left -= taken;
            self.missing += match run.tells_of {
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
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Empties it. Memory beyond what is usual goes back.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(USUAL);
        self.runs.clear();
    }

    fn push(&mut self, bytes: &[u8], tells_of: Tells) {
        self.bytes.extend_from_slice(bytes);
        self.runs.push(Run { len: bytes.len(), tells_of });
    }
}

/// What a batch keeps of its memory.
const USUAL: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(at: u64, bytes: &'static [u8]) -> Piece {
        Piece { at, bytes: Bytes::from_static(bytes), time: SystemTime::UNIX_EPOCH }
    }

    #[test]
    fn bytes_without_a_gap_are_all_that_is_written() {
        let (mut place, mut batch) = (Place::default(), Batch::default());
        assert_eq!(place.put(&piece(0, b"login: "), &mut batch), 0);
        assert_eq!(place.put(&piece(7, b"root\xff\0"), &mut batch), 0);
        assert_eq!(batch.bytes(), b"login: root\xff\0");
    }

    #[test]
    fn what_is_missing_is_told_in_its_place_once() {
        let (mut place, mut batch) = (Place::default(), Batch::default());
        place.put(&piece(0, b"one"), &mut batch);
        assert_eq!(place.put(&piece(10, b"two"), &mut batch), 7);
        place.put(&piece(13, b"three"), &mut batch);
        assert_eq!(batch.bytes(), b"one\r\n[vspc: 7 bytes are missing here]\r\ntwothree");
    }

    #[test]
    fn whatever_a_write_leaves_out_is_told_by_the_next() {
        let (mut place, mut batch) = (Place::default(), Batch::default());
        place.put(&piece(0, b"one"), &mut batch);
        place.put(&piece(10, b"two"), &mut batch);
        let whole = batch.bytes().len();
        for written in 0..=whole {
            let mut place = Place { next: 13, missing: 0 };
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
        place.put(&piece(8, b"three"), &mut batch);
        assert_eq!(batch.bytes(), b"\r\n[vspc: 8 bytes are missing here]\r\nthree");
        assert_eq!(place.missing(), 0);
    }
}
