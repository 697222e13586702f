//! A relay between serial ports and a concentrator, for a host's own machine: it takes connections in and
//! carries them on, byte for byte, over TCP, unix sockets and vsock, with TLS or without.
//!
//! [`Relay`] is one loop on one thread. A connection that comes in and the one that is made for it are a
//! *pair*: what is read from one is written to the other before more is read, so nothing is queued, and how
//! one ends is how the other does: an end as an end, a reset as a reset, each behind the bytes before it.
//!
//! A *line* is a serial line that knows nothing of concentrators: the relay connects to it, or lets it come,
//! and speaks for it (`speaker`) as a VM's host does. What it prints while the concentrator is away is kept
//! (`backlog`).
//!
//! A line's VM may move to another host (`line::moves`); the relay is told of that by `control`, or sees it
//! (`qmp`).
//!
//! The files from the outside in: `args` and `config` (what is asked for), `relay` (the loop; what it serves
//! follows the settings in `relay::arranging`, also when a `HUP` has them read again), `pair` and `line`,
//! `dial` (the way to a target), `link` (a socket, with TLS or without), `tls`.
#![forbid(unsafe_code)]

mod args;
mod backlog;
mod backoff;
mod buffers;
mod config;
mod control;
mod dial;
mod endpoint;
mod fatal;
mod folder;
mod identity;
mod line;
mod link;
mod listening;
mod manual;
mod migrate;
mod names;
mod orders;
mod pair;
mod prepared;
mod qmp;
mod relay;
mod secret;
mod signals;
mod sockets;
mod speaker;
mod start;
mod timers;
mod tls;
mod unread;
mod visit;

pub use config::Settings;
pub use fatal::Fatal;
pub use relay::{Relay, Stopper};
pub use start::run;
