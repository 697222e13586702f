//! What must hold whatever happens (laws.md), and what the parts of the engine promise; each test's name
//! is the promise. Through the public API only.

#[allow(dead_code, reason = "every test binary plays on its own part of the stage")]
#[path = "../world/mod.rs"]
mod world;

mod admin;
#[cfg(feature = "tls")]
mod admin_tls;
mod admission;
mod clients;
mod clones;
mod com_port;
mod config;
mod forwarding;
#[cfg(feature = "tls")]
mod fuzz;
mod guests;
mod honest;
mod kit;
mod law;
mod lines;
mod lists;
mod locals;
mod log;
mod mirrors;
mod moves;
mod operators;
mod ports;
mod proxies;
mod reconfigure;
mod remote_ports;
mod rules;
mod rush;
mod speech;
mod strangers;
mod takeover;
#[cfg(feature = "tls")]
mod tls;
#[path = "../hyperstart/guest.rs"]
mod v1_guest;
mod vms;
mod yielding;

/// Whether every connection is TLS.
const SEALED: bool = false;
