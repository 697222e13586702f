//! What a concentrator server needs from its host: options, listening sockets, limits, signals, logs.
//!
//! It decides nothing about the protocol (that is `vspc-core`) and runs no event loop (that is the servers'
//! own business): what both servers do *around* the engine is here once, in plain data, plain sockets and
//! plain threads.
// `tcp_state` makes a call that no library offers.
#![deny(unsafe_code)]

pub mod accept;
pub mod askers;
mod audience;
pub mod clock;
pub mod commands;
mod config;
pub mod connection;
mod console_rules;
pub mod credentials;
pub mod departures;
pub mod dialer;
mod doctor;
mod events;
pub mod fatal;
#[cfg(test)]
mod folder;
pub mod grace;
mod guests;
pub mod hangup;
mod hooks;
pub mod housekeeping;
pub mod inherited;
pub mod limits;
pub mod lingering;
mod listen_address;
pub mod listener;
pub mod local_ports;
pub mod logging;
pub mod logs;
mod option_checks;
mod option_places;
mod option_values;
mod options;
pub mod outlets;
mod pid_file;
pub mod reload;
pub mod report;
mod room;
mod seed;
mod signals;
mod size;
pub mod slots;
mod socket_file;
mod sockets;
pub mod startup;
pub mod store;
pub mod supervisor;
mod syslog;
pub mod tcp_state;
mod tls;
pub mod transfer;
mod unsettled;
pub mod watch;
pub mod watching;
pub mod work;

use events::log_event;
