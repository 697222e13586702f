//! Attacks beside bystanders, shortly: that each drill can be played and tells what it watched.

#[test]
fn drills_can_be_played_and_tell_what_they_watched() {
    vspc_conformance::servers::play_drills(env!("CARGO_BIN_EXE_vspc-smol"));
}
