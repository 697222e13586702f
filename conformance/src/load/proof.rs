//! The proof that of bytes that came each is in its place.
//!
//! Owns what they are held against. Refuses to know where they come from.

use std::io::{self, ErrorKind, Read};
use std::time::Instant;

/// Holds what comes against a block that is said again and again.
#[derive(Debug)]
pub(super) struct Proof {
    block: Vec<u8>,
    at: u64,
    length: u64,
}

impl Proof {
    /// Of so many bytes.
    pub(super) fn new(block: Vec<u8>, length: u64) -> Self {
        Self { block, at: 0, length }
    }

    /// Takes what belongs to them, and says how much that is. An error tells where a byte is wrong.
    pub(super) fn take(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = usize::try_from(self.length - self.at).unwrap_or(usize::MAX);
        let mut rest = &bytes[..bytes.len().min(left)];
        let taken = rest.len();
        while !rest.is_empty() {
            let from = (self.at % self.block.len() as u64) as usize;
            let n = rest.len().min(self.block.len() - from);
            if rest[..n] != self.block[from..from + n] {
                let wrong = format!("a byte is wrong behind {}", self.at);
                return Err(io::Error::new(ErrorKind::InvalidData, wrong));
            }
            self.at += n as u64;
            rest = &rest[n..];
        }
        Ok(taken)
    }

    /// Whether all of it has come.
    pub(super) fn is_whole(&self) -> bool {
        self.at == self.length
    }

    /// How much has come.
    pub(super) fn so_far(&self) -> u64 {
        self.at
    }

    /// Reads all of it, so many bytes at a time; returns when the first came: what starting the sender takes
    /// is no copy's.
    pub(super) fn read(mut self, from: &mut impl Read, at_a_time: usize) -> io::Result<Instant> {
        let mut begun = None;
        let mut piece = vec![0; at_a_time];
        while !self.is_whole() {
            match from.read(&mut piece) {
                Ok(0) => {
                    let what = format!("it ends after {} bytes", self.so_far());
                    return Err(io::Error::new(ErrorKind::UnexpectedEof, what));
                }
                Ok(n) => {
                    begun.get_or_insert_with(Instant::now);
                    self.take(&piece[..n])?;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(begun.unwrap_or_else(Instant::now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Notes when its first bytes have come.
    struct Noted<R>(R, Option<Instant>);

    impl<R: Read> Read for Noted<R> {
        fn read(&mut self, piece: &mut [u8]) -> io::Result<usize> {
            let n = self.0.read(piece)?;
            self.1.get_or_insert_with(Instant::now);
            Ok(n)
        }
    }

    #[test]
    fn the_clock_of_a_copy_starts_when_its_first_bytes_are_there() {
        let mut from = Noted(io::repeat(7), None);
        let begun = Proof::new(vec![7; 1000], 200_000).read(&mut from, 4096).unwrap();
        assert!(begun >= from.1.unwrap());
        assert!(Proof::new(vec![7], 1).read(&mut io::empty(), 4096).is_err());
    }
}
