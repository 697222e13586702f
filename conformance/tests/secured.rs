//! The corpus against the core in memory, behind TLS: what hosts and clients hear is what they hear in clear.

use std::sync::{Arc, OnceLock};

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use vspc_conformance::drive::{Cut, Memory, Options, Outcome, Pace, Played, Secured, Values, play};
use vspc_conformance::transcript::{Transcript, corpus};
use vspc_conformance::tunnel::{Trust, VmForm};
use vspc_core::concentrator::InBandTls;
use vspc_core::transport::{Acceptor, Acceptors};

fn acceptor() -> Acceptor {
    static CONFIG: OnceLock<Acceptor> = OnceLock::new();
    let make = || {
        let made = rcgen::generate_simple_self_signed(["vspc.example".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key);
        Acceptor::new(config.unwrap())
    };
    CONFIG.get_or_init(make).clone()
}

fn secured(vms: VmForm, in_band: InBandTls, clients: bool) -> Secured {
    static PEERS: OnceLock<Arc<rustls::ClientConfig>> = OnceLock::new();
    let peers = PEERS.get_or_init(|| Trust::default().into_config().unwrap());
    let own = || Some(acceptor());
    let acceptors = Acceptors { vms: own(), clients: own(), admin: own(), lines: None };
    Secured { acceptors, peers: Arc::clone(peers), vms, clients, in_band }
}

fn run(transcript: &Transcript, secured: Option<&Secured>, pace: Pace, cut: Cut) -> Played {
    let settings = &transcript.config;
    let mut network = match secured {
        Some(secured) => Memory::secured(settings, 1, pace, secured.clone()),
        None => Memory::new(settings, 1, pace),
    };
    play(transcript, &mut network, &Values::new(1), Options { cut, ..Options::default() })
}

/// Plays all transcripts behind TLS, but for those that `leave` names.
fn the_corpus_is_played(secured: &Secured, leave: impl Fn(&Transcript) -> bool) {
    let only = std::env::var("ONLY").unwrap_or_default();
    let all = corpus().unwrap_or_else(|error| panic!("{error}"));
    let mut failures = Vec::new();
    for transcript in all.iter().filter(|t| t.id.contains(&only) && !leave(t)) {
        let clear = run(transcript, None, Pace::default(), Cut::Whole);
        for (pace, cut) in [
            (Pace::default(), Cut::Whole),
            (Pace { write: 7, batched: true }, Cut::Whole),
            (Pace { write: 700, batched: false }, Cut::Bytes),
        ] {
            let played = run(transcript, Some(secured), pace, cut);
            let what = match &played.outcome {
                Outcome::Fail(failure) => failure.to_string(),
                Outcome::NotOffered(why) => format!("not offered: {why}"),
                Outcome::Pass if played.heard != clear.heard && same(transcript, secured) => {
                    format!("heard\n  {:02x?}\n  and not\n  {:02x?}", played.heard, clear.heard)
                }
                Outcome::Pass => continue,
            };
            let log = played.log.join("\n    ");
            failures.push(format!("{} {pace:?} {cut:?}\n{what}\n    {log}", transcript.id));
        }
    }
    assert!(failures.is_empty(), "{} fail:\n\n{}", failures.len(), failures.join("\n\n"));
}

/// Whether TLS makes no difference to what is said inside it.
fn same(transcript: &Transcript, secured: &Secured) -> bool {
    secured.in_band == InBandTls::Off && !transcript.is_about_upgrade()
}

#[test]
fn the_core_plays_the_corpus_behind_tls_from_the_first_byte() {
    // Inside TLS the offer is declined, as it is in clear.
    let secured = secured(VmForm::On, InBandTls::Off, true);
    the_corpus_is_played(&secured, takes_part);
}

#[test]
fn the_core_plays_the_corpus_behind_the_upgrade() {
    let secured = secured(VmForm::InBand, InBandTls::Require, true);
    the_corpus_is_played(&secured, Transcript::is_about_upgrade);
}

#[test]
fn the_core_plays_the_corpus_in_clear_where_it_offers_the_upgrade() {
    let secured = secured(VmForm::Off, InBandTls::Offer, false);
    // The one says that it declines, the other that it waits for nothing: not even for a host's offer.
    let declined = ["session-auth-refused", "session-opens-at-once"];
    the_corpus_is_played(&secured, |transcript| declined.contains(&transcript.id.as_str()));
}

/// Whether it needs a server that goes over to TLS.
fn takes_part(transcript: &Transcript) -> bool {
    let declined = ["session-auth-refused", "session-auth-answered", "session-as-hosts-do"];
    transcript.is_about_upgrade() && !declined.contains(&transcript.id.as_str())
}
