//! Whose certificate is taken, whose is not, and what is said of files that are of no use: handshakes in
//! memory, with certificates of the tests' own.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use rustls::client::verify_server_name;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, Error, RootCertStore, ServerConfig, ServerConnection,
    SupportedProtocolVersion,
};
use vspc_trust::{Credentials, Fault, Files, config_that_takes_any_certificate, pem};

type Version = &'static SupportedProtocolVersion;

const BOTH: [Version; 2] = [&TLS13, &TLS12];

#[test]
fn a_server_is_taken_whose_certificate_the_named_authority_has_signed() {
    let folder = Folder::new("signed");
    let issuer = Issuer::new();
    let files = Files { ca: Some(folder.file("ca.pem", &issuer.pem())), ..Files::default() };
    for version in BOTH {
        let shown = issuer.signs(&["vspc.example", "192.0.2.7"], false);
        let server = shown.server(&[version], None);
        for host in ["vspc.example", "192.0.2.7"] {
            assert_eq!(shake_hands(&credentials(&files, host), &server), Ok(()), "{host}");
        }
        let other = shake_hands(&credentials(&files, "other.example"), &server);
        assert!(
            matches!(other, Err(Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. }))),
            "{other:?}"
        );
        let named = Files { server_name: Some("vspc.example".to_owned()), ..files.clone() };
        assert_eq!(shake_hands(&credentials(&named, "other.example"), &server), Ok(()));
    }
}

#[test]
fn a_server_is_refused_that_another_has_signed_and_one_that_has_expired() {
    let folder = Folder::new("refused");
    let (issuer, other) = (Issuer::new(), Issuer::new());
    let files = Files { ca: Some(folder.file("ca.pem", &issuer.pem())), ..Files::default() };
    let credentials = credentials(&files, "vspc.example");
    let stranger = other.signs(&["vspc.example"], false).server(&BOTH, None);
    assert!(matches!(shake_hands(&credentials, &stranger), Err(Error::InvalidCertificate(_))));
    let old = issuer.signs(&["vspc.example"], true).server(&BOTH, None);
    let outcome = shake_hands(&credentials, &old);
    assert!(
        matches!(
            outcome,
            Err(Error::InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. }
            ))
        ),
        "{outcome:?}"
    );
}

#[test]
fn a_certificate_that_is_named_itself_is_taken_even_if_it_calls_itself_an_authoritys() {
    let folder = Folder::new("itself");
    for calls_itself_a_ca in [false, true] {
        let own = Pair::own(&["vspc.example"], calls_itself_a_ca, false);
        let files = Files { ca: Some(folder.file("own.pem", &own.pem)), ..Files::default() };
        let server = own.server(&BOTH, None);
        assert_eq!(shake_hands(&credentials(&files, "vspc.example"), &server), Ok(()), "{calls_itself_a_ca}");
        // Its name counts all the same.
        let outcome = shake_hands(&credentials(&files, "other.example"), &server);
        assert!(matches!(outcome, Err(Error::InvalidCertificate(_))), "{calls_itself_a_ca}: {outcome:?}");
        // So does its time, and that it is this one and no other of that name.
        let old = Pair::own(&["vspc.example"], calls_itself_a_ca, true);
        let same_name = Pair::own(&["vspc.example"], calls_itself_a_ca, false);
        for (named, shown) in [(&old, &old), (&own, &same_name)] {
            let files = Files { ca: Some(folder.file("named.pem", &named.pem)), ..Files::default() };
            let outcome = shake_hands(&credentials(&files, "vspc.example"), &shown.server(&BOTH, None));
            assert!(matches!(outcome, Err(Error::InvalidCertificate(_))), "{calls_itself_a_ca}: {outcome:?}");
        }
    }
}

