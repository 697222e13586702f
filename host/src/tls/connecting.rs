//! What TLS is begun with where the server connects to somebody.

use std::path::PathBuf;

use vspc_core::transport::Connector;
use vspc_trust::{Credentials, Fault, Files};

use crate::fatal::Fatal;

/// Which files that takes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct TrustLoader {
    files: Files,
    /// Something that is known already needs it: without it the server does not start.
    is_needed: bool,
}

impl TrustLoader {
    pub(super) fn new(
        ca: Option<PathBuf>,
        cert: Option<PathBuf>,
        key: Option<PathBuf>,
        is_needed: bool,
    ) -> Self {
        Self { files: Files { ca, cert, key, server_name: None }, is_needed }
    }

    /// Reads and checks the files. Waits for the disk. `None`: there is nobody to trust, and nobody who needs
    /// it yet.
    pub(crate) fn load(&self) -> Result<Option<Connector>, Fatal> {
        // Whom a certificate has to be for each connection says.
        match Credentials::load(&self.files, "localhost") {
            Ok(credentials) => Ok(Some(Connector::new((**credentials.config()).clone()))),
            Err(Fault::NoSystemRoots(_)) if !self.is_needed => Ok(None),
            Err(fault @ Fault::NoSystemRoots(_)) => {
                Err(Fatal::Options(format!("{fault}: name the target's CA with --dial-ca FILE")))
            }
            Err(fault) => Err(Fatal::Options(format!("--dial-ca, --dial-cert, --dial-key: {fault}"))),
        }
    }
}
