//! Proof that the suite finds what it is for: servers that are wrong on purpose, one for each class of fault
//! that servers in the field have, and the cases that must name it. And proof that every case that binds
//! every server can fail.

mod memory;
mod program;
mod server;
mod tcp;

use std::collections::BTreeSet;

use memory::Small;
use server::Fault;
use vspc_conformance::check::{Selection, Verdict, judge};
use vspc_conformance::drive::{Options, Values, play};
use vspc_conformance::transcript::{Scope, corpus};

/// The cases that fail or are not offered, of those that bind everybody and those that a fault is named by.
fn check(fault: Fault) -> (Vec<String>, Vec<String>) {
    let corpus = corpus().unwrap_or_else(|error| panic!("{error}"));
    let named = |id: &str| FAULTS.iter().any(|(_, ids)| ids.contains(&id));
    let mut cases = Selection { own: true, slow: true, only: Vec::new() }.choose(&corpus);
    cases.retain(|transcript| transcript.scope == Scope::Any || named(&transcript.id));
    let (mut failed, mut not_offered) = (Vec::new(), Vec::new());
    for transcript in cases {
        let played = play(transcript, &mut Small::new(fault), &Values::new(7), Options::default());
        let log = played.log.join("\n    ");
        match judge(transcript, played) {
            Verdict::Fail(failure) => {
                if fault == Fault::None {
                    println!("{}\n{failure}\n    {log}", transcript.id);
                }
                failed.push(transcript.id.clone());
            }
            Verdict::NotOffered(_) => not_offered.push(transcript.id.clone()),
            _ => {}
        }
    }
    (failed, not_offered)
}

#[test]
fn a_small_correct_server_passes() {
    let (failed, not_offered) = check(Fault::None);
    let not_offered: Vec<&String> = not_offered.iter().filter(|id| !is_beyond_it(id)).collect();
    assert!(failed.is_empty() && not_offered.is_empty(), "{failed:?} {not_offered:?}");
}

/// It declines TLS in band and has no admin listener, and so cannot do either wrong.
fn is_beyond_it(id: &str) -> bool {
    id.starts_with("session-auth-") || id.starts_with("admin-")
}

