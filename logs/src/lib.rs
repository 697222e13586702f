//! Logs of consoles as they lie on disk (logs.md), for whoever writes or reads them: the servers, and `vspc
//! log` on their files.
//!
//! **Owns** which files are one log ([`volume`]), what was printed when ([`marks`], [`stamps`]), reading all
//! of that in order ([`reader`]), and dates. **Refuses to know** consoles, connections and threads.
#![forbid(unsafe_code)]

pub mod date;
pub mod marks;
pub mod place;
pub mod reader;
pub mod stamps;
pub mod volume;
