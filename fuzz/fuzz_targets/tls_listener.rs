//! See `core/tests/laws/fuzz.rs` for what is checked.
#![no_main]

#[allow(dead_code, reason = "a fuzzer plays on its own part of the stage")]
#[path = "../../core/tests/world/mod.rs"]
mod world;

#[path = "../../core/tests/laws/fuzz.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::tls_listener(data));

/// Programs choose for themselves what is TLS.
const SEALED: bool = false;
