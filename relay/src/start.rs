//! Starts a relay and ends it: options, log, limits, signals, the loop, the exit code.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Parser;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use vspc_host::limits::Limits;
use vspc_host::logging::{Logging, Place};

use crate::args::{Command, Options};
use crate::config::Settings;
use crate::fatal::Fatal;
use crate::manual;
use crate::migrate;
use crate::relay::{Relay, Stopper};

/// Runs `vspc-relay`. What keeps it from starting is one line on the standard error.
#[must_use]
pub fn run() -> ExitCode {
    let options = Options::parse();
    let outcome = match &options.command {
        Some(Command::Man(args)) => manual::put(args.folder.as_deref()),
        Some(Command::Migrate(args)) => migrate::run(args),
        None if options.check_config => check(&options),
        None => serve(&options),
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

fn serve(options: &Options) -> Result<(), Fatal> {
    let settings = Settings::read(options)?;
    let place = if options.syslog { Place::Syslog(PathBuf::from(SYSLOG)) } else { Place::Stderr };
    let log = Logging::start("vspc-relay", options.debug, place)
        .map_err(|error| Fatal::System("start the log's thread", error))?;
    let limits = Limits::raise();
    log::info!("vspc-relay {}: {limits}", env!("CARGO_PKG_VERSION"));
    let outcome = Relay::open(&settings).and_then(|relay| {
        stop_at_signals(relay.stopper()).map_err(|error| Fatal::System("wait for signals", error))?;
        relay.run()
    });
    // Who has the log elsewhere looks for it there.
    if let (Err(fatal), true) = (&outcome, options.syslog) {
        log::error!("{fatal}");
    }
    log.flush(FLUSH_PATIENCE);
    outcome
}

/// The first TERM or INT stops the loop, a second one ends the process at once.
fn stop_at_signals(stopper: Stopper) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for (number, signal) in signals.forever().enumerate() {
            if number > 0 {
                std::process::exit(128 + signal);
            }
            stopper.stop();
        }
    })?;
    Ok(())
}

/// Where the local syslog listens.
const SYSLOG: &str = "/dev/log";

/// How long the log's last lines are waited for.
const FLUSH_PATIENCE: Duration = Duration::from_secs(2);
