//! A server's only clock: the system's monotonic clock, counted as the core counts time.

use std::time::{Duration, Instant as Monotonic};

use vspc_core::time::Instant;

/// Microseconds since the server started. A runtime asks once per batch of events.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Monotonic,
}

impl Clock {
    /// A clock that shows zero now.
    #[must_use]
    pub fn start() -> Self {
        Self { start: Monotonic::now() }
    }

    /// The time on this clock.
    #[must_use]
    pub fn now(&self) -> Instant {
        Instant::from_micros(u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// The same moment on the operating system's clock; `None` if it lies beyond what that can say.
    #[must_use]
    pub fn monotonic(&self, when: Instant) -> Option<Monotonic> {
        self.start.checked_add(Duration::from_micros(when.as_micros()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_survives_the_way_to_the_system_clock_and_back() {
        let clock = Clock::start();
        let when = Instant::from_millis(1500);
        let there = clock.monotonic(when).unwrap();
        assert_eq!(there.duration_since(clock.start), Duration::from_millis(1500));
        assert!(clock.now() <= clock.now());
    }
}
