//! What sessions with a server are opened with.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::ServerName;

use crate::fault::Fault;
use crate::pem;
use crate::verifier::Verifier;

/// Whom to trust, and what to show.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Files {
    /// The certificates that may have signed the server's, or that one itself; the system's without it.
    pub ca: Option<PathBuf>,
    /// The certificate to show, with its chain; none is shown without it.
    pub cert: Option<PathBuf>,
    /// Its key; without it, it is in the certificate's file.
    pub key: Option<PathBuf>,
    /// The name that the server's certificate has to be for, if that is not the address's.
    pub server_name: Option<String>,
}

/// What sessions with a server are opened with: the files have been read. Copies share it.
#[derive(Clone, Debug)]
pub struct Credentials {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Credentials {
    /// Reads the files, for a server that is called `host`: a name, or an IP address without brackets. Waits
    /// for the disk.
    ///
    /// # Errors
    ///
    /// A file cannot be used, the system trusts nobody and no file says whom to trust, or no certificate can
    /// be for such a name.
    pub fn load(files: &Files, host: &str) -> Result<Self, Fault> {
        let provider = Arc::new(default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            // No check is left out: see `Verifier`.
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Verifier::load(files.ca.as_deref(), &provider)?));
        let config = match &files.cert {
            None => builder.with_no_client_auth(),
            Some(cert) => {
                let key = files.key.as_ref().unwrap_or(cert);
                builder
                    .with_client_auth_cert(pem::certificates(cert)?, pem::key(key)?)
                    .map_err(|error| pem::other_key(key, cert, &error))?
            }
        };
        let wanted = files.server_name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(wanted.to_owned()).map_err(|_| Fault::Name(wanted.to_owned()))?;
        Ok(Self { config: Arc::new(config), name })
    }

    /// How sessions are opened.
    #[must_use]
    pub const fn config(&self) -> &Arc<ClientConfig> {
        &self.config
    }

    /// For whom the server's certificate has to be.
    #[must_use]
    pub const fn name(&self) -> &ServerName<'static> {
        &self.name
    }
}
