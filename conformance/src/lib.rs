#![forbid(unsafe_code)]
//! placeholder
pub mod capture;
