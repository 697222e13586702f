//! Commands that are run for events (hooks.md): `--on-event`.
//!
//! **Owns** the thread of each such command, and how it ends with the server. **Refuses to know** what the
//! loop does: that tells by [`Outlets`], and waits for nothing.

mod command;
mod options;
mod runner;

#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::commands::Sender;
use crate::fatal::Fatal;
use crate::outlets::{Ending, Outlets, QUEUE, Wanted, pair};

pub(crate) use options::HookOptions;
use options::Settings;
use runner::Runner;

/// Starts a thread for each command that the options name.
pub(crate) fn start(
    options: &HookOptions,
    outlets: &mut Outlets,
    ending: &mut Ending,
    commands: &Sender,
) -> Result<(), Fatal> {
    options.settings().try_for_each(|settings| start_one(settings, outlets, ending, commands))
}

fn start_one(
    settings: Settings,
    outlets: &mut Outlets,
    ending: &mut Ending,
    commands: &Sender,
) -> Result<(), Fatal> {
    let (tap, inbox) = pair(Wanted::Kinds(settings.kinds.clone()), QUEUE, commands.clone());
    let runner = Runner::new(settings, inbox);
    ending.spawn("hooks", move || runner.run(PATIENCE))?;
    outlets.add(tap);
    Ok(())
}

/// How long commands may still run when the loop has ended.
const PATIENCE: Duration = Duration::from_secs(2);
