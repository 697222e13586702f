//! The times that `--log-timestamps` puts before lines, told from what the VM printed.
//!
//! **Owns** where a line begins, over all cuts. **Refuses to know** files.

use crate::date::read_stamp;

/// A piece of a log whose lines have times.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part<'a> {
    /// A time, in milliseconds since 1970, with the bytes it is written in.
    Stamp(u64, &'a [u8]),
    /// What the VM printed.
    Text(&'a [u8]),
}

/// Splits a log, in whatever pieces it comes. Holds the beginning of a time at most.
#[derive(Debug)]
pub struct Splitter {
    is_at_start: bool,
    held: Vec<u8>,
}

impl Splitter {
    /// For what follows: it begins a line, or is inside one.
    #[must_use]
    pub fn new(is_at_start: bool) -> Self {
        Self { is_at_start, held: Vec::new() }
    }

    /// Tells the parts of the next piece to `part`, in order.
    pub fn split(&mut self, piece: &[u8], mut part: impl FnMut(Part<'_>)) {
        let joined;
        let mut rest = piece;
        if !self.held.is_empty() {
            self.held.extend_from_slice(piece);
            joined = std::mem::take(&mut self.held);
            rest = &joined;
        }
        while !rest.is_empty() {
            if self.is_at_start {
                if rest.len() < STAMP && may_be_stamp(rest) {
                    self.held = rest.to_vec();
                    return;
                }
                if let Some((time, len)) = stamp_of(rest) {
                    part(Part::Stamp(time, &rest[..len]));
                    rest = &rest[len..];
                    self.is_at_start = false;
                    continue;
                }
            }
            let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
            self.is_at_start = rest[end - 1] == b'\n';
            part(Part::Text(&rest[..end]));
            rest = &rest[end..];
        }
    }

    /// How many bytes are held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// What was held in case it would become a time, which it did not.
    pub fn finish(&mut self) -> Vec<u8> {
        let held = std::mem::take(&mut self.held);
        self.is_at_start &= held.is_empty();
        held
    }
}

/// The time that a line begins with, and how many bytes that is written in.
#[must_use]
pub fn stamp_of(line: &[u8]) -> Option<(u64, usize)> {
    let text = line.get(..STAMP)?.strip_suffix(b" ")?;
    Some((read_stamp(std::str::from_utf8(text).ok()?)?, STAMP))
}

/// Whether these are, as far as they go, digits and what stands between them.
fn may_be_stamp(begun: &[u8]) -> bool {
    begun.iter().zip(FORM).all(|(byte, form)| match form {
        b'0' => byte.is_ascii_digit(),
        _ => byte == form,
    })
}

const FORM: &[u8] = b"0000-00-00T00:00:00.000Z ";
const STAMP: usize = FORM.len();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_from_text_whatever_the_cuts() {
        let log = b"1970-01-01T00:00:01.000Z log\xffin:\r\n1970-01-01T00:00:02.500Z \n1970-01-01T00 no\n19";
        let text = b"log\xffin:\r\n\n1970-01-01T00 no\n19";
        for cut in 0..log.len() {
            let mut splitter = Splitter::new(true);
            let (mut times, mut rest) = (Vec::new(), Vec::new());
            for piece in [&log[..cut], &log[cut..]] {
                splitter.split(piece, |part| match part {
                    Part::Stamp(time, _) => times.push(time),
                    Part::Text(bytes) => rest.extend_from_slice(bytes),
                });
            }
            rest.extend(splitter.finish());
            assert_eq!(times, [1000, 2500], "cut at {cut}");
            assert!(rest == text, "cut at {cut}: {}", String::from_utf8_lossy(&rest));
        }
    }

    #[test]
    fn a_time_in_the_middle_of_a_line_is_text() {
        let mut splitter = Splitter::new(false);
        let line = b"1970-01-01T00:00:01.000Z x";
        splitter.split(line, |part| assert_eq!(part, Part::Text(line)));
    }
}
