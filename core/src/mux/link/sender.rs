//! The sending half of a link: numbered frames, what is under way, when to send again (SPEC §10).
//!
//! Owns the payload that is not acknowledged, at most one window of frames, and one frame's worth not sent
//! yet. Knows time as an argument and nothing of flags and checksums.
//!
//! ```text
//!   event      what happens
//!   ACK n      frames below n are freed; the timer starts again; their age tells what is lost (below)
//!   NAK n      as ACK n, then everything from n on goes again
//!   SACK n     as ACK n, then what the bitmap names has arrived; of the others, those that went before the youngest of
//!              them are lost
//!   timeout    the oldest goes again (all, where the peer is known to keep nothing), the time-out doubles
//!              with nothing under way, and a window of 0 before something to send: a probe is due
//! ```
//!
//! *Lost*: a line does not reorder. So a frame is lost as soon as one that went out after it has arrived:
//! first sendings and repetitions alike, and nothing is repeated twice on the same evidence. Without that
//! evidence the time-out decides.
//!
//! *Time-out*: from the round trips of frames that went once (Karn). A time-out that was doubled stays so
//! until such a frame is acked, or a line slower than the time-out would never be measured: every frame would
//! go twice.

use std::collections::VecDeque;
use std::time::Duration;

use super::config::LinkConfig;
use crate::time::Instant;

/// Frames under way and bytes to come.
#[derive(Debug)]
pub(super) struct LinkSender {
    una: u16,
    frames: VecDeque<UnderWay>,
    /// Written, not numbered yet.
    pending: Vec<u8>,
    /// Largest payload and window of this side's configuration.
    limits: (usize, u16),
    /// The smaller of ours and the peer's, once its SYN has named it.
    max_payload: usize,
    /// Likewise.
    own_window: u16,
    peer_window: u16,
    fin: Fin,
    /// Counts sendings, to tell which of two went later.
    order: u64,
    /// The latest sending known to have arrived.
    arrived: u64,
    frame_time: Duration,
    /// Smoothed round trip and its variation.
    srtt: Option<(Duration, Duration)>,
    backoff: u32,
    timeouts: u32,
    max_timeouts: u32,
    timer: Option<Instant>,
    /// When anything happened last.
    clock: Instant,
    /// The peer's window is closed, and it is to be asked whether it still is.
    probe_due: bool,
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
    sacked: bool,
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
pub(super) struct NextFrame<'a> {
    pub(super) seq: u16,
    pub(super) fin: bool,
    pub(super) payload: &'a [u8],
}

impl LinkSender {
    pub(super) fn new(config: &LinkConfig) -> Self {
        let (max_payload, window) = (config.max_payload(), config.window());
        Self {
            una: 0,
            frames: VecDeque::new(),
            pending: Vec::new(),
            limits: (max_payload.into(), window),
            max_payload: max_payload.into(),
            own_window: window,
            peer_window: window,
            fin: Fin::No,
            order: 0,
            arrived: 0,
            frame_time: config.frame_time(),
            srtt: None,
            backoff: 0,
            timeouts: 0,
            max_timeouts: config.max_timeouts,
            timer: None,
            clock: Instant::ZERO,
            probe_due: false,
            peer_keeps_nothing: false,
            repeated: 0,
        }
    }

    /// The peer has announced what it takes.
    pub(super) fn set_limits(&mut self, max_payload: u16, window: u16) {
        self.max_payload = self.limits.0.min(max_payload.into());
        self.own_window = self.limits.1.min(window);
        self.peer_window = window;
    }

    /// Bytes that a write would take: one frame's worth lies ready, no more, so what is written next is never
    /// behind much.
    pub(super) fn room(&self) -> usize {
        if self.fin == Fin::No { self.max_payload.saturating_sub(self.pending.len()) } else { 0 }
    }

    pub(super) fn write(&mut self, data: &[u8]) -> usize {
        let n = data.len().min(self.room());
        self.pending.extend_from_slice(&data[..n]);
        self.start_probing();
        n
    }

