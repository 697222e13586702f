//! See `core/tests/fuzz/telnet.rs` for what is checked.
#![no_main]

#[path = "../../core/tests/fuzz/telnet.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::telnet_decoder(data));
