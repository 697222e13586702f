//! The command line.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use vspc_conformance::check;

/// Transcripts, capture replay, simulated VMs and load for virtual serial port concentrators.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Play the corpus against a server and say what it does right and wrong.
    Check(check::CheckArgs),
}

fn main() -> ExitCode {
    match Args::parse().command {
        Command::Check(args) => check::run(&args),
    }
}
