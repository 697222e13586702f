//! One stream's sending half: what may be sent, what must be kept, when CLOSE may go (SPEC §4).
//!
//! Counts only. Owns neither bytes nor frames, knows neither time nor the other streams.
//!
//! ```text
//!   una ───── flight ───── nxt ───── unsent ───── end        una: first unacked byte, nxt: next to send, end: written
//!
//!              written, window allows                 ACK of the last byte, had been closed
//!   IDLE ───────────────────────────────────▶ FLIGHT ─────────────────────────────────────▶ CLOSED
//!    una==nxt ◀─────────────────────────────── una<nxt        ▲
//!    │               ACK of the last byte                     │
//!    └───────────── closed, nothing unacked ──────────────────┘
//!
//!   event          IDLE                     FLIGHT                                         CLOSED
//!   written        keep; may send           keep; may send within the window               refused
//!   closed         CLOSE once una==end      once una==end                                  no-op
//!   ACK n ≤ flight violation                una+=n; progress; limit doubles up to M; cap+n violation
//!   ACK n > flight violation                violation                                      violation
//!   REQUEST        REWIND if windowed       nxt=una; no progress since the last: limit/2;  REWIND if windowed
//!                                           cap=limit; REWIND first if windowed
//! ```
//!
//! `cap` bounds the flight besides the window. After a REQUEST one frame goes and then what ACKs allow, so
//! that a peer that asks again and again is sent a frame for each time and not a window, and a frame that it
//! throws away though nothing was before it is one that its buffer cannot hold.

use super::config::LEAST_BUFFER;
use super::error::Violation;

/// The sending half of a stream.
#[derive(Clone, Debug)]
pub(super) struct Sender {
    /// Sent and not acked.
    flight: u32,
    /// Written and not acked; `flight <= unacked`.
    unacked: u32,
    /// Largest frame at present; halves while the other side keeps throwing frames away.
    limit: u16,
    /// Whether an ACK came since the last rewind.
    progress: bool,
    /// The most that may be under way since the last rewind.
    cap: u32,
    /// How many times the window has doubled.
    grown: u8,
    finished: bool,
    closed: bool,
}

/// A [`Sender`] of which nothing is under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct SenderAtRest {
    cap: u32,
    limit: u16,
    progress: bool,
    grown: u8,
    finished: bool,
    closed: bool,
}

impl Sender {
    /// Idle, frames of up to `max_frame`.
    pub(super) const fn new(max_frame: u16) -> Self {
        Self {
            flight: 0,
            unacked: 0,
            limit: max_frame,
            progress: true,
            cap: u32::MAX,
            grown: 0,
            finished: false,
            closed: false,
        }
    }

    /// What is kept of it while nothing is under way. `None`: something is.
    pub(super) const fn at_rest(&self) -> Option<SenderAtRest> {
        let Self { flight, unacked, limit, progress, cap, grown, finished, closed } = *self;
        if flight > 0 || unacked > 0 {
            return None;
        }
        Some(SenderAtRest { cap, limit, progress, grown, finished, closed })
    }

    /// As it was.
    pub(super) const fn resumed(kept: SenderAtRest) -> Self {
        let SenderAtRest { cap, limit, progress, grown, finished, closed } = kept;
        Self { flight: 0, unacked: 0, limit, progress, cap, grown, finished, closed }
    }

    /// Bytes sent and not acked.
    pub(super) const fn flight(&self) -> u32 {
        self.flight
    }

    /// How many times the peer's window has doubled.
    pub(super) const fn grown(&self) -> u8 {
        self.grown
    }

    /// It has doubled.
    pub(super) const fn handle_grow(&mut self) {
        self.grown += 1;
    }

    /// It is as it was at first.
    pub(super) const fn forget_growth(&mut self) {
        self.grown = 0;
    }

    /// Bytes written and not sent.
    pub(super) const fn unsent(&self) -> u32 {
        self.unacked.saturating_sub(self.flight)
    }

    /// Whether the application has closed its half.
    pub(super) const fn is_finished(&self) -> bool {
        self.finished
    }

    /// Whether CLOSE has gone out.
    pub(super) const fn is_closed(&self) -> bool {
        self.closed
    }

    /// The application wrote `n` bytes; [`Streams::room`](super::streams::Streams::room) has said that it
    /// may.
    pub(super) fn handle_written(&mut self, n: u32) {
        self.unacked += n;
    }

    /// The application closes its half.
    pub(super) fn handle_finish(&mut self) {
        self.finished = true;
    }

