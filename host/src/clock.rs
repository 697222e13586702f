//! A server's only clock: the system's monotonic clock, counted as the core counts time, less the time in
//! which the process did not run.
//!
//! A process that was stopped (SIGSTOP, a frozen control group, the stun of the machine it runs on) finds
//! deadlines passed that its peers had no chance to meet: what they sent is in its sockets, or still on its
//! way, because nobody acknowledged it. So the clock stands still for that long. It notices that when it is
//! read far later than the runtime, which says how long it is going to wait, meant to read it again.

use std::time::{Duration, Instant as Monotonic};

use vspc_core::time::Instant;

/// Microseconds since the server started. A runtime asks once per batch of events.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Monotonic,
    /// What the system's clock had counted when this one was last read.
    read: Duration,
    /// The same of when it is to be read again at the latest.
    due: Duration,
    /// For how long it has stood still in all.
    stood: Duration,
}

impl Clock {
    /// A clock that shows zero now.
    #[must_use]
    pub fn start() -> Self {
        Self { start: Monotonic::now(), read: Duration::ZERO, due: Duration::MAX, stood: Duration::ZERO }
    }

    /// The time on this clock.
    pub fn now(&mut self) -> Instant {
        self.read_at(self.start.elapsed())
    }

    /// Until when to wait for events, with this as the next deadline: until then, or less long, so that a
    /// stall is noticed that ends before it. `None`: for ever. Costs a waiting runtime one turn a second.
    pub fn wait_until(&mut self, deadline: Option<Instant>) -> Option<Instant> {
        let Some(deadline) = deadline else {
            self.due = Duration::MAX;
            return None;
        };
        let now = Instant::from_micros(micros(self.read.saturating_sub(self.stood)));
        let left = deadline.duration_since(now);
        let wait = left.min(left.saturating_sub(NEAR).max(BEAT));
        self.due = self.read + wait;
        Some(now + wait)
    }

    /// The same moment on the operating system's clock; `None` if it lies beyond what that can say.
    #[must_use]
    pub fn monotonic(&self, when: Instant) -> Option<Monotonic> {
        self.start.checked_add(Duration::from_micros(when.as_micros()))?.checked_add(self.stood)
    }

    /// Reads it when the system's clock has counted this much.
    fn read_at(&mut self, system: Duration) -> Instant {
        if system > self.read.max(self.due).saturating_add(STALL) {
            // Of the time until it was due a part may have been waited for; at most this is missed.
            let stopped = self.read.max(self.due.saturating_sub(BEAT));
            self.stood += system - stopped;
            log::debug!("the process stood still for {:?}", system - stopped);
        }
        self.read = system;
        Instant::from_micros(micros(system.saturating_sub(self.stood)))
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// How late a reading is a stall. No turn of a loop takes as long, and a busy scheduler rarely; the shortest
/// deadline for peers that counts (a probe's) is four times as long.
const STALL: Duration = Duration::from_millis(500);

/// How long is waited at most while a deadline is near: of a stall that begins meanwhile no more is missed.
const BEAT: Duration = Duration::from_secs(1);

/// Deadlines that are near: those of peers. The longest one is a move's, 60 s.
const NEAR: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_moment_survives_the_way_to_the_system_clock_and_back() {
        let mut clock = Clock::start();
        let when = Instant::from_millis(1500);
        let there = clock.monotonic(when).unwrap();
        assert_eq!(there.duration_since(clock.start), Duration::from_millis(1500));
        assert!(clock.now() <= clock.now());
    }

    #[test]
    fn it_counts_what_the_system_counts_while_the_process_runs() {
        let mut clock = Clock::start();
        // Busy turns, a wait that ends early, one that ends a little late, and one without a deadline.
        assert_eq!(clock.read_at(at(100)), Instant::from_millis(100));
        assert_eq!(clock.wait_until(Some(Instant::from_millis(800))), Some(Instant::from_millis(800)));
        assert_eq!(clock.read_at(at(300)), Instant::from_millis(300));
        assert_eq!(clock.wait_until(Some(Instant::from_millis(800))), Some(Instant::from_millis(800)));
        assert_eq!(clock.read_at(at(1200)), Instant::from_millis(1200));
        assert_eq!(clock.wait_until(None), None);
        assert_eq!(clock.read_at(at(1_000_000)), Instant::from_millis(1_000_000));
    }

    #[test]
    fn it_stands_still_while_the_process_does() {
        let mut clock = Clock::start();
        clock.read_at(at(100));
        // In the middle of a turn.
        clock.wait_until(Some(Instant::from_millis(100)));
        assert_eq!(clock.read_at(at(6100)), Instant::from_millis(100));
        // While it waits: the deadline is no nearer than it was.
        clock.wait_until(Some(Instant::from_millis(900)));
        assert_eq!(clock.read_at(at(16_100)), Instant::from_millis(100));
        // From then on it goes on as before, and so do timers on the system's clock.
        assert_eq!(clock.read_at(at(16_150)), Instant::from_millis(150));
        let there = clock.monotonic(Instant::from_millis(150)).unwrap();
        assert_eq!(there.duration_since(clock.start), at(16_150));
    }

    #[test]
    fn a_far_deadline_costs_no_turns_until_it_is_near() {
        let mut clock = Clock::start();
        let deadline = Instant::from_millis(3_600_000);
        let until = clock.wait_until(Some(deadline)).unwrap();
        assert_eq!(deadline.duration_since(until), NEAR);
        // A stall at the end of the wait is not taken for one that took all of it.
        assert_eq!(clock.read_at(at(3_600_000)), Instant::from_millis(3_600_000 - 61_000));
        let until = clock.wait_until(Some(deadline)).unwrap();
        assert_eq!(until, Instant::from_millis(3_600_000 - 60_000));
        clock.read_at(at(3_601_000));
        let now = Instant::from_millis(3_600_000 - 60_000);
        assert_eq!(clock.wait_until(Some(deadline)), Some(now + BEAT));
        assert_eq!(clock.wait_until(Some(now)), Some(now));
        assert_eq!(clock.wait_until(Some(Instant::ZERO)), Some(now));
    }
}
