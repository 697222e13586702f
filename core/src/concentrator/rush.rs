//! VMs that come all at once, as those of a fleet whose concentrator was restarted. Each is served at once;
//! its client port, whose opening costs more than the rest and may cost a stranger its place, comes when no
//! more of them arrive, or after [`MOST`].
//!
//! **Owns** whether it is so, and who waits. **Refuses to know** what opening a port takes.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use crate::time::Instant;

use super::id::ConsoleId;

/// Who comes, and whose ports are put off.
#[derive(Debug, Default)]
pub(super) struct Rush {
    /// How many VMs come for a port.
    vms: Pace,
    /// How many connections come, of which nobody knows what they are.
    newcomers: Pace,
    /// It is one until then; `None`: it is none.
    until: Option<Instant>,
    /// When the first of those that wait was put off.
    begun: Instant,
    waiting: VecDeque<ConsoleId>,
    /// The same.
    waits: BTreeSet<ConsoleId>,
}

impl Rush {
    /// Another VM needs a port. Returns whether that can wait.
    pub(super) fn arrive(&mut self, now: Instant) -> bool {
        let are_many = self.vms.count(now);
        if are_many || (self.is_on(now) && !self.waiting.is_empty()) {
            self.until = Some(now + QUIET);
        }
        self.is_on(now)
    }

    /// Another connection comes in. Returns whether nothing is to be reserved for ports now: where so many
    /// come, closing a stranger's connection for each of them would take as long again, while the kernel's
    /// queue of them is short. Each port finds somebody to leave for it when it is opened.
    pub(super) fn come(&mut self, now: Instant) -> bool {
        self.newcomers.count(now);
        self.are_many(now)
    }

    /// Whether nothing is to be reserved for ports now.
    pub(super) fn are_many(&self, now: Instant) -> bool {
        self.newcomers.were_many(now) || self.is_on(now)
    }

    /// Whether VMs come all at once.
    pub(super) fn is_on(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// This console's port comes later. Returns when.
    pub(super) fn put_off(&mut self, at: ConsoleId, now: Instant) -> Instant {
        if self.waiting.is_empty() {
            self.begun = now;
        }
        if self.waits.insert(at) {
            self.waiting.push_back(at);
        }
        self.due().unwrap_or(now)
    }

    /// Whether this console's port was put off.
    pub(super) fn has(&self, at: ConsoleId) -> bool {
        self.waits.contains(&at)
    }

    /// When those that wait are to be served; `None`: nobody waits.
    pub(super) fn due(&self) -> Option<Instant> {
        let quiet = self.until.unwrap_or(self.begun);
        (!self.waiting.is_empty()).then(|| quiet.min(self.begun + MOST))
    }

    /// The one that has waited longest.
    pub(super) fn next(&mut self) -> Option<ConsoleId> {
        let next = self.waiting.pop_front()?;
        self.waits.remove(&next);
        if self.waiting.is_empty() {
            (self.waiting, self.until) = (VecDeque::new(), None);
        }
        Some(next)
    }
}

/// How many have come lately.
#[derive(Debug, Default)]
struct Pace {
    /// When those that are counted began to come.
    since: Instant,
    /// How many have come since.
    count: u32,
    /// They have been many, and it is not yet [`WINDOW`] ago.
    until: Option<Instant>,
}

impl Pace {
    /// Another one comes. Returns whether that makes many within [`WINDOW`].
    fn count(&mut self, now: Instant) -> bool {
        if now >= self.since + WINDOW {
            (self.since, self.count) = (now, 0);
        }
        self.count += 1;
        let are_many = self.count > MANY;
        if are_many {
            self.until = Some(now + WINDOW);
        }
        are_many
    }

    fn were_many(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }
}

/// More VMs than that within [`WINDOW`] are a rush: more than people start, or a host sends elsewhere, at a
/// time.
const MANY: u32 = 256;

/// The time in which they are counted.
const WINDOW: Duration = Duration::from_millis(50);

/// When none has come for so long, the rush is over.
const QUIET: Duration = Duration::from_millis(20);

/// For how long a port is put off at most.
const MOST: Duration = Duration::from_millis(300);

#[cfg(test)]
mod tests {
    use super::*;

    fn console(index: u32) -> ConsoleId {
        ConsoleId { index, generation: 0 }
    }

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    #[test]
    fn few_at_a_time_are_no_rush_and_many_are() {
        let mut rush = Rush::default();
        assert!((0..5000).all(|n| !rush.arrive(at(n / 4))), "four in a millisecond");
        assert_eq!((0..MANY + 10).filter(|_| rush.arrive(at(2000))).count(), 10);
        assert!(rush.is_on(at(2019)) && !rush.is_on(at(2020)));
        assert!(!rush.arrive(at(2050)), "it is over");
    }

    #[test]
    fn who_waits_is_served_in_turn_once_it_is_quiet() {
        let mut rush = Rush::default();
        assert_eq!((0..=MANY).filter(|_| rush.arrive(at(10))).count(), 1);
        assert_eq!(rush.due(), None);
        assert_eq!(rush.put_off(console(1), at(10)), at(30));
        assert!(rush.arrive(at(25)));
        assert_eq!(rush.put_off(console(2), at(25)), at(45), "another one came");
        assert_eq!(rush.put_off(console(1), at(25)), at(45));
        assert!(rush.has(console(1)) && rush.has(console(2)) && !rush.has(console(3)));
        assert_eq!([rush.next(), rush.next(), rush.next()], [Some(console(1)), Some(console(2)), None]);
        assert!(!rush.has(console(1)) && !rush.is_on(at(26)) && rush.due().is_none());
    }

    #[test]
    fn where_many_connect_at_a_time_nothing_is_reserved_until_they_are_few_again() {
        let mut rush = Rush::default();
        assert!((0..5000).all(|n| !rush.come(at(n / 4))), "four in a millisecond");
        assert_eq!((0..MANY + 10).filter(|_| rush.come(at(2000))).count(), 10);
        assert!(rush.come(at(2049)) && rush.come(at(2098)) && !rush.come(at(2099)));
        assert!(!rush.is_on(at(2000)), "ports are not put off for strangers");
    }

    #[test]
    fn a_rush_without_end_puts_nobody_off_for_ever() {
        let mut rush = Rush::default();
        for millis in 0..500 {
            assert!((0..=MANY).any(|_| rush.arrive(at(millis))));
            rush.put_off(console(millis as u32), at(millis));
        }
        assert_eq!(rush.due(), Some(at(0) + MOST));
    }
}
