//! What goes wrong again and again, and is told at most once a minute.
//!
//! **Owns** the count and when it is told next. **Refuses to know** what is counted.

use std::time::{Duration, Instant};

/// A count that is told now and then.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    count: u64,
    /// Nothing is told before that.
    quiet_until: Option<Instant>,
}

impl Tally {
    /// One more. True: it is to be told by itself; otherwise it is counted.
    pub(crate) fn note(&mut self, now: Instant) -> bool {
        let is_first = self.quiet_until.is_none();
        match is_first {
            true => self.quiet_until = Some(now + MINUTE),
            false => self.count += 1,
        }
        is_first
    }

    /// So many more, to be told together with those that come right after them.
    pub(crate) fn gather(&mut self, count: u64, now: Instant) {
        if count > 0 {
            self.count += count;
            self.quiet_until.get_or_insert(now + MOMENT);
        }
    }

    /// When there is something to tell.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.quiet_until.filter(|_| self.count > 0)
    }

    /// How many there were since that was last told, if it is to be told now.
    pub(crate) fn take(&mut self, now: Instant) -> Option<u64> {
        if self.quiet_until.is_none_or(|until| now < until) {
            return None;
        }
        let count = self.take_all();
        self.quiet_until = count.map(|_| now + MINUTE);
        count
    }

    /// The same, whenever it is to be told.
    pub(crate) fn take_all(&mut self) -> Option<u64> {
        Some(std::mem::take(&mut self.count)).filter(|count| *count > 0)
    }
}

const MINUTE: Duration = Duration::from_secs(60);

/// How long those that come together may take to come.
const MOMENT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_the_others_together_each_minute() {
        let (mut tally, start) = (Tally::default(), Instant::now());
        assert!(tally.note(start));
        assert_eq!(tally.due(), None);
        assert!(!tally.note(start) && !tally.note(start));
        assert_eq!(tally.due(), Some(start + MINUTE));
        assert_eq!(tally.take(start), None);
        assert_eq!(tally.take(start + MINUTE), Some(2));
        assert!(!tally.note(start + MINUTE));
        assert_eq!(tally.take(start + 2 * MINUTE), Some(1));
        assert_eq!(tally.take(start + 3 * MINUTE), None);
        assert!(tally.note(start + 3 * MINUTE), "after a quiet minute the next is told at once");
    }

    #[test]
    fn what_comes_together_is_told_together() {
        let (mut tally, start) = (Tally::default(), Instant::now());
        tally.gather(0, start);
        assert_eq!(tally.due(), None);
        tally.gather(1, start);
        tally.gather(2, start);
        assert_eq!((tally.take(start), tally.take(start + MOMENT)), (None, Some(3)));
        tally.gather(4, start + MOMENT);
        assert_eq!(tally.due(), Some(start + MOMENT + MINUTE));
        assert_eq!(tally.take_all(), Some(4));
    }
}
