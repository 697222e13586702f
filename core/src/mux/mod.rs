//! Many streams over one serial line.
//!
//! Owns the protocol of `SPEC.md` (S2), the older dialect of hyperstart and runv (v1), and, in [`link`], a
//! layer for lines that drop, corrupt or insert bytes. Refuses to know sockets, clocks, processes and what
//! the streams carry.
//!
//! ```text
//!            write ─▶ unacked ┐                                   ┌─▶ handle_received
//!   application               ├─ transmit ─▶ writev ═══ line ═══ read   poll_received ─▶ the same, mirrored
//!            ◀─ received ─────┘  handle_sent
//!               consume
//! ```
//!
//! A [`Session`] is one end of the line. It never pushes: bytes are pulled with [`Session::transmit_with`] as
//! runs that borrow what was written (for `writev`; [`Session::transmit`] and [`Session::handle_sent`] are
//! its two halves), facts go in through `handle_*`, and what changed comes out of [`Session::poll_event`]. A
//! payload byte is copied once on its way in, by [`Session::write`]. On its way out
//! [`Session::poll_received`] lends it to the application where it was read; what is not taken then is copied
//! once and waits in [`Session::received`], which is also where [`Session::handle_received`] puts everything.
//!
//! **Flow.** A stream's peer may have `window` bytes under way and no more until they are *consumed*, so a
//! reader that stalls stops its own stream only, and nothing within the window is ever thrown away. Streams
//! share the line frame by frame in turn, by [`Priority`]; words (ACK, CLOSE, …) go before payload.
//! [`Session::credit`] says what could leave now, so that a producer need not copy what cannot.
//!
//! **Carriers.** On a serial line put a [`link`] under the session. Raw, on a carrier that opens and closes,
//! pass its events on with [`Session::line_reopened`]. On TCP and its like set [`Carrier::Reliable`]
//! and [`Start::S2Only`].
//!
//! **Bounds.** [`Config::memory_bound`] is the sum of all caps, and [`Session::memory`] counts everything
//! against it. An idle stream costs its table entry (≤ 256 bytes, hash slot included) and no other heap.
//! Nothing a peer sends can panic, hang or outgrow these; it ends in a counted oddity, a RESET of one stream,
//! or a GOAWAY.
//!
//! # A loop
//!
//! Two ends in one process; a runtime has a socket where this has `line`, and polls only when something
//! happened.
//!
//! ```
//! use vspc_core::mux::{Config, Event, Received, Role, Session};
//! use vspc_core::time::Instant;
//!
//! let now = Instant::from_micros(0);
//! let mut host = Session::new(Config::new(Role::Host), now)?;
//! let mut guest = Session::new(Config::new(Role::Guest), now)?;
//!
//! /// What a runtime does when its descriptor is writable, and its peer when that one is readable.
//! fn pass(from: &mut Session, to: &mut Session, now: Instant) {
//!     let mut line = Vec::new();
//!     while line.len() < to.receive_window() {
//!         let n = from.transmit_with(now, |runs| {
//!             runs.iter().for_each(|run| line.extend_from_slice(run)); // writev
//!             runs.iter().map(|run| run.len()).sum()
//!         });
//!         if n == 0 {
//!             break;
//!         }
//!     }
//!     to.handle_received(&line, now); // read
//! }
//!
//! let shell = host.open()?;
//! host.write(shell, b"uname\n")?;
//! host.finish(shell)?;
//! let mut answered = Vec::new();
//! for _ in 0..8 {
//!     pass(&mut host, &mut guest, now);
//!     pass(&mut guest, &mut host, now);
//!     while let Some(event) = guest.poll_event() {
//!         if let Event::Readable(id) = event {
//!             if let Received::Bytes(bytes) = guest.received(id)? {
//!                 assert_eq!(bytes, b"uname\n");
//!                 let n = bytes.len();
//!                 guest.consume(id, n)?;
//!                 guest.write(id, b"Linux\n")?;
//!             }
//!             guest.finish(id)?;
//!         }
//!     }
//!     while let Some(event) = host.poll_event() {
//!         match event {
//!             Event::Readable(id) => {
//!                 if let Received::Bytes(bytes) = host.received(id)? {
//!                     answered.extend_from_slice(bytes);
//!                     let n = bytes.len();
//!                     host.consume(id, n)?;
//!                 }
//!             }
//!             Event::Retired(id) => assert_eq!(id, shell),
//!             _ => {}
//!         }
//!     }
//! }
//! assert_eq!(answered, b"Linux\n");
//! assert_eq!((host.stream_count(), guest.stream_count()), (0, 0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![doc = "\n# Specification\n\n"]
#![doc = include_str!("SPEC.md")]

mod api;
mod begun;
mod bits;
mod bounds;
mod config;
mod control;
mod decoder;
mod dialogue;
mod error;
mod event;
mod growth;
mod handshake;
mod ids;
mod keepalive;
pub mod link;
mod matcher;
mod payload;
mod plan;
mod reader;
mod receiver;
mod rest;
mod room;
mod segments;
mod sender;
mod session;
mod sift;
mod stall;
mod stream;
mod streams;
mod table;
mod terms;
mod traffic;
mod trunk;
mod v1;
pub mod wire;

pub use api::Received;
pub use config::{Carrier, Config, Priority, Start};
pub use control::{READ, REPLIES};
pub use decoder::{Decoder, Dialect, Item};
pub use error::{ConfigError, OpenError, StreamError, Violation};
pub use event::{CloseReason, Counters, Event, ResetReason};
pub use payload::Payload;
pub use segments::SEGMENT;
pub use session::Session;
pub use terms::Terms;
pub use trunk::Trunk;
pub use v1::{Overflow, V1Config};
pub use wire::{Features, GoAwayCode, Hello, Role, StreamId};