    /// Nothing more will be written.
    pub(super) fn finish(&mut self) {
        if self.fin == Fin::No {
            self.fin = Fin::Wanted;
            self.start_probing();
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
        (self.frames.len() as u16) < self.own_window.min(self.peer_window) && self.has_unnumbered()
    }

    fn has_unnumbered(&self) -> bool {
        !self.pending.is_empty() || self.fin == Fin::Wanted
    }

    /// Nothing is under way that would be answered, and the window is closed: should the news that it has
    /// opened be lost, it has to be asked for.
    fn start_probing(&mut self) {
        if self.timer.is_none() && self.is_shut() {
            self.timer = Some(self.clock + self.rto().min(self.probe_interval()));
        }
    }

    /// No longer than this between two probes: they are short, and each is as likely to be lost as anything.
    fn probe_interval(&self) -> Duration {
        FIRST_RTO.max(self.srtt.map_or(FIRST_RTO, |(srtt, _)| srtt * 2))
    }

    fn is_shut(&self) -> bool {
        self.peer_window == 0 && self.frames.is_empty() && self.has_unnumbered()
    }

    /// Whether the peer is to be asked for its window; if so it counts as asked.
    pub(super) fn take_probe(&mut self) -> bool {
        std::mem::take(&mut self.probe_due)
    }

    /// The next frame: the oldest lost one, else a new one. It counts as being on its way until
    /// [`Self::handle_sent`].
    pub(super) fn next(&mut self) -> Option<NextFrame<'_>> {
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
                    sacked: false,
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
        Some(NextFrame { seq, fin: frame.fin, payload: &frame.payload })
    }

    /// The frame numbered `seq` has left the machine.
    pub(super) fn handle_sent(&mut self, seq: u16, now: Instant) {
        self.clock = now;
        if let Some(frame) = self.frames.get_mut(usize::from(seq.wrapping_sub(self.una))) {
            frame.sent = Some(now);
            let rto = self.rto();
            self.timer.get_or_insert(now + rto);
        }
    }

    /// The peer expects `ack` next and can store `window` frames from there on.
    pub(super) fn handle_ack(&mut self, ack: u16, window: u16, now: Instant) {
        self.clock = now;
        let n = usize::from(ack.wrapping_sub(self.una));
        if n > self.frames.len() {
            return;
        }
        self.peer_window = window;
        if self.frames.is_empty() && window > 0 && self.timer.is_some() {
            // Probing is over; the time is that of the frame that may go now.
            self.backoff = 0;
            self.timer = Some(now + self.rto());
        }
        if n == 0 {
            if self.frames.is_empty() {
                // An answer to a probe, as good a sign of life as any.
                self.timeouts = 0;
            }
            return self.start_probing();
        }
        // A repetition among them: its answer may be the first sending's, and the others waited for it.
        let clean = !self.frames.iter().take(n).any(|frame| frame.repeated);
        let mut sample = None;
        for frame in self.frames.drain(..n) {
            sample = frame.sent;
            self.arrived = self.arrived.max(frame.order);
        }
        if let Some(sent) = sample.filter(|_| clean) {
            self.handle_round_trip(now.duration_since(sent));
        }
        self.una = ack;
        self.timeouts = 0;
        self.timer = (!self.frames.is_empty()).then(|| now + self.rto());
        self.find_lost();
        self.start_probing();
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
        let mut sample = None;
        for (i, frame) in self.frames.iter_mut().skip(1).take(32).enumerate() {
            if bitmap >> i & 1 != 0 {
                if !frame.sacked && !frame.repeated {
                    // It is answered at once, and went once.
                    sample = frame.sent;
                }
                frame.sacked = true;
                frame.lost = false;
                self.arrived = self.arrived.max(frame.order);
            }
        }
        if let Some(sent) = sample {
            self.handle_round_trip(now.duration_since(sent));
        }
        self.find_lost();
    }

