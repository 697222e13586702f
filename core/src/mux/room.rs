//! How much may be written: to a stream, to all of them together, and to leave at once.
//!
//! Owns the rules of [`Session::send_window`](super::Session::send_window) and
//! [`Session::credit`](super::Session::credit), and who hears of it when there is more. Refuses to know what
//! is written.

use super::bits::Pending;
use super::control::READ;
use super::decoder::Dialect;
use super::stream::List;
use super::streams::Streams;
use super::wire::Role;

impl Streams {
    /// How many bytes a write to the stream would take now.
    pub(super) fn room(&self, slot: u32) -> u32 {
        let stream = &self.table[slot];
        if stream.dead || stream.sender.is_finished() {
            return 0;
        }
        let own = self.send_buffer(slot).saturating_sub(stream.unacked.len());
        let all = self.config.session_send_buffer.saturating_sub(self.queued);
        u32::try_from(all).unwrap_or(u32::MAX).min(own)
    }

    /// How many bytes written to the stream now could leave at once.
    pub(super) fn credit(&self, slot: u32) -> u32 {
        let Some(terms) = self.terms else { return 0 };
        let stream = &self.table[slot];
        let unsent = stream.sender.unsent();
        let mut credit = stream.sender.credit(self.window(slot)).min(self.room(slot));
        if terms.dialect == Dialect::V1 && self.config.role == Role::Host {
            credit = credit.min(stream.pace.room(&self.config.v1).saturating_sub(unsent));
        }
        // What others have unsent is ahead of it on the line: one frame is enough to take part.
        let line = u32::try_from(LINE.saturating_sub(self.unsent)).unwrap_or(u32::MAX);
        credit.min(line.max(u32::from(terms.max_frame).saturating_sub(unsent)))
    }

    /// The application wants more room than there is.
    pub(super) fn want_room(&mut self, slot: u32) {
        self.table[slot].wants_room = true;
        self.room_wanted |= self.is_full();
    }

    /// The application wants to know when something could leave.
    pub(super) fn want_credit(&mut self, slot: u32) {
        self.table[slot].wants_credit = true;
        self.offer_credit(slot);
    }

    /// Whether all streams together hold what they may.
    fn is_full(&self) -> bool {
        self.queued >= self.config.session_send_buffer
    }

    /// A short write may go on.
    pub(super) fn offer_room(&mut self, slot: u32) {
        let stream = &self.table[slot];
        // Half the buffer at least: a writer woken for a few bytes writes a few bytes.
        if stream.wants_room && stream.unacked.len() <= self.send_buffer(slot) / 2 {
            if self.is_full() {
                self.room_wanted = true;
            } else {
                self.table[slot].wants_room = false;
                self.announce(slot, Pending::WRITABLE);
            }
        }
        self.offer_session_room();
    }

    pub(super) fn offer_credit(&mut self, slot: u32) {
        if !self.table[slot].wants_credit {
            return;
        }
        if self.credit(slot) > 0 {
            self.table[slot].wants_credit = false;
            self.announce(slot, Pending::CREDIT);
        } else {
            self.room_wanted |= self.is_full();
        }
    }

    /// Once half of what all streams together may hold is free again whoever waits for it gets an event:
    /// visits every live stream, at most once for so many bytes.
    pub(super) fn offer_session_room(&mut self) {
        if !self.room_wanted || self.queued > self.config.session_send_buffer / 2 {
            return;
        }
        self.room_wanted = false;
        let mut at = self.table.front(List::Live);
        while let Some(slot) = at {
            at = self.table.after(List::Live, slot);
            self.offer_credit(slot);
            let stream = &self.table[slot];
            if stream.wants_room && stream.unacked.len() <= self.send_buffer(slot) / 2 {
                self.table[slot].wants_room = false;
                self.announce(slot, Pending::WRITABLE);
            }
        }
    }
}

/// What all streams together may have unsent before each is held to one frame of it: as much as a socket
/// takes at a time. More would only wait behind the line; less would leave it idle between two fills.
const LINE: u64 = 2 * READ as u64;
