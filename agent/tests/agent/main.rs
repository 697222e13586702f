//! The agent as a process, against a host that is written here from the core's multiplexer.

mod connections;
mod copies;
mod facts;
mod hello;
mod host;
mod hostile;
mod lines;
mod linux;
mod logs;
mod machine;
mod packs;
mod port;
mod processes;
mod serial;
mod shells;
