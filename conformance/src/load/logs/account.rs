//! A log held against what its VM printed: the same bytes in the same order, but for those that the log says
//! are missing.

use std::borrow::Cow;

use memchr::memmem;

use crate::load::pattern::{MARK, Pattern, mark};

/// What a VM printed.
pub(super) trait Printed {
    /// How many bytes.
    fn len(&self) -> u64;

    /// Some of them from there on, at least one where there are any.
    fn from(&self, at: u64) -> Cow<'_, [u8]>;
}

impl Printed for Vec<u8> {
    fn len(&self) -> u64 {
        self.as_slice().len() as u64
    }

    fn from(&self, at: u64) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self[at as usize..])
    }
}

/// So many periods of a pattern.
pub(super) struct Periods<'p> {
    pub(super) pattern: &'p Pattern,
    pub(super) count: u64,
}

impl Printed for Periods<'_> {
    fn len(&self) -> u64 {
        self.count * self.pattern.period()
    }

    fn from(&self, at: u64) -> Cow<'_, [u8]> {
        let (serial, within) = (at / self.pattern.period(), (at % self.pattern.period()) as usize);
        match serial < self.count {
            false => Cow::Borrowed(&[]),
            true if within < MARK => Cow::Owned(mark(serial)[within..].to_vec()),
            true => Cow::Borrowed(&self.pattern.body()[within - MARK..]),
        }
    }
}

/// What came of it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Account {
    /// Bytes that the log has as they were printed.
    pub(super) same: u64,
    /// Bytes that it says are missing.
    pub(super) missing: u64,
    /// In so many places.
    pub(super) gaps: u64,
}

impl Account {
    pub(super) fn add(&mut self, other: Self) {
        self.same += other.same;
        self.missing += other.missing;
        self.gaps += other.gaps;
    }
}

/// Settles a log; an error says at which byte of it something stands that was not printed there, or is not
/// there and not told of.
pub(super) fn settle(log: &[u8], printed: &impl Printed) -> Result<Account, String> {
    let mut account = Account::default();
    // Where we are in the log, and in what was printed.
    let (mut at, mut due) = (0, 0);
    while at < log.len() {
        let expected = printed.from(due);
        let n = expected.len().min(log.len() - at);
        let same = if expected[..n] == log[at..at + n] {
            n
        } else {
            expected.iter().zip(&log[at..]).take_while(|(printed, logged)| printed == logged).count()
        };
        (at, due, account.same) = (at + same, due + same as u64, account.same + same as u64);
        if same > 0 && same == n {
            continue;
        }
        // A gap's line may begin with bytes that were due as well.
        let (back, len, missing) = gap(log, at)
            .ok_or_else(|| format!("byte {at} of the log is not byte {due} of what was printed"))?;
        account.same -= back as u64;
        account.missing += missing;
        account.gaps += 1;
        (at, due) = (at - back + len, due - back as u64 + missing);
    }
    match printed.len().checked_sub(due) {
        Some(0) => Ok(account),
        Some(rest) => Err(format!("the last {rest} bytes are missing, and the log does not say so")),
        None => Err("the log says that more is missing than was printed".to_owned()),
    }
}

/// A line about what is missing, around this byte: how far before it the line begins, how long it is, and
/// what it says.
fn gap(log: &[u8], at: usize) -> Option<(usize, usize, u64)> {
    let back = (0..=BEGINNING.len().min(at)).find(|back| log[at - back..].starts_with(BEGINNING))?;
    let line = &log[at - back..];
    let rest = &line[BEGINNING.len()..];
    let digits = memmem::find(&rest[..rest.len().min(64)], END)?;
    let missing = std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()?;
    Some((back, BEGINNING.len() + digits + END.len(), missing))
}

/// Around a number (logs.md).
const BEGINNING: &[u8] = b"\r\n[vspc: ";
const END: &[u8] = b" bytes are missing here]\r\n";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::pattern::Content;

    const PRINTED: &[u8] = b"one\r\ntwo\r\nthree\r\nfour\r\n";

    fn settled(log: &[u8]) -> Result<Account, String> {
        settle(log, &PRINTED.to_vec())
    }

    #[test]
    fn a_log_that_is_whole_or_says_what_is_missing_is_in_order() {
        let whole = Account { same: PRINTED.len() as u64, missing: 0, gaps: 0 };
        assert_eq!(settled(PRINTED), Ok(whole));
        // Wherever the gap is, and whatever it begins with.
        for from in 0..PRINTED.len() {
            for to in from + 1..=PRINTED.len() {
                let line = format!("\r\n[vspc: {} bytes are missing here]\r\n", to - from);
                let log = [&PRINTED[..from], line.as_bytes(), &PRINTED[to..]].concat();
                let missing = (to - from) as u64;
                let same = PRINTED.len() as u64 - missing;
                assert_eq!(settled(&log), Ok(Account { same, missing, gaps: 1 }), "{from} to {to}");
            }
        }
    }

    #[test]
    fn what_is_missing_added_changed_or_wrongly_counted_is_found() {
        for log in [
            &PRINTED[..PRINTED.len() - 1],
            b"",
            b"one\r\nthree\r\nfour\r\n",
            b"one\r\ntwo\r\nthree\r\nfour\r\n!",
            b"one\r\nTwo\r\nthree\r\nfour\r\n",
            b"one\r\n\r\n[vspc: 4 bytes are missing here]\r\nthree\r\nfour\r\n",
            b"one\r\n\r\n[vspc: 500 bytes are missing here]\r\n",
            b"one\r\n\r\n[vspc: some bytes are missing here]\r\nthree\r\nfour\r\n",
        ] {
            assert!(settled(log).is_err(), "{}", String::from_utf8_lossy(log));
        }
    }

    #[test]
    fn periods_are_compared_as_they_are_sent() {
        let pattern = Pattern::guest(Content::Text);
        let printed = Periods { pattern: &pattern, count: 3 };
        let mut log: Vec<u8> =
            (0..3).flat_map(|serial| [&mark(serial)[..], pattern.body()].concat()).collect();
        assert_eq!(settle(&log, &printed).unwrap().same, printed.len());
        let gap = b"\r\n[vspc: 40000 bytes are missing here]\r\n";
        log.splice(1000..41_000, gap.iter().copied());
        assert_eq!(settle(&log, &printed).unwrap().missing, 40_000);
        log[500] ^= 1;
        settle(&log, &printed).unwrap_err();
    }
}
