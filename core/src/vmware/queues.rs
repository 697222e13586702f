//! What both ends of a VM's connection keep: bytes that the socket has not taken, and events that nobody has
//! polled.

use std::collections::VecDeque;

/// How many events a session keeps until they are polled. An honest peer causes a handful in a session;
/// beyond the limit the newest are dropped and counted.
pub const EVENT_LIMIT: usize = 64;

/// How many bytes of answers a session queues before its transmit queue has to become empty. A peer that asks
/// more and does not read the answers gets no further ones; they are counted.
pub const ANSWER_LIMIT: usize = 64 * 1024;

/// The transmit queue.
#[derive(Debug, Default)]
pub(super) struct TransmitQueue {
    /// Grows by what the caller sends and by at most [`ANSWER_LIMIT`] of answers; freed when all of it is
    /// taken.
    bytes: Vec<u8>,
    /// How many of `bytes` the socket has taken.
    taken: usize,
    /// Bytes of answers put since the queue was empty.
    answered: u32,
    dropped: u32,
}

impl TransmitQueue {
    /// What the socket has not taken.
    pub(super) fn pending(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }

    /// For what the caller sends, which has no limit.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Appends an answer to the peer, unless there are too many already.
    pub(super) fn answer(&mut self, put: impl FnOnce(&mut Vec<u8>)) {
        if self.answered as usize >= ANSWER_LIMIT {
            self.dropped = self.dropped.saturating_add(1);
            return;
        }
        let before = self.bytes.len();
        put(&mut self.bytes);
        let put = u32::try_from(self.bytes.len() - before).unwrap_or(u32::MAX);
        self.answered = self.answered.saturating_add(put);
    }

    /// See [`VmSession::transmit`](super::VmSession::transmit).
    pub(super) fn transmit(&mut self, take: impl FnOnce(&[u8]) -> usize) -> usize {
        let pending = self.pending();
        if pending.is_empty() {
            return 0;
        }
        let taken = take(pending).min(pending.len());
        self.taken += taken;
        if self.taken == self.bytes.len() {
            self.bytes = Vec::new();
            self.taken = 0;
            self.answered = 0;
        } else if self.taken > self.bytes.len() / 2 {
            // Only when half is gone, so that moving the rest costs no more than sending it did.
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
        taken
    }

    /// How many answers were dropped.
    pub(super) fn dropped(&self) -> u32 {
        self.dropped
    }
}

/// Events, at most [`EVENT_LIMIT`]; no heap when there are none.
#[derive(Debug)]
pub(super) struct Events<E> {
    queue: VecDeque<E>,
    dropped: u32,
}

impl<E> Default for Events<E> {
    fn default() -> Self {
        Self { queue: VecDeque::new(), dropped: 0 }
    }
}

impl<E> Events<E> {
    pub(super) fn push(&mut self, event: E) {
        if self.queue.len() < EVENT_LIMIT {
            self.queue.push_back(event);
        } else {
            self.dropped = self.dropped.saturating_add(1);
        }
    }

    /// The oldest.
    pub(super) fn poll(&mut self) -> Option<E> {
        let event = self.queue.pop_front();
        if self.queue.is_empty() && self.queue.capacity() != 0 {
            self.queue = VecDeque::new();
        }
        event
    }

    /// How many events were dropped.
    pub(super) fn dropped(&self) -> u32 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_taken_is_offered_again_and_nothing_is_kept_when_all_is() {
        let mut queue = TransmitQueue::default();
        assert_eq!(queue.transmit(|_| panic!("there is nothing")), 0);
        queue.buffer().extend(0..100);
        let mut seen = Vec::new();
        for most in [0, 1, 30, 30, 30, 30] {
            let taken = queue.transmit(|bytes| {
                let taken = most.min(bytes.len());
                seen.extend_from_slice(&bytes[..taken]);
                taken
            });
            assert!(taken <= most);
        }
        assert!(seen.into_iter().eq(0..100));
        assert_eq!((queue.bytes.capacity(), queue.pending().len()), (0, 0));
        queue.buffer().push(1);
        assert_eq!(queue.transmit(|_| usize::MAX), 1, "no more than there is");
    }

    #[test]
    fn answers_are_dropped_beyond_the_limit_until_the_queue_has_been_empty() {
        let mut queue = TransmitQueue::default();
        for _ in 0..ANSWER_LIMIT {
            queue.answer(|out| out.extend([0; 4]));
        }
        assert_eq!(queue.pending().len(), ANSWER_LIMIT);
        assert_eq!(queue.dropped() as usize, 3 * ANSWER_LIMIT / 4);
        queue.transmit(<[u8]>::len);
        queue.answer(|out| out.push(1));
        assert_eq!(queue.pending(), [1]);
    }

    #[test]
    fn events_are_polled_in_order_and_dropped_beyond_the_limit() {
        let mut events = Events::default();
        (0..100).for_each(|n| events.push(n));
        assert!(std::iter::from_fn(|| events.poll()).eq(0..EVENT_LIMIT));
        assert_eq!((events.dropped(), events.queue.capacity()), (36, 0));
    }
}
