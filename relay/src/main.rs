//! `vspc-relay`: relays the connections of serial ports.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    vspc_relay::run()
}
