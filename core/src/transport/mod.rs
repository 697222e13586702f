//! What lies between a connection's bytes and its socket's: nothing, or TLS.
//!
//! **Owns** the records: what a socket brought is opened into the peer's bytes, what the engine has for
//! the peer is sealed, one record ahead of the socket at most. **Refuses to know** what the bytes mean,
//! who may start TLS and when (that is the engine's), files and clocks: certificates and the time come in
//! with the [`Acceptor`], and with the [`Connector`] where we connect.
//!
//! `tls` is the only file that names rustls, and `names` the only one that reads certificates; `absent`
//! replaces both, with the same interface, where the feature `tls` is off.

use std::time::Duration;

#[cfg_attr(feature = "tls", path = "tls.rs")]
#[cfg_attr(not(feature = "tls"), path = "absent.rs")]
mod tls;

#[cfg(feature = "tls")]
mod names;

pub(crate) use tls::Tls;
pub use tls::{Acceptor, Connector};

/// With what TLS connections are answered; no acceptor, no TLS.
#[derive(Clone, Debug, Default)]
pub struct Acceptors {
    /// For ESXi hosts.
    pub vms: Option<Acceptor>,
    /// For clients.
    pub clients: Option<Acceptor>,
    /// For those on the admin port.
    pub admin: Option<Acceptor>,
    /// For serial lines that connect to us.
    pub lines: Option<Acceptor>,
}

/// Largest plaintext of one record (RFC 8446 §5.1): what is sealed ahead of the socket.
pub(crate) const RECORD: usize = 16 << 10;

/// From how many places the bytes of one record may come.
pub(crate) const RUNS: usize = 16;

/// Why TLS did not come up, or broke.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TlsFailure {
    /// The peer's first byte begins no TLS record.
    NotTls,
    /// The handshake was not over within this time.
    Timeout(Duration),
    /// There is nothing to answer with any more.
    NoCertificate,
    /// The peer's handshake message goes on and on.
    EndlessMessage,
    /// The peer's handshake message is not over, and those of all peers together take all the room there is.
    NoRoom,
    /// The keys have sealed as much as they may.
    KeysUsedUp,
    /// The peer ended it with this alert, as `BadCertificate`.
    Alert(Box<str>),
    /// The peer shows no certificate, and needs one here.
    NoPeerCertificate,
    /// The peer's certificate is not accepted; why, as `Expired`.
    PeerCertificate(Box<str>),
    /// The peer offers TLS 1.1 or older; 1.2 is needed.
    TooOld,
    /// Both have nothing else in common; what is missing.
    Incompatible(Box<str>),
    /// Anything else, in the words of the TLS library.
    Other(Box<str>),
}
