//! Commands that are run for events (hooks.md): `--on-event`.
//!
//! **Owns** the thread of each such command, and how it ends with the server. **Refuses to know** what the
//! loop does: that tells by [`Outlets`], and waits for nothing.

mod command;
mod options;
mod runner;
mod words;

#[cfg(test)]
mod tests;

use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::commands::Sender;
use crate::fatal::Fatal;
use crate::outlets::{Outlets, Wanted, pair};

pub(crate) use options::HookOptions;
use options::Settings;
use runner::Runner;

/// Waits for the threads of commands to end.
#[derive(Debug, Default)]
pub(crate) struct Ending(Vec<Receiver<()>>);

impl Ending {
    /// Waits until the commands that run have ended or are killed, when the loop has ended.
    pub(crate) fn wait(self) {
        let until = Instant::now() + PATIENCE + REAPING;
        for ended in self.0 {
            // Disconnected: it has ended. Nothing is ever sent.
            let _ = ended.recv_timeout(until.saturating_duration_since(Instant::now()));
        }
    }
}

/// Starts a thread for each command that the options name.
pub(crate) fn start(
    options: &HookOptions,
    outlets: &mut Outlets,
    commands: &Sender,
) -> Result<Ending, Fatal> {
    options
        .settings()
        .map(|settings| start_one(settings, outlets, commands))
        .collect::<Result<_, _>>()
        .map(Ending)
}

fn start_one(settings: Settings, outlets: &mut Outlets, commands: &Sender) -> Result<Receiver<()>, Fatal> {
    let (tap, inbox) = pair(Wanted::Kinds(settings.kinds.clone()), QUEUE, commands.clone());
    let (ended, ends) = channel::<()>();
    let runner = Runner::new(settings, inbox);
    let run = move || {
        runner.run(PATIENCE);
        drop(ended);
    };
    let thread = thread::Builder::new().name("hooks".to_owned());
    thread.spawn(run).map_err(|error| Fatal::System("start the thread of --on-event", error))?;
    outlets.add(tap);
    Ok(ends)
}

/// How many events may wait for their command, some hundred bytes each, a kilobyte once they are written.
const QUEUE: usize = 1024;

/// How long commands may still run when the loop has ended.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long the kernel may take to end those that were killed.
const REAPING: Duration = Duration::from_secs(1);
