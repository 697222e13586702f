//! The command line of `vspc-conformance`.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use vspc_conformance::{check, fake_vm, load, mux, replay};
use vspc_man::Facts;

/// Transcripts, capture replay, simulated VMs and load for virtual serial port concentrators.
#[derive(Parser)]
#[command(name = "vspc-conformance", version)]
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
    /// Print the manual page of this program
    #[command(hide = true)]
    Man {
        /// Write it, and those of the commands, into this folder
        #[arg(value_name = "FOLDER")]
        folder: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    // Every command keeps many connections.
    load::raise_descriptor_limit();
    match Cli::parse().command {
        Command::Check(args) => check::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::FakeVm(args) => fake_vm::run(&args),
        Command::Load(args) => load::run(&args),
        Command::Mux(args) => mux::run(args),
        Command::Man { folder } => {
            match vspc_man::put(&vspc_man::pages(Cli::command(), &FACTS), folder.as_deref()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("vspc-conformance: cannot write the manual pages: {error}");
                    ExitCode::FAILURE
                }
            }
        }
    }
}

/// What the manual page has that help does not tell.
const FACTS: Facts<'_> = Facts {
    summary: "transcripts, capture replay, simulated VMs and load for virtual serial port concentrators",
    sections: &[],
    see_also: &["vspc-mio(1)", "vspc(1)", "vspc(7)"],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_and_command_is_in_the_manual_pages() {
        assert_eq!(vspc_man::faults(&Cli::command(), &FACTS).unwrap(), "");
    }
}
