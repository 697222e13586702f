//! SL: a byte stream over a serial line that drops, turns or invents bytes.
//!
//! Owns framing, checksums, repetition and resynchronisation (`SPEC.md` §9, §10). Refuses to know what the bytes are: it
//! carries S2 ([`carry`]) or anything else.
//!
//! ```
//! use std::io::IoSlice;
//! use vspc_core::mux::link::{Link, LinkConfig};
//! use vspc_core::time::Instant;
//!
//! let (mut a, mut b) = (Link::new(LinkConfig::new(1)), Link::new(LinkConfig::new(2)));
//! let mut now = Instant::from_micros(0);
//! a.open(now);
//! a.write(b"hello");
//! a.finish();
//! let mut noise = 0;
//! while !b.is_ended() {
//!     now = [a.poll_timeout(), b.poll_timeout()].into_iter().flatten().min().unwrap_or(now).max(now);
//!     for turn in 0..2 {
//!         let (from, to) = if turn == 0 { (&mut a, &mut b) } else { (&mut b, &mut a) };
//!         from.handle_timeout(now);
//!         loop {
//!             let mut runs = [IoSlice::new(&[]); 1];
//!             if from.transmit(&mut runs) == 0 {
//!                 break;
//!             }
//!             let mut line = runs[0].to_vec();
//!             from.handle_sent(line.len(), now);
//!             noise += 1;
//!             if noise % 3 == 0 {
//!                 line[5] ^= 4; // every third frame is hit
//!             }
//!             to.handle_received(&line, now);
//!         }
//!     }
//!     if b.received() == b"hello" {
//!         b.consume(5);
//!     }
//! }
//! ```

mod carry;
mod config;
mod connection;
mod event;
pub mod frame;
mod outgoing;
mod receiver;
mod sender;

pub use carry::carry;
pub use config::{LinkConfig, Repeat};
pub use connection::{Link, LinkState};
pub use event::{LinkClosed, LinkCounters, LinkEvent};
pub use frame::EscapeSet;
