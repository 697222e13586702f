//! The receiving half of a link: what is delivered, what is kept behind a gap, when to answer (SPEC §10).
//!
//! Owns delivered bytes that nobody has consumed and, with selective repeat, frames behind a gap: together at
//! most twice a window of frames. Knows time as an argument and nothing of flags and checksums.
//!
//! ```text
//!   number           go-back-N                          selective
//!   expected         deliver; ACK after 2 or 50 ms      deliver, and what was held behind it; ACK at once behind a gap
//!   ahead, in window drop; NAK, once per gap, again     hold; SACK at once
//!                    when the sender has started over
//!   old              ACK at once                        ACK at once
//! ```

use std::time::Duration;

use super::config::{LinkConfig, Repeat};
use crate::time::Instant;

/// Delivered bytes, and frames behind a gap.
#[derive(Debug)]
pub(super) struct LinkReceiver {
    expected: u16,
    repeat: Repeat,
    max_payload: usize,
    window: u16,
    /// Frame `expected + 1 + i`, if it has come.
    ahead: Vec<Option<(Vec<u8>, bool)>>,
    delivered: Vec<u8>,
    consumed: usize,
    fin: bool,
    unacked: u8,
    ack_at: Option<Instant>,
    due: LinkDue,
    /// Go-back-N: how far ahead the last dropped frame was, while a gap is open.
    gap: Option<u16>,
    /// The window that was announced last; worth an ACK when it opens again.
    announced_window: u16,
    pub(super) duplicates: u64,
}

/// How the peer is to be answered, strongest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum LinkDue {
    Nothing,
    Ack,
    Sack,
    Nak,
}

impl LinkReceiver {
    pub(super) fn new(config: &LinkConfig) -> Self {
        let (repeat, max_payload, window) = (config.repeat, config.max_payload(), config.window());
        Self {
            expected: 0,
            repeat,
            max_payload: max_payload.into(),
            window,
            ahead: Vec::new(),
            delivered: Vec::new(),
            consumed: 0,
            fin: false,
            unacked: 0,
            ack_at: None,
            due: LinkDue::Nothing,
            gap: None,
            announced_window: window,
            duplicates: 0,
        }
    }

    pub(super) fn expected(&self) -> u16 {
        self.expected
    }

    /// Frames from `expected` on that there is room for.
    pub(super) fn window(&self) -> u16 {
        let full = (self.delivered.len() - self.consumed).div_ceil(self.max_payload);
        self.window.saturating_sub(full.min(usize::from(u16::MAX)) as u16)
    }

    /// Bit `i`: frame `expected + 1 + i` has come.
    pub(super) fn bitmap(&self) -> u32 {
        self.ahead
            .iter()
            .take(32)
            .enumerate()
            .fold(0, |map, (i, frame)| map | u32::from(frame.is_some()) << i)
    }

    /// A numbered frame came. True: something can be read, or the end was reached.
    pub(super) fn handle_frame(&mut self, seq: u16, payload: &[u8], fin: bool, now: Instant) -> bool {
        let ahead = seq.wrapping_sub(self.expected);
        if ahead >= 0x8000 || self.fin {
            self.duplicates += 1;
            self.want(LinkDue::Ack);
            return false;
        }
        if ahead >= self.window() {
            // Beyond what was offered; it will come again.
            self.want(LinkDue::Ack);
            return false;
        }
        if ahead > 0 {
            self.handle_ahead(ahead, payload, fin);
            return false;
        }
        let gap = !self.ahead.is_empty() || self.gap.take().is_some();
        self.deliver(payload, fin);
        while !self.ahead.is_empty() {
            let Some((payload, fin)) = self.ahead.remove(0) else { break };
            self.deliver(&payload, fin);
        }
        while self.ahead.last().is_some_and(Option::is_none) {
            self.ahead.pop();
        }
        self.unacked = self.unacked.saturating_add(1);
        if !self.ahead.is_empty() {
            self.want(LinkDue::Sack);
        } else if gap || self.fin || self.unacked >= ACK_EVERY {
            self.want(LinkDue::Ack);
        } else {
            self.ack_at.get_or_insert(now + ACK_DELAY);
        }
        true
    }

    fn handle_ahead(&mut self, ahead: u16, payload: &[u8], fin: bool) {
        match self.repeat {
            Repeat::Selective => {
                let at = usize::from(ahead - 1);
                if self.ahead.len() <= at {
                    self.ahead.resize_with(at + 1, || None);
                }
                if self.ahead[at].is_some() {
                    self.duplicates += 1;
                } else {
                    self.ahead[at] = Some((payload.to_vec(), fin));
                }
                self.want(LinkDue::Sack);
            }
            Repeat::GoBackN => {
                // Going backwards inside a gap means the sender has started over, and its first frame was
                // lost again.
                if self.gap.is_none_or(|last| ahead <= last) {
                    self.want(LinkDue::Nak);
                }
                self.gap = Some(ahead);
            }
        }
    }

