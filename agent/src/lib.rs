//! The agent in a VM: it has one serial line, and gives a concentrator at its other end what it was allowed
//! to give (APPLICATION.md of the multiplexer says how).
//!
//! One loop on one thread (`agent`) that waits for descriptors. `carrier` is the line as the system has it,
//! `wire` S2 on it, `pace` how much of it is under way; `opening` and `announcing` are how streams begin, on
//! either side; what is under way on streams are *tasks* (`task`), and `flow` is how a task moves bytes
//! between a stream and a descriptor without keeping any. `config` says what is allowed.
#![forbid(unsafe_code)]

mod agent;
mod announcing;
mod args;
mod asked;
mod carrier;
mod config;
mod connection;
mod copy;
mod facts;
mod fatal;
mod flow;
mod follow;
mod manual;
mod opening;
mod pace;
mod packed;
mod process;
mod say;
mod signals;
mod start;
mod task;
mod users;
mod wire;

pub use fatal::Fatal;
pub use start::run;
