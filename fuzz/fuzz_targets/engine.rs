//! See `core/tests/fuzz/engine/mod.rs` for what is checked.
#![no_main]

#[path = "../../core/tests/fuzz/engine/mod.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| drop(bodies::engine(data)));
