//! `vspc-mio`: the concentrator on a hand-rolled epoll loop, for fleets.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    vspc_host::startup::run("vspc-mio", vspc_mio::serve)
}
