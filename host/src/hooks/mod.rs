//! Commands that are run for events (hooks.md): `--on-event`.
//!
//! **Owns** the thread of each such command, and how it ends with the server. **Refuses to know** what the
//! loop does: that tells by a [`Tap`], and waits for nothing.

mod command;
mod options;
mod runner;

#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::commands::Sender;
use crate::fatal::Fatal;
use crate::outlets::{Ending, QUEUE, Tap, Wanted, pair};

pub(crate) use options::{HookOptions, Settings};
use runner::Runner;

/// Starts the thread for a command.
pub(crate) fn start(settings: Settings, ending: &Ending, commands: &Sender) -> Result<Tap, Fatal> {
    let wanted = Wanted::Kinds(settings.kinds.clone());
    let (tap, inbox) = pair(settings.to_string(), wanted, QUEUE, commands.clone());
    let runner = Runner::new(settings, inbox);
    ending.spawn("hooks", move || runner.run(PATIENCE))?;
    Ok(tap)
}

/// How long commands may still run when the loop has ended.
const PATIENCE: Duration = Duration::from_secs(2);
