//! Starts a relay and ends it: options, log, limits, signals, the loop, the exit code.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use vspc_host::limits::Limits;
use vspc_host::logging::{Logging, Place};
use vspc_host::supervisor::Supervisor;

use crate::args::{Command, Options};
use crate::config::Settings;
use crate::fatal::Fatal;
use crate::manual;
use crate::migrate;
use crate::prepared::Prepared;
use crate::relay::Relay;
use crate::signals;

/// Runs `vspc-relay`. What keeps it from starting is one line on the standard error.
#[must_use]
pub fn run() -> ExitCode {
    let options = Options::parse();
    let outcome = match &options.command {
        Some(Command::Man(args)) => manual::put(args.folder.as_deref()),
        Some(Command::Migrate(args)) => migrate::run(args),
        None if options.check_config => check(&options),
        None => serve(options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(fatal) => {
            eprintln!("vspc-relay: {fatal}");
            ExitCode::from(fatal.exit_code())
        }
    }
}

fn check(options: &Options) -> Result<(), Fatal> {
    let settings = Settings::read(options)?;
    io::stdout()
        .write_all(settings.to_string().as_bytes())
        .map_err(|error| Fatal::System("write the output", error))
}

fn serve(options: Options) -> Result<(), Fatal> {
    let options = Arc::new(options);
    let settings = Settings::read(&options)?;
    let place = if options.syslog { Place::Syslog(PathBuf::from(SYSLOG)) } else { Place::Stderr };
    let log = Logging::start("vspc-relay", options.debug, place)
        .map_err(|error| Fatal::System("start the log's thread", error))?;
    let limits = Limits::raise();
    log::info!("vspc-relay {}: {limits}", env!("CARGO_PKG_VERSION"));
    let outcome = Relay::open(&settings).and_then(|relay| {
        let again = Arc::clone(&options);
        let load = move || Settings::read(&again).and_then(Prepared::load).map_err(|error| error.to_string());
        signals::register(relay.stopper(), relay.reloads(), load)
            .map_err(|error| Fatal::System("wait for signals", error))?;
        relay.supervised(Supervisor::of_process()).run()
    });
    if outcome.is_ok() {
        log::info!("stopped");
    }
    // Who has the log elsewhere looks for it there.
    if let (Err(fatal), true) = (&outcome, options.syslog) {
        log::error!("{fatal}");
    }
    log.flush(FLUSH_PATIENCE);
    outcome
}

/// Where the local syslog listens.
const SYSLOG: &str = "/dev/log";

/// How long the log's last lines are waited for.
const FLUSH_PATIENCE: Duration = Duration::from_secs(2);
