//! The laws once more, with every connection TLS from its first byte. The same tests; those that are about
//! how single bytes lie in sockets say so and do nothing here.
#![cfg(feature = "tls")]

#[allow(dead_code, reason = "every test binary plays on its own part of the stage")]
#[path = "../world/mod.rs"]
mod world;

#[path = "../laws/admission.rs"]
mod admission;
#[path = "../laws/clients.rs"]
mod clients;
#[path = "../laws/law.rs"]
mod law;
#[path = "../laws/moves.rs"]
mod moves;
#[path = "../laws/ports.rs"]
mod ports;
#[path = "../laws/speech.rs"]
mod speech;
#[path = "../laws/takeover/mod.rs"]
mod takeover;
#[path = "../laws/vms.rs"]
mod vms;

/// Whether every connection is TLS.
const SEALED: bool = true;
