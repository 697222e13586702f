//! The verdict on a server's certificate.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::fault::Fault;
use crate::pem;

/// The CAs in a file, or the system's; and the very certificates in that file.
#[derive(Debug)]
pub(crate) struct Verifier {
    web_pki: Arc<WebPkiServerVerifier>,
    listed: Vec<CertificateDer<'static>>,
}

impl Verifier {
    pub(crate) fn load(ca: Option<&Path>, provider: &Arc<CryptoProvider>) -> Result<Self, Fault> {
        let listed = ca.map(pem::certificates).transpose()?.unwrap_or_default();
        let trusted = match ca {
            Some(ca) => pem::roots(ca, &listed)?,
            None => system()?,
        };
        let web_pki = WebPkiServerVerifier::builder_with_provider(Arc::new(trusted), Arc::clone(provider))
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        Ok(Self { web_pki, listed })
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
        let verdict = self.web_pki.verify_server_cert(end_entity, intermediates, server_name, ocsp, now);
        match verdict {
            // `openssl req -x509` makes a certificate that calls itself a CA's, which web PKI refuses as a
            // server's. Where the user has named this very certificate, its name counts all the same. So does
            // its time: it is checked first, and has an error of its own.
            Err(Error::InvalidCertificate(CertificateError::Other(_)))
                if self.listed.contains(end_entity) =>
            {
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
        self.web_pki.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.web_pki.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.web_pki.supported_verify_schemes()
    }
}
