//! What concentrators have refused to tell of, and when.
//!
//! Owns the times. Refuses to know what had been told before them.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// When each server has refused last to tell of its consoles. What one has told before that, to whichever of
/// those that share this, counts no more.
#[derive(Default)]
pub(super) struct Refusals(Mutex<HashMap<usize, Instant>>);

impl Refusals {
    pub(super) fn note(&self, place: usize) {
        self.lock().insert(place, Instant::now());
    }

    /// Whether what this server told then counts still.
    pub(super) fn allow(&self, place: usize, at: Instant) -> bool {
        self.lock().get(&place).is_none_or(|&refused| at > refused)
    }

    pub(super) fn is_any(&self, place: usize) -> bool {
        self.lock().contains_key(&place)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<usize, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
