//! For those who want a session with whoever answers, and look at the certificate themselves.

use std::sync::Arc;

use rustls::crypto::ring::default_provider;
use rustls::{ClientConfig, Error};

use crate::verifier::Verifier;

/// Opens sessions with anybody who has the key of the certificate that it shows, whatever certificate that
/// is. Nothing secret may be said there, and nothing believed.
///
/// # Errors
///
/// The TLS library does not do what it is built to do.
pub fn config_that_takes_any_certificate() -> Result<ClientConfig, Error> {
    let provider = Arc::new(default_provider());
    let verifier = Verifier::of_anybody(&provider);
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}
