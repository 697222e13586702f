//! Transcripts, capture replay, simulated VMs and load for virtual serial port concentrators.

#![forbid(unsafe_code)]

mod capture;
pub mod check;
pub mod drive;
pub mod fake_vm;
pub mod load;
pub mod mux;
mod random;
pub mod replay;
pub mod telnet;
pub mod transcript;
pub mod tunnel;
