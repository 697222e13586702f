//! The corpus of transcripts against this server, over TCP.

#[path = "../../conformance/tests/live/mod.rs"]
mod live;

const SERVER: &str = env!("CARGO_BIN_EXE_vspc-mio");
