//! Loads certificates and keys from PEM files.
//!
//! Everything that can be wrong with the files is reported here, at start or at a reload, and not by a
//! connection that fails at night. What is odd but works is used, with a warning: a certificate that has
//! expired (a host that knows its thumbprint may not mind), a key that others may read.

use std::fmt::Write as _;
use std::fs::{FileType, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use log::Level;
use rustix::fs::OFlags;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::time_provider::DefaultTimeProvider;
use rustls::version::{TLS12, TLS13};
use rustls::{Error, InconsistentKeys, RootCertStore, ServerConfig};
use time::OffsetDateTime;
use vspc_core::transport::{Acceptor, Acceptors};

use crate::credentials::Credentials;
use crate::fatal::Fatal;

use super::certificate::{Facts, Thumbprints, host};

/// Which files to load, and for whom.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Loader {
    pub(super) cert: PathBuf,
    pub(super) key: Option<PathBuf>,
    pub(super) client_ca: Option<PathBuf>,
    pub(super) clients: bool,
    pub(super) admin: bool,
    pub(super) admin_ca: Option<PathBuf>,
    pub(super) lines: bool,
    /// The URI by which hosts find the server, if it has TLS for them.
    pub(super) hosts: Option<ProxyUri>,
}

/// What a serial port's URI says besides the server's name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ProxyUri {
    pub(super) scheme: &'static str,
    pub(super) port: u16,
}

/// Why a file cannot be used, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{option} {}: {why}", .path.display())]
pub struct LoadError {
    option: &'static str,
    path: PathBuf,
    why: Why,
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum Why {
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    #[error("is {0}, and not a file: it is read again at each SIGHUP, which takes a file")]
    NoFile(&'static str),
    #[error("is too large to be a certificate or a key")]
    TooLarge,
    #[error("is damaged: {0}")]
    Damaged(String),
    #[error("has no certificate in it, and no key: it has to begin with -----BEGIN CERTIFICATE-----")]
    NeitherCertificateNorKey,
    #[error(
        "has a key in it, but no certificate; give that file with --key, and the certificate's with --cert"
    )]
    NoCertificate,
    #[error("has no private key in it")]
    NoKey,
    #[error("has no private key in it: give the key's file with --key")]
    NoKeyBeside,
    #[error(
        "the key is encrypted, and nobody is there to type its passphrase: store it without (openssl pkey)"
    )]
    EncryptedKey,
    #[error(
        "the key cannot be used: it has to be one for RSA (2048 bits or more), ECDSA (P-256, P-384) or \
         Ed25519"
    )]
    UnusableKey,
    #[error("the certificate is not one that can be used ({0})")]
    UnusableCertificate(String),
    #[error("the key is not that of the certificate in {}", .0.display())]
    OtherKey(PathBuf),
    #[error(
        "the key is that of certificate {number} in {}: the server's own has to come first",
        .path.display()
    )]
    LaterCertificate { number: usize, path: PathBuf },
    #[error("has no certificate in it that clients' could be signed with ({0})")]
    NoCa(String),
}

impl Loader {
    /// Reads and checks the files. Waits for the disk.
    pub(crate) fn load(&self) -> Result<Credentials, Fatal> {
        self.read().map_err(Fatal::Certificate)
    }

    /// For how many days the server's own certificate is valid still; `None`: it cannot be read.
    pub(crate) fn days_left(&self) -> Option<i64> {
        let chain = Pem::read("--cert", &self.cert).and_then(|cert| cert.chain()).ok()?;
        let facts = Facts::read(chain.first()?)?;
        Some((facts.not_after - OffsetDateTime::now_utc()).whole_days())
    }

    pub(super) fn read(&self) -> Result<Credentials, LoadError> {
        let provider = Arc::new(default_provider());
        let mut notes = Vec::new();
        let cert = Pem::read("--cert", &self.cert)?;
        let chain = cert.chain()?;
        let beside = self.key.as_deref().map(|path| Pem::read("--key", path)).transpose()?;
        let file = beside.as_ref().unwrap_or(&cert);
        let key = file.key(beside.is_none())?;
        if file.mode & READABLE_BY_OTHERS != 0 {
            notes.push((Level::Warn, file.exposed()));
        }
        let own = chain[0].clone();
        let certified = certify(&cert, file, chain, key, &provider)?;
        self.describe(&own, &mut notes);
        let verifier = |option, ca: &Option<PathBuf>| {
            ca.as_deref().map(|path| verifier(option, path, &provider)).transpose()
        };
        let (of_clients, of_operators) =
            (verifier("--client-ca", &self.client_ca)?, verifier("--admin-ca", &self.admin_ca)?);
        let acceptor =
            |verifier| server_config(&provider, Arc::clone(&certified), verifier).map(Acceptor::new);
        let acceptor = |is_wanted: bool, verifier| {
            is_wanted.then(|| acceptor(verifier)).transpose().map_err(|why| cert.fault(why))
        };
        let acceptors = Acceptors {
            vms: acceptor(self.hosts.is_some(), None)?,
            clients: acceptor(self.clients, of_clients)?,
            admin: acceptor(self.admin, of_operators)?,
            lines: acceptor(self.lines, None)?,
        };
        Ok(Credentials { acceptors: Some(acceptors), notes, ..Credentials::default() })
    }

