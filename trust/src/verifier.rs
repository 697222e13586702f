//! The verdict on a server's certificate.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::fault::Fault;
use crate::pem;

/// Judges the certificates of servers.
#[derive(Debug)]
pub(crate) struct Verifier {
    whom: Whom,
    algorithms: WebPkiSupportedAlgorithms,
}

/// Whose certificate is taken, if it has the key as well.
#[derive(Debug)]
enum Whom {
    Anybody,
    /// Who is signed by one of the CAs in a file, or of the system's; and whose very certificate is in that
    /// file.
    Trusted {
        web_pki: Arc<WebPkiServerVerifier>,
        listed: Vec<CertificateDer<'static>>,
    },
}

impl Verifier {
    pub(crate) fn load(ca: Option<&Path>, provider: &Arc<CryptoProvider>) -> Result<Self, Fault> {
        let listed = ca.map(pem::certificates).transpose()?.unwrap_or_default();
        let roots = match ca {
            Some(ca) => pem::roots(ca, &listed)?,
            None => system()?,
        };
        let web_pki = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        let algorithms = provider.signature_verification_algorithms;
        Ok(Self { whom: Whom::Trusted { web_pki, listed }, algorithms })
    }

    pub(crate) fn of_anybody(provider: &CryptoProvider) -> Self {
        Self { whom: Whom::Anybody, algorithms: provider.signature_verification_algorithms }
    }
}

fn system() -> Result<RootCertStore, Fault> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(system.certs);
    if roots.is_empty() {
        return Err(Fault::NoSystemRoots(system.errors.first().map(ToString::to_string)));
    }
    Ok(roots)
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Whom::Trusted { web_pki, listed } = &self.whom else {
            return Ok(ServerCertVerified::assertion());
        };
        let verdict = web_pki.verify_server_cert(end_entity, intermediates, server_name, ocsp, now);
        match verdict {
            // `openssl req -x509` makes a certificate that calls itself a CA's, which web PKI refuses as a
            // server's. Where the user has named this very certificate, its name counts all the same. So does
            // its time: it is checked first, and has an error of its own.
            Err(Error::InvalidCertificate(CertificateError::Other(_))) if listed.contains(end_entity) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
