//! The task that keeps time for the server: it waits for the next deadline, and lets timers fire when
//! everything that arrived before that has been read.
//!
//! **Owns** what it waits for. **Refuses to know** what the deadlines are for.

use std::pin::Pin;
use std::task::{Context, Poll};

use async_io::Timer;
use vspc_core::time::Instant;

use super::Server;

/// What the timer task waits for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Awaited {
    /// For this time, if there is a deadline at all.
    Deadline(Option<Instant>),
    /// At this time a deadline had passed. For the kernel to be asked after that which sockets are ready.
    Poll(Instant),
    /// The same, and it has been. For the visits to those sockets.
    Visits(Instant),
}

impl Server {
    /// Has the timer task look at the next deadline, if that is earlier than what it waits for. If it has
    /// moved later, the timer is left as it is: it fires too early, finds nothing due and is set again.
    pub(super) fn rearm(&mut self) {
        let Awaited::Deadline(armed) = self.awaited else { return };
        match (self.next_deadline(), armed) {
            (Some(next), armed) if armed.is_none_or(|armed| next < armed) => {
                // The clock learns of it before the timer task runs: the process may be stopped until then.
                self.clock.wait_until(Some(next));
                self.timekeeper.wake();
            }
            (None, None) => drop(self.clock.wait_until(None)),
            _ => {}
        }
    }

    /// Waits for the next deadline and lets timers fire. What arrived before a deadline is read first, even
    /// if the server was late: when a deadline has passed, the kernel is asked which sockets are ready, those
    /// are visited, and only then the timers fire that were due when this began.
    pub(super) fn keep_time(&mut self, timer: &mut Timer, cx: &mut Context<'_>) -> Poll<()> {
        self.timekeeper.set(cx);
        match self.awaited {
            Awaited::Deadline(_) => match self.next_deadline() {
                Some(next) if next <= self.now => {
                    self.awaited = Awaited::Poll(self.now);
                    self.watcher.wake();
                    cx.waker().wake_by_ref();
                }
                next => self.arm(next, timer, cx),
            },
            Awaited::Poll(at) => {
                // What the poll has found is visited by tasks that were queued before this one is again.
                if self.polled_at >= at {
                    self.awaited = Awaited::Visits(at);
                }
                cx.waker().wake_by_ref();
            }
            Awaited::Visits(at) => {
                self.awaited = Awaited::Deadline(None);
                self.fire_timers(at);
                self.schedule_drain();
            }
        }
        Poll::Pending
    }

    /// Sets the timer for the next deadline.
    fn arm(&mut self, next: Option<Instant>, timer: &mut Timer, cx: &mut Context<'_>) {
        let at = self.clock.wait_until(next);
        self.awaited = Awaited::Deadline(at);
        match at.and_then(|at| self.clock.monotonic(at)) {
            Some(at) => timer.set_at(at),
            None => timer.clear(),
        }
        if Pin::new(timer).poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }

    /// Lets all timers fire that were due at this time, since when every socket has been polled.
    fn fire_timers(&mut self, at: Instant) {
        let due = self.house.fire_timers(&mut self.engine, at);
        for (id, why) in due.failed {
            self.fail(id, why);
        }
        for id in due.listeners {
            self.visit_listener(id);
        }
    }

    /// The next deadline of all.
    fn next_deadline(&self) -> Option<Instant> {
        self.house.deadline(&self.engine)
    }
}
