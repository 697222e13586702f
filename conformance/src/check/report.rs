//! What came of a run, for people and for programs.

use super::{Case, Checked, Verdict};
use crate::transcript::{Section, Transcript};
use serde_json::{Value, json};
use std::io::Write;

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
pub(super) fn table(target: &str, checked: &Checked<'_>, left_out: usize, verbose: bool) {
    println!("{target}\n");
    for section in Section::ALL {
        let of_section: Vec<_> =
            checked.cases.iter().filter(|case| case.transcript.section == section).collect();
        if of_section.is_empty() {
            continue;
        }
        let passed = of_section.iter().filter(|case| case.verdict == Verdict::Pass).count();
        println!("{} ({passed} of {} pass)", section.title(), of_section.len());
        for case in of_section {
            one(case, checked.died_during.contains(&case.transcript.id.as_str()), verbose);
        }
        println!();
    }
    println!("{}", summary(checked, left_out));
}

fn one(case: &Case<'_>, last: bool, verbose: bool) {
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
    if last {
        println!("        and then  the server took no connections any more");
    }
}

/// Why nothing more was played.
fn death(died_during: &[&str]) -> String {
    match died_during {
        [] => "the server took no connections any more".to_owned(),
        [one] => format!("the server took no connections any more after {one}"),
        several => format!(
            "the server took no connections any more after one of {} (--jobs 1 tells which)",
            several.join(", ")
        ),
    }
}

fn summary(checked: &Checked<'_>, left_out: usize) -> String {
    let cases = &checked.cases;
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
        text.push_str(&format!(", {not_run} not run"));
    }
    if not_run > 0 || !checked.died_during.is_empty() {
        text.push_str(&format!("; {}", death(&checked.died_during)));
    }
    if left_out > 0 {
        text.push_str(&format!("; {left_out} slow ones left out (--slow)"));
    }
    text
}

/// One object for programs, written as the cases end: each is a line of its own, in the order of ending.
pub(super) struct Stream {
    first: bool,
}

impl Stream {
    pub(super) fn begin(target: &str) -> Self {
        write(&format!("{{\"target\":{},\"cases\":[\n", json!(target)));
        Self { first: true }
    }

    pub(super) fn case(&mut self, case: &Case<'_>) {
        let comma = if std::mem::take(&mut self.first) { "" } else { ",\n" };
        write(&format!("{comma}{}", result(case)));
    }

    pub(super) fn end(self, checked: &Checked<'_>, left_out: usize) {
        let rest = json!({
            "summary": summary(checked, left_out),
            "left_out": left_out,
            "died_during": checked.died_during,
        });
        // What is inside the braces goes on with the object that was begun.
        write(&format!("\n],{}\n", rest.to_string().trim_start_matches('{')));
    }
}

/// Whoever reads this may have gone: then there is nobody to tell.
fn write(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
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
