//! `vspc-conformance`: transcripts, capture replay, simulated VMs and load for virtual serial port concentrators.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use vspc_conformance::{fake_vm, load};

#[derive(Parser)]
#[command(
    version,
    about = "Transcripts, capture replay, simulated VMs and load for virtual serial port concentrators"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A VM without vSphere: connects like an ESXi host, prints, echoes, moves itself
    FakeVm(fake_vm::FakeVmArgs),
    /// Fleets of simulated VMs and clients: what a server carries, and whether it carries it unharmed
    Load(load::LoadArgs),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::FakeVm(args) => fake_vm::run(&args),
        Command::Load(args) => load::run(&args),
    }
}
