//! The date and time of a moment, in UTC.

use std::time::{SystemTime, UNIX_EPOCH};

/// A moment's date and time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Moment {
    pub(super) year: u64,
    pub(super) month: u64,
    pub(super) day: u64,
    pub(super) hour: u64,
    pub(super) minute: u64,
    second: u64,
}

impl Moment {
    /// So many seconds after 1970 began.
    pub(super) fn of(seconds: u64) -> Self {
        let (year, month, day) = date(seconds / DAY);
        let (hour, minute, second) = (seconds % DAY / 3600, seconds % 3600 / 60, seconds % 60);
        Self { year, month, day, hour, minute, second }
    }
}

/// A time as RFC 3339 has it, in UTC, with milliseconds.
pub(super) fn stamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let Moment { year, month, day, hour, minute, second } = Moment::of(since.as_secs());
    let millis = since.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// The date that is so many days after 1970-01-01. A year begins in March here, so that a leap day is its
/// last.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + EPOCH;
    let (era, of_era) = (days / ERA, days % ERA);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (year * 365 + year / 4 - year / 100);
    let month = (of_year * 5 + 2) / 153;
    let day = of_year - (month * 153 + 2) / 5 + 1;
    let year = era * 400 + year;
    if month < 10 { (year, month + 3, day) } else { (year + 1, month - 9, day) }
}

/// Seconds of a day.
const DAY: u64 = 86_400;

/// Days from March 1st of the year 0 to 1970-01-01.
const EPOCH: u64 = 719_468;

/// Days of 400 years, after which the calendar repeats.
const ERA: u64 = 146_097;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_that_date_prints() {
        // date -u -d @N +'%Y %m %d %H %M'
        for (seconds, moment) in [
            (0, (1970, 1, 1, 0, 0)),
            (951_782_399, (2000, 2, 28, 23, 59)),
            (951_782_400, (2000, 2, 29, 0, 0)),
            (1_796_000_000, (2026, 11, 30, 0, 53)),
            (4_107_542_400, (2100, 3, 1, 0, 0)),
        ] {
            let Moment { year, month, day, hour, minute, .. } = Moment::of(seconds);
            assert_eq!((year, month, day, hour, minute), moment, "{seconds}");
        }
        let time = UNIX_EPOCH + std::time::Duration::from_millis(951_782_399_007);
        assert_eq!(stamp(time), "2000-02-28T23:59:59.007Z");
    }
}
