//! What a concentrator server needs from its host: options, listening sockets, limits, signals, logs.
//!
//! Both servers share this crate. It knows neither the protocol (that is `vspc-core`) nor an event loop
//! (that is the servers' own business): everything here is plain data, plain sockets and plain threads.
// One call is not to be had otherwise: `tcp_state`.
#![deny(unsafe_code)]

pub mod accept;
pub mod clock;
pub mod commands;
pub mod credentials;
pub mod events;
pub mod fatal;
pub mod grace;
pub mod limits;
pub mod local_ports;
pub mod logging;
pub mod options;
mod reload;
pub mod report;
pub mod seed;
pub mod signals;
pub mod size;
pub mod slots;
pub mod sockets;
pub mod startup;
pub mod tcp_state;
pub mod tls;
pub mod transfer;
pub mod watch;
