//! The threads of all that is told to others, and how they end with the server.

use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::fatal::Fatal;

/// Waits for threads to end.
#[derive(Debug, Default)]
pub(crate) struct Ending(Vec<Receiver<()>>);

impl Ending {
    /// Starts a thread, which ends soon after the loop has.
    pub(crate) fn spawn(&mut self, name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), Fatal> {
        let (ended, ends) = channel::<()>();
        let run = move || {
            run();
            drop(ended);
        };
        let thread = thread::Builder::new().name(name.to_owned());
        thread.spawn(run).map_err(|error| Fatal::System("start a thread for events", error))?;
        self.0.push(ends);
        Ok(())
    }

    /// Waits until they have ended, when the loop has; not for those that a disk or a peer holds up.
    pub(crate) fn wait(self) {
        let until = Instant::now() + PATIENCE;
        for ends in self.0 {
            // Disconnected: it has ended. Nothing is ever sent.
            let _ = ends.recv_timeout(until.saturating_duration_since(Instant::now()));
        }
    }
}

/// A second more than commands may run still (two) or lines be tried to be written (one, and one more that a
/// peer that does not read is waited for).
const PATIENCE: Duration = Duration::from_secs(3);