    fn deliver(&mut self, payload: &[u8], fin: bool) {
        self.expected = self.expected.wrapping_add(1);
        if self.consumed * 2 >= self.delivered.len() {
            // At most as many bytes move as were consumed since the last time: a reader that always leaves
            // some of them costs two copies, not ever more memory.
            self.delivered.drain(..self.consumed);
            self.consumed = 0;
        }
        self.delivered.extend_from_slice(payload);
        self.fin |= fin;
    }

    fn want(&mut self, due: LinkDue) {
        self.due = self.due.max(due);
    }

    /// A damaged frame came: answer where we are, in case it was one we waited for.
    pub(super) fn handle_bad(&mut self) {
        if self.repeat == Repeat::Selective && !self.ahead.is_empty() {
            self.want(LinkDue::Sack);
        }
    }

    /// An answer is asked for whatever the state.
    pub(super) fn ask_ack(&mut self) {
        self.want(LinkDue::Ack);
    }

    /// What to answer now.
    pub(super) fn due(&self) -> LinkDue {
        match self.due {
            LinkDue::Ack | LinkDue::Sack if !self.ahead.is_empty() => LinkDue::Sack,
            LinkDue::Sack => LinkDue::Ack,
            due => due,
        }
    }

    /// A frame that carries acknowledgement and window is on its way.
    pub(super) fn handle_ack_queued(&mut self, kind: LinkDue) {
        self.unacked = 0;
        self.ack_at = None;
        self.announced_window = self.window();
        if kind >= self.due() {
            self.due = LinkDue::Nothing;
        }
    }

    pub(super) fn timer(&self) -> Option<Instant> {
        self.ack_at
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.ack_at.is_some_and(|at| at <= now) {
            self.ack_at = None;
            self.want(LinkDue::Ack);
        }
    }

    pub(super) fn received(&self) -> &[u8] {
        &self.delivered[self.consumed..]
    }

    pub(super) fn consume(&mut self, n: usize) {
        self.consumed = self.consumed.saturating_add(n).min(self.delivered.len());
        if self.consumed == self.delivered.len() {
            self.delivered.clear();
            self.consumed = 0;
            if self.delivered.capacity() > 4 * self.max_payload {
                self.delivered.shrink_to(4 * self.max_payload);
            }
        }
        // A sender to which little room was announced waits for more; one to which none was, for any.
        let opened = self.announced_window < self.window.div_ceil(2) && self.window() > self.window / 2;
        if opened || (self.announced_window == 0 && self.window() > 0) {
            self.want(LinkDue::Ack);
        }
    }

    /// Whether the peer's FIN was reached and everything before it was consumed.
    pub(super) fn is_ended(&self) -> bool {
        self.fin && self.consumed == self.delivered.len()
    }

    /// Bytes of heap held.
    pub(super) fn memory(&self) -> usize {
        let ahead: usize = self.ahead.iter().flatten().map(|(payload, _)| payload.capacity()).sum();
        ahead + self.ahead.capacity() * size_of::<Option<(Vec<u8>, bool)>>() + self.delivered.capacity()
    }

    /// Gives back what is not needed.
    pub(super) fn shrink(&mut self) {
        if self.consumed == self.delivered.len() {
            self.delivered.clear();
            self.consumed = 0;
        }
        self.delivered.shrink_to_fit();
        self.ahead.shrink_to_fit();
    }

    /// From the beginning for another sender; delivered bytes can still be read.
    pub(super) fn start_over(&mut self, config: &LinkConfig) {
        let delivered = std::mem::take(&mut self.delivered);
        *self = Self { delivered, consumed: self.consumed, ..Self::new(config) };
    }

    /// Whether the peer's FIN was reached.
    pub(super) fn has_fin(&self) -> bool {
        self.fin
    }
}

