//! What a line has printed and the concentrator does not have for certain.
//!
//! **Owns** the bytes, up to a limit, beyond which the oldest are dropped and counted. **Refuses to know**
//! how they are sent. Places are counted in bytes of the line's whole output.
//!
//! ```text
//!        certain ≤ start          sent              end
//!  ─────────┴────────┴──────────────┴────────────────┴──▶
//!   its own  dropped    on the way       not sent yet
//! ```

use std::collections::VecDeque;

/// The end of a line's output, as far as it is still needed.
#[derive(Debug)]
pub(crate) struct Backlog {
    bytes: VecDeque<u8>,
    /// Where the first of them stands.
    start: u64,
    /// From where on nothing has been sent on the present connection.
    sent: u64,
    /// Up to where the concentrator's system has all.
    certain: u64,
    limit: usize,
}

impl Backlog {
    pub(crate) const fn new(limit: usize) -> Self {
        Self { bytes: VecDeque::new(), start: 0, sent: 0, certain: 0, limit }
    }

    /// Whether the concentrator has all.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// How many bytes can be added before others are dropped.
    pub(crate) fn room(&self) -> usize {
        self.limit.saturating_sub(self.bytes.len())
    }

    /// From now on so much is kept; what is there stays until more comes.
    pub(crate) const fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Adds what was printed, and drops the oldest beyond the limit.
    pub(crate) fn push(&mut self, printed: &[u8]) {
        self.bytes.extend(printed);
        let over = self.bytes.len().saturating_sub(self.limit);
        self.bytes.drain(..over);
        self.start += over as u64;
    }

    /// From where on nothing has been sent.
    pub(crate) const fn sent(&self) -> u64 {
        self.sent
    }

    /// How many bytes were dropped that were to be sent now.
    pub(crate) const fn missing(&self) -> u64 {
        self.start.saturating_sub(self.sent)
    }

    /// Goes on behind what was dropped.
    pub(crate) fn skip_missing(&mut self) {
        self.sent = self.sent.max(self.start);
    }

    /// What is to be sent next, `most` bytes at most.
    pub(crate) fn next(&self, most: usize) -> &[u8] {
        self.at(self.sent, most)
    }

    /// So many bytes of that are on their way.
    pub(crate) const fn took(&mut self, n: usize) {
        self.sent += n as u64;
    }

    /// Bytes from a place on, `most` at most, and fewer where they do not stand in one piece.
    pub(crate) fn at(&self, place: u64, most: usize) -> &[u8] {
        let at = usize::try_from(place.saturating_sub(self.start)).unwrap_or(usize::MAX);
        let (first, second) = self.bytes.as_slices();
        let piece = match at.checked_sub(first.len()) {
            None => &first[at..],
            Some(at) => second.get(at..).unwrap_or_default(),
        };
        &piece[..piece.len().min(most)]
    }

    /// The concentrator's system has everything up to there.
    pub(crate) fn settle(&mut self, place: u64) {
        let place = place.min(self.sent);
        let n = usize::try_from(place.saturating_sub(self.start)).unwrap_or(0).min(self.bytes.len());
        self.bytes.drain(..n);
        self.start += n as u64;
        self.certain = self.certain.max(place);
        if self.bytes.is_empty() {
            self.bytes = VecDeque::new();
        }
    }

    /// The connection is gone: what is not certain is to be sent again.
    pub(crate) const fn rewind(&mut self) {
        self.sent = self.certain;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_certain_is_sent_again_and_what_is_is_not() {
        let mut backlog = Backlog::new(100);
        backlog.push(b"0123456789");
        assert_eq!(backlog.next(4), b"0123");
        backlog.took(4);
        assert_eq!(backlog.next(100), b"456789");
        backlog.took(6);
        backlog.settle(4);
        assert!(backlog.next(100).is_empty() && !backlog.is_empty());
        backlog.rewind();
        assert_eq!((backlog.missing(), backlog.next(100)), (0, &b"456789"[..]));
        backlog.took(6);
        backlog.settle(10);
        assert!(backlog.is_empty());
    }

    #[test]
    fn beyond_the_limit_the_oldest_go_and_are_counted() {
        let mut backlog = Backlog::new(4);
        backlog.push(b"012345");
        assert_eq!((backlog.missing(), backlog.room()), (2, 0));
        backlog.skip_missing();
        assert_eq!((backlog.missing(), backlog.next(9)), (0, &b"2345"[..]));
        backlog.took(4);
        // What is on its way and dropped is not missing, unless the connection is lost.
        backlog.push(b"67");
        assert_eq!((backlog.missing(), backlog.next(9)), (0, &b"67"[..]));
        backlog.rewind();
        assert_eq!(backlog.missing(), 4);
    }

    #[test]
    fn all_comes_out_in_order_wherever_the_ring_turns() {
        let mut backlog = Backlog::new(64);
        let mut out = Vec::new();
        for n in 0..1000_u32 {
            backlog.push(&[n as u8, (n >> 8) as u8]);
            if n % 3 == 0 {
                while !backlog.next(5).is_empty() {
                    let piece = backlog.next(5).to_vec();
                    backlog.took(piece.len());
                    out.extend(piece);
                }
                backlog.settle(backlog.sent());
            }
        }
        assert!(out.chunks_exact(2).zip(0_u32..).all(|(pair, n)| *pair == [n as u8, (n >> 8) as u8]));
        assert_eq!(out.len(), 2000);
    }
}
