//! PING after silence, an end after three of them (SPEC §7). Off unless an interval is set: a peer that
//! stands still (paused, in a debugger) is not dead.
//!
//! Owns the count of unanswered PINGs and the time of the next. Refuses to know what else is on the line.
//!
//! ```text
//!   QUIET ── silence for an interval ──▶ ASKING(n) ── the PING has left ──▶ ASKED(n+1) ── an interval ──┬▶ ASKING, n < 3
//!     ▲                                     │ no time runs: nothing was asked yet        │              └▶ dead, n = 3
//!     └────────────────────────────── anything comes ────────────────────────────────────┘
//! ```

use std::time::Duration;

use crate::time::Instant;

/// The silence of the peer.
#[derive(Clone, Debug)]
pub(super) struct Keepalive {
    /// Zero: off.
    interval: Duration,
    due: Option<Instant>,
    asked: u8,
    /// Of the last PING; any will do, they only have to differ.
    token: u32,
}

/// What silence has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Silence {
    /// Not long enough.
    Short,
    /// Ask, with this token.
    Ask(u32),
    /// Nobody is there.
    Dead,
}

impl Keepalive {
    /// Off.
    pub(super) const fn new() -> Self {
        Self { interval: Duration::ZERO, due: None, asked: 0, token: 0 }
    }

    /// On, where the peer understands PING and an interval is set.
    pub(super) fn start(&mut self, understood: bool, now: Instant, interval: Duration) {
        self.interval = if understood { interval } else { Duration::ZERO };
        self.asked = 0;
        self.due = (!self.interval.is_zero()).then(|| now + self.interval);
    }

    /// Off again.
    pub(super) fn stop(&mut self) {
        (self.interval, self.due) = (Duration::ZERO, None);
    }

    /// When something is to be done.
    pub(super) const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Anything came.
    pub(super) fn handle_received(&mut self, now: Instant) {
        self.asked = 0;
        if self.due.is_some() {
            self.due = Some(now + self.interval);
        }
    }

    /// The PING has left.
    pub(super) fn handle_sent(&mut self, now: Instant) {
        if !self.interval.is_zero() {
            self.asked += 1;
            self.due = Some(now + self.interval);
        }
    }

    /// Time has passed.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Silence {
        if self.due.is_none_or(|due| due > now) {
            return Silence::Short;
        }
        self.due = None;
        if self.asked == MAX_PINGS {
            return Silence::Dead;
        }
        self.token = self.token.wrapping_add(1);
        Silence::Ask(self.token)
    }
}

/// PINGs that may go unanswered.
const MAX_PINGS: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Instant {
        Instant::from_micros(seconds * 1_000_000)
    }

    fn started() -> Keepalive {
        let mut keepalive = Keepalive::new();
        keepalive.start(true, at(0), INTERVAL);
        keepalive
    }

    #[test]
    fn three_questions_then_the_end() {
        let mut keepalive = started();
        assert_eq!(keepalive.handle_timeout(at(9)), Silence::Short);
        for question in 1..=3 {
            assert_eq!(keepalive.handle_timeout(at(10 * question)), Silence::Ask(question as u32));
            keepalive.handle_sent(at(10 * question));
        }
        assert_eq!((keepalive.handle_timeout(at(40)), keepalive.due()), (Silence::Dead, None));
    }

    #[test]
    fn a_question_counts_from_when_it_has_left() {
        let mut keepalive = started();
        assert_eq!(keepalive.handle_timeout(at(10)), Silence::Ask(1));
        assert_eq!((keepalive.due(), keepalive.handle_timeout(at(1000))), (None, Silence::Short));
        keepalive.handle_sent(at(1000));
        assert_eq!(keepalive.due(), Some(at(1010)));
    }

    #[test]
    fn anything_that_comes_starts_the_silence_again() {
        let mut keepalive = started();
        for round in 1..100 {
            assert!(matches!(keepalive.handle_timeout(at(10 * round)), Silence::Ask(_)));
            keepalive.handle_sent(at(10 * round));
            keepalive.handle_received(at(10 * round));
        }
    }

    #[test]
    fn a_peer_that_does_not_know_ping_is_never_asked_and_neither_is_one_without_an_interval() {
        for (understood, interval) in [(false, INTERVAL), (true, Duration::ZERO)] {
            let mut keepalive = Keepalive::new();
            keepalive.start(understood, at(0), interval);
            assert_eq!((keepalive.due(), keepalive.handle_timeout(at(1000))), (None, Silence::Short));
        }
    }
}
