//! The other end's TLS: rustls as a client, with the upgrade by option 37 before it where that is asked for.

use std::io::{Read, Write};
use std::sync::{Arc, OnceLock};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use rustls::client::WantsClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::cipher::{MessageEncrypter, OutboundChunks, OutboundPlainMessage};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::time_provider::TimeProvider;
use rustls::{
    ClientConfig, ClientConnection, ConfigBuilder, ConnectionTrafficSecrets, ContentType,
    DigitallySignedStruct, ProtocolVersion, RootCertStore, ServerConfig, SignatureScheme,
    SupportedCipherSuite,
};
use vspc_core::transport::{Acceptor, Acceptors};

/// A certificate for everyone, made once.
struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

fn identity() -> &'static Identity {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    IDENTITY.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed(["vspc.example".to_owned()]).expect("it can be made");
        Identity {
            certificate: made.cert.der().clone(),
            key: PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key"),
        }
    })
}

/// Who signs clients' certificates, made once.
fn authority() -> &'static CertifiedIssuer<'static, KeyPair> {
    static AUTHORITY: OnceLock<CertifiedIssuer<'static, KeyPair>> = OnceLock::new();
    AUTHORITY.get_or_init(|| {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("it can be made")
    })
}

/// Noon on the first of January 2026, for ever: the tests read no clock.
#[derive(Debug)]
struct Noon;

impl TimeProvider for Noon {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_767_268_800)))
    }
}

fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(ring::default_provider())))
}

/// Acceptors for hosts and for clients; `ask`: clients have to show a certificate.
pub(crate) fn acceptors(ask: bool) -> Acceptors {
    let [vms, clients, admin] = [false, ask, ask].map(|ask| Some(acceptor(ask)));
    Acceptors { vms, clients, admin, lines: None }
}

fn acceptor(ask: bool) -> Acceptor {
    let builder = ServerConfig::builder_with_details(provider(), Arc::new(Noon))
        .with_safe_default_protocol_versions()
        .expect("both are there");
    let builder = if ask {
        let mut roots = RootCertStore::empty();
        roots.add(identity().certificate.clone()).expect("it is a certificate");
        roots.add(authority().der().clone()).expect("it is a certificate");
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build();
        builder.with_client_cert_verifier(verifier.expect("there is a root"))
    } else {
        builder.with_no_client_auth()
    };
    let config = builder.with_single_cert(vec![identity().certificate.clone()], identity().key.clone_key());
    Acceptor::new(config.expect("key and certificate belong together"))
}

/// Takes any certificate: who the server is, is not what these tests are about.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Which TLS a peer speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Version {
    V12,
    V13,
}

fn trusting(version: Version) -> ConfigBuilder<ClientConfig, WantsClientCert> {
    let version = match version {
        Version::V12 => &rustls::version::TLS12,
        Version::V13 => &rustls::version::TLS13,
    };
    ClientConfig::builder_with_details(provider(), Arc::new(Noon))
        .with_protocol_versions(&[version])
        .expect("it is there")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
}

/// A peer's end.
pub(crate) struct Sealed {
    session: ClientConnection,
    /// What the fault was, if there was one.
    pub(crate) fault: Option<rustls::Error>,
    pub(crate) ended: bool,
    /// It has said that nothing follows, and hears no more: rustls asserts that an end has one cause.
    closed: bool,
}

impl Sealed {
    pub(crate) fn new(version: Version) -> Self {
        Self::cut(version, None)
    }

    /// One that cuts what it says into records of `fragment` bytes.
    pub(crate) fn cut(version: Version, fragment: Option<usize>) -> Self {
        let mut config = trusting(version).with_no_client_auth();
        config.max_fragment_size = fragment;
        Self::with(config)
    }

