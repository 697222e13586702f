//! Sans-IO protocol core of a virtual serial port concentrator.
//!
//! * [`mux`]: many streams over one serial line, and a link layer for lines that lose bytes.
//! * [`time`]: the core's own clock type; time is always an argument.

pub mod mux;
pub mod time;
