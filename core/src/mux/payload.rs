//! Payload that has just arrived, lent to the application.
//!
//! Owns nothing: what the application takes as it arrives is never copied and holds no memory, so nothing
//! small can pin something big; what it leaves is copied once, into its stream's buffer. Refuses to know what
//! the bytes are.

use super::streams::Streams;
use super::wire::StreamId;

/// Payload that has just arrived, next in its stream. What is not consumed when this is dropped is kept: it
/// counts against the stream's window, and [`Session::received`](super::Session::received) has it.
#[derive(Debug)]
pub struct Payload<'s, 'i> {
    streams: &'s mut Streams,
    slot: u32,
    bytes: &'i [u8],
}

impl<'s, 'i> Payload<'s, 'i> {
    /// `bytes` of the live stream in `slot`, which holds a place for them.
    pub(super) const fn new(streams: &'s mut Streams, slot: u32, bytes: &'i [u8]) -> Self {
        Self { streams, slot, bytes }
    }

    /// The stream.
    #[must_use]
    pub fn id(&self) -> StreamId {
        self.streams.table[self.slot].id
    }

    /// What was not consumed yet, borrowed from the input.
    #[must_use]
    pub const fn bytes(&self) -> &'i [u8] {
        self.bytes
    }

    /// The first `n` bytes were used; `n` beyond their number counts as all of them. Constant work.
    pub fn consume(&mut self, n: usize) {
        let n = n.min(self.bytes.len());
        self.bytes = &self.bytes[n..];
        self.streams.counters.received += n as u64;
        self.streams.consumed(self.slot, n as u32);
    }
}

impl Drop for Payload<'_, '_> {
    fn drop(&mut self) {
        if !self.bytes.is_empty() {
            self.streams.keep(self.slot, self.bytes);
        }
    }
}
