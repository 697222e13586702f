//! Captured sessions against this server, over TCP.

#[test]
fn captures_replay_to_the_server() {
    vspc_server_tests::captures::replay(env!("CARGO_BIN_EXE_vspc-mio"));
}
