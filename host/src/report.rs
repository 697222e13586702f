//! The counters as log lines, for SIGUSR1: one for the whole server, one per console.
//!
//! **Owns** their wording. **Refuses to know** what the counters count.

use std::fmt::{self, Write};

use vspc_core::concentrator::{Concentrator, ConsoleView, Counters};

/// Logs the totals and each console's counters. Costs a few microseconds per console, in the loop: it
/// runs when an operator asks, not on a timer.
pub fn log_counters(engine: &Concentrator) {
    let mut consoles = 0_usize;
    for console in engine.consoles() {
        consoles += 1;
        log::info!("counters{}", Console(&console));
    }
    log::info!("counters of all {consoles} consoles{}", NonZero(&engine.totals()));
}

/// One console's line.
struct Console<'a>(&'a ConsoleView<'a>);

impl fmt::Display for Console<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ConsoleView { label, vms, clients, moving, counters, .. } = self.0;
        write!(f, " {label} vms={vms} clients={clients}")?;
        if *moving {
            f.write_str(" moving")?;
        }
        NonZero(counters).fmt(f)
    }
}

/// Shows only the counters that are not zero: of thousands of consoles most are, and would hide the others.
struct NonZero<'a>(&'a Counters);

impl fmt::Display for NonZero<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, count) in self.0.iter().filter(|&(_, count)| count > 0) {
            f.write_char(' ')?;
            write!(f, "{name}={count}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_counted_is_shown() {
        let mut counters = Counters::default();
        assert_eq!(NonZero(&counters).to_string(), "");
        counters.bytes_from_vm = 7;
        counters.breaks = 1;
        assert_eq!(NonZero(&counters).to_string(), " bytes_from_vm=7 breaks=1");
    }
}
