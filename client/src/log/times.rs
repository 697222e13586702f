//! Times as people give them: `10min`, `yesterday`, `22:00`, `2026-11-29 22:00`, RFC 3339.
//!
//! Owns the words. Those without a zone are where the user is.

use std::time::SystemTime;

use vspc_core::admin::operator::When;
use vspc_logs::date;

use crate::clock;
use crate::failure::Failure;
use crate::printable::printable;

/// The time that is meant.
pub(super) fn parse(text: &str) -> Result<When, Failure> {
    read(text.trim(), date::millis(SystemTime::now()), clock::zone()).ok_or_else(|| {
        let text = printable(text);
        Failure::usage(format!("{text:?} is no time: give one like 10min, 22:00 or 2026-11-29 22:00"))
    })
}

/// `now` in milliseconds since 1970, `zone` in seconds east of Greenwich.
fn read(text: &str, now: u64, zone: i64) -> Option<When> {
    let today = || write_date(now, zone);
    match text {
        "now" => return Some(When::AgoMs(0)),
        "today" => return at(&today(), "00:00", zone),
        "yesterday" => return at(&write_date(now.saturating_sub(DAY_MS), zone), "00:00", zone),
        _ => {}
    }
    if let Some(millis) = span(text.strip_suffix("ago").unwrap_or(text)) {
        return Some(When::AgoMs(millis));
    }
    match text.split_once([' ', 'T', 't']) {
        Some((date, time)) => at(date, time.trim(), zone),
        None if text.contains(':') => at(&today(), text, zone),
        None => at(text, "00:00", zone),
    }
}

/// A length of time: numbers, each with its unit.
fn span(text: &str) -> Option<u64> {
    let (mut rest, mut millis) = (text.trim(), 0_u64);
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit())?;
        let (digits, behind) = rest.split_at(number);
        let behind = behind.trim_start();
        let unit = behind.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(unit);
        let each = match unit {
            "ms" => 1,
            "s" | "sec" | "secs" | "second" | "seconds" => 1000,
            "m" | "min" | "mins" | "minute" | "minutes" => 60_000,
            "h" | "hour" | "hours" => 3_600_000,
            "d" | "day" | "days" => DAY_MS,
            "w" | "week" | "weeks" => 7 * DAY_MS,
            _ => return None,
        };
        let more = digits.parse::<u64>().ok()?.checked_mul(each)?;
        millis = millis.checked_add(more)?;
        rest = behind.trim_start();
    }
    (!text.trim().is_empty()).then_some(millis)
}

/// A date and a time of day, with a zone of its own or in this one.
fn at(day: &str, time: &str, zone: i64) -> Option<When> {
    let (time, zone) = match time.strip_suffix(['Z', 'z']) {
        Some(time) => (time, 0),
        None => match time.rfind(['+', '-']) {
            Some(sign) => {
                let (hours, minutes) = time[sign + 1..].split_once(':').or_else(|| {
                    let digits = &time[sign + 1..];
                    (digits.len() == 4 && digits.is_ascii()).then(|| digits.split_at(2))
                })?;
                let offset = hours.parse::<u32>().ok()? * 3600 + minutes.parse::<u32>().ok()? * 60;
                let offset = i64::from(offset);
                (&time[..sign], if time.as_bytes()[sign] == b'-' { -offset } else { offset })
            }
            None => (time, zone),
        },
    };
    let (time, millis) = match time.split_once(['.', ',']) {
        Some((time, fraction)) if fraction.bytes().all(|byte| byte.is_ascii_digit()) => {
            let digits: String = fraction.chars().chain("000".chars()).take(3).collect();
            (time, digits.parse::<u64>().ok()?)
        }
        Some(_) => return None,
        None => (time, 0),
    };
    let time = if time.len() == 5 { format!("{time}:00") } else { time.to_owned() };
    let seconds = date::read(&format!("{day}T{time}Z"))?;
    let seconds = u64::try_from(i64::try_from(seconds).ok()? - zone).ok()?;
    Some(When::AtMs(seconds * 1000 + millis))
}

fn write_date(millis: u64, zone: i64) -> String {
    let seconds = i64::try_from(millis / 1000).unwrap_or(0) + zone;
    let mut text = date::write(u64::try_from(seconds).unwrap_or(0));
    text.truncate("2026-11-29".len());
    text
}

const DAY_MS: u64 = 86_400_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_understood_as_people_write_them() {
        // 2026-11-30T00:53:20Z
        const NOW: u64 = 1_796_000_000_000;
        let ago = |seconds: u64| Some(When::AgoMs(seconds * 1000));
        let at = |text: &str| Some(When::AtMs(date::read(text).unwrap() * 1000));
        for (text, time) in [
            ("now", ago(0)),
            ("10min", ago(600)),
            ("90s", ago(90)),
            ("1h30m", ago(5400)),
            ("2 days ago", ago(172_800)),
            ("1w", ago(604_800)),
            ("today", at("2026-11-29T22:00:00Z")),
            ("yesterday", at("2026-11-28T22:00:00Z")),
            ("22:00", at("2026-11-30T20:00:00Z")),
            ("2026-11-29 22:00", at("2026-11-29T20:00:00Z")),
            ("2026-11-29", at("2026-11-28T22:00:00Z")),
            ("2026-11-29T22:00:05Z", at("2026-11-29T22:00:05Z")),
            ("2026-11-29T22:00:05.25Z", Some(When::AtMs(1_795_989_605_250))),
            ("2026-11-29T22:00:05-01:30", at("2026-11-29T23:30:05Z")),
            ("2026-11-29T22:00:05+0200", at("2026-11-29T20:00:05Z")),
        ] {
            assert_eq!(read(text, NOW, 7200), time, "{text}");
        }
        for text in ["", "soon", "10", "10 parsecs", "25:00", "2026-02-30", "2026-11-29 22", "ago", "-5min"] {
            assert_eq!(read(text, NOW, 7200), None, "{text}");
        }
    }
}