    /// A frame that went once was answered (RFC 6298 §2, §5.7).
    fn handle_round_trip(&mut self, rtt: Duration) {
        self.srtt = Some(self.srtt.map_or((rtt, rtt / 2), |(srtt, variation)| {
            ((srtt * 7 + rtt) / 8, (variation * 3 + rtt.abs_diff(srtt)) / 4)
        }));
        self.backoff = 0;
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
        self.clock = now;
        self.timer = None;
        if self.frames.is_empty() && !self.is_shut() {
            return false;
        }
        self.timeouts += 1;
        if self.max_timeouts > 0 && self.timeouts >= self.max_timeouts {
            return true;
        }
        self.backoff = (self.backoff + 1).min(MAX_BACKOFF);
        if self.frames.is_empty() {
            self.probe_due = true;
            self.timer = Some(now + self.rto().min(self.probe_interval()));
            return false;
        }
        self.timer = Some(now + self.rto());
        if self.peer_keeps_nothing {
            self.lose_all();
        } else if let Some(oldest) = self.frames.front_mut() {
            oldest.lost = oldest.sent.is_some();
        }
        false
    }

    /// Bytes of heap held.
    pub(super) fn memory(&self) -> usize {
        let under_way: usize = self.frames.iter().map(|frame| frame.payload.capacity()).sum();
        under_way + self.frames.capacity() * size_of::<UnderWay>() + self.pending.capacity()
    }

    /// Gives back what is not needed.
    pub(super) fn shrink(&mut self) {
        self.frames.shrink_to_fit();
        self.pending.shrink_to_fit();
    }

    fn lose_all(&mut self) {
        for frame in &mut self.frames {
            frame.lost = frame.sent.is_some();
            frame.sacked = false;
        }
    }

    fn find_lost(&mut self) {
        for frame in &mut self.frames {
            if !frame.sacked && frame.order < self.arrived && frame.sent.is_some() {
                frame.lost = true;
            }
        }
    }

    /// SPEC §10: 200 ms, or twice what a frame and its answer take, or what the variation of that suggests;
    /// doubled for every time-out since the last frame that went once was acked.
    fn rto(&self) -> Duration {
        let base = match self.srtt {
            Some((srtt, variation)) => ((self.frame_time + srtt) * 2).max(srtt + variation * 4).max(MIN_RTO),
            None if self.frame_time.is_zero() => FIRST_RTO,
            None => (self.frame_time * 2).max(MIN_RTO),
        };
        (base * (1 << self.backoff)).min(MAX_RTO.max(base))
    }
}

