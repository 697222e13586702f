//! `vspc-conformance`: simulated VMs and load for virtual serial port concentrators.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use vspc_conformance::load;

#[derive(Parser)]
#[command(version, about = "Simulated VMs and load for virtual serial port concentrators")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Fleets of simulated VMs and clients: what a server carries, and whether it carries it unharmed
    Load(load::LoadArgs),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Load(args) => load::run(&args),
    }
}
