//! `vspc-agent`: the agent in a VM.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    vspc_agent::run()
}