/// Least time-out: below it a delayed acknowledgement (50 ms) on a busy machine looks like a loss.
const MIN_RTO: Duration = Duration::from_millis(200);
/// Longest time-out: a line that comes back after minutes is used again within seconds.
const MAX_RTO: Duration = Duration::from_secs(8);
/// Time-out before anything is known of the line (RFC 6298 §2): two frames of the default size at 9600 baud
/// take 0.6 s.
const FIRST_RTO: Duration = Duration::from_secs(1);
/// Doublings of a time-out: 200 ms are beyond the longest after six.
const MAX_BACKOFF: u32 = 6;

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

    /// A line whose speed is known, and fast: the least time-out.
    fn config() -> LinkConfig {
        let bits_per_second = 100_000_000;
        LinkConfig { max_payload: 4, window: 8, bits_per_second, max_timeouts: 10, ..LinkConfig::new(1) }
    }

    fn with_frames(n: usize) -> LinkSender {
        let mut sender = LinkSender::new(&config());
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
        assert!(send(&mut sender, NOW).is_empty());
        sender.handle_ack(1, 8, at(1));
        assert_eq!(send(&mut sender, at(1)), [8]);
        sender.handle_ack(9, 0, at(2));
        sender.write(b"x");
        assert!(send(&mut sender, at(2)).is_empty(), "the peer has no room");
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
        assert!(send(&mut sender, at(2)).is_empty(), "no new evidence");
        // 2 went out again after 1 did: 1 was lost again, and so was 5, which went before both.
        sender.handle_sack(1, 8, 0b0111, at(3));
        assert_eq!(send(&mut sender, at(3)), [1, 5]);
    }

    #[test]
    fn a_time_out_sends_the_oldest_again_and_doubles() {
        let mut sender = with_frames(3);
        assert!(!sender.handle_timeout(at(199)));
        assert!(send(&mut sender, at(199)).is_empty());
        assert!(!sender.handle_timeout(at(200)));
        assert_eq!(send(&mut sender, at(200)), [0]);
        assert_eq!(sender.timer(), Some(at(600)));
        sender.handle_nak(0, 8, at(300));
        assert_eq!(send(&mut sender, at(300)), [0, 1, 2]);
        assert!(!sender.handle_timeout(at(600)));
        assert_eq!(send(&mut sender, at(600)), [0, 1, 2], "the peer keeps nothing");
        sender.handle_ack(1, 8, at(601));
        assert_eq!(sender.timer(), Some(at(1401)), "an answer to a repetition tells nothing of the line");
        sender.handle_ack(3, 8, at(700));
        for seq in 3..5 {
            sender.write(b"abcd");
            assert_eq!(send(&mut sender, at(700)), [seq]);
        }
        sender.handle_ack(4, 8, at(750));
        assert_eq!(sender.timer(), Some(at(950)), "one to a frame that went once does");
    }

    #[test]
    fn a_slow_line_of_unknown_speed_is_learned_by_waiting_longer_and_longer() {
        let mut sender = LinkSender::new(&LinkConfig { bits_per_second: 0, ..config() });
        sender.write(b"abcd");
        assert_eq!(send(&mut sender, NOW), [0]);
        assert_eq!(sender.timer(), Some(at(1000)));
        for (due, next) in [(1000, 3000), (3000, 7000)] {
            sender.handle_timeout(at(due));
            assert_eq!((send(&mut sender, at(due)), sender.timer()), (vec![0], Some(at(next))));
        }
        sender.handle_ack(1, 8, at(6000));
        sender.write(b"abcd");
        assert_eq!((send(&mut sender, at(6000)), sender.timer()), (vec![1], Some(at(10_000))), "still");
        sender.handle_ack(2, 8, at(9000));
        sender.write(b"abcd");
        assert_eq!((send(&mut sender, at(9000)), sender.timer()), (vec![2], Some(at(18_000))));
    }

    #[test]
    fn a_closed_window_is_asked_about_for_as_long_as_there_is_something_to_send() {
        let mut sender = with_frames(1);
        sender.handle_ack(1, 0, at(1));
        assert_eq!(sender.timer(), None, "nothing to send");
        sender.write(b"x");
        let mut waits = Vec::new();
        let mut now = at(1);
        for _ in 0..8 {
            let due = sender.timer().unwrap();
            waits.push(due.duration_since(now).as_millis());
            now = due;
            assert!(!sender.handle_timeout(now));
            assert!(sender.take_probe() && !sender.take_probe());
            // It is answered: the peer lives, and has no room.
            sender.handle_ack(1, 0, now);
        }
        assert_eq!(waits, [200, 400, 800, 1000, 1000, 1000, 1000, 1000]);
        sender.handle_ack(1, 8, now);
        assert_eq!((send(&mut sender, now), sender.timer()), (vec![1], Some(now + MIN_RTO)));
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
        assert_eq!(sender.next(), Some(NextFrame { seq: 1, fin: false, payload: b"xy" }));
        assert_eq!(sender.next(), Some(NextFrame { seq: 2, fin: true, payload: b"" }));
        assert!(!sender.is_done());
        sender.handle_ack(3, 8, NOW);
        assert!(sender.is_done());
    }

    #[test]
    fn numbers_wrap() {
        let mut sender = LinkSender::new(&LinkConfig { max_payload: 1, ..config() });
        for seq in 0..70_000u32 {
            sender.write(b"x");
            assert_eq!(send(&mut sender, NOW), [seq as u16]);
            sender.handle_ack((seq as u16).wrapping_add(1), 8, NOW);
        }
    }
}
