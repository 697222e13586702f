//! Certificates and keys, from PEM files. Waits for the disk.

use std::fs;
use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::fault::Fault;

/// The certificates in a file, in its order; at least one.
///
/// # Errors
///
/// The file cannot be read, is damaged, or has none.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let pem = read(path)?;
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match parsed {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(Fault::file(path, &"there is no certificate in it")),
        Err(error) => Err(Fault::file(path, &error)),
    }
}

/// The first private key in a file.
///
/// # Errors
///
/// The file cannot be read, or has none.
pub fn key(path: &Path) -> Result<PrivateKeyDer<'static>, Fault> {
    PrivateKeyDer::from_pem_slice(&read(path)?)
        .map_err(|_| Fault::file(path, &"there is no private key in it that could be read"))
}

/// Certificates of this file, as those that others may be signed by.
///
/// # Errors
///
/// One of them cannot be used as such.
pub fn roots(path: &Path, certificates: &[CertificateDer<'static>]) -> Result<RootCertStore, Fault> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate.clone()).map_err(|error| Fault::file(path, &error))?;
    }
    Ok(roots)
}

/// The key of this file does not go with the certificate of that one.
#[must_use]
pub fn other_key(key: &Path, cert: &Path, why: &rustls::Error) -> Fault {
    Fault::file(key, &format!("the key does not go with {}: {why}", cert.display()))
}

fn read(path: &Path) -> Result<Vec<u8>, Fault> {
    fs::read(path).map_err(|error| Fault::file(path, &error))
}
