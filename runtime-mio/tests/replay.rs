//! Captured sessions against this server, over TCP.

#[path = "../../conformance/tests/live_replay/mod.rs"]
mod live_replay;

const SERVER: &str = env!("CARGO_BIN_EXE_vspc-mio");
