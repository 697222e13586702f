//! A TLS session with whoever answers, for the certificate alone: it is taken whatever it is, because whether
//! a host takes it is a matter of the host's settings, and nothing secret is said.
//!
//! Owns the session and what is told of the certificate.

use std::io::{self, Read, Write};
use std::sync::Arc;

use ring::digest::{self, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use rustls::client::verify_server_name;
use rustls::pki_types::ServerName;
use rustls::server::ParsedCertificate;
use rustls::{ClientConnection, Error, StreamOwned};

/// What a server has shown.
#[derive(Debug)]
pub(super) struct Certificate {
    /// Digests as URIs of serial ports have them.
    pub(super) sha1: String,
    pub(super) sha256: String,
    /// It is for the name by which the server was called.
    pub(super) is_for_name: bool,
}

/// Why there is no session.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It does not speak TLS.
    NoTls,
    /// It does, and there is a fault, in words.
    Fault(String),
}

/// Opens a session. The stream has a time limit of its own.
pub(super) fn open<S: Read + Write>(
    stream: S,
    host: &str,
) -> Result<(StreamOwned<ClientConnection, S>, Certificate), Refusal> {
    let fault = |error: Error| Refusal::Fault(error.to_string());
    let config = vspc_trust::config_that_takes_any_certificate().map_err(fault)?;
    // A name that no certificate could be for is one that no certificate is for.
    let name = ServerName::try_from(host.to_owned()).ok();
    let asked = name.clone().unwrap_or_else(|| ServerName::from(std::net::IpAddr::from([0; 4])));
    let connection = ClientConnection::new(Arc::new(config), asked).map_err(fault)?;
    let mut stream = StreamOwned::new(connection, stream);
    while stream.conn.is_handshaking() {
        if let Err(error) = stream.conn.complete_io(&mut stream.sock) {
            return Err(refusal(&error));
        }
    }
    let shown = stream.conn.peer_certificates().and_then(|chain| chain.first());
    let shown = shown.ok_or_else(|| Refusal::Fault("it shows no certificate".to_owned()))?;
    let is_for_name = name.is_some_and(|name| {
        ParsedCertificate::try_from(shown).is_ok_and(|parsed| verify_server_name(&parsed, &name).is_ok())
    });
    let of = |algorithm| hex(digest::digest(algorithm, shown).as_ref());
    let certificate = Certificate { sha1: of(&SHA1_FOR_LEGACY_USE_ONLY), sha256: of(&SHA256), is_for_name };
    Ok((stream, certificate))
}

fn refusal(error: &io::Error) -> Refusal {
    let of_tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match of_tls {
        Some(Error::InvalidMessage(_)) | None => Refusal::NoTls,
        Some(other) => Refusal::Fault(other.to_string()),
    }
}

fn hex(bytes: &[u8]) -> String {
    let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    pairs.join(":")
}
