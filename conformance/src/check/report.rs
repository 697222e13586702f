//! What came of a run, for people and for programs.

use super::{Case, Verdict};
use crate::transcript::{Section, Transcript};
use serde_json::{Value, json};

/// The cases, without playing them.
pub(super) fn list(chosen: &[&Transcript], as_json: bool) {
    if as_json {
        let cases: Vec<Value> = chosen.iter().map(|t| about(t)).collect();
        println!("{:#}", json!({ "cases": cases }));
        return;
    }
    for section in Section::ALL {
        let cases: Vec<_> = chosen.iter().filter(|t| t.section == section).collect();
        if cases.is_empty() {
            continue;
        }
        println!("{}", section.title());
        for t in cases {
            println!("  {:44} {}  [{}]{}", t.id, t.title, t.source, needs(t));
        }
        println!();
    }
    println!("{} cases", chosen.len());
}

fn needs(t: &Transcript) -> String {
    let mut needs: Vec<String> = t.config.iter().map(ToString::to_string).collect();
    if t.needs_client_port() {
        needs.push("client port".to_owned());
    }
    if t.is_slow() {
        needs.push(format!("{} s", t.waits().as_secs()));
    }
    if needs.is_empty() { String::new() } else { format!("  needs {}", needs.join(", ")) }
}

fn about(t: &Transcript) -> Value {
    json!({
        "id": t.id,
        "section": t.section.word(),
        "title": t.title,
        "source": t.source,
        "place": t.place.to_string(),
        "needs_client_port": t.needs_client_port(),
        "needs": t.config.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "waits_seconds": t.waits().as_secs_f64(),
    })
}

/// The table that people read: failures in full, everything else in a line.
pub(super) fn table(target: &str, cases: &[Case<'_>], left_out: usize, verbose: bool) {
    println!("{target}\n");
    for section in Section::ALL {
        let of_section: Vec<_> = cases.iter().filter(|case| case.transcript.section == section).collect();
        if of_section.is_empty() {
            continue;
        }
        let passed = of_section.iter().filter(|case| case.verdict == Verdict::Pass).count();
        println!("{} ({passed} of {} pass)", section.title(), of_section.len());
        for case in of_section {
            one(case, verbose);
        }
        println!();
    }
    println!("{}", summary(cases, left_out));
}

fn one(case: &Case<'_>, verbose: bool) {
    let t = case.transcript;
    match &case.verdict {
        Verdict::Pass => println!("  pass  {:44} {}", t.id, t.title),
        Verdict::NotRun => println!("  -     {:44} not run: the server takes no connections any more", t.id),
        Verdict::NotOffered(why) => println!("  n/a   {:44} {why}", t.id),
        Verdict::Fail(failure) => {
            println!("  FAIL  {:44} {}", t.id, t.title);
            println!("        says who  {}", t.source);
            println!("        line      {}: {}", failure.place, failure.step);
            println!("        expected  {}", failure.expected);
            println!("        got       {}", failure.got);
            if verbose {
                case.log.iter().for_each(|line| println!("          {line}"));
            }
        }
    }
}

fn summary(cases: &[Case<'_>], left_out: usize) -> String {
    let count = |is: fn(&Verdict) -> bool| cases.iter().filter(|case| is(&case.verdict)).count();
    let mut text = format!(
        "{} cases: {} pass, {} fail, {} not offered",
        cases.len(),
        count(|v| *v == Verdict::Pass),
        count(|v| matches!(v, Verdict::Fail(_))),
        count(|v| matches!(v, Verdict::NotOffered(_))),
    );
    let not_run = count(|v| *v == Verdict::NotRun);
    if not_run > 0 {
        text.push_str(&format!(", {not_run} not run: the server takes no connections any more"));
    }
    if left_out > 0 {
        text.push_str(&format!("; {left_out} slow ones left out (--slow)"));
    }
    text
}

/// One object for programs.
pub(super) fn json(target: &str, cases: &[Case<'_>], left_out: usize) {
    let all: Vec<Value> = cases.iter().map(result).collect();
    println!(
        "{:#}",
        json!({ "target": target, "summary": summary(cases, left_out), "left_out": left_out, "cases": all })
    );
}

fn result(case: &Case<'_>) -> Value {
    let mut value = about(case.transcript);
    let (verdict, why) = match &case.verdict {
        Verdict::Pass => ("pass", json!(null)),
        Verdict::NotRun => ("not run", json!(null)),
        Verdict::NotOffered(why) => ("not offered", json!({ "reason": why })),
        Verdict::Fail(failure) => (
            "fail",
            json!({
                "line": failure.place.to_string(),
                "step": failure.step,
                "expected": failure.expected,
                "got": failure.got,
                "dialogue": case.log,
            }),
        ),
    };
    value["verdict"] = json!(verdict);
    value["why"] = why;
    value["seconds"] = json!(case.took.as_secs_f64());
    value
}
