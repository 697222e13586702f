//! See `core/tests/fuzz/hyperstart.rs` for what is checked.
#![no_main]

#[path = "../../core/tests/fuzz/hyperstart.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::hyperstart_control(data));
