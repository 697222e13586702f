//! See `core/tests/fuzz/com_port.rs` for what is checked.
#![no_main]

#[path = "../../core/tests/fuzz/com_port.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::com_port(data));
