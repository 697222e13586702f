//! See `core/tests/fuzz/proxy.rs` for what is checked.
#![no_main]

#[path = "../../core/tests/fuzz/proxy.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::proxy_header(data));
