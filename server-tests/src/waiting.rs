//! Waiting for what tells nobody when it has happened: it is looked at again and again, and not for ever.

use std::thread;
use std::time::{Duration, Instant};

use super::process::PATIENCE;

/// Waits until something is so. Panics with `what` was waited for after [`PATIENCE`].
pub(super) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    wait_for(PATIENCE, what, || is_so().then_some(()));
}

/// Does something until it gives something. Panics with `what` was waited for after this long.
pub(super) fn wait_for<T>(patience: Duration, what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(it) = done() {
            return it;
        }
        assert!(Instant::now() < deadline, "waited {patience:?} in vain: {what}");
        thread::sleep(LOOK_AGAIN);
    }
}

/// How long it is left alone between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
