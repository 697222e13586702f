//! TLS outside the engine: the options, the files that certificates and keys are in, and the clock that
//! certificates are checked against.
//!
//! **Owns** the way from PEM files to what the engine answers with. **Refuses to know** what is done with
//! it: handshakes, records and upgrades are the core's.
//!
//! Without the feature `tls`, `absent` takes its place, with the same interface.

#[cfg(not(feature = "tls"))]
mod absent;
#[cfg(feature = "tls")]
mod certificate;
#[cfg(feature = "tls")]
mod connecting;
#[cfg(feature = "tls")]
mod load;
#[cfg(feature = "tls")]
mod make;
#[cfg(feature = "tls")]
mod options;

#[cfg(not(feature = "tls"))]
pub(crate) use absent::CLEAR_ADVICE;
#[cfg(not(feature = "tls"))]
pub(crate) use absent::TlsOptions;
#[cfg(feature = "tls")]
pub(crate) use load::LoadError;
#[cfg(feature = "tls")]
pub(crate) use make::{CertOptions, MakeError};
#[cfg(feature = "tls")]
pub(crate) use options::CLEAR_ADVICE;
#[cfg(feature = "tls")]
pub(crate) use options::TlsOptions;
