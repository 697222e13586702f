//! Lines out of a stream of bytes, in whatever pieces those come.

/// Bytes of a line at most, its LF among them.
pub const LINE_MAX: usize = 65_536;

/// What was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Line<'a> {
    /// A line, without its LF.
    Whole(&'a [u8]),
    /// A line that is longer than it may be. Nothing of use follows.
    TooLong,
}

/// Puts lines together. Holds the beginning of one line at most, and nothing between lines.
#[derive(Debug, Default)]
pub struct Lines {
    begun: Vec<u8>,
    /// What `begun` held is a line that has been handed out.
    is_done: bool,
}

impl Lines {
    /// Takes the next line, or the beginning of one, off the front of `input`. `None`: all of it is taken,
    /// and there is no line yet. Copies only lines that came in pieces.
    pub fn next<'s, 'i: 's>(&'s mut self, input: &mut &'i [u8]) -> Option<Line<'s>> {
        if std::mem::take(&mut self.is_done) {
            self.begun = Vec::new();
        }
        let end = memchr::memchr(b'\n', input);
        let piece = &input[..end.unwrap_or(input.len())];
        if self.begun.len() + piece.len() >= LINE_MAX {
            *input = &[];
            return Some(Line::TooLong);
        }
        let Some(end) = end else {
            self.begun.extend_from_slice(piece);
            *input = &[];
            return None;
        };
        *input = &input[end + 1..];
        if self.begun.is_empty() {
            return Some(Line::Whole(piece));
        }
        self.begun.extend_from_slice(piece);
        self.is_done = true;
        Some(Line::Whole(&self.begun))
    }

    /// Bytes of heap held.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.begun.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(pieces: &[&[u8]]) -> Vec<Option<Vec<u8>>> {
        let mut lines = Lines::default();
        let mut found = Vec::new();
        for piece in pieces {
            let mut input = *piece;
            while let Some(line) = lines.next(&mut input) {
                found.push(match line {
                    Line::Whole(line) => Some(line.to_vec()),
                    Line::TooLong => None,
                });
            }
        }
        found
    }

    #[test]
    fn cuts_mean_nothing() {
        let all = b"{}\n\nabc\r\n{\"a\":1}\ntail";
        let whole = collect(&[all]);
        assert_eq!(whole.len(), 4);
        for cut in 0..all.len() {
            for second in cut..all.len() {
                let pieces = [&all[..cut], &all[cut..second], &all[second..]];
                assert_eq!(collect(&pieces), whole, "cut at {cut} and {second}");
            }
        }
    }

    #[test]
    fn a_line_of_the_greatest_length_passes_and_one_byte_more_does_not() {
        let mut long = vec![b'x'; LINE_MAX - 1];
        long.push(b'\n');
        assert_eq!(collect(&[&long]), [Some(long[..LINE_MAX - 1].to_vec())]);
        assert_eq!(collect(&[&long[..100], &long[100..]]), [Some(long[..LINE_MAX - 1].to_vec())]);
        long.insert(0, b'x');
        assert_eq!(collect(&[&long]), [None]);
        assert_eq!(collect(&[&long[..LINE_MAX]]), [None], "it is told before its end has come");
    }

    #[test]
    fn nothing_is_held_between_lines() {
        let mut lines = Lines::default();
        for piece in [&b"half a li"[..], b"ne\nand "] {
            let mut input = piece;
            while lines.next(&mut input).is_some() {}
        }
        let mut input = &b"more\n"[..];
        assert_eq!(lines.next(&mut input), Some(Line::Whole(b"and more")));
        assert_eq!(lines.next(&mut input), None);
        assert_eq!(lines.memory(), 0);
    }
}
