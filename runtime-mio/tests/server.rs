//! The tests that both servers share, run against this one.

use vspc_mio::serve;

#[path = "../../host/tests/server/mod.rs"]
mod server;

const SERVER: &str = env!("CARGO_BIN_EXE_vspc-mio");
