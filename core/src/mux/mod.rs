//! Many streams over one serial line.
//!
//! Owns the protocol of `SPEC.md` (S2), the older dialect of hyperstart and runv (v1), and, in [`link`], a layer for
//! lines that drop, flip or insert bytes. Refuses to know sockets, clocks, processes and what the streams carry.
//!
//! ```text
//!            write ─▶ output queue ─┐                                   ┌─▶ handle_received
//!   app                             ├─ transmit ─▶ writev ═══ line ═══ read   receive      ─▶ the same, mirrored
//!            ◀─ received, consume ──┘  handle_sent
//! ```
//!
//! A [`Session`] is one end of the line. It never pushes: bytes are pulled with [`Session::transmit`] as runs that borrow
//! what was written (for `writev`), facts go in through `handle_*`, and what changed comes out of
//! [`Session::poll_event`]. A payload byte is copied once on its way in, by [`Session::write`]. On its way out
//! [`Session::receive`] lends it to its consumer where it was read; what is not taken then is copied once and waits in
//! [`Session::received`], which is also where [`Session::handle_received`] puts everything.
//!
//! **Flow.** A stream's peer may have `window` bytes under way and no more until they are *consumed*, so a consumer that
//! stalls stops its own stream only, and nothing within the window is ever thrown away. Streams share the line frame by
//! frame in turn; words (ACK, CLOSE, …) go before payload.
//!
//! **Bounds.** [`Config::memory_bound`] is the sum of all caps. An idle stream costs its table entry (≤ 256 bytes, hash
//! slot included) and no other heap. Nothing a peer sends can panic, hang or outgrow these; it ends in a counted oddity,
//! a RESET of one stream, or a GOAWAY.
//!
//! # A loop
//!
//! Two ends in one process; a runtime has a socket where this has `line`, and polls only when something happened.
//!
//! ```
//! use std::io::IoSlice;
//! use vspc_core::mux::{Config, Event, Received, Role, Session, StreamId};
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
//!         let mut runs = [IoSlice::new(&[]); 16];
//!         let filled = from.transmit(&mut runs);
//!         if filled == 0 {
//!             break;
//!         }
//!         let before = line.len();
//!         for run in &runs[..filled] {
//!             line.extend_from_slice(run); // writev
//!         }
//!         from.handle_sent(line.len() - before, now);
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

mod arrival;
mod config;
mod decoder;
mod error;
mod event;
mod hello;
mod ids;
mod incoming;
mod keepalive;
pub mod link;
mod outgoing;
mod output;
mod owner;
mod receiver;
mod segments;
mod sender;
mod session;
mod streams;
mod v1;
pub mod wire;

pub use arrival::Arrival;
pub use config::{Config, Role, Start};
pub use decoder::{Decoder, Dialect, Item};
pub use error::{ConfigError, OpenError, StreamError, Violation};
pub use event::{CloseReason, Counters, Event, ResetReason, Terms};
pub use owner::Received;
pub use segments::SEGMENT;
pub use session::{READ, REPLIES, Session};
pub use v1::{Overflow, V1Config};
pub use wire::{Features, GoAwayCode, Hello, StreamId};
