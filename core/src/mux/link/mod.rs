//! SL: a byte stream over a serial line that drops, corrupts or inserts bytes.
//!
//! Owns framing, checksums, repetition and resynchronisation (`SPEC.md` §9, §10). Refuses to know what the
//! bytes are: it carries S2 ([`carry`]) or anything else.
//!
//! ```
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
//!         let mut line = Vec::new();
//!         while from.transmit_with(now, |frame| {
//!             line = frame.to_vec();
//!             line.len()
//!         }) > 0
//!         {
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
mod opening;
mod receiver;
mod sender;
mod writer;

pub use carry::carry;
pub use config::{LinkConfig, Repeat};
pub use connection::{Link, LinkState};
pub use event::{LinkClosed, LinkCounters, LinkEvent};
pub use frame::EscapeSet;
pub(super) use frame::{FLAG, FrameDecoder, longest_frame};
