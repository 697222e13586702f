//! What a virtual serial port concentrator is measured and judged with: simulated VMs and load.

#![forbid(unsafe_code)]

pub mod fake_vm;
pub mod load;
