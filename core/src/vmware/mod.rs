//! The VMware telnet extension: option 232, by which an ESXi host and a virtual serial port
//! concentrator talk about a VM.
//!
//! **Owns** the suboption codes ([`Code`]), what each carries ([`Message`]), the identity they carry
//! ([`Uuid`], [`ServiceUri`]), and one VM's dialogue from both ends: [`Dialogue`] for the engine of a
//! concentrator, [`ProxySession`] and [`VmSession`] with a whole connection around it for whoever plays one.
//!
//! **Refuses to know** which VM belongs to which console and when a vMotion may begin: the dialogue reports,
//! the engine decides and sends the [`Message`] itself. No clocks, no sockets.
//!
//! **Implements** vmware.md §2 and §3, vmotion.md §1, after VMware's "Using a Proxy with vSphere Virtual
//! Serial Ports".
//!
//! It needs [`telnet`](crate::telnet) and nothing else of this crate. A whole VM, and what it answers to the
//! question for its name:
//!
//! ```
//! use vspc_core::vmware::{Message, VmConfig, VmSession};
//!
//! let mut vm = VmSession::new(VmConfig { name: "web01".into(), ..VmConfig::default() });
//! let (mut question, mut answer) = (Vec::new(), Vec::new());
//! Message::GetVmName.put(&mut question);
//! vm.handle_received(&question, &mut Vec::new());
//! Message::VmName(b"web01").put(&mut answer);
//! assert_eq!(vm.pending(), answer);
//! ```

use crate::telnet::Decoder;

mod code;
mod dialogue;
mod message;
mod proxy;
mod queues;
mod uri;
mod uuid;
mod vm;

pub use code::{Code, VMWARE_TELNET_EXT};
pub use dialogue::{Dialogue, Said};
pub use message::{Malformed, Message};
pub use proxy::{ProxyEvent, ProxySession};
pub use queues::{ANSWER_LIMIT, EVENT_LIMIT};
pub use uri::ServiceUri;
pub use uuid::{Uuid, UuidError};
pub use vm::{NoUuid, Opens, Resume, VmConfig, VmEvent, VmSession};

/// A decoder for what VMs say: their messages may be 64 KiB long, because a DO-PROXY holds whatever was typed
/// into the port's URI, and who gets no answer to it waits for ever. A message beyond that is refused.
///
/// It holds what it has of a message, so whoever has many of them and does not know the peers bounds what
/// they hold together ([`Decoder::held`], [`Decoder::give_up`]). The concentrator does: 4 MiB for all its
/// hosts.
#[must_use]
pub const fn message_decoder() -> Decoder {
    Decoder::with_limit(64)
}
