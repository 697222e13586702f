//! Dates in UTC: as they are in logs and in files of state, RFC 3339.
//!
//! **Owns** the calendar. **Refuses to know** what happened on a date.

use std::time::{SystemTime, UNIX_EPOCH};

/// A moment's date and time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moment {
    /// The year.
    pub year: u64,
    /// From 1 on.
    pub month: u64,
    /// Of the month, from 1 on.
    pub day: u64,
    /// From 0 on.
    pub hour: u64,
    /// From 0 on.
    pub minute: u64,
    second: u64,
}

impl Moment {
    /// So many seconds after 1970 began.
    #[must_use]
    pub fn of(seconds: u64) -> Self {
        let (year, month, day) = civil(seconds / DAY);
        let (hour, minute, second) = (seconds % DAY / 3600, seconds % 3600 / 60, seconds % 60);
        Self { year, month, day, hour, minute, second }
    }
}

/// Seconds since 1970 as `2026-11-29T19:45:14Z`.
#[must_use]
pub fn write(seconds: u64) -> String {
    let Moment { year, month, day, hour, minute, second } = Moment::of(seconds);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Reads what [`write()`] writes, and nothing else.
#[must_use]
pub fn read(text: &str) -> Option<u64> {
    let number = |from: usize, to: usize| -> Option<u64> {
        let digits = text.get(from..to)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
    };
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let time = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let seconds = days(year, month, day) * DAY + time.0 * 3600 + time.1 * 60 + time.2;
    // The 30th of February, 25 o'clock and a text of another form read back as something else.
    (write(seconds) == text).then_some(seconds)
}

/// A time as `2026-11-29T19:45:14.123Z`.
#[must_use]
pub fn stamp(time: SystemTime) -> String {
    let millis = millis(time);
    let seconds = write(millis / 1000);
    format!("{}.{:03}Z", seconds.trim_end_matches('Z'), millis % 1000)
}

/// Reads what [`stamp`] writes, and nothing else: milliseconds since 1970.
#[must_use]
pub fn read_stamp(text: &str) -> Option<u64> {
    let (seconds, fraction) = text.strip_suffix('Z')?.split_once('.')?;
    let is_fraction = fraction.len() == 3 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    let millis: u64 = is_fraction.then(|| fraction.parse().ok()).flatten()?;
    Some(read(&format!("{seconds}Z"))? * 1000 + millis)
}

/// Milliseconds since 1970.
#[must_use]
pub fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The days from 1970-01-01 to a date. A year begins in March here, so that a leap day is its last.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - EPOCH
}

/// The date that is so many days after 1970-01-01.
fn civil(days: u64) -> (u64, u64, u64) {
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
    use std::time::Duration;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, date) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_764_445_514, "2025-11-29T19:45:14Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(write(seconds), date);
            assert_eq!(read(date), Some(seconds), "{date}");
        }
        for days in (0..60_000).step_by(7) {
            let seconds = days * DAY + 3661;
            assert_eq!(read(&write(seconds)), Some(seconds));
        }
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for text in [
            "",
            "now",
            "2026-02-29T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:00:00",
            "2026-01-01 00:00:00Z",
            "2026-01-01T00:00:00+01:00",
            "1969-12-31T23:59:59Z",
            "2026-13-01T00:00:00Z",
            "2026-1-01T00:00:00ZZ",
            "+026-01-01T00:00:00Z",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn stamps_have_milliseconds_and_are_read_as_they_are_written() {
        for (millis, text) in [(951_782_399_007, "2000-02-28T23:59:59.007Z"), (0, "1970-01-01T00:00:00.000Z")]
        {
            assert_eq!(stamp(UNIX_EPOCH + Duration::from_millis(millis)), text);
            assert_eq!(read_stamp(text), Some(millis));
        }
        for text in ["2000-02-28T23:59:59Z", "2000-02-28T23:59:59.07Z", "2000-02-28T23:59:59.+07Z"] {
            assert_eq!(read_stamp(text), None, "{text}");
        }
    }
}
