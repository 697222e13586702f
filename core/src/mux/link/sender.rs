//! The sending half of a link: numbered frames, what is under way, when to send again (SPEC §10).
//!
//! Owns the payload that is not acknowledged, at most one window of frames, and one frame's worth not sent yet. Knows
//! time as an argument and nothing of flags and checksums.
//!
//! ```text
//!   event      what happens
//!   ACK n      frames below n are freed; the timer starts again; their age tells what is lost (below)
//!   NAK n      as ACK n, then everything from n on goes again
//!   SACK n     as ACK n, then what the bitmap names is held; what went before the youngest held one and is not is lost
//!   timeout    the oldest goes again (all, where the peer is known to keep nothing), the time-out doubles; 10: dead
//! ```
//!
//! *Lost*: a line does not reorder. So a frame is lost as soon as one that went out after it has arrived: first sendings
//! and repetitions alike, and nothing is repeated twice on the same evidence. Without that evidence the time-out decides.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Instant;

/// Least time-out: below it a delayed acknowledgement (50 ms) on a busy machine looks like a loss.
const MIN_RTO: Duration = Duration::from_millis(200);
/// Longest time-out: a line that comes back after minutes is used again within seconds.
const MAX_RTO: Duration = Duration::from_secs(8);
/// Time-outs in a row after which the peer counts as gone.
const MAX_TIMEOUTS: u8 = 10;

/// Frames under way and bytes to come.
#[derive(Debug)]
pub(super) struct LinkSender {
    una: u16,
    frames: VecDeque<UnderWay>,
    /// Written, not numbered yet.
    pending: Vec<u8>,
    max_payload: usize,
    own_window: u16,
    peer_window: u16,
    fin: Fin,
    /// Counts sendings, to tell which of two went later.
    order: u64,
    /// The latest sending known to have arrived.
    arrived: u64,
    frame_time: Duration,
    srtt: Option<Duration>,
    backoff: u32,
    timeouts: u8,
    timer: Option<Instant>,
    peer_keeps_nothing: bool,
    pub(super) repeated: u64,
}

#[derive(Debug)]
struct UnderWay {
    payload: Vec<u8>,
    fin: bool,
    /// When it left last; `None` while it is to go (again).
    sent: Option<Instant>,
    order: u64,
    repeated: bool,
    held: bool,
    lost: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fin {
    No,
    Wanted,
    Numbered,
}

/// A frame to put on the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Next<'a> {
    pub(super) seq: u16,
    pub(super) fin: bool,
    pub(super) payload: &'a [u8],
}

impl LinkSender {
    pub(super) fn new(max_payload: u16, window: u16, frame_time: Duration) -> Self {
        Self {
            una: 0,
            frames: VecDeque::new(),
            pending: Vec::new(),
            max_payload: max_payload.into(),
            own_window: window,
            peer_window: window,
            fin: Fin::No,
            order: 0,
            arrived: 0,
            frame_time,
            srtt: None,
            backoff: 0,
            timeouts: 0,
            timer: None,
            peer_keeps_nothing: false,
            repeated: 0,
        }
    }

    /// The peer said what it takes.
    pub(super) fn set_limits(&mut self, max_payload: u16, window: u16) {
        self.max_payload = self.max_payload.min(max_payload.into());
        self.own_window = self.own_window.min(window);
        self.peer_window = window;
    }

    /// Bytes that a write would take: one frame's worth lies ready, no more, so what is written next is never behind much.
    pub(super) fn room(&self) -> usize {
        if self.fin == Fin::No { self.max_payload.saturating_sub(self.pending.len()) } else { 0 }
    }

    pub(super) fn write(&mut self, data: &[u8]) -> usize {
        let n = data.len().min(self.room());
        self.pending.extend_from_slice(&data[..n]);
        n
    }

    /// Nothing more will be written.
    pub(super) fn finish(&mut self) {
        if self.fin == Fin::No {
            self.fin = Fin::Wanted;
        }
    }

    /// Whether the peer has everything, FIN included.
    pub(super) fn is_done(&self) -> bool {
        self.fin == Fin::Numbered && self.frames.is_empty()
    }

    pub(super) fn has_next(&self) -> bool {
        self.frames.iter().any(|frame| frame.lost) || self.may_number()
    }

    fn may_number(&self) -> bool {
        (self.frames.len() as u16) < self.own_window.min(self.peer_window)
            && (!self.pending.is_empty() || self.fin == Fin::Wanted)
    }

