//! Who asks from outside: the protocols of the admin listener.
//!
//! **Owns** how a client's protocol is told ([`dialect`]), the codecs and dialogues of those of others'
//! ([`pickle`] and [`v3`], vSPC.py's; [`openstack`]; [`vmware_kit`]), vSPC.py's from the client's side
//! ([`v3_client`]), who may type at a console ([`lock`]), and the words of our own protocol (`operator`).
//!
//! **Refuses to know** consoles, connections, sockets and clocks: a dialogue says what was asked, the engine
//! looks it up and has the answer written. It needs [`telnet`](crate::telnet) and, for
//! the names of streams, the multiplexer.
//!
//! **Implements** admin.md.

pub mod dialect;
pub mod lock;
pub mod openstack;
#[cfg(feature = "operator")]
pub mod operator;
pub mod pickle;
pub mod v3;
pub mod v3_client;
pub mod vmware_kit;
