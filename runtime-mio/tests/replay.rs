//! Captured sessions against this server, over TCP.

#[test]
fn captures_replay_to_the_server() {
    vspc_conformance::servers::replay_captures(env!("CARGO_BIN_EXE_vspc-mio"));
}