    /// Adds the log lines about the certificate: whom it names, its thumbprints, the URI for serial ports.
    fn describe(&self, certificate: &[u8], notes: &mut Vec<(Level, String)>) {
        let path = self.cert.display();
        let thumbprints = Thumbprints::of(certificate);
        let facts = Facts::read(certificate);
        let mut line = format!("certificate {path}:");
        if let Some(facts) = &facts {
            let now = OffsetDateTime::now_utc();
            // Writing to a string cannot fail.
            let _ = write!(line, " for {}, valid until {},", facts.names.join(", "), facts.not_after.date());
            let fault = match () {
                () if facts.not_after < now => Some(format!("has expired on {}", facts.not_after.date())),
                () if now < facts.not_before => {
                    Some(format!("is not valid before {}", facts.not_before.date()))
                }
                () => None,
            };
            if let Some(fault) = fault {
                notes.push((
                    Level::Warn,
                    format!(
                        "certificate {path} {fault}: whoever goes by its thumbprint may not mind, others \
                         refuse it"
                    ),
                ));
            }
        }
        notes
            .push((Level::Info, format!("{line} SHA-1 {} SHA-256 {}", thumbprints.sha1, thumbprints.sha256)));
        if let Some(hosts) = self.hosts {
            let name = facts.as_ref().and_then(|facts| facts.names.first());
            let uri = hosts.with(name.map(String::as_str));
            for (algorithm, thumbprint) in [("SHA-1", &thumbprints.sha1), ("SHA-256", &thumbprints.sha256)] {
                notes.push((
                    Level::Info,
                    format!("proxy URI with {algorithm}: {uri}#thumbprint={thumbprint}"),
                ));
            }
        }
    }
}

impl ProxyUri {
    /// The URI for a server of this name. What is not known is in capitals.
    pub(super) fn with(self, name: Option<&str>) -> String {
        let port = if self.port == 0 { "PORT".to_owned() } else { self.port.to_string() };
        format!("{}://{}:{port}", self.scheme, host(name.unwrap_or("HOST")))
    }
}

/// A file that should hold certificates or a key.
struct Pem<'a> {
    option: &'static str,
    path: &'a Path,
    text: Vec<u8>,
    /// Who may read it.
    mode: u32,
}

impl<'a> Pem<'a> {
    fn read(option: &'static str, path: &'a Path) -> Result<Self, LoadError> {
        let mut pem = Self { option, path, text: Vec::new(), mode: 0 };
        match pem.fill() {
            Ok(()) => Ok(pem),
            Err(why) => Err(pem.fault(why)),
        }
    }

    /// Reads the file, if it is one. A pipe or a terminal in its place must not keep the server waiting for
    /// somebody to write: to open it does not wait, and nothing is read from it.
    fn fill(&mut self) -> Result<(), Why> {
        let not_waiting = OFlags::NONBLOCK | OFlags::NOCTTY;
        let mut open = OpenOptions::new();
        open.read(true).custom_flags(not_waiting.bits().cast_signed());
        let file = open.open(self.path).map_err(Why::Unreadable)?;
        let facts = file.metadata().map_err(Why::Unreadable)?;
        if !facts.is_file() {
            return Err(Why::NoFile(kind(facts.file_type())));
        }
        self.mode = facts.permissions().mode();
        // It may grow while it is read.
        file.take(LARGEST + 1).read_to_end(&mut self.text).map_err(Why::Unreadable)?;
        if self.text.len() as u64 > LARGEST { Err(Why::TooLarge) } else { Ok(()) }
    }

