//! Deadlines: one per key, the earliest first.
//!
//! Only armed timers cost anything. Setting, cancelling and taking one cost the logarithm of how many
//! are armed.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::time::Instant;

use super::id::{ConnId, ConsoleId, MoveId};

/// What a deadline is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Timer {
    /// A VM connection has said nothing yet that makes us ask who it is, or has not told its name.
    Ask(ConnId),
    /// A proxy has to say whom this connection is from.
    Header(ConnId),
    /// A connection that has not said whether it wants TLS, or whose handshake is not over, has had its time.
    Tls(ConnId),
    /// A connection has to say which VM it is.
    Identify(ConnId),
    /// A connection on the admin port has had its time, for what it has to do next.
    Admin(ConnId),
    /// What is connected to has had its time to be there.
    Connect(ConnId),
    /// An undecided client is raw from then on.
    Decide(ConnId),
    /// A closing connection has had its time to take its last bytes.
    Linger(ConnId),
    /// A half-closed client is looked at: does it take bytes?
    HalfClosed(ConnId),
    /// The source of a completed move is given up.
    Source(ConnId),
    /// GOAHEAD has to be in the socket by then.
    Goahead(MoveId),
    /// A move has come to its end.
    Move(MoveId),
    /// No more is expected from the source of a completed move.
    Quiet(MoveId),
    /// A console without VM and clients is forgotten.
    Expire(ConsoleId),
    /// What is known of the holder of a console's input, since others want it, is looked at.
    Takeover(ConsoleId),
    /// One of those that came second inherits a console's input.
    Inherit(ConsoleId),
    /// A minute has passed in which what several legs do to each other was told once.
    Legs(ConsoleId),
    /// A reader that a VM waits for has had its time.
    Wait(ConsoleId),
    /// The line of a console's guest has something due.
    Guest(ConsoleId),
    /// Ports that were not to be had are tried again.
    Ports,
    /// Something is to be connected to.
    Dial,
    /// A break on a serial port is over.
    Break(ConnId),
    /// What a serial port was asked has had its time to be answered.
    Answers(ConnId),
    /// Peers that said nothing are told of.
    Summary,
}

#[derive(Debug, Default)]
pub(super) struct Timers {
    by_time: BTreeSet<(Instant, Timer)>,
    by_timer: BTreeMap<Timer, Instant>,
}

impl Timers {
    /// Arms `timer`, or moves it if it is armed.
    pub(super) fn set(&mut self, timer: Timer, at: Instant) {
        if let Some(old) = self.by_timer.insert(timer, at) {
            self.by_time.remove(&(old, timer));
        }
        self.by_time.insert((at, timer));
    }

    pub(super) fn cancel(&mut self, timer: Timer) {
        if let Some(at) = self.by_timer.remove(&timer) {
            self.by_time.remove(&(at, timer));
        }
    }

    /// When `timer` is due, if it is armed.
    pub(super) fn deadline(&self, timer: Timer) -> Option<Instant> {
        self.by_timer.get(&timer).copied()
    }

    pub(super) fn is_set(&self, timer: Timer) -> bool {
        self.by_timer.contains_key(&timer)
    }

    /// Cancels whatever is armed for a connection that is forgotten.
    pub(super) fn forget_conn(&mut self, id: ConnId) {
        let all = [
            Timer::Ask(id),
            Timer::Admin(id),
            Timer::Header(id),
            Timer::Tls(id),
            Timer::Identify(id),
            Timer::Connect(id),
            Timer::Decide(id),
            Timer::Linger(id),
            Timer::HalfClosed(id),
            Timer::Source(id),
        ];
        all.into_iter().for_each(|timer| self.cancel(timer));
    }

    /// Cancels whatever is armed for a console that is forgotten.
    pub(super) fn forget_console(&mut self, id: ConsoleId) {
        let all = [
            Timer::Expire(id),
            Timer::Takeover(id),
            Timer::Inherit(id),
            Timer::Legs(id),
            Timer::Wait(id),
            Timer::Guest(id),
        ];
        all.into_iter().for_each(|timer| self.cancel(timer));
    }

    /// Every armed timer. For checks.
    #[cfg(any(debug_assertions, test))]
    pub(super) fn armed(&self) -> impl Iterator<Item = Timer> {
        self.by_timer.keys().copied()
    }

    /// The earliest deadline.
    pub(super) fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|&(at, _)| at)
    }

    /// Takes the earliest timer that is due.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Timer> {
        let &(at, timer) = self.by_time.first()?;
        if at > now {
            return None;
        }
        self.cancel(timer);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_set_again_fires_once_at_its_last_time() {
        let mut timers = Timers::default();
        let console = ConsoleId { index: 1, generation: 1 };
        timers.set(Timer::Ports, Instant::from_micros(5));
        timers.set(Timer::Ports, Instant::from_micros(9));
        timers.set(Timer::Expire(console), Instant::from_micros(7));
        assert_eq!(timers.pop_due(Instant::from_micros(6)), None);
        assert_eq!(timers.next(), Some(Instant::from_micros(7)));
        assert_eq!(timers.pop_due(Instant::from_micros(9)), Some(Timer::Expire(console)));
        assert_eq!(timers.pop_due(Instant::from_micros(9)), Some(Timer::Ports));
        assert_eq!(timers.pop_due(Instant::from_micros(9)), None);
        timers.set(Timer::Ports, Instant::from_micros(10));
        timers.cancel(Timer::Ports);
        assert_eq!(timers.next(), None);
    }
}
