//! Signals that the user sends to what runs in the guest, by way of this program.
//!
//! Owns when one is passed on, and when it is meant for this program. Takes the time as an argument.

use std::time::Duration;

use vspc_core::time::Instant;

/// Signals of this run.
#[derive(Debug, Default)]
pub(super) struct Interrupts {
    last: Option<Instant>,
}

impl Interrupts {
    /// A signal came that ends programs. Whether the user gives up: it is the second one within a second.
    pub(super) fn handle(&mut self, now: Instant) -> bool {
        let last = self.last.replace(now);
        last.is_some_and(|last| now.duration_since(last) < WITHIN)
    }
}

const WITHIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_signal_within_a_second_gives_up() {
        let mut interrupts = Interrupts::default();
        let outcomes = [0, 1500, 2500, 3499].map(|ms| interrupts.handle(Instant::from_millis(ms)));
        assert_eq!(outcomes, [false, false, false, true]);
    }
}
