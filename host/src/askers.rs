//! Operators who have asked for a reload and wait for what comes of it (operator.md §5).
//!
//! **Owns** who waits for the load that is running, and who came too late for that. **Refuses to know** what
//! is loaded.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vspc_core::concentrator::ConnId;

/// All of them. Copies share them: the loop has one, and the thread that loads.
#[derive(Clone, Debug, Default)]
pub struct Askers(Arc<Mutex<Lists>>);

#[derive(Debug, Default)]
struct Lists {
    /// They wait for a load that has not begun.
    next: Vec<ConnId>,
    /// They wait for the one that is running.
    current: Vec<ConnId>,
}

impl Askers {
    /// This one is to be told what comes of the next load that begins.
    pub(crate) fn ask(&self, who: ConnId) {
        self.lock().next.push(who);
    }

    /// A load begins.
    pub(crate) fn begin(&self) {
        let Lists { next, current } = &mut *self.lock();
        current.append(next);
    }

    /// It has ended, whatever way. Returns those who wait for that.
    pub(crate) fn end(&self) -> Vec<ConnId> {
        std::mem::take(&mut self.lock().current)
    }

    /// Ignores poison: nobody who holds the lock can panic.
    fn lock(&self) -> MutexGuard<'_, Lists> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_while_a_load_runs_waits_for_the_next() {
        let (askers, [first, second]) = (Askers::default(), [1, 2].map(ConnId::from_bits));
        askers.ask(first);
        askers.clone().begin();
        askers.ask(second);
        assert_eq!(askers.end(), [first]);
        assert_eq!(askers.end(), []);
        askers.begin();
        assert_eq!(askers.end(), [second]);
    }
}
