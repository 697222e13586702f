//! `vspc-conformance`: judges implementations of the protocols.

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(version, about)]
enum Command {
    /// Many streams over one serial line.
    Mux(vspc_conformance::mux::MuxArgs),
}

fn main() -> ExitCode {
    match Command::parse() {
        Command::Mux(args) => vspc_conformance::mux::run(args),
    }
}
