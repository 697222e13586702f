#![forbid(unsafe_code)]
//! placeholder
pub mod capture;
pub mod replay;