/// Faults as faults.md tells them, and the cases that name them.
const FAULTS: &[(Fault, &[&str])] = &[
    (Fault::NoGoahead, &["vmotion-completes", "vmotion-queued-input-goes-first"]),
    (
        Fault::SequenceNotDoubled,
        &["vmotion-ff-in-sequence", "vmotion-ff-everywhere", "vmotion-notnow-doubles-ff"],
    ),
    (Fault::SecretNotDoubled, &["vmotion-completes"]),
    (Fault::HeldUntilNextKey, &["vmotion-held-input-does-not-wait-for-a-key", "vmotion-abort"]),
    (Fault::InputToBothHosts, &["vmotion-input-is-held"]),
    (Fault::InputToSource, &["vmotion-input-is-held"]),
    (Fault::HeldInputLost, &["vmotion-input-is-held", "vmotion-held-input-with-ff", "vmotion-abort"]),
    (Fault::HoldsAfterAbort, &["vmotion-abort", "vmotion-abort-after-peer", "vmotion-target-dies-abort"]),
    (Fault::AbortByAnyone, &["vmotion-abort-by-another", "vmotion-abort-by-target"]),
    (
        Fault::BelievesAnySecret,
        &["vmotion-wrong-secret", "vmotion-foreign-secret", "vmotion-secret-too-long"],
    ),
    (
        Fault::SecretLivesOn,
        &["vmotion-reused-secret", "vmotion-begin-replaces", "vmotion-abort-kills-the-secret"],
    ),
    (
        Fault::SourceEndEndsMove,
        &[
            "vmotion-source-ends-before-complete",
            "vmotion-source-ends-without-client",
            "vmotion-source-is-cut-before-peer",
        ],
    ),
    (
        Fault::CompleteCrashes,
        &[
            "vmotion-complete-without-peer",
            "vmotion-complete-without-peer-or-client",
            "vmotion-complete-on-source",
        ],
    ),
    (Fault::TargetJoinsByUuid, &["vmotion-made-up-peer", "vmotion-reused-secret"]),
    (Fault::BeginBeforeIdentity, &["vmotion-begin-before-identity"]),
    (Fault::ForgetsTargetOnAbort, &["vmotion-abort-kills-the-secret", "vmotion-abort"]),
    (Fault::DropsNul, &["telnet-lone-nul", "telnet-all-bytes-from-client", "robust-flood-of-nul"]),
    (Fault::DropsXon, &["telnet-all-bytes-from-vm"]),
    (Fault::Utf8Only, &["telnet-all-bytes-from-vm", "telnet-iac-iac"]),
    (Fault::FoldsLineEnds, &["telnet-line-ends-from-vm"]),
    (Fault::HoldsUntilNegotiated, &["client-gdb-packet-arrives", "client-raw-types"]),
    (
        Fault::ForgetsAcrossReads,
        &[
            "telnet-command-cut",
            "telnet-command-cut-without-client",
            "telnet-iac-iac-cut",
            "session-one-byte-segments",
            "session-one-byte-segments-without-client",
        ],
    ),
    (Fault::EscapedIacEndsSub, &["sub-with-doubled-iac", "session-unknown-code-255"]),
    (Fault::DataIacNotUndoubled, &["telnet-iac-iac", "telnet-all-bytes-from-client"]),
    (Fault::DataIacNotDoubled, &["telnet-iac-iac", "telnet-all-bytes-from-vm"]),
    (Fault::TailLost, &["robust-last-words"]),
    (Fault::LineBuffered, &["client-last-line-without-newline"]),
    (Fault::Echoes, &["telnet-no-echo"]),
    (Fault::NvtNulKept, &["telnet-cr-nul-from-client-nvt"]),
    (Fault::UnknownFromVmKills, &["session-unknown-from-vm", "session-unknown-of-unknown"]),
    (
        Fault::GarbageKills,
        &[
            "robust-garbage",
            "sub-of-vmware-without-code",
            "sub-empty-without-client",
            "telnet-stray-se-from-vm",
        ],
    ),
    (Fault::OverlongCloses, &["sub-overlong", "sub-overlong-without-client"]),
    (Fault::AnswersEverything, &["option-no-loop-with-answer-everything", "option-refusal-of-refusal"]),
    (Fault::NoTimingMark, &["telnet-timing-mark-from-client", "telnet-timing-mark-from-vm"]),
    (Fault::TimingMarkOnce, &["telnet-timing-mark-each-time"]),
    (Fault::NoAyt, &["telnet-ayt"]),
    (Fault::WaitsForVm, &["session-as-hosts-do"]),
    (Fault::KnownOnlyAsAnswer, &["session-known-suboptions-at-once"]),
    (Fault::UnknownNotAnswered, &["session-unknown-code", "session-unknown-codes-each"]),
    (Fault::AcceptsDirectionC, &["session-direction-c-refused"]),
    (Fault::DirectionCUnanswered, &["session-direction-c"]),
    (Fault::KeepsStrangers, &["session-not-a-vm", "session-not-a-vm-telnet"]),
    (Fault::ClosesOldLeg, &["identity-half-open", "identity-half-open-without-client"]),
    (Fault::ClosesClientsWithVm, &["identity-reboot", "identity-reset"]),
    (
        Fault::NewConsoleEachTime,
        &["identity-reboot", "identity-port-is-sticky", "client-survives-reboot-twice"],
    ),
    (Fault::IdentifiesByName, &["identity-same-name"]),
    (Fault::CaseSensitiveUuid, &["identity-uuid-in-capitals"]),
    (Fault::NoBiosUuid, &["identity-bios-uuid-when-empty", "identity-bios-uuid-when-unknown"]),
    (Fault::EarlyDataLost, &["identity-data-before"]),
    (Fault::EarlyDataEverywhere, &["identity-data-before-not-elsewhere"]),
    (Fault::OneConsole, &["identity-two-vms"]),
    (
        Fault::CommandsAsData,
        &["telnet-nothing-to-do", "telnet-nothing-to-do-from-client", "client-begins-with-nop"],
    ),
    (
        Fault::DeafAfterOddities,
        &[
            "telnet-nothing-to-do-without-client",
            "telnet-unknown-command-without-client",
            "telnet-stray-se-without-client",
            "telnet-synch-without-client",
            "sub-of-unknown-option-without-client",
            "sub-empty-without-client",
            "sub-cut-without-client",
            "sub-with-doubled-iac-without-client",
            "sub-overlong-without-client",
        ],
    ),
    (
        Fault::DiesWithStrangers,
        &[
            "robust-web-browser-without-client",
            "robust-garbage-without-client",
            "robust-dies-before-identity-without-client",
            "robust-ends-in-the-middle-without-client",
            "robust-connect-and-go",
            "robust-ends-in-iac",
        ],
    ),
    (Fault::NameIsAFile, &["identity-name-with-anything", "identity-name-with-anything-without-client"]),
    (Fault::EarlyDataCloses, &["identity-data-before", "identity-data-before-without-client"]),
    (Fault::OnceOnly, &["identity-reboot", "identity-reboot-without-client"]),
    (Fault::NoSession, &["session-vm-opens", "session-nobody-waits", "robust-slow-session-without-client"]),
    (Fault::KnownOnceOnly, &["session-known-suboptions-twice"]),
    (
        Fault::RefusesSilently,
        &[
            "option-unknown-refused",
            "option-unknown-refused-to-client",
            "option-255",
            "session-auth-answered",
            "session-com-port-answered",
        ],
    ),
    (Fault::AsksAgain, &["option-turned-off", "option-turned-off-and-on", "option-ours-turned-off"]),
    (Fault::AgreesAgain, &["option-said-again", "option-vmware-said-again"]),
    (Fault::NoOffersToClients, &["client-offers-character-mode"]),
    (Fault::DoubledIacObeyed, &["telnet-all-bytes-without-client", "sub-with-doubled-iac-without-client"]),
    (Fault::SameNameCloses, &["identity-same-name", "identity-same-name-without-client"]),
    (Fault::ProxyCodesKill, &["robust-proxy-codes-from-vm", "robust-proxy-codes-from-vm-without-client"]),
    (Fault::NonsenseUuidKills, &["identity-uuid-nonsense"]),
    (Fault::FloodCloses, &["robust-flood-of-ff", "robust-flood-of-ff-without-client"]),
    // As VMware's sample does: ACCEPT, and then no TLS.
    (
        Fault::StaysInClear,
        &["session-auth-start-unasked", "session-auth-no-handshake", "session-auth-clear-behind-start"],
    ),
    (Fault::DeafAfterNull, &["session-auth-null"]),
    (Fault::IgnoresInterrupt, &["telnet-interrupt"]),
    (Fault::TypesOpenings, &["client-opens-late"]),
    (Fault::RawByFirstByte, &["client-answers-behind-text"]),
    (
        Fault::TypesStrangers,
        &[
            "client-web-page-is-not-typed",
            "client-tls-hello-is-not-typed",
            "client-ssh-is-not-typed",
            "client-proxy-line-is-not-typed",
        ],
    ),
    (Fault::DeafAdmin, &["admin-list", "admin-version-old"]),
    (Fault::FinEndsOutput, &["client-input-ends"]),
    (Fault::InsistsOnBinary, &["option-all-refused-by-vm", "option-all-refused-by-vm-without-client"]),
];

