//! PING after silence, an end after three of them (SPEC §7).
//!
//! ```text
//!   QUIET ── silence for an interval ──▶ ASKED(1) ── another ──▶ ASKED(2) ── another ──▶ ASKED(3) ── another ──▶ dead
//!     ▲                                    │                        │                       │
//!     └──────────────────────────────── anything comes ─────────────┴───────────────────────┘
//! ```

use std::time::Duration;

use crate::time::Instant;

/// PINGs that may go unanswered.
const LOST: u8 = 3;

/// The silence of the peer.
#[derive(Clone, Debug)]
pub(super) struct Keepalive {
    due: Option<Instant>,
    asked: u8,
    /// A PING is to be sent.
    pub ping_due: bool,
    /// Its token; any will do, they only have to differ.
    pub token: u32,
}

impl Keepalive {
    /// Off.
    pub(super) const fn new() -> Self {
        Self { due: None, asked: 0, ping_due: false, token: 0 }
    }

    /// On, where the peer understands PING and an interval is set.
    pub(super) fn start(&mut self, understood: bool, now: Instant, interval: Duration) {
        *self = Self::new();
        if understood && !interval.is_zero() {
            self.due = Some(now + interval);
        }
    }

    /// When something is to be done.
    pub(super) const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Anything came.
    pub(super) fn handle_received(&mut self, now: Instant, interval: Duration) {
        if self.due.is_some() {
            self.due = Some(now + interval);
            self.asked = 0;
        }
    }

    /// `Some(true)`: ask. `Some(false)`: the peer is dead. `None`: not yet.
    pub(super) fn handle_timeout(&mut self, now: Instant, interval: Duration) -> Option<bool> {
        if self.due? > now {
            return None;
        }
        if self.asked == LOST {
            self.due = None;
            return Some(false);
        }
        self.asked += 1;
        self.token = self.token.wrapping_add(1);
        self.ping_due = true;
        self.due = Some(now + interval);
        Some(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Instant {
        Instant::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn three_questions_then_the_end() {
        let mut keepalive = Keepalive::new();
        keepalive.start(true, at(0), INTERVAL);
        assert_eq!(keepalive.handle_timeout(at(9), INTERVAL), None);
        for question in 1..=3 {
            assert_eq!(keepalive.handle_timeout(at(10 * question), INTERVAL), Some(true));
        }
        assert_eq!(keepalive.handle_timeout(at(40), INTERVAL), Some(false));
        assert_eq!(keepalive.due(), None);
    }

    #[test]
    fn anything_heard_starts_the_silence_again() {
        let mut keepalive = Keepalive::new();
        keepalive.start(true, at(0), INTERVAL);
        for round in 1..100 {
            assert_eq!(keepalive.handle_timeout(at(10 * round), INTERVAL), Some(true));
            keepalive.handle_received(at(10 * round), INTERVAL);
        }
    }

    #[test]
    fn a_peer_that_does_not_know_ping_is_never_asked() {
        let mut keepalive = Keepalive::new();
        keepalive.start(false, at(0), INTERVAL);
        assert_eq!((keepalive.due(), keepalive.handle_timeout(at(1000), INTERVAL)), (None, None));
    }
}
