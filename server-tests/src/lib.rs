//! What both servers must do, written once: `runtime-*/tests` run all of it against each.
//!
//! [`corpus`], [`captures`] and [`drills`] put a server to what `vspc-conformance` has, each in a test
//! program of its own. The other files have tests, which `runtime-*/tests/server.rs` runs. Each starts the
//! built binary on ports of the system's choosing, reads its log to learn where it listens, and plays hosts
//! and clients over loopback. It waits for a line, a byte, an end, and gives up after `process::PATIENCE`;
//! where a length of time has to pass, and nothing tells when it has, it says so.
//!
//! A test is a function of the file that it belongs in, and stands in the list of `list.rs`; the compiler
//! warns of one that does not.

#![forbid(unsafe_code)]

mod admin_socket;
mod admin_tls;
pub mod captures;
mod client_tls;
mod client_tour;
mod configuring;
pub mod corpus;
mod dialling;
mod dialling_drill;
mod dialling_local;
mod dialling_tls;
mod doctor;
mod doctor_tls;
pub mod drills;
mod fairness;
mod front_door;
mod guest_agent;
mod guest_noise;
mod guest_tour;
mod hooks;
mod hyperstart;
mod leaving;
mod linux_guest;
#[macro_use]
mod list;
mod listeners;
mod locking;
mod log_reading;
mod logs;
mod migration;
mod other_servers;
mod packaged;
mod patterns;
mod peer;
mod process;
mod programs;
mod proxies;
mod redis;
mod redis_failover;
mod redis_tls;
mod refusing;
mod relays;
mod secure;
mod serial_programs;
mod serving;
mod stalling;
mod state;
mod stopping;
mod stretch;
mod supervised;
mod takeover;
mod tls;
mod tls_files;
mod tls_programs;
mod waiting;
mod watching;

use std::sync::OnceLock;

use vspc_host::fatal::Fatal;
use vspc_host::startup::Host;

/// The server that is tested.
#[derive(Clone, Copy)]
pub struct Subject {
    /// The path of its program.
    pub program: &'static str,
    /// Its loop, to be run in the process of the test.
    pub serve: fn(Host) -> Result<(), Fatal>,
}

/// A process tests one server: its own.
static SUBJECT: OnceLock<Subject> = OnceLock::new();

with_all!(define_run);

fn program() -> &'static str {
    SUBJECT.get().unwrap().program
}

fn serve(host: Host) -> Result<(), Fatal> {
    (SUBJECT.get().unwrap().serve)(host)
}
