//! The listener's certificate, which is read again while it is used.

use std::sync::{Arc, Mutex, PoisonError};

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use vspc_trust::{Fault, ServerFiles};

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

fn read(files: &ServerFiles) -> Result<Arc<ServerConfig>, Fault> {
    let mut config = files.load()?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
