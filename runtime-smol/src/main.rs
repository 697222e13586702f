//! `vspc-smol`: the concentrator on the smol executor, for small setups.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    vspc_host::startup::run("vspc-smol", vspc_smol::serve)
}
