//! The threads of all that is told to others, and of lines that are programs, and how they end with the
//! server.

use std::io;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::fatal::Fatal;

/// Waits for threads to end. A copy waits for the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ending(Arc<Mutex<Vec<Receiver<()>>>>);

impl Ending {
    /// Starts a thread, which ends soon after the loop has, or is told to before.
    pub(crate) fn spawn(&self, name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), Fatal> {
        self.try_spawn(name, run).map_err(|error| Fatal::System("start a thread for events", error))
    }

    /// The same where the server can do without.
    pub(crate) fn try_spawn(&self, name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let (ended, ends) = channel::<()>();
        let run = move || {
            run();
            drop(ended);
        };
        thread::Builder::new().name(name.to_owned()).spawn(run)?;
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|ends| ends.try_recv() != Err(TryRecvError::Disconnected));
        all.push(ends);
        Ok(())
    }

    /// Waits until they have ended, when the loop has; not for those that a disk or a peer holds up.
    pub(crate) fn wait(self) {
        let until = Instant::now() + PATIENCE;
        let all = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for ends in all {
            // Disconnected: it has ended. Nothing is ever sent.
            let _ = ends.recv_timeout(until.saturating_duration_since(Instant::now()));
        }
    }
}

/// A second more than commands may run still (two) or lines be tried to be written (one, and one more that a
/// peer that does not read is waited for).
const PATIENCE: Duration = Duration::from_secs(3);