    /// How long the next frame may be, given `ahead` bytes that are promised but not sent yet; 0: none now.
    ///
    /// `window` 0 is strict: one frame, then its ACK (SPEC §4).
    pub(super) fn next_frame(&self, window: u32, ahead: u32) -> u32 {
        let under_way = self.flight + ahead;
        let unsent = self.unacked.saturating_sub(under_way);
        let room = match window {
            0 if under_way > 0 => 0,
            0 => u32::MAX,
            window => window.min(self.cap).saturating_sub(under_way),
        };
        unsent.min(room).min(self.limit.into())
    }

    /// How many bytes more the window would take at once, were the line free.
    pub(super) fn credit(&self, window: u32) -> u32 {
        match window {
            _ if self.finished => 0,
            0 if self.unacked > 0 => 0,
            0 => self.limit.into(),
            window => window.min(self.cap).saturating_sub(self.unacked),
        }
    }

    /// `n` bytes of payload left.
    pub(super) fn handle_sent(&mut self, n: u32) {
        self.flight += n;
        debug_assert!(self.flight <= self.unacked);
    }

    /// The other side consumed `n` more bytes (`n` ≥ 1), whose memory may now be freed.
    pub(super) fn handle_ack(&mut self, n: u32, max_frame: u16) -> Result<(), Violation> {
        if n > self.flight {
            return Err(Violation::AckBeyondOutstanding);
        }
        self.flight -= n;
        self.unacked -= n;
        self.progress = true;
        self.cap = self.cap.saturating_add(n);
        self.limit = self.limit.saturating_mul(2).min(max_frame);
        Ok(())
    }

    /// The other side threw payload away. `promised`: a frame of this stream has begun to leave, so even with
    /// nothing counted as sent there is something to send again. REWIND goes first where the
    /// session is windowed.
    pub(super) fn handle_request(&mut self, promised: bool) {
        if self.flight == 0 && !promised {
            return;
        }
        if !self.progress {
            // SPEC §4: a frame larger than the other side's buffer would be thrown away for ever.
            self.limit = (self.limit / 2).max(self.limit.min(LEAST_BUFFER));
        }
        self.progress = false;
        self.cap = self.limit.into();
        self.flight = 0;
    }

    /// Whether CLOSE is due: the application has closed its half and every byte is acked, so nothing can be
    /// asked for again.
    pub(super) const fn close_due(&self) -> bool {
        self.finished && self.unacked == 0 && !self.closed
    }

    /// CLOSE left.
    pub(super) fn handle_close_sent(&mut self) {
        self.closed = true;
    }

    /// The session agreed on another frame size.
    pub(super) fn set_limit(&mut self, max_frame: u16) {
        self.limit = max_frame;
    }

    /// The largest frame at present.
    pub(super) const fn limit(&self) -> u16 {
        self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const M: u16 = 300;

    /// Where in the table a [`Sender`] is.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum SenderState {
        /// Nothing unacked.
        Idle,
        /// Something unacked.
        Flight,
        /// CLOSE was sent.
        Closed,
    }

    impl Sender {
        /// Where in the table it is.
        fn state(&self) -> SenderState {
            if self.closed {
                SenderState::Closed
            } else if self.flight > 0 {
                SenderState::Flight
            } else {
                SenderState::Idle
            }
        }

        /// Bytes written and not acked.
        fn unacked(&self) -> u32 {
            self.unacked
        }
    }

    fn sender(state: SenderState) -> Sender {
        let mut sender = Sender::new(M);
        match state {
            SenderState::Idle => {}
            SenderState::Flight => {
                sender.handle_written(30);
                sender.handle_sent(10);
            }
            SenderState::Closed => {
                sender.handle_finish();
                assert!(sender.close_due());
                sender.handle_close_sent();
            }
        }
        assert_eq!(sender.state(), state);
        sender
    }

    #[test]
    fn ack_of_something_sent_releases_it() {
        let mut flight = sender(SenderState::Flight);
        flight.handle_ack(4, M).unwrap();
        assert_eq!((flight.flight(), flight.unacked()), (6, 26));
        flight.handle_ack(6, M).unwrap();
        assert_eq!((flight.state(), flight.unacked()), (SenderState::Idle, 20));
    }

    #[test]
    fn ack_of_nothing_sent_is_a_violation_in_every_state() {
        for (state, n) in [(SenderState::Idle, 1), (SenderState::Flight, 11), (SenderState::Closed, 1)] {
            let mut sender = sender(state);
            assert_eq!(sender.handle_ack(n, M), Err(Violation::AckBeyondOutstanding));
            assert_eq!(sender.state(), state);
        }
    }