#[test]
fn every_fault_is_caught_and_named_and_every_case_can_fail() {
    let mut missed = Vec::new();
    let mut able_to_fail = BTreeSet::new();
    for (fault, named) in FAULTS {
        let (failed, _) = check(*fault);
        println!("{fault:?}: {} cases fail", failed.len());
        able_to_fail.extend(failed.iter().cloned());
        missed.extend(
            named
                .iter()
                .filter(|id| !failed.iter().any(|failed| failed == *id))
                .map(|id| format!("{fault:?} passes {id}")),
        );
    }
    let corpus = corpus().unwrap_or_else(|error| panic!("{error}"));
    let never = corpus.iter().filter(|t| t.scope == Scope::Any && !able_to_fail.contains(&t.id));
    missed.extend(never.map(|t| format!("no wrong server fails {}", t.id)));
    assert!(missed.is_empty(), "{missed:#?}");
}

#[test]
fn a_server_that_cannot_move_vms_is_told_apart_from_one_that_does_it_wrong() {
    let (failed, not_offered) = check(Fault::NoMoves);
    assert!(failed.is_empty(), "{failed:?}");
    let not_offered: Vec<&String> = not_offered.iter().filter(|id| !is_beyond_it(id)).collect();
    assert!(
        not_offered.len() > 40 && not_offered.iter().all(|id| id.starts_with("vmotion-")),
        "{not_offered:?}"
    );
}
