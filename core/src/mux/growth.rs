//! Windows that grow (SPEC §4, §5): a stream that carries much has more under way than is promised for each.
//!
//! Owns when a window grows, and the two sums that bound what that can cost: of what all streams may hold
//! beyond their share as they come, and as they go. What a stream was given it has until it is gone, so that
//! nothing that was promised is ever taken back. Refuses to know bytes.

use std::time::Duration;

use super::bits::Words;
use super::receiver::ReceiverState;
use super::streams::Streams;
use super::wire::Features;

/// What windows have grown by, of all streams together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Grown {
    /// Ours.
    received: u64,
    /// The peer's, and what is kept to be sent with them.
    sent: u64,
}

impl Streams {
    /// Bytes of the stream that may be under way to the peer; 0: one frame.
    pub(super) fn window(&self, slot: u32) -> u32 {
        let window = self.terms.map_or(0, |terms| terms.send_window);
        window.saturating_add(grown_by(window, self.table[slot].sender.grown()))
    }

    /// Bytes of it that are kept until they are acked, or sent.
    pub(super) fn send_buffer(&self, slot: u32) -> u32 {
        let window = self.terms.map_or(0, |terms| terms.send_window);
        self.config.send_buffer.saturating_add(grown_by(window, self.table[slot].sender.grown()))
    }

    /// Bytes of it that are kept until the application takes them.
    pub(super) fn receive_buffer(&self, slot: u32) -> u32 {
        self.config.receive_buffer + grown_by(self.config.window, self.table[slot].grown)
    }

    /// Bytes of it that the peer may have under way; without windows it is what it keeps to itself.
    pub(super) fn own_window(&self, slot: u32) -> u32 {
        match self.config.window {
            0 => u32::MAX,
            window => window + grown_by(window, self.table[slot].grown),
        }
    }

    /// The application took `n` bytes, of which the receiver knows. Where a window passes in a short time,
    /// and it takes all that comes, the window is what holds the sender up: it grows.
    pub(super) fn note_taken(&mut self, slot: u32, n: u32) {
        if !self.has(Features::GROWS) || self.table[slot].keeps_window {
            return;
        }
        let (now, window) = (self.now, self.own_window(slot));
        let stream = &mut self.table[slot];
        if stream.turned == 0 {
            stream.turn_began = now;
        }
        stream.turned = stream.turned.saturating_add(n).min(FULL - 1);
        if stream.turned < window {
            return;
        }
        let keeps_up = stream.receiver.kept() == 0 && stream.receiver.state() == ReceiverState::Open;
        // In the middle of what has come at once.
        if !keeps_up && stream.turned < window.saturating_mul(2) {
            return;
        }
        stream.turned = if keeps_up { FULL } else { 0 };
    }

    /// DATA of the stream begins. Where a window has passed and was taken, the clock tells now how long that
    /// took: it stands still while nothing comes.
    pub(super) fn note_data(&mut self, slot: u32) {
        if self.table[slot].turned != FULL {
            return;
        }
        let (now, window, most) = (self.now, self.own_window(slot), self.config.most_window);
        let left = self.config.growth.saturating_sub(self.grown.received);
        let stream = &mut self.table[slot];
        stream.turned = 0;
        let is_held_up = now <= stream.turn_began + TURN;
        if is_held_up && window.saturating_mul(2) <= most && u64::from(window) <= left {
            stream.grown += 1;
            stream.due.set(Words::GROW);
            self.grown.received += u64::from(window);
        }
    }

    /// GROW came. It is ignored where there is no memory for it, and for a stream that keeps its window: what
    /// may be under way need not be.
    pub(super) fn handle_grow(&mut self, slot: u32) {
        let (window, left) = (self.window(slot), self.config.growth.saturating_sub(self.grown.sent));
        if self.table[slot].keeps_window {
            return;
        }
        if window > 0 && window.saturating_mul(2) <= self.config.most_window && u64::from(window) <= left {
            self.table[slot].sender.handle_grow();
            self.grown.sent += u64::from(window);
        }
    }

    /// A stream goes, and with it what it had beyond its share.
    pub(super) fn forget_growth(&mut self, slot: u32) {
        let (received, sent) = self.growth_of(slot);
        self.grown.received = self.grown.received.saturating_sub(received);
        self.grown.sent = self.grown.sent.saturating_sub(sent);
        self.table[slot].grown = 0;
        self.table[slot].sender.forget_growth();
    }

    /// A stream comes back as it was.
    pub(super) fn resume_growth(&mut self, slot: u32) {
        let (received, sent) = self.growth_of(slot);
        self.grown.received += received;
        self.grown.sent += sent;
    }

    fn growth_of(&self, slot: u32) -> (u64, u64) {
        let (stream, window) = (&self.table[slot], self.terms.map_or(0, |terms| terms.send_window));
        (grown_by(self.config.window, stream.grown).into(), grown_by(window, stream.sender.grown()).into())
    }
}

/// How much more than `window` it is after it has doubled so many times.
const fn grown_by(window: u32, times: u8) -> u32 {
    if times == 0 { 0 } else { (window << times) - window }
}

/// Stands for a window's bytes that were all taken before the next have come; no count is as high.
const FULL: u32 = u32::MAX;

/// A window that passes in this time holds its sender up, on a line as fast as a socket of this machine, and
/// on one that takes as long as between continents. One that takes longer is as large as the line needs, or
/// has little to carry.
const TURN: Duration = Duration::from_millis(200);
