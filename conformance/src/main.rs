//! The command line of `vspc-conformance`.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use vspc_conformance::{check, fake_vm, load, mux, replay};

/// Transcripts, capture replay, simulated VMs and load for virtual serial port concentrators.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Play the corpus against a server and say what it does right and wrong
    Check(check::CheckArgs),
    /// Play captured sessions of hosts again and judge the answers
    Replay(replay::ReplayArgs),
    /// A VM without vSphere: connects like an ESXi host, prints, echoes, moves itself
    FakeVm(fake_vm::FakeVmArgs),
    /// Fleets of simulated VMs and clients: what a server carries, and whether it carries it unharmed
    Load(load::LoadArgs),
    /// Many streams over one serial line: two ends against each other, transcripts, or one end on a line
    Mux(mux::MuxArgs),
}

fn main() -> ExitCode {
    // Every command keeps many connections.
    load::process::raise_descriptor_limit();
    match Cli::parse().command {
        Command::Check(args) => check::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::FakeVm(args) => fake_vm::run(&args),
        Command::Load(args) => load::run(&args),
        Command::Mux(args) => mux::run(args),
    }
}
