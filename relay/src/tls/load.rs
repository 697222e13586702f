//! What sessions are opened with, in either role, from PEM files.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use vspc_trust::{Credentials, Fault, Files};

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
        let (key, ca) = (files.key.clone(), files.ca.clone());
        let files = vspc_trust::ServerFiles { cert: cert.clone(), key, ca, is_optional: false };
        Ok(Self { config: Arc::new(files.load().map_err(fatal)?) })
    }
}

/// What is wrong, and what to do where the fault does not say it.
fn fatal(fault: Fault) -> Fatal {
    match fault {
        Fault::File { path, why } => Fatal::File { path, why },
        Fault::NoSystemRoots(_) => {
            Fatal::Options(format!("{fault}: name the target's, or its CA's, with --ca FILE"))
        }
        Fault::Name(_) => Fatal::Options(format!("{fault}: --server-name")),
        _ => Fatal::Options(fault.to_string()),
    }
}
