//! The VMware telnet extension: option 232, by which an ESXi host and a virtual serial port
//! concentrator talk about a VM.
//!
//! **Owns** the suboption codes ([`Code`]), what each carries ([`Message`]), the identity they carry
//! ([`Uuid`], [`ServiceUri`]), and one VM's dialogue from both ends: [`Dialogue`] for the
//! concentrator, [`VmSession`] for whoever plays a VM.
//!
//! **Refuses to know** which VM belongs to which console, what a vMotion is good for and when one may
//! begin: the dialogue reports, the engine decides and puts the [`Message`] itself. No clocks, no
//! sockets.
//!
//! **Implements** vmware.md §2 and §3, vmotion.md §1, after VMware's "Using a Proxy with vSphere Virtual
//! Serial Ports".

mod code;
mod message;
mod proxy;
mod uri;
mod uuid;
mod vm;

pub use code::{Code, VMWARE_TELNET_EXT};
pub use message::{Malformed, Message};
pub use proxy::{Dialogue, KNOWN_SUBOPTIONS, POLICY, POLICY_WITH_TLS, REPLY_LIMIT, Said};
pub use uri::ServiceUri;
pub use uuid::{Uuid, UuidError};
pub use vm::{ANSWER_LIMIT, NoUuid, Opens, PENDING_LIMIT, Resume, VmConfig, VmEvent, VmSession};
