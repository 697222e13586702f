//! The command line.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use vspc_conformance::replay;

/// Transcripts, capture replay, simulated VMs and load for virtual serial port concentrators.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Play a captured session again and judge the answers.
    Replay(replay::ReplayArgs),
}

fn main() -> ExitCode {
    match Args::parse().command {
        Command::Replay(args) => replay::run(&args),
    }
}
