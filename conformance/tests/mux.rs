//! The multiplexer's conformance tools: the corpus holds, wrong transcripts do not, played lines keep their
//! promises.
//!
//! Time is simulated, so a rate or a latency is a result like any other, the same on every machine.

use std::path::Path;
use std::process::Command;

use clap::Parser;
use vspc_conformance::mux::transcript::{Transcript, TranscriptError, collect, judge_file};
use vspc_conformance::mux::{PlayArgs, Report, play};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    play: PlayArgs,
}

fn played(args: &str) -> Report {
    let line = Line::parse_from(["play"].into_iter().chain(args.split_whitespace()));
    play(&line.play).unwrap_or_else(|error| panic!("{args}: {error}"))
}

fn p99(sorted: &[f64]) -> f64 {
    sorted[(sorted.len() * 99 / 100).min(sorted.len() - 1)]
}

#[test]
fn every_transcript_of_the_corpus_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/mux");
    let files = collect(&[folder]).unwrap();
    assert!(files.len() >= 10, "{}", files.len());
    for file in files {
        let cuts = judge_file(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        assert!(cuts >= 2);
    }
}

#[test]
fn a_transcript_that_expects_something_else_does_not_hold() {
    for (text, line) in [
        ("set role host\n< 00", 2),
        ("set role guest\n! open g1\n! open g1", 3),
        ("set role guest\n? opened 1", 2),
        ("set role guest\n> 0000000000000001 0000000f 616263", 2),
    ] {
        match Transcript::parse(text).unwrap().judge() {
            Err(TranscriptError::Judged { line: at, .. }) => assert_eq!(at, line, "{text}"),
            other => panic!("{text}: {other:?}"),
        }
    }
    for text in ["> 0", "hello", "set role", "@ soon", "layer cake"] {
        assert!(matches!(Transcript::parse(text), Err(TranscriptError::Syntax { line: 1, .. })), "{text}");
    }
}

#[test]
fn bulk_over_a_clean_line_is_98_percent_of_it() {
    let report = played("--bytes 500000 --chunk 64");
    assert!(report.share >= 0.98, "{}", report.share);
    assert_eq!(report.repeated, 0);
}

#[test]
fn keys_beside_bulk_wait_three_frame_times_at_most() {
    for frame in [244, 1024, 4096] {
        let report = played(&format!("--keys 2 --bytes 400000 --max-frame {frame}"));
        for stream in report.streams.iter().filter(|stream| stream.kind == "keys") {
            assert!(stream.latency.len() > 100);
            let wait = p99(&stream.latency) / report.frame_ms;
            assert!(wait <= 3.0, "{wait} frame times of {frame}");
        }
    }
}

#[test]
fn a_stalled_reader_leaves_the_others_at_full_speed() {
    let report = played("--bytes 1000000 --stalled 1 --chunk 64");
    // The stalled stream's window crosses the line once, and nothing after it.
    let line_bytes = report.carried[0] as f64;
    assert!(1_000_000.0 / (line_bytes - 65536.0) >= 0.98, "{line_bytes}");
}

#[test]
fn selective_repeat_keeps_its_goodput_on_a_bad_line() {
    let clean = played("--link selective --bytes 300000").goodput;
    for (rate, part) in [("1e-4", 0.85), ("1e-3", 0.55)] {
        for seed in 1..=3 {
            let report = played(&format!("--errors {rate} --bytes 300000 --seed {seed}"));
            assert!(report.goodput >= part * clean, "{rate}, seed {seed}: {} of {clean}", report.goodput);
            assert!(report.damaged > 0);
        }
    }
}

#[test]
fn a_line_whose_speed_is_not_told_carries_as_much_as_one_whose_is() {
    for baud in [9600, 19_200, 38_400, 57_600, 115_200, 230_400, 460_800, 921_600] {
        // A UART's FIFO; a driver that takes 4 KiB at once, so that answers are late by as much.
        for chunk in [16, 4096] {
            let args = format!("--link selective --baud {baud} --chunk {chunk} --bytes {}", baud * 2);
            let [told, untold] = [args.clone(), format!("{args} --untold")].map(|args| played(&args));
            let share = untold.goodput / told.goodput;
            assert!(share >= 0.95, "{baud} baud, {chunk} at a time: {share}");
            let [host, _] = untold.link.unwrap();
            assert!(host.repeated * 20 <= host.frames, "{} of {} again", host.repeated, host.frames);
        }
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    let args = "--errors 1e-3 --keys 1 --bytes 50000 --seed 7";
    assert_eq!(played(args).to_json(), played(args).to_json());
}

#[test]
fn lines_of_every_kind_lose_nothing() {
    for seed in 1..=10 {
        for args in [
            "--drop 1e-3",
            "--flip 1e-3",
            "--insert 1e-3 --link go-back-n",
            "--errors 1e-3 --delay 300 --chunk 1",
            "--baud 10000000 --delay 0 --chunk 4096 --bulk 3 --window 0",
            "--errors 3e-3 --payload 64 --link-window 32",
        ] {
            played(&format!("{args} --bytes 20000 --seed {seed}"));
        }
    }
}

#[test]
fn two_processes_verify_each_other() {
    let program = env!("CARGO_BIN_EXE_vspc-conformance");
    for (ours, theirs) in [
        (&[][..], &[][..]),
        (&["--pty"][..], &[][..]),
        (&["--link", "selective"][..], &["--link", "selective"][..]),
        (&["--pty", "--link", "go-back-n"][..], &["--link", "go-back-n"][..]),
    ] {
        let output = Command::new(program)
            .args(["mux", "peer", "--json", "--bytes", "200000"])
            .args(ours)
            .args(["--", program, "mux", "peer", "--role", "guest", "--stdio"])
            .args(theirs)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{ours:?}: {said} {}", String::from_utf8_lossy(&output.stderr));
        assert!(said.contains("\"bytes\":600000"), "{said}");
    }
}

#[test]
fn a_peer_that_speaks_something_else_is_an_error_and_not_a_hang() {
    let program = env!("CARGO_BIN_EXE_vspc-conformance");
    let output = Command::new(program)
        .args(["mux", "peer", "--patience", "1", "--", "sh", "-c", "echo hello; exec cat > /dev/null"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no progress"));
}
