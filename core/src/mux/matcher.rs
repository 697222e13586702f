//! Finds a known string of bytes in a stream that may be cut anywhere.
//!
//! Owns how much of it has been seen (Knuth, Morris and Pratt: constant work per byte). Refuses to know what
//! it means.

/// Looks for one pattern of at most [`LONGEST`] bytes.
#[derive(Clone, Debug)]
pub(super) struct Matcher {
    pattern: [u8; LONGEST],
    /// How long a proper beginning of the pattern the first `n` bytes of it end in.
    fallback: [u8; LONGEST + 1],
    len: u8,
    have: u8,
}

impl Matcher {
    /// Nothing seen. A pattern longer than [`LONGEST`] is cut.
    pub(super) fn new(pattern: &[u8]) -> Self {
        let len = pattern.len().min(LONGEST);
        let mut copy = [0; LONGEST];
        copy[..len].copy_from_slice(&pattern[..len]);
        let mut fallback = [0; LONGEST + 1];
        let mut border = 0;
        for at in 1..len {
            while border > 0 && copy[at] != copy[border] {
                border = usize::from(fallback[border]);
            }
            border += usize::from(copy[at] == copy[border]);
            fallback[at + 1] = border as u8;
        }
        Self { pattern: copy, fallback, len: len as u8, have: 0 }
    }

    /// One byte more; whether the pattern ends with it.
    pub(super) fn push(&mut self, byte: u8) -> bool {
        while self.have > 0 && byte != self.pattern[usize::from(self.have)] {
            self.have = self.fallback[usize::from(self.have)];
        }
        self.have += u8::from(byte == self.pattern[usize::from(self.have)]);
        if self.have == self.len {
            self.have = 0;
            return true;
        }
        false
    }

    /// How many bytes of the pattern what was seen last could be.
    pub(super) const fn have(&self) -> usize {
        self.have as usize
    }

    /// As if nothing had been seen.
    pub(super) fn reset(&mut self) {
        self.have = 0;
    }
}

/// Room for the longest pattern, v1's answer to a HELLO.
const LONGEST: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;

    quickcheck! {
        fn finds_what_a_search_of_the_whole_finds(pattern: Vec<bool>, text: Vec<bool>) -> bool {
            let pattern: Vec<u8> = pattern.into_iter().map(u8::from).chain([1]).take(LONGEST).collect();
            let text: Vec<u8> = text.into_iter().map(u8::from).collect();
            let mut matcher = Matcher::new(&pattern);
            let mut from = 0;
            text.iter().enumerate().all(|(at, byte)| {
                // Matches do not overlap.
                let want = text[from..=at].ends_with(&pattern);
                if want {
                    from = at + 1;
                }
                matcher.push(*byte) == want
            })
        }
    }
}