    /// The next frame: the oldest lost one, else a new one. It counts as being on its way until [`Self::handle_sent`].
    pub(super) fn next(&mut self) -> Option<Next<'_>> {
        let at = match self.frames.iter().position(|frame| frame.lost) {
            Some(at) => {
                self.repeated += 1;
                self.frames[at].repeated = true;
                at
            }
            None if self.may_number() => {
                let n = self.pending.len().min(self.max_payload);
                let fin = n == 0;
                if fin {
                    self.fin = Fin::Numbered;
                }
                let rest = self.pending.split_off(n);
                let payload = std::mem::replace(&mut self.pending, rest);
                let frame = UnderWay {
                    payload,
                    fin,
                    sent: None,
                    order: 0,
                    repeated: false,
                    held: false,
                    lost: false,
                };
                self.frames.push_back(frame);
                self.frames.len() - 1
            }
            None => return None,
        };
        self.order += 1;
        let seq = self.una.wrapping_add(at as u16);
        let frame = &mut self.frames[at];
        (frame.lost, frame.order, frame.sent) = (false, self.order, None);
        Some(Next { seq, fin: frame.fin, payload: &frame.payload })
    }

    /// The frame numbered `seq` has left the machine.
    pub(super) fn handle_sent(&mut self, seq: u16, now: Instant) {
        if let Some(frame) = self.frames.get_mut(usize::from(seq.wrapping_sub(self.una))) {
            frame.sent = Some(now);
            let rto = self.rto();
            self.timer.get_or_insert(now + rto);
        }
    }

    /// The peer expects `ack` next and can store `window` frames from there on.
    pub(super) fn handle_ack(&mut self, ack: u16, window: u16, now: Instant) {
        let n = usize::from(ack.wrapping_sub(self.una));
        if n > self.frames.len() {
            return;
        }
        self.peer_window = window;
        if n == 0 {
            return;
        }
        // A repetition among them: its answer may be the first sending's, and the others waited for it.
        let clean = !self.frames.iter().take(n).any(|frame| frame.repeated);
        let mut sample = None;
        for frame in self.frames.drain(..n) {
            sample = frame.sent;
            self.arrived = self.arrived.max(frame.order);
        }
        if let Some(sent) = sample.filter(|_| clean) {
            let rtt = now.duration_since(sent);
            self.srtt = Some(self.srtt.map_or(rtt, |srtt| (srtt * 7 + rtt) / 8));
        }
        self.una = ack;
        self.timeouts = 0;
        self.backoff = 0;
        self.timer = (!self.frames.is_empty()).then(|| now + self.rto());
        self.find_lost();
    }

    /// The peer keeps nothing behind a gap: everything from `ack` on goes again.
    pub(super) fn handle_nak(&mut self, ack: u16, window: u16, now: Instant) {
        self.handle_ack(ack, window, now);
        self.peer_keeps_nothing = true;
        if ack == self.una {
            self.lose_all();
        }
    }

    /// Bit `i`: the peer holds frame `ack + 1 + i`.
    pub(super) fn handle_sack(&mut self, ack: u16, window: u16, bitmap: u32, now: Instant) {
        self.handle_ack(ack, window, now);
        if ack != self.una {
            return;
        }
        self.peer_keeps_nothing = false;
        for (i, frame) in self.frames.iter_mut().skip(1).take(32).enumerate() {
            if bitmap >> i & 1 != 0 {
                frame.held = true;
                frame.lost = false;
                self.arrived = self.arrived.max(frame.order);
            }
        }
        self.find_lost();
    }

    /// When to look again.
    pub(super) fn timer(&self) -> Option<Instant> {
        self.timer
    }

    /// True when the peer counts as gone.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> bool {
        if self.timer.is_none_or(|timer| timer > now) {
            return false;
        }
        if self.frames.is_empty() {
            self.timer = None;
            return false;
        }
        self.timeouts += 1;
        if self.timeouts >= MAX_TIMEOUTS {
            self.timer = None;
            return true;
        }
        self.backoff += 1;
        self.timer = Some(now + self.rto());
        if self.peer_keeps_nothing {
            self.lose_all();
        } else if let Some(oldest) = self.frames.front_mut() {
            oldest.lost = oldest.sent.is_some();
        }
        false
    }

    fn lose_all(&mut self) {
        for frame in &mut self.frames {
            frame.lost = frame.sent.is_some();
            frame.held = false;
        }
    }

    fn find_lost(&mut self) {
        for frame in &mut self.frames {
            if !frame.held && frame.order < self.arrived && frame.sent.is_some() {
                frame.lost = true;
            }
        }
    }

    /// SPEC §10: 200 ms, or twice what a frame and its answer take, doubled for every time-out in a row.
    fn rto(&self) -> Duration {
        let base = ((self.frame_time + self.srtt.unwrap_or_default()) * 2).max(MIN_RTO);
        (base * (1 << self.backoff.min(6))).min(MAX_RTO.max(base))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_micros(0);

    fn at(millis: u64) -> Instant {
        Instant::from_micros(millis * 1000)
    }

    /// Sends what may go and returns its numbers.
    fn send(sender: &mut LinkSender, now: Instant) -> Vec<u16> {
        let mut sent = Vec::new();
        while let Some(next) = sender.next() {
            let seq = next.seq;
            sent.push(seq);
            sender.handle_sent(seq, now);
        }
        sent
    }

    fn with_frames(n: usize) -> LinkSender {
        let mut sender = LinkSender::new(4, 8, Duration::ZERO);
        for _ in 0..n {
            assert_eq!(sender.write(b"abcd"), 4);
            send(&mut sender, NOW);
        }
        assert_eq!(sender.frames.len(), n);
        sender
    }

    #[test]
    fn the_window_is_the_smaller_of_the_two_and_one_frame_lies_ready() {
        let mut sender = with_frames(8);
        assert_eq!((sender.write(b"efghij"), sender.room()), (4, 0));
        assert_eq!(send(&mut sender, NOW), []);
        sender.handle_ack(1, 8, at(1));
        assert_eq!(send(&mut sender, at(1)), [8]);
        sender.handle_ack(9, 0, at(2));
        sender.write(b"x");
        assert_eq!(send(&mut sender, at(2)), [], "the peer has no room");
        sender.handle_ack(9, 1, at(3));
        assert_eq!(send(&mut sender, at(3)), [9]);
    }

    #[test]
    fn acks_of_what_was_not_sent_are_ignored() {
        let mut sender = with_frames(3);
        for ack in [4, 100, 0x8000, 0xffff] {
            sender.handle_ack(ack, 8, NOW);
            assert_eq!((sender.una, sender.frames.len()), (0, 3));
        }
    }

    #[test]
    fn a_nak_sends_everything_again() {
        let mut sender = with_frames(5);
        sender.handle_nak(2, 8, at(1));
        assert_eq!(send(&mut sender, at(1)), [2, 3, 4]);
        assert_eq!(sender.repeated, 3);
    }

    #[test]
    fn a_sack_sends_the_gaps_again_once() {
        let mut sender = with_frames(6);
        sender.handle_sack(1, 8, 0b0110, at(1));
        assert_eq!(send(&mut sender, at(1)), [1, 2], "3 and 4 are held, nothing is known of 5");
        sender.handle_sack(1, 8, 0b0110, at(2));
        assert_eq!(send(&mut sender, at(2)), [], "no new evidence");
        // 2 went out again after 1 did: 1 was lost again, and so was 5, which went before both.
        sender.handle_sack(1, 8, 0b0111, at(3));
        assert_eq!(send(&mut sender, at(3)), [1, 5]);
    }

    #[test]
    fn a_time_out_sends_the_oldest_again_and_doubles() {
        let mut sender = with_frames(3);
        assert!(!sender.handle_timeout(at(199)));
        assert_eq!(send(&mut sender, at(199)), []);
        assert!(!sender.handle_timeout(at(200)));
        assert_eq!(send(&mut sender, at(200)), [0]);
        assert_eq!(sender.timer(), Some(at(600)));
        sender.handle_nak(0, 8, at(300));
        assert_eq!(send(&mut sender, at(300)), [0, 1, 2]);
        assert!(!sender.handle_timeout(at(600)));
        assert_eq!(send(&mut sender, at(600)), [0, 1, 2], "the peer keeps nothing");
        sender.handle_ack(1, 8, at(601));
        assert_eq!(sender.timer(), Some(at(801)), "an answer starts over");
    }

    #[test]
    fn ten_time_outs_are_the_end() {
        let mut sender = with_frames(1);
        let mut count = 0;
        while let Some(timer) = sender.timer() {
            count += 1;
            if sender.handle_timeout(timer) {
                break;
            }
            send(&mut sender, timer);
        }
        assert_eq!((count, sender.timer()), (10, None));
    }

    #[test]
    fn fin_takes_a_number_behind_the_last_byte() {
        let mut sender = with_frames(1);
        sender.write(b"xy");
        sender.finish();
        assert_eq!(sender.write(b"z"), 0);
        assert_eq!(sender.next(), Some(Next { seq: 1, fin: false, payload: b"xy" }));
        assert_eq!(sender.next(), Some(Next { seq: 2, fin: true, payload: b"" }));
        assert!(!sender.is_done());
        sender.handle_ack(3, 8, NOW);
        assert!(sender.is_done());
    }

    #[test]
    fn numbers_wrap() {
        let mut sender = LinkSender::new(1, 8, Duration::ZERO);
        for seq in 0..70_000u32 {
            sender.write(b"x");
            assert_eq!(send(&mut sender, NOW), [seq as u16]);
            sender.handle_ack((seq as u16).wrapping_add(1), 8, NOW);
        }
    }
}
