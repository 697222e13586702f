//! The listener's certificate, which is read again while it is used.

use std::sync::{Arc, Mutex, PoisonError};

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{ServerConfig, ServerConnection};
use vspc_trust::{Fault, ServerFiles};
use x509_parser::parse_x509_certificate;

/// What connections are opened with from now on.
pub(crate) struct Tls {
    files: ServerFiles,
    config: Mutex<Arc<ServerConfig>>,
}

impl Tls {
    /// Reads the files. Waits for the disk.
    pub(crate) fn load(files: ServerFiles) -> Result<Self, Fault> {
        let config = Mutex::new(read(&files)?);
        Ok(Self { files, config })
    }

    /// Reads the files again. Where one cannot be used, all stays as it was.
    pub(crate) fn reload(&self) -> Result<(), Fault> {
        let config = read(&self.files)?;
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        Arc::clone(&self.config.lock().unwrap_or_else(PoisonError::into_inner)).into()
    }
}

/// For whom the certificate is that the peer has shown: the common name of its subject, if it has one and no
/// more.
pub(crate) fn shown(session: &ServerConnection) -> Option<Arc<str>> {
    let (_, certificate) = parse_x509_certificate(session.peer_certificates()?.first()?).ok()?;
    let mut names = certificate.subject().iter_common_name();
    match (names.next(), names.next()) {
        (Some(name), None) => name.as_str().ok().map(Arc::from),
        _ => None,
    }
}

fn read(files: &ServerFiles) -> Result<Arc<ServerConfig>, Fault> {
    let mut config = files.load()?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
