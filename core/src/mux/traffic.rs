//! What a stream's bytes and words do to it, as they leave and as they come.
//!
//! Owns the v1 pauses and nothing else: the counts are the halves' ([`Sender`](super::sender::Sender),
//! [`Receiver`](super::receiver::Receiver)), the bytes the pool's. Refuses to know in which order things
//! leave and what else a frame may mean.

use super::bits::{Pending, Words};
use super::decoder::Dialect;
use super::error::Violation;
use super::receiver::{Due, Flow};
use super::segments::Cursor;
use super::stream::List;
use super::streams::Streams;
use super::v1::Overflow;
use super::wire::Role;
use crate::time::Instant;

impl Streams {
    /// The application wrote `data`, for which there is room.
    pub(super) fn append(&mut self, slot: u32, data: &[u8]) {
        let stream = &mut self.table[slot];
        self.pool.append(&mut stream.unacked, data);
        stream.sender.handle_written(data.len() as u32);
        self.queued += data.len() as u64;
        self.unsent += data.len() as u64;
        self.refresh(slot);
    }

    /// How long the stream's next frame may be, with so many bytes ahead of it.
    pub(super) fn next_frame(&self, slot: u32, ahead: u32) -> u32 {
        let Some(terms) = self.terms else { return 0 };
        let stream = &self.table[slot];
        let len = stream.sender.next_frame(self.window(slot), ahead);
        if terms.dialect == Dialect::V1 && self.config.role == Role::Host {
            return len.min(stream.pace.room(&self.config.v1).saturating_sub(ahead));
        }
        len
    }

    /// The stream has had a turn: it waits for the others. A round ends when a busy stream comes up again. In
    /// each round a stream that can send all it has in one frame goes once ahead of the busy ones, so that a
    /// keystroke does not wait for a frame of every busy stream, and no busy stream for more than one of
    /// each.
    pub(super) fn handle_turn(&mut self, slot: u32) {
        if matches!(self.table.sends_in(slot), Some(List::Turn(_))) && self.table[slot].served == self.round {
            self.round = self.round.wrapping_add(1);
        }
        self.table[slot].served = self.round;
        self.table.unlink_sends(slot);
    }

    /// `n` bytes of payload of the stream left; `continued`: they belong to a frame that had begun before.
    pub(super) fn handle_payload_sent(&mut self, slot: u32, n: u32, continued: bool, now: Instant) {
        self.counters.sent += u64::from(n);
        let (v1, reliable) = (self.is_v1(), self.flow() == Flow::Reliable);
        let stream = &mut self.table[slot];
        if stream.dead {
            return;
        }
        stream.sender.handle_sent(n);
        self.unsent -= u64::from(n);
        stream.cursor = self.pool.advance(&stream.unacked, stream.cursor, n);
        if v1 || reliable {
            // Nothing is ever asked for again, so nothing need be kept.
            self.pool.release(&mut stream.unacked, n, Some(&mut stream.cursor));
            self.queued -= u64::from(n);
            if v1 {
                // And nothing is ever acked.
                let _ = stream.sender.handle_ack(n.min(stream.sender.flight()), stream.sender.limit());
                if self.config.role == Role::Host
                    && n > 0
                    && let Some(due) = stream.pace.handle_sent(n, continued, &self.config.v1, now)
                {
                    self.paused.push_back((due, stream.id));
                }
            }
            self.offer_room(slot);
        }
        self.refresh(slot);
    }

    /// ACK came.
    pub(super) fn handle_ack(&mut self, slot: u32, n: u32) -> Result<(), Violation> {
        let (reliable, max_frame) =
            (self.flow() == Flow::Reliable, self.terms.map_or(0, |terms| terms.max_frame));
        let stream = &mut self.table[slot];
        stream.sender.handle_ack(n, max_frame)?;
        if !reliable {
            self.pool.release(&mut stream.unacked, n, Some(&mut stream.cursor));
            self.queued -= u64::from(n);
            self.offer_room(slot);
        }
        Ok(())
    }

    /// REQUEST came.
    pub(super) fn handle_request(&mut self, slot: u32) -> Result<(), Violation> {
        let flow = self.flow();
        if flow == Flow::Reliable {
            return Err(Violation::Repetition);
        }
        let promised = self.begun.promised(slot);
        let stream = &mut self.table[slot];
        self.counters.repeated += u64::from(stream.sender.flight());
        self.unsent += u64::from(stream.sender.flight());
        stream.sender.handle_request(promised > 0);
        self.begun.handle_rewound(slot, stream.cursor);
        stream.cursor = Cursor::FRONT;
        if flow == Flow::Windowed {
            stream.due.set(Words::REWIND);
        }
        Ok(())
    }

    /// Copies payload into its stream's buffer.
    pub(super) fn keep(&mut self, slot: u32, bytes: &[u8]) {
        let stream = &mut self.table[slot];
        self.counters.received += bytes.len() as u64;
        self.pool.append(&mut stream.unread, bytes);
        self.announce(slot, Pending::READABLE);
        self.update_blocking(slot);
    }

    /// The application used `n` bytes of a stream's that the receiver keeps.
    pub(super) fn consumed(&mut self, slot: u32, n: u32) {
        // Of the window as it was at first: the peer may not have taken the GROW.
        let window = if self.config.window == 0 { u32::MAX } else { self.config.window };
        let threshold = self.config.receive_buffer.min(window).div_ceil(2);
        let due = self.table[slot].receiver.handle_consumed(n, threshold);
        self.note_taken(slot, n);
        self.apply(slot, due);
    }

    /// What a receiving half wants sent.
    pub(super) fn apply(&mut self, slot: u32, due: Due) {
        if !self.is_v1() {
            let stream = &mut self.table[slot];
            stream.ack = stream.ack.saturating_add(due.ack);
            if due.request {
                stream.due.set(Words::REQUEST);
            }
        }
        self.update_blocking(slot);
        self.refresh(slot);
    }

    /// v1: the line waits for this stream, or no longer.
    fn update_blocking(&mut self, slot: u32) {
        let waits = self.is_v1() && self.config.v1.overflow == Overflow::Wait;
        let stream = &mut self.table[slot];
        let blocks = waits && stream.unread.len() >= self.config.receive_buffer;
        if blocks != stream.blocks {
            stream.blocks = blocks;
            if blocks {
                self.blocking += 1;
            } else {
                self.blocking -= 1;
            }
        }
    }

    /// v1: whether the line waits for a stream.
    pub(super) const fn is_blocked(&self) -> bool {
        self.blocking > 0
    }

    // Pauses of v1.

    /// v1: when the next pause ends.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.paused.front().map(|(due, _)| *due)
    }

    /// v1: pauses may have ended. Work in proportion to those that did.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(due, id)) = self.paused.front() {
            if due > now {
                break;
            }
            self.paused.pop_front();
            if let Some(slot) = self.live(id) {
                self.table[slot].pace.handle_timeout();
                self.refresh(slot);
            }
        }
    }
}
