//! Bytes that were read at one end of a line and are to be written at the other.
//!
//! **Owns** them until they are. There are a few thousand at most: who reads does so when there are none.

use std::io;
use std::os::fd::AsFd;

use rustix::io::{Errno, read, write};

/// What is on its way in one direction.
#[derive(Debug, Default)]
pub(super) struct Pending {
    bytes: Vec<u8>,
    written: usize,
}

/// What came of a step that does not wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// It has been taken, or is to be tried again at once.
    Done,
    /// There is nothing to be read, or no room to write.
    NotNow,
    /// Nothing is ever read there again.
    Ended,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.written == self.bytes.len()
    }

    /// What is there still.
    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.written = 0;
    }

    /// Room for more behind what is there.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        if self.is_empty() {
            self.clear();
        }
        &mut self.bytes
    }

    /// So many of the first are taken.
    pub(super) fn take(&mut self, count: usize) {
        self.written += count;
    }

    /// Reads some. There is nothing before that.
    pub(super) fn read(&mut self, from: impl AsFd) -> io::Result<Step> {
        let mut bytes = [0; CHUNK];
        match read(from, &mut bytes) {
            Ok(0) => Ok(Step::Ended),
            Ok(count) => {
                self.buffer().extend_from_slice(&bytes[..count]);
                Ok(Step::Done)
            }
            Err(Errno::AGAIN) => Ok(Step::NotNow),
            Err(Errno::INTR) => Ok(Step::Done),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes what can be written.
    pub(super) fn write(&mut self, to: impl AsFd) -> io::Result<Step> {
        match write(to, self.rest()) {
            Ok(count) => {
                self.take(count);
                Ok(Step::Done)
            }
            Err(Errno::AGAIN) => Ok(Step::NotNow),
            Err(Errno::INTR) => Ok(Step::Done),
            Err(error) => Err(error.into()),
        }
    }
}

/// Bytes that are read at a time.
const CHUNK: usize = 4096;
