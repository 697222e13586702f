//! How long to wait before something is tried again: longer each time, and not all at once.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Doubles from `first` to `most`; each wait is between half of that and all of it, by chance, so that a
/// thousand lines do not come back at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    /// In milliseconds: there is a pair for each line.
    first: u32,
    most: u32,
    tries: u32,
}

impl Backoff {
    pub(crate) const fn new(first: Duration, most: Duration) -> Self {
        Self { first: first.as_millis() as u32, most: most.as_millis() as u32, tries: 0 }
    }

    /// The next wait.
    pub(crate) fn next(&mut self) -> Duration {
        let full = self.first.saturating_mul(1 << self.tries.min(16)).min(self.most);
        let full = Duration::from_millis(full.into());
        self.tries += 1;
        // Each `RandomState` has keys of its own.
        let chance = RandomState::new().hash_one(self.tries) as u32;
        full.mul_f64(0.5 + 0.5 * f64::from(chance) / f64::from(u32::MAX))
    }

    /// How often it was tried since it worked last.
    pub(crate) const fn tries(&self) -> u32 {
        self.tries
    }

    /// It has worked.
    pub(crate) const fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_longest_and_differ() {
        let (first, most) = (Duration::from_millis(100), Duration::from_secs(10));
        let waits = |mut backoff: Backoff| (0..20).map(move |_| backoff.next()).collect::<Vec<_>>();
        let (one, other) = (waits(Backoff::new(first, most)), waits(Backoff::new(first, most)));
        assert_ne!(one, other);
        assert!(one[0] >= first / 2 && one[0] <= first, "{one:?}");
        assert!(one[10..].iter().all(|wait| *wait >= most / 2 && *wait <= most), "{one:?}");
    }
}
