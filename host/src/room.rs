//! How much a thread that the loop feeds still takes.
//!
//! **Owns** the count, and whether the loop waits. **Refuses to know** what is counted: the loop takes room,
//! the thread gives it back and nudges the loop where that found none.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Room for what is on its way to a thread.
#[derive(Debug)]
pub(crate) struct Room {
    free: AtomicUsize,
    size: usize,
    /// What the next piece may need.
    needed: usize,
    /// What is free before a loop that waits is woken.
    worth_waking: usize,
    /// The loop has something and found no room.
    is_wanted: AtomicBool,
}

impl Room {
    /// `needed`: the most that one piece takes, and no more than all of the room.
    pub(crate) fn new(size: usize, needed: usize) -> Self {
        let worth_waking = needed.max(size / WOKEN_FOR);
        Self { free: size.into(), size, needed, worth_waking, is_wanted: false.into() }
    }

    /// The thread is done with what took so much. Whether the loop waits for that, and there is room for
    /// more than a piece or two: each time that it is woken costs both.
    pub(crate) fn give_back(&self, size: usize) -> bool {
        let free = self.free.fetch_add(size, Ordering::AcqRel) + size;
        free >= self.worth_waking && self.is_wanted.swap(false, Ordering::AcqRel)
    }

    /// How much is on its way.
    pub(crate) fn taken(&self) -> usize {
        self.size.saturating_sub(self.free.load(Ordering::Acquire))
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

/// The loop is woken once such a part of the room is free.
const WOKEN_FOR: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_waits_is_woken_once_and_for_more_than_a_piece() {
        let room = Room::new(1600, 10);
        room.take(1595);
        assert_eq!(room.taken(), 1595);
        assert!(!room.give_back(0), "nobody waits");
        assert!(!room.is_there());
        let woken: Vec<bool> = (0..20).map(|_| room.give_back(10)).collect();
        assert_eq!(woken.iter().position(|&is_woken| is_woken), Some(9), "five were free");
        assert_eq!(woken.iter().filter(|&&is_woken| is_woken).count(), 1);
        assert!(room.is_there());
    }
}
