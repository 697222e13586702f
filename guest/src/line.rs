//! Lines: one JSON object each, and the buffer that takes one out of a stream's bytes.
//!
//! Owns how long a line may be. Refuses to know what is in it.

use serde::Serialize;

use crate::answer::{Code, Refusal};

/// The longest line, with its LF (APPLICATION §1).
pub const MAX_LINE: usize = 4096;

/// Collects one line after another, and never more than one.
#[derive(Clone, Debug)]
pub struct LineBuffer {
    most: u32,
    bytes: Vec<u8>,
    /// Longer than it may be: nothing more is taken.
    too_long: bool,
}

impl LineBuffer {
    /// For lines of at most `most` bytes, with their LF. Allocates nothing.
    #[must_use]
    pub const fn new(most: usize) -> Self {
        let most = if most > u32::MAX as usize { u32::MAX } else { most as u32 };
        Self { most, bytes: Vec::new(), too_long: false }
    }

    /// Takes bytes up to the end of the line, and says how many. None once there is a line or a fault.
    pub fn take(&mut self, bytes: &[u8]) -> usize {
        if self.line().is_some() {
            return 0;
        }
        let n = bytes.iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |at| at + 1);
        if self.bytes.len() + n > self.most as usize {
            self.too_long = true;
            self.bytes = Vec::new();
            return 0;
        }
        self.bytes.extend_from_slice(&bytes[..n]);
        n
    }

    /// The line, with its LF, or that it is too long; `None` while it has not ended.
    #[must_use]
    pub fn line(&self) -> Option<Result<&[u8], Refusal>> {
        if self.too_long {
            let most = self.most;
            return Some(Err(Refusal::new(Code::BAD_LINE, format!("a line has at most {most} bytes"))));
        }
        (self.bytes.last() == Some(&b'\n')).then_some(Ok(&self.bytes))
    }

    /// The line was read: the next one begins. Until it comes nothing is owned: many streams have said their
    /// line, and say no other.
    pub fn clear(&mut self) {
        self.bytes = Vec::new();
    }

    /// Whether nothing of a line has come.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty() && !self.too_long
    }
}

/// One line, with its LF.
pub(crate) fn write(value: &impl Serialize) -> Vec<u8> {
    // Maps with keys that are no texts, and types that fail by themselves, are the only faults there are.
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_where_it_ends_however_it_is_cut() {
        let text = b"{\"a\":1}\n{\"b\":2}\nrest";
        for piece in 1..text.len() {
            let mut buffer = LineBuffer::new(8);
            let (mut at, mut lines) = (0, Vec::new());
            while lines.len() < 2 {
                let end = (at + piece).min(text.len());
                at += buffer.take(&text[at..end]);
                if let Some(line) = buffer.line() {
                    lines.push(line.unwrap().to_vec());
                    buffer.clear();
                    assert_eq!(buffer.bytes.capacity(), 0);
                }
            }
            assert_eq!((lines[1].as_slice(), at), (&b"{\"b\":2}\n"[..], 16));
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_a_fault_and_is_not_kept() {
        let mut buffer = LineBuffer::new(8);
        assert_eq!(buffer.take(b"1234"), 4);
        assert!(buffer.line().is_none());
        assert_eq!(buffer.take(b"56789"), 0);
        assert_eq!(buffer.line().unwrap().unwrap_err().code, Code::BAD_LINE);
        assert_eq!((buffer.take(b"x\n"), buffer.bytes.capacity()), (0, 0));
    }
}
