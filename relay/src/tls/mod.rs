//! TLS on either side of a relay.
//!
//! **Owns** the session and what its faults mean: nothing else names rustls but the files in this folder.
//! **Refuses to know** what is said within it, and owns no socket.

mod load;
mod session;
mod trust;

pub(crate) use load::{Dialer, DialerFiles, Server, ServerFiles};
pub(crate) use session::Session;
