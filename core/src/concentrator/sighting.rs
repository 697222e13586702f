//! What a host has found in what a console printed, told like any other event.

use crate::time::Instant;

use super::Concentrator;
use super::event::EventKind;
use super::id::ConsoleId;

impl Concentrator {
    /// Tells that `watch`, as its owner calls it, has found this line; `untold` times it has found others
    /// since the last that was told. Nothing where the console is gone.
    pub fn tell_sighting(&mut self, id: ConsoleId, watch: &str, line: &str, untold: u64, now: Instant) {
        self.fx.now = now;
        if self.consoles.get(id).is_some() {
            let kind = EventKind::PatternSeen { watch: watch.into(), line: line.into(), untold };
            self.emit_of_console(id, kind);
        }
        self.settle();
    }
}
