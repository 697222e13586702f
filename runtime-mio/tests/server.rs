//! The tests that both servers share, run against this one.

#[path = "../../host/tests/server/mod.rs"]
mod server;

const SERVER: &str = env!("CARGO_BIN_EXE_vspc-mio");
