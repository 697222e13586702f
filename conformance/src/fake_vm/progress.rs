//! What a fake VM tells the person who started it: one line per event, on standard error.

use std::io::Write;

/// Where progress goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    /// Say nothing.
    pub quiet: bool,
}

impl Progress {
    /// One line. A terminal that is gone is no reason to stop.
    pub(super) fn say(&self, who: &str, what: &str) {
        if !self.quiet {
            let _ = writeln!(std::io::stderr(), "{who}: {what}");
        }
    }
}
