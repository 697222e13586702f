//! TLS between this client and a server.
//!
//! Owns the session, and what its faults mean to a user: nothing else names rustls but `doctor::secure`,
//! which trusts anybody and tells nothing. Refuses to know whom it trusts (`vspc-trust`) and what is said
//! within it, and owns no socket.

use std::io::{self, IoSlice, Read, Write};
use std::net::IpAddr;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, ClientConnection, Error};
use vspc_trust::{Credentials, Fault, Files};

use crate::failure::Failure;
use crate::printable::printable;

/// Reads what `files` names, for sessions with the server at `host`.
pub(crate) fn credentials(files: &Files, host: &str) -> Result<Credentials, Failure> {
    Credentials::load(files, host).map_err(|fault| match fault {
        Fault::NoSystemRoots(_) => {
            Failure::error(format!("{fault}: name the server's, or its CA's, with --ca FILE"))
        }
        Fault::Name(_) => Failure::usage(format!("{fault}; see server_name")),
        Fault::File { .. } => Failure::usage(fault.to_string()),
        _ => Failure::error(fault.to_string()),
    })
}

/// A session over a socket that never blocks.
#[derive(Debug)]
pub(crate) struct Session {
    inner: ClientConnection,
    /// Decrypted, and not read yet.
    unread: usize,
}

impl Session {
    pub(crate) fn new(credentials: &Credentials) -> io::Result<Self> {
        let (config, name) = (Arc::clone(credentials.config()), credentials.name().clone());
        let inner = ClientConnection::new(config, name).map_err(in_words)?;
        Ok(Self { inner, unread: 0 })
    }

    /// Goes on with the handshake as far as the socket lets it. Returns whether it is over.
    pub(crate) fn shake_hands(&mut self, socket: &mut (impl Read + Write)) -> io::Result<bool> {
        while self.inner.is_handshaking() {
            self.flush(socket)?;
            match self.take_in(socket) {
                Ok(0) => return Err(io::Error::other(NO_TLS)),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Err(io::Error::other(NO_TLS));
                }
                Err(error) => return Err(error),
            }
        }
        self.flush(socket)?;
        Ok(true)
    }

    /// Whether the socket is waited for to take something.
    pub(crate) fn wants_write(&self) -> bool {
        self.inner.wants_write()
    }

    /// Whether something can be received that the socket will not tell of.
    pub(crate) const fn has_unread(&self) -> bool {
        self.unread > 0
    }

    /// As [`Read::read`]. A fault of TLS is an error of the kind `InvalidData`, in words.
    pub(crate) fn receive(&mut self, socket: &mut (impl Read + Write), buf: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.inner.reader().read(buf) {
                Ok(n) => {
                    self.unread -= n;
                    return Ok(n);
                }
                // What is spoken here has ends of its own, so one without TLS's cannot pass for another.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.take_in(socket)?,
                Err(error) => return Err(error),
            };
        }
    }

    /// As [`Write::write_vectored`]. Nothing is taken before what was taken has left: what waits here is one
    /// write's.
    pub(crate) fn send(
        &mut self,
        socket: &mut (impl Read + Write),
        runs: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        self.flush(socket)?;
        if self.wants_write() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let n = self.inner.writer().write_vectored(runs)?;
        // An error shows again where the socket is read, and these bytes were taken.
        let _ = self.flush(socket);
        Ok(n)
    }

    /// Sends what the socket takes of what waits.
    pub(crate) fn flush(&mut self, socket: &mut impl Write) -> io::Result<()> {
        while self.wants_write() {
            match self.inner.write_tls(socket) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Tells the server that this was all.
    pub(crate) fn finish(&mut self, socket: &mut impl Write) -> io::Result<()> {
        self.inner.send_close_notify();
        self.flush(socket)
    }

    fn take_in(&mut self, socket: &mut (impl Read + Write)) -> io::Result<usize> {
        let n = self.inner.read_tls(socket)?;
        match self.inner.process_new_packets() {
            Ok(state) => self.unread = state.plaintext_bytes_to_read(),
            Err(error) => {
                // The server is told why, if it listens.
                let _ = self.flush(socket);
                return Err(in_words(error));
            }
        }
        Ok(n)
    }
}

/// What went wrong, and what to do.
fn in_words(error: Error) -> io::Error {
    use AlertDescription as Alert;
    use CertificateError as Certificate;
    let words = match error {
        Error::InvalidCertificate(error) => match error {
            Certificate::NotValidForNameContext { expected, presented } => other_name(&expected, &presented),
            // The latter two are of somebody of the same name with another key, or with one of another kind.
            Certificate::UnknownIssuer
            | Certificate::BadSignature
            | Certificate::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => UNTRUSTED.to_owned(),
            Certificate::Expired | Certificate::ExpiredContext { .. } => {
                "its certificate has expired; it needs a new one".to_owned()
            }
            Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => {
                "its certificate is not valid yet; is the time of this machine right?".to_owned()
            }
            other => format!("its certificate is not accepted: {other}"),
        },
        Error::AlertReceived(Alert::CertificateRequired) => {
            "it wants a certificate from you: --cert FILE, and --key FILE".to_owned()
        }
        // Under TLS 1.2 this alert is all that tells of a certificate that is missing.
        Error::AlertReceived(Alert::HandshakeFailure) => {
            "it has ended the handshake: nothing in common, or it wants a certificate from you (--cert FILE)"
                .to_owned()
        }
        Error::AlertReceived(
            alert @ (Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::DecryptError
            | Alert::AccessDenied),
        ) => format!("it does not accept your certificate ({alert:?})"),
        Error::AlertReceived(alert) => format!("it has ended TLS with the alert {alert:?}"),
        Error::InvalidMessage(_) => NO_TLS.to_owned(),
        other => format!("TLS failed: {other}"),
    };
    io::Error::new(io::ErrorKind::InvalidData, words)
}

fn other_name(expected: &ServerName<'_>, presented: &[String]) -> String {
    let expected = match expected {
        ServerName::DnsName(name) => name.as_ref().to_owned(),
        ServerName::IpAddress(address) => IpAddr::from(*address).to_string(),
        other => format!("{other:?}"),
    };
    // Each is a kind, and the name in brackets.
    let names = presented.iter().filter_map(|name| {
        let (_, name) = name.split_once('(')?;
        Some(name.trim_end_matches(')').trim_matches('"'))
    });
    let names = names.map(|name| printable(name).into_owned()).collect::<Vec<_>>().join(", ");
    let names = if names.is_empty() { "no name at all" } else { &names };
    format!(
        "its certificate is for {names}, and not for {expected}: call the server by a name that it has, or \
         tell that in config.toml (server_name)"
    )
}

const UNTRUSTED: &str = "its certificate is signed by nobody that is trusted here; if it is the right one, \
    name it, or its CA's, with --ca FILE";
const NO_TLS: &str = "it does not seem to speak TLS there; without it, leave tls:// out";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_certificate_are_told_as_they_are_written() {
        let expected = ServerName::try_from("192.0.2.1").unwrap();
        let presented = ["DnsName(\"a.example\")".to_owned(), "IpAddress(192.0.2.2)".to_owned()];
        let words = other_name(&expected, &presented);
        assert!(words.contains("is for a.example, 192.0.2.2, and not for 192.0.2.1: "), "{words}");
        assert!(other_name(&expected, &[]).contains("is for no name at all"));
    }
}