    #[test]
    fn strict_sends_one_frame_per_flight() {
        let mut sender = Sender::new(M);
        sender.handle_written(750);
        assert_eq!(sender.next_frame(0, 0), 300);
        assert_eq!(sender.next_frame(0, 300), 0);
        sender.handle_sent(300);
        assert_eq!(sender.next_frame(0, 0), 0);
        sender.handle_ack(299, M).unwrap();
        assert_eq!(sender.next_frame(0, 0), 0, "one byte is still unacked");
        sender.handle_ack(1, M).unwrap();
        assert_eq!(sender.next_frame(0, 0), 300);
    }

    #[test]
    fn windowed_fills_the_window_and_no_more() {
        let mut sender = Sender::new(M);
        sender.handle_written(1000);
        assert_eq!(sender.next_frame(450, 0), 300);
        assert_eq!(sender.next_frame(450, 300), 150);
        sender.handle_sent(450);
        assert_eq!(sender.next_frame(450, 0), 0);
        sender.handle_ack(7, M).unwrap();
        assert_eq!(sender.next_frame(450, 0), 7);
    }

    #[test]
    fn after_a_request_one_frame_goes_and_then_what_acks_allow() {
        let mut sender = Sender::new(M);
        sender.handle_written(10_000);
        sender.handle_sent(2000);
        sender.handle_request(false);
        assert_eq!((sender.next_frame(4000, 0), sender.next_frame(4000, 300)), (300, 0));
        sender.handle_sent(300);
        sender.handle_ack(100, M).unwrap();
        assert_eq!(sender.next_frame(4000, 0), 200, "100 acked, and as much more");
        sender.handle_sent(200);
        sender.handle_ack(400, M).unwrap();
        assert_eq!(sender.next_frame(4000, 0) + sender.next_frame(4000, 300), 600);
    }

    #[test]
    fn credit_is_what_the_window_leaves_beside_what_was_written() {
        let mut sender = Sender::new(M);
        assert_eq!((sender.credit(450), sender.credit(0)), (450, 300));
        sender.handle_written(100);
        assert_eq!((sender.credit(450), sender.credit(0)), (350, 0));
        sender.handle_sent(100);
        assert_eq!(sender.credit(450), 350);
        sender.handle_ack(100, M).unwrap();
        assert_eq!(sender.credit(450), 450);
        sender.handle_finish();
        assert_eq!(sender.credit(450), 0);
    }

    #[test]
    fn request_rewinds_and_a_second_one_without_progress_halves_the_frame() {
        let mut sender = sender(SenderState::Flight);
        sender.handle_request(false);
        assert_eq!((sender.state(), sender.unacked(), sender.limit()), (SenderState::Idle, 30, 300));
        sender.handle_sent(30);
        sender.handle_request(false);
        assert_eq!(sender.limit(), 150);
        for _ in 0..10 {
            sender.handle_sent(1);
            sender.handle_request(false);
        }
        assert_eq!(sender.limit(), LEAST_BUFFER, "every receiver has room for that");
        sender.handle_sent(1);
        sender.handle_ack(1, M).unwrap();
        assert_eq!(sender.limit(), 128);
        sender.handle_sent(1);
        sender.handle_request(false);
        assert_eq!(sender.limit(), 128, "there was progress since the last one");
    }

    #[test]
    fn request_with_nothing_sent_changes_nothing() {
        for state in [SenderState::Idle, SenderState::Closed] {
            let mut sender = sender(state);
            sender.handle_request(false);
            sender.handle_request(false);
            assert_eq!((sender.state(), sender.limit()), (state, M));
        }
    }

    #[test]
    fn request_for_a_frame_whose_header_alone_has_left_counts() {
        let mut sender = Sender::new(M);
        sender.handle_written(10);
        sender.handle_request(true);
        sender.handle_request(true);
        assert_eq!(sender.limit(), 150);
    }

    #[test]
    fn close_waits_for_the_last_ack() {
        let mut sender = sender(SenderState::Flight);
        sender.handle_finish();
        assert!(!sender.close_due());
        sender.handle_sent(20);
        sender.handle_ack(29, M).unwrap();
        assert!(!sender.close_due());
        sender.handle_ack(1, M).unwrap();
        assert!(sender.close_due());
        sender.handle_close_sent();
        assert!(!sender.close_due() && sender.is_closed());
    }
}
