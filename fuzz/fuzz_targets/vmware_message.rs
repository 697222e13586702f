//! See `core/tests/fuzz/vmware.rs` for what is checked.
#![no_main]

#[allow(dead_code, reason = "a body for each target of this part")]
#[path = "../../core/tests/fuzz/vmware.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::vmware_message(data));
