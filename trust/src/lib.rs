//! Whom a program trusts over TLS, and what it shows of itself there.
//!
//! **Owns** the way from PEM files and the system's certificates to what rustls opens sessions with, as a
//! client and as a server, and the verdict on a server's certificate. **Refuses to know** sockets and
//! sessions, and what a program's options are called: a [`Fault`] says what is wrong, the program adds what
//! to do about it.
//!
//! ```no_run
//! use std::sync::Arc;
//! use vspc_trust::{Credentials, Files};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let files = Files { ca: Some("ca.pem".into()), ..Files::default() };
//! let credentials = Credentials::load(&files, "vspc.example.com")?;
//! let session =
//!     rustls::ClientConnection::new(Arc::clone(credentials.config()), credentials.name().clone())?;
//! # Ok(())
//! # }
//! ```

mod anybody;
mod credentials;
mod fault;
pub mod pem;
mod server;
mod verifier;

pub use anybody::config_that_takes_any_certificate;
pub use credentials::{Credentials, Files};
pub use fault::Fault;
pub use server::ServerFiles;
