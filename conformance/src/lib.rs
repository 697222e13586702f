//! Transcripts, capture replay, simulated VMs and load for virtual serial port concentrators.

#![forbid(unsafe_code)]

pub mod capture;
pub mod check;
pub mod drive;
pub mod fake_vm;
pub mod load;
pub mod mux;
pub mod random;
pub mod replay;
pub mod telnet;
pub mod transcript;
pub mod tunnel;