#[test]
fn a_certificate_is_shown_to_a_server_that_asks_for_one() {
    let folder = Folder::new("shown");
    let issuer = Issuer::new();
    let server = issuer.signs(&["vspc.example"], false).server(&BOTH, Some(&issuer));
    let me = issuer.signs(&["ann"], false);
    let ca = Some(folder.file("ca.pem", &issuer.pem()));
    let nobody = Files { ca: ca.clone(), ..Files::default() };
    assert!(shake_hands(&credentials(&nobody, "vspc.example"), &server).is_err());
    let cert = Some(folder.file("ann.pem", &me.pem));
    let key = Some(folder.file("ann.key", &me.key.serialize_pem()));
    let two = Files { ca: ca.clone(), cert, key, server_name: None };
    assert_eq!(shake_hands(&credentials(&two, "vspc.example"), &server), Ok(()));
    let cert = Some(folder.file("both.pem", &(me.key.serialize_pem() + &me.pem)));
    let one = Files { ca, cert, ..Files::default() };
    assert_eq!(shake_hands(&credentials(&one, "vspc.example"), &server), Ok(()));
}

#[test]
fn files_that_are_of_no_use_are_named_with_what_is_wrong() {
    let folder = Folder::new("faults");
    let (own, other) = (Pair::own(&["a"], false, false), Pair::own(&["a"], false, false));
    let (cert, key) = (folder.file("a.pem", &own.pem), folder.file("a.key", &own.key.serialize_pem()));
    let other_key = folder.file("b.key", &other.key.serialize_pem());
    let nothing = folder.file("nothing.pem", "nothing\n");
    let cut = folder.file("cut.pem", &own.pem.replace("-----END", ""));
    let missing = folder.0.join("missing.pem");
    let files = |ca: &Path, cert: Option<&Path>, key: Option<&Path>| Files {
        ca: Some(ca.to_owned()),
        cert: cert.map(Path::to_owned),
        key: key.map(Path::to_owned),
        server_name: None,
    };
    for (files, named, words) in [
        (files(&missing, None, None), &missing, "No such file"),
        (files(&nothing, None, None), &nothing, "there is no certificate in it"),
        (files(&cut, None, None), &cut, ""),
        (files(&cert, Some(&nothing), Some(&key)), &nothing, "there is no certificate in it"),
        (files(&cert, Some(&cert), None), &cert, "there is no private key in it"),
        (files(&cert, Some(&cert), Some(&missing)), &missing, "No such file"),
        (files(&cert, Some(&cert), Some(&other_key)), &other_key, "the key does not go with"),
    ] {
        let fault = Credentials::load(&files, "a").unwrap_err();
        let Fault::File { path, why } = &fault else { panic!("{fault}") };
        assert_eq!(path, named);
        assert!(why.contains(words) && !why.contains('\n'), "{why}");
        assert_eq!(fault.to_string(), format!("{}: {why}", named.display()));
    }
    let fault = Credentials::load(&files(&cert, None, None), "a b").unwrap_err();
    assert_eq!(fault.to_string(), "\"a b\" is no name that a certificate could be for");
}

#[test]
fn who_looks_at_certificates_gets_any_but_only_from_who_has_its_key() {
    let own = Pair::own(&["vspc.example"], true, true);
    let name = ServerName::from(IpAddr::from([0; 4]));
    for version in BOTH {
        let config = || Arc::new(config_that_takes_any_certificate().unwrap());
        let server = own.server(&[version], None);
        assert_eq!(play(config(), name.clone(), &server), Ok(()));
        let stolen = Pair { cert: own.cert.clone(), pem: own.pem.clone(), key: KeyPair::generate().unwrap() };
        let outcome = play(config(), name.clone(), &stolen.server(&[version], None));
        assert!(matches!(outcome, Err(Error::InvalidCertificate(_))), "{outcome:?}");
    }
    let parsed = ParsedCertificate::try_from(&own.cert).unwrap();
    assert!(verify_server_name(&parsed, &ServerName::try_from("vspc.example").unwrap()).is_ok());
}

