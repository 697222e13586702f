//! Certificates and keys, from PEM files.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::trust::Trust;
use crate::fatal::Fatal;

/// Files for connections that are made.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct DialerFiles {
    /// Whom to trust; the system's CAs without it.
    pub(crate) ca: Option<PathBuf>,
    /// The certificate to show.
    pub(crate) cert: Option<PathBuf>,
    /// Its key, if that is not in the same file.
    pub(crate) key: Option<PathBuf>,
    /// The name that the target's certificate has to be for, if that is not the address's.
    pub(crate) server_name: Option<String>,
}

/// Files for connections that are taken in.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct ServerFiles {
    /// The certificate.
    pub(crate) cert: Option<PathBuf>,
    /// Its key, if that is not in the same file.
    pub(crate) key: Option<PathBuf>,
    /// Who has to have signed the certificates of those who connect; none are asked for without it.
    pub(crate) ca: Option<PathBuf>,
}

/// What sessions with a target are opened with.
#[derive(Clone, Debug)]
pub(crate) struct Dialer {
    pub(super) config: Arc<ClientConfig>,
    pub(super) name: ServerName<'static>,
}

/// What sessions with those who connect are opened with.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(super) config: Arc<ServerConfig>,
}

impl Dialer {
    /// Reads the files, for a target that is called `host`.
    pub(crate) fn load(files: &DialerFiles, host: &str) -> Result<Self, Fatal> {
        let provider = Arc::new(default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| Fatal::Options(error.to_string()))?
            // No check is left out: see `Trust`.
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Trust::load(files.ca.as_deref(), &provider)?));
        let config = match &files.cert {
            None => builder.with_no_client_auth(),
            Some(cert) => {
                let file = files.key.as_ref().unwrap_or(cert);
                builder
                    .with_client_auth_cert(certificates(cert)?, key(file)?)
                    .map_err(|error| other_key(file, cert, &error))?
            }
        };
        let wanted = files.server_name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(wanted.to_owned()).map_err(|_| {
            Fatal::Options(format!("{wanted:?} is no name that a certificate could be for: --server-name"))
        })?;
        Ok(Self { config: Arc::new(config), name })
    }
}

impl Server {
    /// Reads the files.
    pub(crate) fn load(files: &ServerFiles) -> Result<Self, Fatal> {
        let Some(cert) = &files.cert else {
            return Err(Fatal::Options("to listen with TLS takes a certificate: --listen-cert".to_owned()));
        };
        let provider = Arc::new(default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| Fatal::Options(error.to_string()))?;
        let builder = match &files.ca {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let roots = Arc::new(roots(ca, &certificates(ca)?)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
                builder.with_client_cert_verifier(verifier.map_err(|error| fault(ca, &error))?)
            }
        };
        let file = files.key.as_ref().unwrap_or(cert);
        let config = builder
            .with_single_cert(certificates(cert)?, key(file)?)
            .map_err(|error| other_key(file, cert, &error))?;
        Ok(Self { config: Arc::new(config) })
    }
}

/// The certificates in a file, as those that others may be signed by.
pub(super) fn roots(path: &Path, certificates: &[CertificateDer<'static>]) -> Result<RootCertStore, Fatal> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate.clone()).map_err(|error| fault(path, &error))?;
    }
    Ok(roots)
}

pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Fatal> {
    let pem = read(path)?;
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match parsed {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(fault(path, &"there is no certificate in it")),
        Err(error) => Err(fault(path, &error)),
    }
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, Fatal> {
    PrivateKeyDer::from_pem_slice(&read(path)?)
        .map_err(|_| fault(path, &"there is no private key in it that could be read"))
}

fn read(path: &Path) -> Result<Vec<u8>, Fatal> {
    fs::read(path).map_err(|error| fault(path, &error))
}

fn other_key(key: &Path, cert: &Path, why: &dyn std::fmt::Display) -> Fatal {
    fault(key, &format!("the key does not go with {}: {why}", cert.display()))
}

pub(super) fn fault(path: &Path, why: &dyn std::fmt::Display) -> Fatal {
    Fatal::Certificate { path: path.to_owned(), why: why.to_string() }
}
