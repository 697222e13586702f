//! Telnet, as far as a console server needs it.
//!
//! **Owns** the bytes: where data ends and a command begins ([`Decoder`]), how both are written
//! ([`escape_into`], [`put_negotiation`] and their neighbours), which options are on
//! ([`Negotiator`]), and what a carriage return means without BINARY ([`fold`]).
//!
//! **Refuses to know** sockets, clocks, policies of a particular server, and virtual machines: an
//! option is a number and a [`OptionPolicy`] that someone else wrote.
//!
//! **Implements** RFC 854 (commands, NVT), RFC 855 (options, subnegotiation), RFC 856 (BINARY),
//! RFC 857 (ECHO), RFC 858 (SUPPRESS-GO-AHEAD), RFC 860 (TIMING-MARK), RFC 1143 (the Q method) and of RFC
//! 2941 what in-band TLS needs ([`auth`]); RFC 2217 both as the side that has the line
//! ([`com_port`]) and as the one that uses it ([`com_port_client`]).
//!
//! It needs nothing else of this crate. Bytes that were read become items, and items answers:
//!
//! ```
//! use vspc_core::telnet::{Decoder, Item, Negotiator, Opt, OptionPolicy, put_negotiation};
//!
//! const POLICY: &[OptionPolicy] = &[OptionPolicy { opt: Opt::SGA, us: true, him: true }];
//! let (mut decoder, mut negotiator) = (Decoder::new(), Negotiator::new(POLICY));
//! let (mut data, mut answer) = (Vec::new(), Vec::new());
//! let mut input: &[u8] = b"hi\xff\xff\xff\xfd\x03"; // two letters, a byte 255, DO SGA
//! while let Some(item) = decoder.decode(&mut input) {
//!     match item {
//!         Item::Data(bytes) => data.extend_from_slice(bytes),
//!         Item::Negotiation(verb, opt) => {
//!             negotiator.handle(verb, opt).send.map(|(verb, opt)| put_negotiation(verb, opt, &mut answer));
//!         }
//!         _ => {}
//!     }
//! }
//! assert_eq!((data, answer), (b"hi\xff".to_vec(), b"\xff\xfb\x03".to_vec())); // WILL SGA
//! ```

pub mod auth;
mod blocks;
mod codes;
pub mod com_port;
pub mod com_port_client;
mod decode;
mod encode;
mod negotiate;
mod nvt;
mod port_settings;
pub mod qmethod;
#[cfg_attr(not(feature = "concentrator"), allow(dead_code, reason = "some of it the engine alone uses"))]
pub(crate) mod wire_form;

pub use codes::{Command, IAC, Opt, Verb};
pub use decode::{Decoder, Item, Malformed, SUBNEGOTIATION_LIMIT, WireRun};
#[cfg(feature = "vmware")]
pub(crate) use encode::put_subnegotiation_parts;
pub use encode::{put_command, put_negotiation, put_subnegotiation};
pub use negotiate::{Change, Negotiator, OPTION_LIMIT, OptionPolicy, Outcome, Side};
pub use nvt::fold;
#[cfg(feature = "concentrator")]
pub(crate) use nvt::fold_all;
pub use port_settings::{NoSettings, PortSettings};
pub use wire_form::{escape_into, escaped_len, guest_slices};
