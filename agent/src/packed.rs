//! A block of packed bytes on its way out.
//!
//! Owns what of it has not been written to its stream yet: one block, so that what is packed is packed well
//! however little can leave at a time. Refuses to know whose bytes they are.

use vspc_core::mux::{Session, StreamId};

/// The block.
#[derive(Default, Debug)]
pub(crate) struct Packed {
    bytes: Vec<u8>,
    sent: usize,
}

impl Packed {
    /// Whether all of it was written.
    pub(crate) const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// How much of it is still to be written.
    pub(crate) const fn rest(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// Packs at most [`vspc_guest::MAX_BLOCK`] bytes, once the last ones were written.
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        debug_assert!(self.is_empty(), "the last block is still here");
        vspc_guest::pack(bytes, &mut self.bytes);
    }

    /// Writes what can leave; whether that was all. Where it was not, an event tells when there is more.
    pub(crate) fn send(&mut self, id: StreamId, session: &mut Session) -> bool {
        while self.sent < self.bytes.len() {
            let n = session.credit(id).min(self.rest());
            if n == 0 {
                let _ = session.want_credit(id);
                return false;
            }
            if session.write(id, &self.bytes[self.sent..][..n]).is_err() {
                // The stream is gone.
                break;
            }
            self.sent += n;
        }
        self.bytes.clear();
        self.sent = 0;
        true
    }
}
