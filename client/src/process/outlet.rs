//! Output on its way to a descriptor that may block.
//!
//! Owns a short queue: what does not fit stays on its stream, and stops the process that prints it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::{Errno, write};

/// The standard output, or the standard error.
#[derive(Debug)]
pub(super) struct Outlet<F> {
    fd: F,
    waiting: VecDeque<u8>,
    closed: bool,
}

/// What became of a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Written {
    Some,
    /// Nobody reads it any more.
    Closed,
}

impl Written {
    pub(super) fn is_closed(self) -> bool {
        self == Self::Closed
    }
}

impl<F: AsFd> Outlet<F> {
    pub(super) const fn new(fd: F) -> Self {
        Self { fd, waiting: VecDeque::new(), closed: false }
    }

    /// Takes what there is room for.
    pub(super) fn take(&mut self, bytes: &[u8]) -> usize {
        if self.closed {
            return bytes.len();
        }
        let n = bytes.len().min(ROOM.saturating_sub(self.waiting.len()));
        self.waiting.extend(&bytes[..n]);
        n
    }

    /// Takes a few words, with or without room.
    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.waiting.extend(bytes);
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Writes once, when poll(2) has said that something is taken: no more than a pipe or a terminal then
    /// takes without blocking.
    pub(super) fn write(&mut self) -> io::Result<Written> {
        let (front, _) = self.waiting.as_slices();
        match write(&self.fd, &front[..front.len().min(AT_ONCE)]) {
            Ok(n) => drop(self.waiting.drain(..n)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(Errno::PIPE) => {
                self.closed = true;
                self.waiting.clear();
                return Ok(Written::Closed);
            }
            Err(error) => return Err(error.into()),
        }
        Ok(Written::Some)
    }
}

impl<F: AsFd> AsFd for Outlet<F> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What waits at most, but for a few words.
const ROOM: usize = 32 * 1024;
/// PIPE_BUF: what a pipe that is writable takes.
const AT_ONCE: usize = 4096;

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn what_there_is_no_room_for_stays_and_all_of_the_rest_is_written() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut outlet = Outlet::new(writer);
        let bytes: Vec<u8> = (0..=255).cycle().take(ROOM + 1).collect();
        assert_eq!(outlet.take(&bytes), ROOM);
        assert_eq!(outlet.take(&bytes[ROOM..]), 0);
        let mut read = vec![0; ROOM];
        while outlet.is_waiting() {
            assert_eq!(outlet.write().unwrap(), Written::Some);
        }
        reader.read_exact(&mut read).unwrap();
        assert_eq!(read, bytes[..ROOM]);
    }

    #[test]
    fn a_reader_that_has_gone_is_told_apart_and_what_comes_then_is_dropped() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let mut outlet = Outlet::new(writer);
        outlet.take(b"x");
        assert!(outlet.write().unwrap().is_closed());
        assert_eq!((outlet.take(b"more"), outlet.is_waiting()), (4, false));
    }
}
