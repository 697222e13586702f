//! How much a thread that the loop feeds still takes.
//!
//! **Owns** the count, and whether the loop waits. **Refuses to know** what is counted: the loop takes room,
//! the thread gives it back and nudges the loop where that found none.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Room for what is on its way to a thread.
#[derive(Debug)]
pub(crate) struct Room {
    free: AtomicUsize,
    /// What the next piece may need.
    needed: usize,
    /// The loop has something and found no room.
    is_wanted: AtomicBool,
}

impl Room {
    /// `needed`: the most that one piece takes.
    pub(crate) fn new(size: usize, needed: usize) -> Self {
        Self { free: size.into(), needed, is_wanted: false.into() }
    }

    /// The thread is done with what took so much. Whether the loop waits for that.
    pub(crate) fn give_back(&self, size: usize) -> bool {
        self.free.fetch_add(size, Ordering::AcqRel);
        self.is_wanted.swap(false, Ordering::AcqRel)
    }

    /// Something of this size is on its way. There is room for it.
    pub(crate) fn take(&self, size: usize) {
        self.free.fetch_sub(size, Ordering::AcqRel);
    }

    /// Whether there is room for a piece. If not, the thread nudges the loop when that changes.
    pub(crate) fn is_there(&self) -> bool {
        let is_enough = || self.free.load(Ordering::Acquire) >= self.needed;
        is_enough() || {
            // The thread may have made room before it could know that it was wanted.
            self.is_wanted.swap(true, Ordering::AcqRel);
            is_enough()
        }
    }
}
