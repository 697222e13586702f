//! Whether a socket's client is still there: it is asked, and has some time to be heard.

use std::time::Duration;

use tokio::time::Instant;

pub(super) struct Pulse {
    heard: Instant,
    asked: Instant,
}

impl Pulse {
    pub(super) const fn new(now: Instant) -> Self {
        Self { heard: now, asked: now }
    }

    /// Something came, or nothing is read: who is not listened to is not silent.
    pub(super) const fn heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// When to look again.
    pub(super) fn due(&self) -> Instant {
        (self.heard + SILENCE).min(self.asked + ASK_EVERY)
    }

    pub(super) fn is_lost(&self, now: Instant) -> bool {
        now >= self.heard + SILENCE
    }

    /// Whether it is time to ask; it counts as done.
    pub(super) fn asks(&mut self, now: Instant) -> bool {
        let asks = now >= self.asked + ASK_EVERY;
        if asks {
            self.asked = now;
        }
        asks
    }
}

const ASK_EVERY: Duration = Duration::from_secs(30);
const SILENCE: Duration = Duration::from_secs(90);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_is_silent_is_lost_and_who_is_not_listened_to_is_not() {
        let start = Instant::now();
        let mut pulse = Pulse::new(start);
        let mut asked = 0;
        // What was typed waits, and nothing is read, for ten minutes.
        while pulse.due() < start + Duration::from_secs(600) {
            let now = pulse.due();
            pulse.heard(now);
            assert!(!pulse.is_lost(now));
            asked += u32::from(pulse.asks(now));
        }
        assert_eq!(asked, 19);
        let read_again = start + Duration::from_secs(600);
        pulse.heard(read_again);
        let lost = loop {
            let now = pulse.due();
            pulse.asks(now);
            if pulse.is_lost(now) {
                break now;
            }
        };
        assert_eq!(lost - read_again, SILENCE);
    }
}
