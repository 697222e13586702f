//! TLS in front of a scripted server: connections are taken off it and passed on in clear. And the
//! certificates for that.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    PKCS_ED25519, date_time_ymd,
};
use rustix::event::{PollFd, PollFlags, poll};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig, ServerConnection};

/// Who signs certificates; or a certificate that has signed itself.
pub(crate) struct Issuer(CertifiedIssuer<'static, KeyPair>);

/// What a server shows, and asks for.
#[derive(Default)]
pub(crate) struct Shown {
    pub(crate) names: &'static [&'static str],
    pub(crate) expired: bool,
    /// For a client's certificate of the same issuer.
    pub(crate) asks: bool,
    /// TLS 1.2, and nothing newer.
    pub(crate) only_12: bool,
}

impl Shown {
    pub(crate) fn localhost() -> Self {
        Self { names: &["localhost"], ..Self::default() }
    }
}

impl Issuer {
    pub(crate) fn new() -> Self {
        Self::itself(&["the issuer"], true, false)
    }

    /// A certificate for these names that nobody else has signed.
    pub(crate) fn itself(names: &[&str], calls_itself_a_ca: bool, expired: bool) -> Self {
        let mut params = params(names, expired);
        params.is_ca = match calls_itself_a_ca {
            true => IsCa::Ca(BasicConstraints::Unconstrained),
            false => IsCa::ExplicitNoCa,
        };
        params.distinguished_name.push(DnType::CommonName, names[0]);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// One that is called as [`Issuer::new`]'s, with a key of another kind.
    pub(crate) fn with_another_kind_of_key() -> Self {
        let mut params = params(&["the issuer"], false);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "the issuer");
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate_for(&PKCS_ED25519).unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// The certificate and its key.
    pub(crate) fn pair(&self) -> ServerConfig {
        let key = PrivateKeyDer::try_from(self.0.key().serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap();
        config.with_no_client_auth().with_single_cert(vec![self.0.der().clone()], key).unwrap()
    }

    /// A certificate for a client, and its key, as PEM.
    pub(crate) fn client(&self, name: &str) -> (String, String) {
        let mut params = params(&[name], false);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    fn server(&self, shown: &Shown) -> ServerConfig {
        let key = KeyPair::generate().unwrap();
        let certificate: CertificateDer<'static> =
            params(shown.names, shown.expired).signed_by(&key, &self.0).unwrap().into();
        let provider = Arc::new(default_provider());
        let versions = if shown.only_12 { &[&TLS12][..] } else { &[&TLS13, &TLS12] };
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .unwrap();
        let config = match shown.asks {
            false => config.with_no_client_auth(),
            true => {
                let mut roots = RootCertStore::empty();
                roots.add(self.0.der().clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                config.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        config.with_single_cert(vec![certificate], key).unwrap()
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

/// A listener that speaks TLS, and passes everything on. It ends with the test.
pub(crate) struct Front {
    pub(crate) address: SocketAddr,
}

impl Front {
    /// In front of that server, with a certificate of this issuer's.
    pub(crate) fn start(server: SocketAddr, issuer: &Issuer, shown: &Shown) -> Self {
        Self::start_as(server, issuer.server(shown))
    }

    pub(crate) fn start_as(server: SocketAddr, config: ServerConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, config) = (listener.local_addr().unwrap(), Arc::new(config));
        thread::spawn(move || {
            for client in listener.incoming() {
                let config = Arc::clone(&config);
                thread::spawn(move || pass(client.unwrap(), server, config));
            }
        });
        Self { address }
    }

    pub(crate) fn url(&self, host: &str) -> String {
        format!("tls://{host}:{}", self.address.port())
    }
}

/// Carries one connection until either end closes.
fn pass(mut client: TcpStream, server: SocketAddr, config: Arc<ServerConfig>) {
    let mut tls = ServerConnection::new(config).unwrap();
    while tls.is_handshaking() {
        if tls.complete_io(&mut client).is_err() {
            // The alert has been sent; closing now with something unread would take it back.
            let _ = client.shutdown(std::net::Shutdown::Write);
            let _ = client.read_to_end(&mut Vec::new());
            return;
        }
    }
    let Ok(mut server) = TcpStream::connect(server) else { return };
    client.set_nonblocking(true).unwrap();
    server.set_nonblocking(true).unwrap();
    let (mut up, mut down) = (Vec::new(), Vec::new());
    // The handshake's last record may have brought some along.
    decrypted(&mut tls, &mut up);
    let mut buf = [0; 16_384];
    let (mut client_ends, mut told) = (false, false);
    loop {
        let flag = |flag: PollFlags, on: bool| if on { flag } else { PollFlags::empty() };
        {
            let to_client =
                flag(PollFlags::IN, !client_ends && up.is_empty()) | flag(PollFlags::OUT, tls.wants_write());
            let to_server = flag(PollFlags::IN, down.is_empty()) | flag(PollFlags::OUT, !up.is_empty());
            poll(&mut [PollFd::new(&client, to_client), PollFd::new(&server, to_server)], None).unwrap();
        }
        if !client_ends && up.is_empty() {
            match tls.read_tls(&mut client) {
                Ok(0) => client_ends = true,
                Ok(_) => {
                    let Ok(state) = tls.process_new_packets() else { return };
                    client_ends |= state.peer_has_closed();
                    decrypted(&mut tls, &mut up);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
        if let Ok(n) = server.write(&up) {
            up.drain(..n);
        }
        if client_ends && up.is_empty() && !told {
            told = true;
            let _ = server.shutdown(std::net::Shutdown::Write);
        }
        if down.is_empty() {
            match server.read(&mut buf) {
                Ok(0) => break,
                Ok(n) => down.extend_from_slice(&buf[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => break,
            }
        }
        let n = tls.writer().write(&down).unwrap();
        down.drain(..n);
        while tls.wants_write() && tls.write_tls(&mut client).is_ok() {}
    }
    tls.send_close_notify();
    while tls.wants_write() && tls.write_tls(&mut client).is_ok() {}
}

fn decrypted(tls: &mut ServerConnection, up: &mut Vec<u8>) {
    let mut buf = [0; 16_384];
    while let Ok(n) = tls.reader().read(&mut buf)
        && n > 0
    {
        up.extend_from_slice(&buf[..n]);
    }
}
