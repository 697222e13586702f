//! See `core/tests/mux/fuzz.rs` for what is checked.
#![no_main]

#[path = "../../core/tests/mux/fuzz.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::pair(data));
