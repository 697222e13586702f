//! The program as its user has it: a process, on a terminal or in a pipe, with a scripted server.

mod attach;
mod commands;
mod copies;
mod facts;
mod forwards;
mod guests;
mod logs;
mod old;
mod old_server;
mod server;
mod terminal;
mod tls;
mod tls_front;

use std::io::Write;
use std::process::{Command, Output, Stdio};

use crate::server::FakeServer;

/// Nothing of the surroundings counts but the server.
fn surround(command: &mut Command, server: &FakeServer) {
    command.env("VSPC_SERVER", server.address.to_string());
    command.env("HOME", "/nonexistent").env_remove("XDG_CONFIG_HOME").env("TZ", "UTC").env_remove("PAGER");
}

/// Runs `vspc` with these arguments and this input.
fn vspc(server: &FakeServer, args: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vspc"));
    surround(&mut command, server);
    let pipe = Stdio::piped;
    let mut child = command.args(args).stdin(pipe()).stdout(pipe()).stderr(pipe()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

/// The exit code, the output and the errors.
fn outcome(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}
