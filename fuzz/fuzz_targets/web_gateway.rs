//! See `web/src/fuzz.rs` for what is checked.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vspc_web::fuzz::web_gateway(data));
