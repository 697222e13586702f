//! What sessions are opened with, in either role, from PEM files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::server::WebPkiClientVerifier;
use vspc_trust::{Credentials, Fault, Files, pem};

use crate::fatal::Fatal;

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

/// What sessions with those who connect are opened with.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(super) config: Arc<ServerConfig>,
}

/// Reads the files, for sessions with a target that is called `host`.
pub(crate) fn dialer(files: &Files, host: &str) -> Result<Credentials, Fatal> {
    Credentials::load(files, host).map_err(fatal)
}

impl Server {
    /// Reads the files.
    pub(crate) fn load(files: &ServerFiles) -> Result<Self, Fatal> {
        let Some(cert) = &files.cert else {
            return Err(Fatal::Options("to listen with TLS takes a certificate: --listen-cert".to_owned()));
        };
        let config = server_config(cert, files).map_err(fatal)?;
        Ok(Self { config: Arc::new(config) })
    }
}

fn server_config(cert: &Path, files: &ServerFiles) -> Result<ServerConfig, Fault> {
    let provider = Arc::new(default_provider());
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let builder = match &files.ca {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let roots = Arc::new(pem::roots(ca, &pem::certificates(ca)?)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| Fault::file(ca, &error))?)
        }
    };
    let key = files.key.as_deref().unwrap_or(cert);
    builder
        .with_single_cert(pem::certificates(cert)?, pem::key(key)?)
        .map_err(|error| pem::other_key(key, cert, &error))
}

/// What is wrong, and what to do where the fault does not say it.
fn fatal(fault: Fault) -> Fatal {
    match fault {
        Fault::File { path, why } => Fatal::Certificate { path, why },
        Fault::NoSystemRoots(_) => {
            Fatal::Options(format!("{fault}: name the target's, or its CA's, with --ca FILE"))
        }
        Fault::Name(_) => Fatal::Options(format!("{fault}: --server-name")),
        _ => Fatal::Options(fault.to_string()),
    }
}
