//! The task that keeps time for the server: it waits for the next deadline, and lets timers fire when
//! everything that arrived before that has been read.
//!
//! **Owns** what it waits for. **Refuses to know** what the deadlines are for.

use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_io::Timer;
use vspc_core::time::Instant;

use super::Server;

/// What the timer task waits for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Awaited {
    /// For this time, if there is a deadline at all.
    Deadline(Option<Instant>),
    /// At this time a deadline had passed. For the reactor to poll the sockets after that.
    Reactor(Instant),
    /// The same, and the reactor has polled them. For the tasks that it wakes to read.
    Readers(Instant),
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
    /// if the server was late: when a deadline has passed, the reactor polls the sockets, the tasks that it
    /// wakes have their turn, and only then the timers fire that were due when this began.
    pub(super) fn keep_time(&mut self, timer: &mut Timer, cx: &mut Context<'_>) -> Poll<()> {
        self.timekeeper.set(cx);
        match self.awaited {
            Awaited::Deadline(_) => match self.next_deadline() {
                Some(next) if next <= self.now => {
                    self.awaited = Awaited::Reactor(self.now);
                    await_reactor(timer, cx);
                }
                next => self.arm(next, timer, cx),
            },
            Awaited::Reactor(at) => {
                self.awaited = Awaited::Readers(at);
                // A thread of async-io's may be the one that polls, and wake this task before the readers.
                // Its next poll comes when all of them have been woken: this task then runs behind them.
                await_reactor(timer, cx);
            }
            Awaited::Readers(at) => {
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
            if let Some(listener) = self.listeners.get(id) {
                listener.task.wake();
            }
        }
        if self.poll_at.is_some_and(|due| due <= at) {
            self.poll_at = None;
            for id in mem::take(&mut self.polled) {
                if let Some(connection) = self.connections.get(id) {
                    connection.polled = false;
                    connection.task.wake();
                }
            }
        }
    }

    /// The next deadline of all. Looks at six of them.
    fn next_deadline(&self) -> Option<Instant> {
        [self.house.deadline(&self.engine), self.poll_at].into_iter().flatten().min()
    }
}

/// Has the reactor wake the task that runs now when it has polled the sockets once more.
fn await_reactor(timer: &mut Timer, cx: &mut Context<'_>) {
    timer.set_after(MOMENT);
    // A timer that is due before the reactor knows of it proves nothing.
    while Pin::new(&mut *timer).poll(cx).is_ready() {
        timer.set_after(MOMENT);
    }
}

/// For how long the timer task waits when it waits for the reactor: short against every deadline, and long
/// enough that the timer is not due before the reactor knows of it.
const MOMENT: Duration = Duration::from_micros(100);
