//! Where messages begin, on a channel that was joined in the middle: what is looked for is what a guest
//! answers to the first command, says when it has begun, or says that it has read.
//!
//! Owns the patterns (hyperstart.md §3). Refuses to know what was asked.

use super::message::{Code, HEADER, read_u32};

/// Looks at one byte after another.
#[derive(Clone, Default, Debug)]
pub(super) struct Search {
    last: [u8; ANSWER],
    have: usize,
}

/// What was found: the next byte begins a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Found {
    /// The guest has begun.
    Ready,
    /// It has this API.
    Version(u32),
    /// It has read so many bytes.
    Read(u32),
}

impl Search {
    pub(super) fn push(&mut self, byte: u8) -> Option<Found> {
        self.last.rotate_left(1);
        self.last[ANSWER - 1] = byte;
        self.have = (self.have + 1).min(ANSWER);
        let word = |at: usize| read_u32(&self.last[at..at + 4]);
        let found = if self.have == ANSWER && word(0) == Code::ACK.0 && word(4) == ANSWER as u32 {
            Found::Version(word(8))
        } else if self.have == ANSWER && word(0) == Code::NEXT.0 && word(4) == ANSWER as u32 {
            Found::Read(word(8))
        } else if self.have >= HEADER && word(4) == Code::READY.0 && word(8) == HEADER as u32 {
            Found::Ready
        } else {
            return None;
        };
        *self = Self::default();
        Some(found)
    }
}

/// Bytes of an ACK that has a version.
const ANSWER: usize = HEADER + 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn found(bytes: &[u8]) -> Vec<Found> {
        let mut search = Search::default();
        bytes.iter().filter_map(|&byte| search.push(byte)).collect()
    }

    #[test]
    fn an_answer_is_found_behind_whatever_was_cut() {
        let ready = [0, 0, 0, 8, 0, 0, 0, 8];
        let next = [0, 0, 0, 14, 0, 0, 0, 12, 0, 0, 0, 8];
        let version = [0, 0, 0, 9, 0, 0, 0, 12, 0, 0, 0x10, 0x94];
        assert_eq!(found(&ready), [Found::Ready]);
        assert_eq!(found(&[&next[..], &version].concat()), [Found::Read(8), Found::Version(4244)]);
        for cut in 1..next.len() {
            let all = [b"\"status\":7}", &next[cut..], &version, &ready].concat();
            assert_eq!(found(&all), [Found::Version(4244), Found::Ready], "{cut}");
        }
        assert_eq!(found(&[0; 100]), []);
    }
}
