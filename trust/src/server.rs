//! What sessions with those who connect are opened with.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::server::WebPkiClientVerifier;

use crate::fault::Fault;
use crate::pem;

/// What a server shows, and whose certificates it asks for.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ServerFiles {
    /// The certificate to show, with its chain.
    pub cert: PathBuf,
    /// Its key; without it, it is in the certificate's file.
    pub key: Option<PathBuf>,
    /// Who may have signed the certificates of those who connect; none are asked for without it.
    pub ca: Option<PathBuf>,
    /// Who shows no certificate is let in all the same.
    pub is_optional: bool,
}

impl ServerFiles {
    /// Reads the files. Waits for the disk.
    ///
    /// # Errors
    ///
    /// A file cannot be used.
    pub fn load(&self) -> Result<ServerConfig, Fault> {
        let provider = Arc::new(default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        let builder = match &self.ca {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let roots = Arc::new(pem::roots(ca, &pem::certificates(ca)?)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                let verifier = if self.is_optional { verifier.allow_unauthenticated() } else { verifier };
                builder.with_client_cert_verifier(verifier.build().map_err(|error| Fault::file(ca, &error))?)
            }
        };
        let key = self.key.as_deref().unwrap_or(&self.cert);
        builder
            .with_single_cert(pem::certificates(&self.cert)?, pem::key(key)?)
            .map_err(|error| pem::other_key(key, &self.cert, &error))
    }
}