#[test]
fn certificates_of_a_file_are_read_in_its_order() {
    let folder = Folder::new("order");
    let pairs = [Pair::own(&["a"], false, false), Pair::own(&["b"], false, false)];
    let text = pairs.iter().map(|pair| &*pair.pem).collect::<Vec<_>>().join("between them\n");
    let path = folder.file("chain.pem", &text);
    assert_eq!(pem::certificates(&path).unwrap(), pairs.map(|pair| pair.cert));
}

fn credentials(files: &Files, host: &str) -> Credentials {
    Credentials::load(files, host).unwrap()
}

fn shake_hands(credentials: &Credentials, server: &Arc<ServerConfig>) -> Result<(), Error> {
    play(Arc::clone(credentials.config()), credentials.name().clone(), server)
}

/// Plays a handshake until neither has anything to say: with TLS 1.3 a client hears late whether the
/// certificate that it has shown was taken.
fn play(
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    server: &Arc<ServerConfig>,
) -> Result<(), Error> {
    let mut client = ClientConnection::new(config, name)?;
    let mut server = ServerConnection::new(Arc::clone(server))?;
    let mut moved = true;
    while moved {
        moved = false;
        for is_up in [true, false] {
            let mut wire = Vec::new();
            while if is_up { client.wants_write() } else { server.wants_write() } {
                if is_up { client.write_tls(&mut wire) } else { server.write_tls(&mut wire) }.unwrap();
            }
            let mut wire = &wire[..];
            while !wire.is_empty() {
                moved = true;
                if is_up {
                    server.read_tls(&mut wire).unwrap();
                    // What is wrong the client is told by an alert.
                    let _ = server.process_new_packets();
                } else {
                    client.read_tls(&mut wire).unwrap();
                    client.process_new_packets()?;
                }
            }
        }
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok(())
}

/// Who signs certificates.
struct Issuer(CertifiedIssuer<'static, KeyPair>);

impl Issuer {
    fn new() -> Self {
        let mut params = params(&["the issuer"], false);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "the issuer");
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    fn signs(&self, names: &[&str], expired: bool) -> Pair {
        let key = KeyPair::generate().unwrap();
        Pair::of(&params(names, expired).signed_by(&key, &self.0).unwrap(), key)
    }
}

/// A certificate and its key.
struct Pair {
    cert: CertificateDer<'static>,
    pem: String,
    key: KeyPair,
}

impl Pair {
    fn of(cert: &Certificate, key: KeyPair) -> Self {
        Self { cert: cert.der().clone(), pem: cert.pem(), key }
    }

    /// One that nobody else has signed.
    fn own(names: &[&str], calls_itself_a_ca: bool, expired: bool) -> Self {
        let mut params = params(names, expired);
        params.is_ca = match calls_itself_a_ca {
            true => IsCa::Ca(BasicConstraints::Unconstrained),
            false => IsCa::ExplicitNoCa,
        };
        params.distinguished_name.push(DnType::CommonName, names[0]);
        let key = KeyPair::generate().unwrap();
        Self::of(&params.self_signed(&key).unwrap(), key)
    }

    /// A server that shows it, whether the key is its own or another, and asks for one that `asks_for` has
    /// signed.
    fn server(&self, versions: &[Version], asks_for: Option<&Issuer>) -> Arc<ServerConfig> {
        let provider = Arc::new(default_provider());
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
        let key = provider.key_provider.load_private_key(key).unwrap();
        let shown = SingleCertAndKey::from(CertifiedKey::new(vec![self.cert.clone()], key));
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .unwrap();
        let builder = match asks_for {
            None => builder.with_no_client_auth(),
            Some(issuer) => {
                let mut roots = RootCertStore::empty();
                roots.add(issuer.0.der().clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        Arc::new(builder.with_cert_resolver(Arc::new(shown)))
    }
}

fn params(names: &[&str], expired: bool) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    if expired {
        (params.not_before, params.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 1, 1));
    }
    params
}

/// A folder of one test's own, removed with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("vspc-trust-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