    fn chain(&self) -> Result<Vec<CertificateDer<'static>>, LoadError> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.text).collect();
        let chain = chain.map_err(|error| self.fault(Why::Damaged(words(&error))))?;
        match (chain.is_empty(), PrivateKeyDer::from_pem_slice(&self.text).is_ok() || self.is_encrypted()) {
            (false, _) => Ok(chain),
            (true, true) => Err(self.fault(Why::NoCertificate)),
            (true, false) => Err(self.fault(Why::NeitherCertificateNorKey)),
        }
    }

    fn key(&self, in_same_file: bool) -> Result<PrivateKeyDer<'static>, LoadError> {
        PrivateKeyDer::from_pem_slice(&self.text).map_err(|error| {
            self.fault(match error {
                _ if self.is_encrypted() => Why::EncryptedKey,
                PemError::NoItemsFound if in_same_file => Why::NoKeyBeside,
                PemError::NoItemsFound => Why::NoKey,
                other => Why::Damaged(words(&other)),
            })
        })
    }

    /// PKCS #8 and the older form of openssl.
    fn is_encrypted(&self) -> bool {
        [&b"-----BEGIN ENCRYPTED PRIVATE KEY-----"[..], b"Proc-Type: 4,ENCRYPTED"]
            .iter()
            .any(|mark| self.text.windows(mark.len()).any(|window| window == *mark))
    }

    fn exposed(&self) -> String {
        let path = self.path.display();
        format!("the key in {path} can be read by others (mode {:04o}): chmod 600 {path}", self.mode & 0o7777)
    }

    fn fault(&self, why: Why) -> LoadError {
        LoadError { option: self.option, path: self.path.to_owned(), why }
    }
}

/// What something is that is no regular file, in words.
fn kind(file: FileType) -> &'static str {
    match () {
        () if file.is_dir() => "a directory",
        () if file.is_fifo() => "a pipe",
        () => "a device",
    }
}

/// Pairs a certificate with its key.
fn certify(
    cert: &Pem<'_>,
    file: &Pem<'_>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, LoadError> {
    let key = provider.key_provider.load_private_key(key).map_err(|_| file.fault(Why::UnusableKey))?;
    let certified = CertifiedKey::new(chain, Arc::clone(&key));
    match certified.keys_match() {
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(Arc::new(certified)),
        Err(Error::InconsistentKeys(_)) => {
            let path = cert.path.to_owned();
            let fits = |own: &CertificateDer<'static>| {
                CertifiedKey::new(vec![own.clone()], Arc::clone(&key)).keys_match().is_ok()
            };
            Err(file.fault(match certified.cert.iter().position(fits) {
                Some(place) => Why::LaterCertificate { number: place + 1, path },
                None => Why::OtherKey(path),
            }))
        }
        Err(error) => Err(cert.fault(Why::UnusableCertificate(error.to_string()))),
    }
}

/// Accepts those whose certificate is signed by one in this file.
fn verifier(
    option: &'static str,
    path: &Path,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, LoadError> {
    let file = Pem::read(option, path)?;
    let mut roots = RootCertStore::empty();
    for certificate in file.chain()? {
        roots.add(certificate).map_err(|error| file.fault(Why::NoCa(error.to_string())))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| file.fault(Why::NoCa(error.to_string())))
}

/// TLS 1.2 and 1.3; whatever name the peer asks for, it gets this certificate.
fn server_config(
    provider: &Arc<CryptoProvider>,
    certified: Arc<CertifiedKey>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
) -> Result<ServerConfig, Why> {
    let versions = ServerConfig::builder_with_details(Arc::clone(provider), Arc::new(DefaultTimeProvider))
        .with_protocol_versions(&[&TLS13, &TLS12])
        // Cannot fail: ring has cipher suites for both.
        .map_err(|error| Why::UnusableCertificate(error.to_string()))?;
    let config = match verifier {
        Some(verifier) => versions.with_client_cert_verifier(verifier),
        None => versions.with_no_client_auth(),
    };
    Ok(config.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified))))
}

/// What is wrong with a file in PEM, without bytes as numbers.
fn words(error: &PemError) -> String {
    match error {
        PemError::MissingSectionEnd { end_marker } => {
            format!("the line -----END {}----- is missing", String::from_utf8_lossy(end_marker))
        }
        PemError::IllegalSectionStart { line } => {
            format!("{:?} is not how a section begins", String::from_utf8_lossy(line).trim_end())
        }
        PemError::Base64Decode(_) => "what is between its BEGIN and END is not base64".to_owned(),
        other => other.to_string(),
    }
}

/// Chains take a few kilobytes, bundles of every public CA a few hundred.
const LARGEST: u64 = 1 << 20;

/// A key file that its group or everybody may read is used, with a warning: that a service's group may read
/// it is customary in places (Debian's `ssl-cert`), and a server that does not start helps nobody.
const READABLE_BY_OTHERS: u32 = 0o077;

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
