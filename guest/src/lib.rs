//! What a concentrator (the host) and an agent in a VM (the guest) say to each other on the streams between
//! them: APPLICATION.md of the multiplexer, in both roles.
//!
//! Owns the lines: [`Header`] and [`Announcement`] open a stream, answers are made and read by [`answer`],
//! and the sections of the page have a module each. Refuses to know streams, descriptors and clocks: text
//! comes in and text goes out, and what comes in can be anything.
//!
//! ```
//! use vspc_guest::{Exec, Header, Key, LineBuffer, MAX_LINE, answer};
//!
//! // The host asks ...
//! let run = Exec { argv: vec!["uname".to_owned()], ..Exec::new(Key::new("0123456789abcdef")?) };
//! let mut bytes = Header::Exec(run.clone()).line();
//! bytes.extend_from_slice(b"what is typed");
//!
//! // ... and the guest reads one line, and leaves what is behind it.
//! let mut line = LineBuffer::new(MAX_LINE);
//! let taken = line.take(&bytes);
//! let header = Header::parse(line.line().expect("a whole line")?)?;
//! assert_eq!(header, Header::Exec(run));
//! assert_eq!(&bytes[taken..], b"what is typed");
//! assert_eq!(answer::ok(&answer::Done {}), b"{\"ok\":{}}\n");
//! # Ok::<(), vspc_guest::Refusal>(())
//! ```
#![forbid(unsafe_code)]

mod announcement;
pub mod answer;
pub mod copy;
mod facts;
mod header;
mod hello;
mod line;
mod name;
mod pack;
mod process;
mod sum;

pub use announcement::{Announcement, LogOk};
pub use answer::{Code, Refusal};
pub use facts::{FACTS, FactLine, Facts, Listener, MAX_FACT, MAX_FACT_LINE, Teller};
pub use header::{Connect, Exec, Get, Header, OPS, Put, Shell};
pub use hello::{Greeting, Guest, Hello, KEY, Next, Nonce, Proof, Secret, VERSION, Welcome};
pub use line::{LineBuffer, MAX_LINE};
pub use name::{Key, Name};
pub use pack::{BLOCK_HEADER, MAX_BLOCK, MAX_PACKED, Pack, Unpacker, block_len, pack, unpack};
pub use process::{Belongs, ControlLine, Ending, Pty, SIGNALS};
#[cfg(feature = "sums")]
pub use sum::Summer;
pub use sum::{Checksum, Sum, digits};
