//! Bytes for a peer that are not console data: negotiation, replies, lines of text.
//!
//! Owned by its connection. Replies to a peer that does not read are refused beyond [`REPLY_LIMIT`]; what
//! the engine itself has to say (bounded by its own states) always fits. Empty, it owns no heap.

/// Bytes of unsent control beyond which replies to whatever a peer sends are dropped (towards a VM) or the
/// peer is not read any more (a client).
pub(super) const REPLY_LIMIT: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Control {
    bytes: Vec<u8>,
    /// Bytes of `bytes` that the socket has taken.
    taken: usize,
    /// Bytes taken before those.
    base: u64,
}

impl Control {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The bytes not yet taken.
    pub(super) fn pending(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }

    pub(super) fn is_over_limit(&self) -> bool {
        self.pending().len() > REPLY_LIMIT
    }

    /// Where to put more.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Puts a byte before all others: the second half of a pair whose first half is out. The others keep
    /// their positions: something has been taken before, if only the opening.
    pub(super) fn push_front(&mut self, byte: u8) {
        if self.taken > 0 {
            self.taken -= 1;
            self.bytes[self.taken] = byte;
        } else {
            self.base = self.base.saturating_sub(1);
            self.bytes.insert(0, byte);
        }
    }

    /// Position behind the last byte; grows for the life of the connection.
    pub(super) fn end(&self) -> u64 {
        self.base + self.bytes.len() as u64
    }

    /// Position behind the last byte that was taken.
    pub(super) fn taken(&self) -> u64 {
        self.base + self.taken as u64
    }

    /// Takes back the bytes between two positions, none of which has been taken yet.
    pub(super) fn retract(&mut self, from: u64, to: u64) {
        debug_assert!(from >= self.taken());
        self.bytes.drain((from - self.base) as usize..(to - self.base) as usize);
        self.free_if_empty();
    }

    /// The socket took the first `n` bytes.
    pub(super) fn took(&mut self, n: usize) {
        self.taken += n.min(self.bytes.len() - self.taken);
        self.free_if_empty();
        // A queue that never runs quite empty must not grow for ever. Moving the rest costs no more than
        // taking the front did.
        if self.taken > REPLY_LIMIT.max(self.bytes.len() / 2) {
            self.bytes.drain(..self.taken);
            self.base += self.taken as u64;
            self.taken = 0;
        }
    }

    fn free_if_empty(&mut self) {
        if self.taken == self.bytes.len() {
            self.base += self.taken as u64;
            self.taken = 0;
            self.bytes = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taken_bytes_leave_and_an_empty_queue_owns_nothing() {
        let mut control = Control::default();
        control.buffer().extend_from_slice(b"hello");
        control.took(2);
        assert_eq!(control.pending(), b"llo");
        assert_eq!((control.taken(), control.end()), (2, 5));
        control.took(4);
        assert!(control.is_empty());
        assert_eq!(control.bytes.capacity(), 0);
        assert_eq!((control.taken(), control.end()), (5, 5));
    }

    #[test]
    fn byte_put_before_the_others_moves_none_of_them() {
        for taken_before in [b"ab".len(), b"abc".len()] {
            let mut control = Control::default();
            control.buffer().extend_from_slice(b"abc");
            control.took(taken_before);
            let from = control.end();
            control.buffer().extend_from_slice(b"GOAHEAD");
            control.push_front(b'!');
            control.retract(from, from + 7);
            assert_eq!(control.pending(), [b"!", &b"abc"[taken_before..]].concat());
        }
    }

    #[test]
    fn queue_that_never_runs_empty_does_not_grow() {
        let mut control = Control::default();
        control.buffer().extend_from_slice(b"ab");
        for n in 0..100_000 {
            control.buffer().extend_from_slice(b"cd");
            control.took(2);
            assert_eq!(control.pending(), b"cd");
            assert_eq!(control.taken(), 2 * (n + 1));
            assert_eq!(control.end(), control.taken() + 2);
        }
        assert!(control.bytes.capacity() < 4 * REPLY_LIMIT);
    }

    #[test]
    fn retracted_bytes_are_not_sent() {
        let mut control = Control::default();
        control.buffer().extend_from_slice(b"ab");
        let from = control.end();
        control.buffer().extend_from_slice(b"GOAHEAD");
        let to = control.end();
        control.buffer().extend_from_slice(b"cd");
        control.took(1);
        control.retract(from, to);
        assert_eq!(control.pending(), b"bcd");
    }
}
