//! The corpus of transcripts against this server, over TCP.

use vspc_server_tests::corpus;

const SERVER: &str = env!("CARGO_BIN_EXE_vspc-smol");

#[test]
fn the_server_plays_the_corpus() {
    corpus::play(SERVER);
}

#[test]
#[ignore = "waits for a minute: the timers of the protocol in real time"]
fn the_server_plays_the_slow_part_of_the_corpus() {
    corpus::play_slow(SERVER);
}

#[cfg(feature = "tls")]
#[test]
fn the_server_plays_the_corpus_behind_tls() {
    corpus::play_behind_tls(SERVER);
}
