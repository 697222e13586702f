//! The whole corpus against the core, in memory: as it is written, and however its bytes are cut (law 5).

use vspc_conformance::drive::{Cut, Memory, Options, Outcome, Pace, Played, Values, play};
use vspc_conformance::transcript::{Transcript, corpus};

/// One run against a fresh concentrator.
fn run(transcript: &Transcript, seed: u64, pace: Pace, cut: Cut) -> Played {
    let mut network = Memory::new(&transcript.config, seed, pace);
    play(transcript, &mut network, &Values::new(seed), Options { cut, ..Options::default() })
}

fn all() -> Vec<Transcript> {
    let only = std::env::var("ONLY").unwrap_or_default();
    let mut all = corpus().unwrap_or_else(|error| panic!("{error}"));
    all.retain(|transcript| transcript.id.contains(&only));
    all
}

/// Collects failures, so that one run tells all of them.
fn judge(failures: &mut Vec<String>, what: &str, transcript: &Transcript, played: &Played) {
    let failure = match &played.outcome {
        Outcome::Pass => return,
        Outcome::Fail(failure) => failure.to_string(),
        // The core has all that a transcript may ask for; but this one is not set up to go over to TLS.
        Outcome::NotOffered(_) if transcript.is_about_upgrade() => return,
        Outcome::NotOffered(why) => format!("not offered: {why}"),
    };
    let log = played.log.join("\n    ");
    failures.push(format!("{} {what}\n{failure}\n    {log}", transcript.id));
}

/// Law 5: not only the verdict stays the same, every peer also hears the very same bytes.
fn compare(failures: &mut Vec<String>, what: &str, transcript: &Transcript, whole: &Played, cut: &Played) {
    for ((name, before), (_, after)) in whole.heard.iter().zip(&cut.heard) {
        if before != after {
            let id = &transcript.id;
            failures.push(format!("{id} {what}: {name} hears\n  {after:02x?}\n  and not\n  {before:02x?}"));
            return;
        }
    }
}

fn report(failures: &[String], of: usize) {
    assert!(failures.is_empty(), "{} of {of} fail:\n\n{}", failures.len(), failures.join("\n\n"));
}

#[test]
fn the_corpus_is_read_and_every_section_has_transcripts() {
    let all = corpus().unwrap_or_else(|error| panic!("{error}"));
    for section in vspc_conformance::transcript::Section::ALL {
        assert!(all.iter().any(|transcript| transcript.section == section), "{section:?}");
    }
}

#[test]
fn the_core_plays_the_corpus() {
    let all = all();
    let mut failures = Vec::new();
    for transcript in &all {
        let played = run(transcript, 1, Pace::default(), Cut::Whole);
        judge(&mut failures, "", transcript, &played);
    }
    report(&failures, all.len());
}

#[test]
fn chance_changes_nothing() {
    let all = all();
    let mut failures = Vec::new();
    for transcript in &all {
        for seed in 2..20 {
            let played = run(transcript, seed, Pace::default(), Cut::Whole);
            judge(&mut failures, &format!("seed {seed}"), transcript, &played);
            if !matches!(played.outcome, Outcome::Pass) {
                break;
            }
        }
    }
    report(&failures, all.len());
}

#[test]
fn how_sockets_take_and_give_bytes_changes_nothing() {
    let all = all();
    let mut failures = Vec::new();
    for transcript in &all {
        for batched in [false, true] {
            for write in [1, 2, 7, usize::MAX] {
                for cut in [Cut::Whole, Cut::Bytes] {
                    let pace = Pace { write, batched };
                    let played = run(transcript, 1, pace, cut);
                    judge(&mut failures, &format!("{pace:?} {cut:?}"), transcript, &played);
                }
            }
        }
    }
    report(&failures, all.len());
}

#[test]
fn every_two_way_cut_of_every_send_changes_nothing() {
    // Of long sends, which are long runs of one byte, the ends are the interesting part.
    let is_interesting = |at: usize, len: usize| at < 600 || at + 40 > len;
    every_cut_changes_nothing(|send, len| {
        (1..len).filter(|at| is_interesting(*at, len)).map(|at| Cut::Two(send, at)).collect()
    });
}

#[test]
fn every_three_way_cut_of_every_short_send_changes_nothing() {
    const SHORT: usize = 16;
    every_cut_changes_nothing(|send, len| {
        let len = if len <= SHORT { len } else { 0 };
        let both = |first| (first + 1..len).map(move |second| Cut::Three(send, first, second));
        (1..len).flat_map(both).collect()
    });
}

/// Plays each transcript as it is written, and again with each send cut in all of its `cuts`.
fn every_cut_changes_nothing(cuts: impl Fn(usize, usize) -> Vec<Cut>) {
    let all = all();
    let mut failures = Vec::new();
    for transcript in &all {
        let whole = run(transcript, 1, Pace::default(), Cut::Whole);
        if !matches!(whole.outcome, Outcome::Pass) {
            continue;
        }
        for cut in whole.sends.iter().enumerate().flat_map(|(send, len)| cuts(send, *len)) {
            let played = run(transcript, 1, Pace::default(), cut);
            judge(&mut failures, &format!("{cut:?}"), transcript, &played);
            // What a multiplexer acknowledges at a time follows what arrives at a time.
            if !transcript.id.starts_with("operator-") {
                compare(&mut failures, &format!("{cut:?}"), transcript, &whole, &played);
            }
            if !matches!(played.outcome, Outcome::Pass) {
                break;
            }
        }
    }
    report(&failures, all.len());
}
