//! In place of TLS, where the feature `tls` is off: no options and nothing to load.

use clap::Args;
use vspc_core::concentrator::Config;
use vspc_core::transport::Connector;

use crate::credentials::Credentials;
use crate::fatal::Fatal;
use crate::options::Options;

/// The options about TLS. There are none.
#[derive(Clone, PartialEq, Eq, Debug, Args)]
pub(crate) struct TlsOptions {}

impl TlsOptions {
    pub(crate) fn fault(&self, options: &Options) -> Option<String> {
        let fault = "--admin-rights cert:… is for operators with certificates, and this build has no TLS";
        let dials =
            "--forward (or forward, in [[console]]) names a target with TLS, and this build has no TLS";
        match () {
            () if options.names_certificates() => Some(fault.to_owned()),
            () if options.dials_by_tls() => Some(dials.to_owned()),
            () if options.listens_for_lines_by_tls() => {
                Some("--line (or [[line]]) has a port with TLS, and this build has no TLS".to_owned())
            }
            () => None,
        }
    }

    pub(crate) fn configure(&self, _: &mut Config) {}

    pub(crate) fn admin_risk(&self) -> Option<&'static str> {
        Some("without TLS")
    }

    pub(crate) fn trust_loader(&self, _: &Options) -> Option<TrustLoader> {
        None
    }

    pub(crate) fn loader(&self, _: &Options) -> Option<Loader> {
        None
    }
}

/// Loads whom to trust. There is none.
#[derive(Clone, Debug)]
pub(crate) enum TrustLoader {}

impl TrustLoader {
    pub(crate) fn load(&self) -> Result<Option<Connector>, Fatal> {
        match *self {}
    }
}

/// Loads certificates. There is none.
#[derive(Clone, Debug)]
pub(crate) enum Loader {}

impl Loader {
    pub(crate) fn days_left(&self) -> Option<i64> {
        match *self {}
    }

    pub(crate) fn load(&self) -> Result<Credentials, Fatal> {
        match *self {}
    }
}

/// What to do about client ports in clear.
pub(crate) const CLEAR_ADVICE: &str = "keep them in a network you trust";
