//! From the command line to a loop that runs.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use crate::agent::Agent;
use crate::args::{CONTROL, Command, Options};
use crate::config::Settings;
use crate::facts::local;
use crate::fatal::Fatal;
use crate::process;

/// The program.
#[must_use]
pub fn run() -> ExitCode {
    let options = Options::parse();
    let control = options.control.as_deref().unwrap_or_else(|| Path::new(CONTROL));
    let outcome = match &options.command {
        Some(Command::Publish { facts }) => local::publish(control, facts),
        Some(Command::Unpublish { keys }) => local::unpublish(control, keys),
        Some(Command::Get { key }) => local::get(control, key.as_deref()),
        Some(Command::Man { folder }) => crate::manual::put(folder.as_deref()),
        Some(Command::OnTerminal { program, argv }) => {
            Err(Fatal::System("start the program", process::on_terminal(program, argv)))
        }
        None if options.check_config => Settings::read(&options).map(drop),
        None => serve(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(fatal) => {
            let _ = writeln!(std::io::stderr(), "vspc-agent: {fatal}");
            ExitCode::from(fatal.exit_code())
        }
    }
}

fn serve(options: &Options) -> Result<(), Fatal> {
    let settings = Settings::read(options)?;
    let level = if options.debug { log::LevelFilter::Debug } else { log::LevelFilter::Info };
    env_logger::Builder::new().filter_level(level).parse_default_env().format_target(false).init();
    Agent::open(settings)?.run()
}
