//! Both ends of a TLS connection of ours, with each other.

use std::io::IoSlice;
use std::sync::Arc;

use rcgen::{CertificateParams, CertifiedKey};
use rustls::crypto::ring::default_provider;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};

use super::*;

struct Pair {
    acceptor: Acceptor,
    connector: Connector,
}

fn made() -> CertifiedKey<rcgen::KeyPair> {
    let signing_key = rcgen::KeyPair::generate().unwrap();
    let names = ["attach.example".to_owned(), "192.0.2.1".to_owned()];
    let cert = CertificateParams::new(names).unwrap().self_signed(&signing_key).unwrap();
    CertifiedKey { cert, signing_key }
}

fn pair(version: &'static SupportedProtocolVersion) -> Pair {
    let (own, other) = (made(), made());
    pair_trusting(version, &own, [&own, &other])
}

fn pair_trusting<const N: usize>(
    version: &'static SupportedProtocolVersion,
    own: &CertifiedKey<rcgen::KeyPair>,
    trusted: [&CertifiedKey<rcgen::KeyPair>; N],
) -> Pair {
    let key = rustls::pki_types::PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(default_provider());
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    for trusted in trusted {
        roots.add(trusted.cert.der().clone()).unwrap();
    }
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Pair { acceptor: Acceptor::new(server), connector: Connector::new(client) }
}

impl Pair {
    fn ends(&self, name: &str) -> [Box<Tls>; 2] {
        let theirs = Tls::accept(&self.acceptor, Vec::new()).unwrap();
        [Tls::connect(&self.connector, name, Vec::new()).unwrap(), theirs]
    }
}

/// Carries what each has for the other, so many bytes at a time, until neither has anything. Returns what
/// each has heard, or what the first that failed says.
fn carry(ends: &mut [Box<Tls>; 2], cut: usize) -> Result<[Vec<u8>; 2], TlsFailure> {
    let mut heard = [Vec::new(), Vec::new()];
    while ends.iter().any(|end| !end.pending().is_empty()) {
        for from in [0, 1] {
            let mut bytes = ends[from].pending().to_vec();
            bytes.truncate(cut);
            ends[from].took(bytes.len());
            ends[1 - from].open(&mut bytes, &mut heard[1 - from])?;
        }
    }
    Ok(heard)
}

#[test]
fn what_one_end_begins_the_other_answers_however_it_is_cut() {
    for version in [&TLS12, &TLS13] {
        let pair = pair(version);
        for (cut, name) in [(1, "attach.example"), (7, "192.0.2.1"), (usize::MAX, "attach.example")] {
            let mut ends = pair.ends(name);
            assert!(!ends[0].is_up() && !ends[0].pending().is_empty(), "it speaks first");
            carry(&mut ends, cut).unwrap();
            assert!(ends.iter().all(|end| end.is_up()), "{version:?} {cut}");
            for round in 0..3 {
                let said = [vec![b'a' + round; 20_000], vec![b'A' + round; 5]];
                for from in [0, 1] {
                    let mut rest = &said[from][..];
                    let mut heard = Vec::new();
                    while !rest.is_empty() {
                        let n = ends[from].seal(&[IoSlice::new(rest)]).unwrap();
                        rest = &rest[n..];
                        heard.extend_from_slice(&carry(&mut ends, cut).unwrap()[1 - from]);
                    }
                    assert!(heard == said[from], "{version:?} {cut} {round}");
                }
            }
            ends[0].close();
            carry(&mut ends, cut).unwrap();
            assert!(ends[1].peer_closed);
        }
    }
}

#[test]
fn another_name_and_a_stranger_are_not_trusted() {
    for version in [&TLS12, &TLS13] {
        let failure = carry(&mut pair(version).ends("other.example"), usize::MAX).unwrap_err();
        assert!(matches!(&failure, TlsFailure::PeerCertificate(why) if why.contains("NotValidForName")));
        let (own, other) = (made(), made());
        let failure = carry(&mut pair_trusting(version, &own, [&other]).ends("attach.example"), usize::MAX);
        assert!(matches!(&failure, Err(TlsFailure::PeerCertificate(_))), "{failure:?}");
        assert!(Tls::connect(&pair(version).connector, "no name", Vec::new()).is_err());
    }
}

#[test]
fn a_target_that_is_no_tls_and_one_that_refuses_at_once_are_told_apart() {
    let pair = pair(&TLS13);
    let mut end = Tls::connect(&pair.connector, "attach.example", Vec::new()).unwrap();
    assert_eq!(end.open(&mut b"220 hello\r\n".to_vec(), &mut Vec::new()), Err(TlsFailure::NotTls));
    let mut end = Tls::connect(&pair.connector, "attach.example", Vec::new()).unwrap();
    let mut refusal = [0x15, 3, 3, 0, 2, 2, 40];
    let failure = end.open(&mut refusal, &mut Vec::new());
    assert_eq!(failure, Err(TlsFailure::Alert("HandshakeFailure".into())));
}