    /// One that shows a certificate with this common name, and this name for DNS, which clients' CA has
    /// signed.
    pub(crate) fn named(version: Version, common: &str, dns: &str) -> Self {
        let mut params = CertificateParams::new(vec![dns.to_owned()]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, common);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("a key");
        let own = params.signed_by(&key, authority()).expect("it can be made");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let config = trusting(version).with_client_auth_cert(vec![own.der().clone()], key);
        Self::with(config.expect("key and certificate belong together"))
    }

    fn with(mut config: ClientConfig) -> Self {
        config.enable_secret_extraction = true;
        let name = ServerName::try_from("vspc.example").expect("a name");
        let session = ClientConnection::new(Arc::new(config), name).expect("a configuration");
        Self { session, fault: None, ended: false, closed: false }
    }

    pub(crate) fn is_up(&self) -> bool {
        !self.session.is_handshaking() && self.fault.is_none()
    }

    /// What the socket brought, opened.
    pub(crate) fn open(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        // With TLS 1.2 who closes wants no more (RFC 5246 §7.2.1).
        let is_deaf = self.closed && !self.is_v13();
        while !bytes.is_empty() && self.fault.is_none() && !self.ended && !is_deaf {
            self.session.read_tls(&mut bytes).expect("there is room");
            match self.session.process_new_packets() {
                Ok(state) => {
                    let len = plain.len();
                    plain.resize(len + state.plaintext_bytes_to_read(), 0);
                    self.session.reader().read_exact(&mut plain[len..]).expect("it is there");
                    self.ended = state.peer_has_closed();
                }
                Err(fault) => self.fault = Some(fault),
            }
        }
        plain
    }

    /// What it has to say for its socket: handshake, and `plain` sealed, once that can be.
    pub(crate) fn seal(&mut self, plain: &[u8]) -> Vec<u8> {
        self.session.set_buffer_limit(None);
        self.session.writer().write_all(plain).expect("there is no limit");
        let mut sealed = Vec::new();
        while self.session.wants_write() {
            self.session.write_tls(&mut sealed).expect("into memory");
        }
        sealed
    }

    pub(crate) fn is_v13(&self) -> bool {
        self.session.protocol_version() == Some(ProtocolVersion::TLSv1_3)
    }

    /// Changes its keys, and asks for the same.
    pub(crate) fn refresh_keys(&mut self) {
        self.session.refresh_traffic_keys().expect("TLS 1.3 that is up");
    }

    /// Says that nothing follows.
    pub(crate) fn close(&mut self) -> Vec<u8> {
        self.closed = true;
        self.session.send_close_notify();
        self.seal(&[])
    }
}

/// A peer with TLS 1.3 that is up, and from now on seals records as no library would.
pub(crate) struct Bare {
    encrypter: Box<dyn MessageEncrypter>,
    sequence: u64,
}

impl Bare {
    pub(crate) fn new(tls: Sealed) -> Self {
        let Some(SupportedCipherSuite::Tls13(suite)) = tls.session.negotiated_cipher_suite() else {
            panic!("it is not TLS 1.3")
        };
        let (sequence, secrets) = tls.session.dangerous_extract_secrets().expect("they may be had").tx;
        let (ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv }) = secrets
        else {
            panic!("secrets of no known kind")
        };
        Self { encrypter: suite.aead_alg.encrypter(key, iv), sequence }
    }

    /// One record of serial data.
    pub(crate) fn data(&mut self, plain: &[u8]) -> Vec<u8> {
        self.record(ContentType::ApplicationData, plain)
    }

    /// One record of handshake messages.
    pub(crate) fn handshake(&mut self, messages: &[u8]) -> Vec<u8> {
        self.record(ContentType::Handshake, messages)
    }

    fn record(&mut self, typ: ContentType, plain: &[u8]) -> Vec<u8> {
        let payload = OutboundChunks::Single(plain);
        let record = OutboundPlainMessage { typ, version: ProtocolVersion::TLSv1_2, payload };
        let sealed = self.encrypter.encrypt(record, self.sequence).expect("there is room").encode();
        self.sequence += 1;
        sealed
    }
}
