//! Buffers of large pieces, used again: the loop fills one, the thread writes it and hands it back.
//!
//! **Owns** the few that are kept meanwhile. A VM that prints in bulk would otherwise have each of its pieces
//! allocated by one thread and freed by another, and the kernel clear its memory each time. **Refuses to
//! know** what is in them.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

/// Those that are kept.
#[derive(Debug, Default)]
pub(super) struct Buffers(Mutex<Vec<Vec<u8>>>);

impl Buffers {
    /// An empty buffer with room for so many bytes. Never waits.
    pub(super) fn take(&self, len: usize) -> Vec<u8> {
        if len < LEAST {
            return Vec::with_capacity(len);
        }
        // While the thread hands one back there is none for the loop.
        let kept = self.0.try_lock().ok().and_then(|mut kept| kept.pop());
        let fitting = kept.filter(|buffer| buffer.capacity() >= len);
        fitting.unwrap_or_else(|| Vec::with_capacity(len.next_multiple_of(LEAST)))
    }

    /// A piece has been written.
    pub(super) fn put(&self, bytes: Bytes) {
        if bytes.len() < LEAST || !bytes.is_unique() {
            return;
        }
        let mut buffer = Vec::from(bytes);
        buffer.clear();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < MOST {
            kept.push(buffer);
        }
    }

    /// Frees them: nobody prints in bulk.
    pub(super) fn free(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Vec::new();
    }

    pub(super) fn are_kept(&self) -> bool {
        !self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

/// The smallest buffer that is worth keeping.
const LEAST: usize = 32 << 10;

/// How many are kept: as much as the loop fills while the thread writes a batch, and two MiB at most.
const MOST: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_buffer_comes_back_and_others_do_not() {
        let buffers = Buffers::default();
        let mut buffer = buffers.take(100_000);
        let at = buffer.as_ptr();
        buffer.extend_from_slice(&[b'x'; 100_000]);
        buffers.put(Bytes::from(buffer));
        assert!(buffers.are_kept());
        let again = buffers.take(90_000);
        assert_eq!((again.as_ptr(), again.len()), (at, 0));
        buffers.put(Bytes::from(vec![b'x'; 100]));
        let shared = Bytes::from(vec![b'x'; 100_000]);
        let _other = shared.clone();
        buffers.put(shared);
        assert!(!buffers.are_kept(), "neither a small one nor one that somebody has still");
        for _ in 0..2 * MOST {
            buffers.put(Bytes::from(vec![b'x'; LEAST]));
        }
        assert_eq!(buffers.0.lock().unwrap().len(), MOST);
        buffers.free();
        assert!(!buffers.are_kept());
    }
}
