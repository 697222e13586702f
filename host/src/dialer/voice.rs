//! What the log says of a line that is this machine's own: what its program says, how it has ended.
//!
//! **Owns** how much that may be, over all the times that a line is begun again: twenty lines at once, and
//! one every three seconds. What is beyond that is counted; what a program that does not stay says again is
//! not said again.

use std::fmt;
use std::time::{Duration, Instant};

/// How much may be said of one line.
#[derive(Debug)]
pub(super) struct Voice {
    left: u32,
    /// Up to when that was counted.
    counted: Instant,
    left_out: LeftOut,
    /// Why it could not be opened the last time.
    fault: Option<Box<str>>,
    /// What was told of its program the last time that this was run, if it did not stay; the first of it.
    before: Vec<Box<str>>,
    /// What was told since it was begun, as much of it.
    since: Vec<Box<str>>,
}

/// How many lines were left out before one, as it stands behind that.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct LeftOut(u64);

impl Voice {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            left: MOST,
            counted: now,
            left_out: LeftOut::default(),
            fault: None,
            before: Vec::new(),
            since: Vec::new(),
        }
    }

    /// It could not be opened, for this reason, or could (`None`). Returns whether that was not so before.
    pub(super) fn is_news(&mut self, fault: Option<&str>) -> bool {
        let is_news = self.fault.as_deref() != fault;
        self.fault = fault.map(Into::into);
        is_news
    }

    /// These words are to be told of its program. Returns whether they are the same as in this place the last
    /// time.
    pub(super) fn is_repeated(&mut self, words: &str) -> bool {
        let is_repeated = self.before.get(self.since.len()).is_some_and(|before| **before == *words);
        if self.since.len() < MOST as usize {
            self.since.push(words.into());
        }
        is_repeated
    }

    /// Its program has ended, after this time.
    pub(super) fn end(&mut self, after: Duration) {
        let since = std::mem::take(&mut self.since);
        self.before = if after < LASTING { since } else { Vec::new() };
    }

    /// Whether one more line may be said now, and how many were not since the last.
    pub(super) fn may_say(&mut self, now: Instant) -> Option<LeftOut> {
        let more = now.saturating_duration_since(self.counted).as_millis() / EACH.as_millis();
        let more = u32::try_from(more).unwrap_or(MOST).min(MOST);
        if more > 0 {
            self.counted = if self.left + more >= MOST { now } else { self.counted + EACH * more };
            self.left = (self.left + more).min(MOST);
        }
        if self.left == 0 {
            self.left_out.0 += 1;
            return None;
        }
        self.left -= 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            count => write!(f, " ({count} lines before this are left out)"),
        }
    }
}

/// Bytes that become lines of text which can be shown, none longer than [`LONGEST`].
#[derive(Debug, Default)]
pub(super) struct Lines(Vec<u8>);

impl Lines {
    /// What has come. Returns the lines that are whole with that.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut whole = Vec::new();
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            // What is beyond the longest is not kept.
            let room = LONGEST.saturating_sub(self.0.len());
            self.0.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.ends_with(b"\n") {
                whole.extend(self.end());
            }
        }
        whole
    }

    /// The last, which has no end.
    pub(super) fn end(&mut self) -> Vec<String> {
        let bytes = std::mem::take(&mut self.0);
        let text = String::from_utf8_lossy(&bytes);
        let text = text.trim_end();
        let shown: String = text.chars().flat_map(shown).collect();
        if shown.is_empty() { Vec::new() } else { vec![shown] }
    }
}

/// A character, or what stands for one that controls a terminal or turns the text around.
fn shown(c: char) -> impl Iterator<Item = char> {
    let is_plain = !c.is_control() && !c.escape_debug().to_string().starts_with("\\u");
    let escaped = c.escape_default().filter(move |_| !is_plain);
    Some(c).filter(|_| is_plain).into_iter().chain(escaped)
}

/// Lines that may be said at once.
const MOST: u32 = 20;

/// How long it takes until one more may be said.
const EACH: Duration = Duration::from_secs(3);

/// A program that has run for so long has stayed.
const LASTING: Duration = Duration::from_secs(10);

/// Bytes of a line.
const LONGEST: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_lines_are_said_at_once_then_one_every_three_seconds_and_the_rest_is_counted() {
        let start = Instant::now();
        let mut voice = Voice::new(start);
        let said = (0..100).filter(|_| voice.may_say(start).is_some()).count();
        assert_eq!(said, 20);
        assert_eq!(voice.may_say(start + EACH).unwrap().to_string(), " (80 lines before this are left out)");
        assert_eq!(voice.may_say(start + EACH), None);
        assert_eq!(voice.may_say(start + 2 * EACH), Some(LeftOut(1)));
        let said = (0..100).filter(|_| voice.may_say(start + 1000 * EACH).is_some()).count();
        assert_eq!(said, 20, "a long silence is worth no more");
    }

    #[test]
    fn why_a_line_cannot_be_opened_is_news_once_until_it_could() {
        let mut voice = Voice::new(Instant::now());
        let told: Vec<bool> =
            [Some("a"), Some("a"), Some("b"), None, None, Some("b")].map(|fault| voice.is_news(fault)).into();
        assert_eq!(told, [true, false, true, true, false, true]);
    }

    #[test]
    fn a_program_that_does_not_stay_is_told_of_again_where_it_says_something_else() {
        let mut voice = Voice::new(Instant::now());
        let mut run = |words: &[&str], after| -> Vec<bool> {
            let told = words.iter().map(|words| !voice.is_repeated(words)).collect();
            voice.end(after);
            told
        };
        let short = LASTING / 2;
        assert_eq!(run(&["no", "no", "failed"], short), [true; 3]);
        assert_eq!(run(&["no", "no", "failed"], short), [false; 3]);
        assert_eq!(run(&["no", "never", "failed"], short), [false, true, false]);
        assert_eq!(run(&["never", "failed"], LASTING), [true; 2]);
        assert_eq!(run(&["never", "failed"], short), [true; 2], "it had stayed");
        let many = ["no"; 1000];
        run(&many, short);
        assert_eq!(run(&many, short).iter().filter(|is_told| !**is_told).count(), 20, "no more is kept");
    }

    #[test]
    fn bytes_become_lines_that_can_be_shown_whatever_they_are() {
        let mut lines = Lines::default();
        assert_eq!(lines.push(b"one\r\ntw"), ["one"]);
        assert_eq!(lines.push(b"o\n\n\x1b[2Jx\xff\n"), ["two", "\\u{1b}[2Jx\u{fffd}"]);
        assert_eq!(lines.push("\u{202e}a ä\n".as_bytes()), ["\\u{202e}a ä"]);
        assert!(lines.push(&[b'x'; 100_000]).is_empty());
        assert_eq!(lines.end(), ["x".repeat(LONGEST)]);
        assert!(lines.end().is_empty());
    }
}