/// How long an acknowledgement may wait for company.
const ACK_DELAY: Duration = Duration::from_millis(50);
/// Frames after which it waits no longer.
const ACK_EVERY: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_micros(0);

    fn receiver(repeat: Repeat) -> LinkReceiver {
        LinkReceiver::new(&LinkConfig { repeat, max_payload: 4, window: 8, ..LinkConfig::new(1) })
    }

    fn told(receiver: &mut LinkReceiver) -> LinkDue {
        let due = receiver.due();
        if due != LinkDue::Nothing {
            receiver.handle_ack_queued(due);
        }
        due
    }

    fn take(receiver: &mut LinkReceiver) -> Vec<u8> {
        let bytes = receiver.received().to_vec();
        receiver.consume(bytes.len());
        bytes
    }

    #[test]
    fn in_order_every_second_frame_is_acked_at_once_and_the_first_after_50_ms() {
        let mut receiver = receiver(Repeat::Selective);
        assert!(receiver.handle_frame(0, b"a", false, NOW));
        assert_eq!((told(&mut receiver), receiver.timer()), (LinkDue::Nothing, Some(NOW + ACK_DELAY)));
        assert!(receiver.handle_frame(1, b"b", false, NOW));
        assert_eq!((told(&mut receiver), receiver.timer()), (LinkDue::Ack, None));
        receiver.handle_frame(2, b"c", false, NOW);
        receiver.handle_timeout(NOW + ACK_DELAY);
        assert_eq!(told(&mut receiver), LinkDue::Ack);
        assert_eq!(take(&mut receiver), b"abc");
    }

    #[test]
    fn selective_holds_what_is_ahead_and_says_so() {
        let mut receiver = receiver(Repeat::Selective);
        for (seq, text, bitmap) in [(2, b"c", 0b10), (4, b"e", 0b1010), (2, b"c", 0b1010)] {
            assert!(!receiver.handle_frame(seq, text, false, NOW));
            assert_eq!((told(&mut receiver), receiver.bitmap()), (LinkDue::Sack, bitmap));
        }
        receiver.handle_frame(0, b"a", false, NOW);
        assert_eq!((told(&mut receiver), receiver.bitmap(), receiver.expected()), (LinkDue::Sack, 0b101, 1));
        receiver.handle_frame(1, b"b", false, NOW);
        receiver.handle_frame(3, b"d", false, NOW);
        assert_eq!((told(&mut receiver), receiver.expected()), (LinkDue::Ack, 5));
        assert_eq!((take(&mut receiver), receiver.duplicates), (b"abcde".to_vec(), 1));
    }

    #[test]
    fn go_back_n_asks_once_per_gap_and_again_when_the_sender_has_started_over() {
        let mut receiver = receiver(Repeat::GoBackN);
        let mut said = Vec::new();
        for seq in [1, 2, 3, 1, 2] {
            receiver.handle_frame(seq, b"x", false, NOW);
            said.push(told(&mut receiver));
        }
        assert_eq!(said, [LinkDue::Nak, LinkDue::Nothing, LinkDue::Nothing, LinkDue::Nak, LinkDue::Nothing]);
        receiver.handle_frame(0, b"a", false, NOW);
        assert_eq!((told(&mut receiver), take(&mut receiver)), (LinkDue::Ack, b"a".to_vec()));
    }

    #[test]
    fn old_frames_are_acked_and_frames_beyond_the_window_are_not_kept() {
        let mut receiver = receiver(Repeat::Selective);
        for (seq, duplicates) in [(0xffff, 1), (0x8000, 2), (8, 2), (100, 2)] {
            receiver.handle_frame(seq, b"x", false, NOW);
            assert_eq!(
                (told(&mut receiver), receiver.bitmap(), receiver.duplicates),
                (LinkDue::Ack, 0, duplicates)
            );
        }
    }

    #[test]
    fn a_reader_that_does_not_read_closes_the_window_and_is_heard_of_when_it_does() {
        let mut receiver = receiver(Repeat::Selective);
        for seq in 0..8 {
            receiver.handle_frame(seq, b"abcd", false, NOW);
            told(&mut receiver);
        }
        assert_eq!(receiver.window(), 0);
        receiver.handle_frame(8, b"abcd", false, NOW);
        assert_eq!((told(&mut receiver), receiver.expected()), (LinkDue::Ack, 8));
        receiver.consume(3);
        assert_eq!(told(&mut receiver), LinkDue::Nothing, "no frame fits");
        receiver.consume(1);
        assert_eq!((told(&mut receiver), receiver.window()), (LinkDue::Ack, 1), "one does, where none did");
        receiver.consume(8);
        assert_eq!(told(&mut receiver), LinkDue::Nothing);
        receiver.consume(8);
        assert_eq!((told(&mut receiver), receiver.window()), (LinkDue::Ack, 5));
    }

    #[test]
    fn a_reader_that_always_leaves_a_byte_costs_no_more_than_its_window() {
        let mut receiver = receiver(Repeat::Selective);
        for seq in 0..10_000u32 {
            receiver.handle_frame(seq as u16, b"abcd", false, NOW);
            told(&mut receiver);
            receiver.consume(receiver.received().len() - 1);
        }
        assert_eq!(receiver.received(), b"d");
        assert!(receiver.delivered.capacity() <= 4 * 4 * 8, "{}", receiver.delivered.capacity());
    }

    #[test]
    fn a_peer_that_never_waits_for_an_answer_breaks_nothing() {
        let mut receiver = receiver(Repeat::Selective);
        for seq in 0..1000 {
            assert!(receiver.handle_frame(seq, b"abcd", false, NOW));
            receiver.consume(usize::MAX);
        }
        assert_eq!((told(&mut receiver), receiver.expected()), (LinkDue::Ack, 1000));
    }

    #[test]
    fn fin_is_the_end_once_what_is_before_it_was_read() {
        let mut receiver = receiver(Repeat::Selective);
        receiver.handle_frame(1, b"", true, NOW);
        assert!(!receiver.has_fin());
        receiver.handle_frame(0, b"a", false, NOW);
        assert!(receiver.has_fin() && !receiver.is_ended());
        receiver.consume(1);
        assert!(receiver.is_ended());
        told(&mut receiver);
        receiver.handle_frame(1, b"", true, NOW);
        assert_eq!(told(&mut receiver), LinkDue::Ack, "its acknowledgement was lost");
    }
}
