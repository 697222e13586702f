//! TLS on either side of a relay.
//!
//! **Owns** the session and what its faults mean: nothing else names rustls but the files in this folder.
//! **Refuses to know** whom it trusts that it connects to (`vspc-trust`) and what is said within a session,
//! and owns no socket.

mod load;
mod session;

pub(crate) use load::{Server, ServerFiles, dialer};
pub(crate) use session::Session;
