//! Sans-IO protocol core of a virtual serial port concentrator.

#![forbid(unsafe_code)]

pub mod concentrator;
pub mod telnet;
pub mod time;
pub mod vmware;
