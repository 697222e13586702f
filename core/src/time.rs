//! Time as the core knows it: an argument.
//!
//! Owns one type. Refuses to know what a clock is: the runtimes convert once per batch of events, tests write numbers.

use std::ops::Add;
use std::time::Duration;

/// Microseconds since the owner of the core started; 8 bytes, wraps after 584 000 years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The instant `micros` microseconds after the start.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the start.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// `None` where the sum would not fit.
    #[must_use]
    pub fn checked_add(self, duration: Duration) -> Option<Self> {
        u64::try_from(duration.as_micros()).ok().and_then(|micros| self.0.checked_add(micros)).map(Self)
    }

    /// The sum, or the end of time.
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        self.checked_add(duration).unwrap_or(Self(u64::MAX))
    }

    /// How long after `earlier` this is; zero where it is not after it.
    #[must_use]
    pub const fn duration_since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// Saturates: a deadline past the end of time never fires.
    fn add(self, duration: Duration) -> Self {
        self.saturating_add(duration)
    }
}
