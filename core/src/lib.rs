//! Sans-IO protocol core of a virtual serial port concentrator.

#![forbid(unsafe_code)]

pub mod telnet;
pub mod vmware;
