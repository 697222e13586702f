//! See `core/tests/fuzz/admin.rs` for what is checked.
#![no_main]

#[allow(dead_code, reason = "a body for each target of this part")]
#[path = "../../core/tests/fuzz/admin.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    bodies::admin_operator(data);
});
