//! Attacks beside bystanders, shortly: that each drill can be played and tells what it watched; and that
//! attaches read what telnet clients read.

#[test]
fn drills_can_be_played_and_tell_what_they_watched() {
    vspc_server_tests::drills::play(env!("CARGO_BIN_EXE_vspc-mio"));
}

#[test]
fn attaches_of_one_connection_read_what_telnet_clients_read() {
    vspc_server_tests::drills::read_by_attaches(env!("CARGO_BIN_EXE_vspc-mio"));
}
