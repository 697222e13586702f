//! Numbered lines, and the proof that each came once and in its place.
//!
//! Every line holds three bytes 0xFF, so that whoever cuts or forgets their doubling is found out.

use memchr::memmem;
use vspc_core::telnet::escape_into;

/// Writes line `number` of `speaker` as the guest or the person means it, without any doubling.
pub(super) fn put_line(speaker: &str, number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{speaker} line {number:012} ").as_bytes());
    out.extend_from_slice(b"\xFF\xFF\xFF.\n");
}

/// The same in wire form.
pub(super) fn put_line_escaped(speaker: &str, number: u64, out: &mut Vec<u8>) {
    let mut line = Vec::new();
    put_line(speaker, number, &mut line);
    escape_into(&line, out);
}

/// Checks the lines of one speaker.
#[derive(Debug)]
pub(super) struct LineCheck {
    speaker: String,
    next: u64,
    partial: Vec<u8>,
    /// Lines that never came, or came after a later one.
    pub lost: u64,
    /// Lines that came again or too late.
    pub repeated: u64,
    /// Lines that were never said, whole or in part.
    pub foreign: u64,
    /// Lines in which the server told something: between CR LF and CR LF, `[vspc: …]`.
    pub notices: u64,
    /// What the first wrong line was.
    pub first: Option<String>,
}

impl LineCheck {
    /// A check that expects line 0 first.
    #[must_use]
    pub(super) fn new(speaker: String) -> Self {
        let partial = Vec::new();
        Self { speaker, next: 0, partial, lost: 0, repeated: 0, foreign: 0, notices: 0, first: None }
    }

    /// Takes received bytes, undoubled.
    pub(super) fn feed(&mut self, data: &[u8]) {
        for piece in data.split_inclusive(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.partial.len() > LONGEST {
                self.line_ended();
            }
        }
    }

    /// A line has ended. No speaker's line ends in CR LF: that may be where a notice begins.
    fn line_ended(&mut self) {
        let notice = memmem::find(&self.partial, NOTICE);
        if let Some(at) = notice
            && self.partial.len() > at + NOTICE.len()
            && self.partial.ends_with(b"]\r\n")
        {
            self.notices += 1;
            self.partial.truncate(at);
            return;
        }
        if notice.is_none() && self.partial.ends_with(b"\r\n") && self.partial.len() <= LONGEST {
            return;
        }
        let text = std::mem::take(&mut self.partial);
        let mut rest = text.as_slice();
        while let Some(at) = memmem::find(rest, b"\r\n") {
            let (line, more) = rest.split_at(at + 2);
            self.judge(line);
            rest = more;
        }
        if !rest.is_empty() {
            self.judge(rest);
        }
    }

    /// The number that is due: how many came, if none is wrong.
    #[must_use]
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Ends the check of a speaker who said `said` lines.
    pub(super) fn finish(&mut self, said: u64) {
        self.lost += said.saturating_sub(self.next);
        self.next = said;
        if !self.partial.is_empty() {
            self.foreign += 1;
            self.partial.clear();
        }
    }

    fn judge(&mut self, line: &[u8]) {
        let mut due = Vec::with_capacity(line.len());
        put_line(&self.speaker, self.next, &mut due);
        if due == line {
            self.next += 1;
            return;
        }
        if self.first.is_none() {
            let text = String::from_utf8_lossy(line);
            self.first = Some(format!("{text:?} instead of line {} of {}", self.next, self.speaker));
        }
        let number =
            std::str::from_utf8(line.get(self.speaker.len() + 6..).unwrap_or(&[]).get(..12).unwrap_or(&[]));
        let number = number.ok().and_then(|digits| digits.parse::<u64>().ok());
        let said = number.filter(|&number| {
            due.clear();
            put_line(&self.speaker, number, &mut due);
            due == line
        });
        match said {
            Some(number) if number > self.next => {
                self.lost += number - self.next;
                self.next = number + 1;
            }
            Some(_) => self.repeated += 1,
            None => self.foreign += 1,
        }
    }
}

/// How a notice of the server begins.
const NOTICE: &[u8] = b"\r\n[vspc: ";
/// No line is longer.
const LONGEST: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn said(numbers: &[u64]) -> Vec<u8> {
        let mut out = Vec::new();
        for &number in numbers {
            put_line("vm 7", number, &mut out);
        }
        out
    }

    fn check(bytes: &[u8], total: u64) -> (u64, u64, u64) {
        let mut check = LineCheck::new("vm 7".into());
        for piece in bytes.chunks(5) {
            check.feed(piece);
        }
        check.finish(total);
        (check.lost, check.repeated, check.foreign)
    }

    #[test]
    fn lines_in_order_are_clean() {
        assert_eq!(check(&said(&[0, 1, 2]), 3), (0, 0, 0));
    }

    #[test]
    fn notices_are_told_from_lines_wherever_they_stand() {
        let all = said(&[0, 1, 2]);
        let notice = b"\r\n[vspc: taken over from 127.0.0.1]\r\n";
        for at in 0..all.len() {
            let mut told = all.clone();
            told.splice(at..at, notice.iter().copied());
            assert_eq!(check(&told, 3), (0, 0, 0), "at {at}");
        }
        let mut text = all;
        text.splice(0..0, b"hello\r\n\r\n[other: thing]\r\n".iter().copied());
        assert_eq!(check(&text, 3), (0, 0, 3));
    }

    #[test]
    fn lost_doubled_moved_and_damaged_lines_are_found() {
        assert_eq!(check(&said(&[0, 2]), 3), (1, 0, 0));
        assert_eq!(check(&said(&[0, 1]), 3), (1, 0, 0));
        assert_eq!(check(&said(&[0, 1, 1, 2]), 3), (0, 1, 0));
        assert_eq!(check(&said(&[0, 2, 1, 3]), 4), (1, 1, 0));
        let mut damaged = said(&[0, 1, 2]);
        damaged.remove(30);
        assert_eq!(check(&damaged, 3).2, 1);
        let mut cut = said(&[0, 1]);
        cut.pop();
        assert_eq!(check(&cut, 2), (1, 0, 1));
    }
}
