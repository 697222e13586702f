//! One console in bulk, logged and read by a client, beside the same without logs and beside a raw tee.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use memchr::memmem;
use serde_json::{Value, json};

use super::account::{Account, Periods, settle};
use super::place::Place;
use super::server::{Server, wait_for_silence};
use super::{LEAST_LEFT, LogsArgs, tee};
use crate::load::LoadError;
use crate::load::bulk::{Plan, carry};
use crate::load::link::{ClientKind, VmLink, meet, numbered_vm};
use crate::load::pattern::{Content, Pattern, Totals};
use crate::load::process::Meter;
use crate::load::report::Report;
use crate::load::stats::{median, round};
use crate::load::subject::Subject;

/// What one stream came to.
struct Outcome {
    /// Bytes per second that the client got.
    rate: f64,
    /// What the client suffered.
    totals: Totals,
    /// Of a server with logs.
    account: Option<Result<Account, String>>,
    /// The most resident KiB of a server.
    peak: u64,
}

pub(super) fn run(args: &LogsArgs, report: &mut Report) -> Result<(), LoadError> {
    let (mut off, mut on, mut teed) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..args.runs {
        off.push(through_server(args, None, false)?);
        on.push(through_server(args, None, true)?);
        teed.push(through_tee(args)?);
    }
    let rate = |runs: &[Outcome]| median(&runs.iter().map(|run| run.rate).collect::<Vec<_>>());
    let (without, with, raw) = (rate(&off), rate(&on), rate(&teed));
    let left = with / without.max(1.0);
    report.say(format!(
        "bulk {:.0} MB/s with logs, {:.0} without ({left:.2} x), raw tee {:.0}",
        with / 1e6,
        without / 1e6,
        raw / 1e6
    ));
    report.put(
        "bulk",
        json!({ "with_mb_s": round(with / 1e6, 1), "without_mb_s": round(without / 1e6, 1),
            "tee_mb_s": round(raw / 1e6, 1), "ratio": round(left, 3) }),
    );
    if left < LEAST_LEFT {
        report.problem(format!("bulk with logs is {left:.2} x that without"));
    }
    tell(report, "as fast as it can", &on, false);
    tell(report, "at 40 MB/s", &[through_server(args, Some(STEADY), true)?], true);
    tell(report, "at the tee's rate", &[through_server(args, Some(raw), true)?], true);
    Ok(())
}

/// Tells how the logs were; `is_whole`: nothing may be missing.
fn tell(report: &mut Report, how: &str, runs: &[Outcome], is_whole: bool) {
    let mut account = Account::default();
    for run in runs {
        match &run.account {
            Some(Ok(settled)) => account.add(*settled),
            Some(Err(why)) => report.problem(format!("the log {how}: {why}")),
            None => {}
        }
        let Totals { lost, repeated, foreign, .. } = run.totals;
        if is_whole && !run.totals.clean() {
            let what = format!("{lost} bytes lost, {repeated} repeated, {foreign} foreign");
            report.problem(format!("the client {how}: {what}"));
        }
    }
    let (rate, peak) = (
        median(&runs.iter().map(|run| run.rate / 1e6).collect::<Vec<_>>()),
        runs.iter().map(|run| run.peak).max().unwrap_or(0),
    );
    report.say(format!(
        "{how} ({rate:.0} MB/s): {} bytes missing from the log in {} places, RSS at most {peak} KiB",
        account.missing, account.gaps
    ));
    let facts: Value = json!({ "mb_s": round(rate, 1), "same": account.same, "missing": account.missing,
        "gaps": account.gaps, "rss_peak_kib": peak });
    report.put(&how.replace([' ', '/', '\''], "_"), facts);
    if is_whole && account.missing > 0 {
        report.problem(format!("{} bytes are missing from the log {how}", account.missing));
    }
}

fn through_server(args: &LogsArgs, rate: Option<f64>, is_logged: bool) -> Result<Outcome, LoadError> {
    let place = is_logged.then(|| Place::new(args.dir.as_deref(), MOST + ROOM)).transpose()?;
    let server = Server::start(args, 1, place.as_ref())?;
    let meter = Meter::start(server.pid())?;
    let pattern = Pattern::wire(Content::Text);
    let (rate, totals, periods) = stream(args, &server.subject, &pattern, rate)?;
    let peak = meter.read()?.rss_peak;
    if let Some(place) = &place {
        wait_for_silence(place);
    }
    server.end()?;
    let account = place.as_ref().map(|place| {
        let log = fs::read(only_file(place.path())?).map_err(|error| error.to_string())?;
        settle(behind_the_word(&log)?, &Periods { pattern: &pattern, count: periods })
    });
    Ok(Outcome { rate, totals, account, peak })
}

fn through_tee(args: &LogsArgs) -> Result<Outcome, LoadError> {
    let place = Place::new(args.dir.as_deref(), MOST + ROOM)?;
    let subject = tee::start(&place.path().join("tee"))?;
    let (rate, totals, _) = stream(args, &subject, &Pattern::wire(Content::Text), None)?;
    Ok(Outcome { rate, totals, account: None, peak: 0 })
}

/// Prints whole periods; returns the rate at which the client got them, what it suffered, and how many.
fn stream(
    args: &LogsArgs,
    subject: &Subject,
    pattern: &Pattern,
    rate: Option<f64>,
) -> Result<(f64, Totals, u64), LoadError> {
    let mut vm = VmLink::open(subject, numbered_vm(0))?;
    let clients = meet(&mut vm, subject, ClientKind::Telnet, 1)?;
    let received = clients.iter().map(|client| client.received.clone()).collect();
    let streams = clients.into_iter().map(|client| client.stream).collect();
    let plan =
        Plan { periods: MOST / pattern.period(), until: Duration::from_secs_f64(args.bulk_seconds), rate };
    let carried = carry((&mut vm.stream, pattern), (streams, pattern), received, plan)?;
    let end = &carried.ends[0];
    Ok((end.matched as f64 / carried.seconds, end.totals, carried.periods))
}

fn only_file(dir: &Path) -> Result<PathBuf, String> {
    let mut entries = fs::read_dir(dir).map_err(|error| error.to_string())?;
    entries.next().and_then(Result::ok).map(|entry| entry.path()).ok_or_else(|| "there is no log".to_owned())
}

/// A log from where every byte counts: behind the last word by which VM and client have found each other.
fn behind_the_word(log: &[u8]) -> Result<&[u8], String> {
    let beginning = &log[..log.len().min(BEFORE)];
    let word = memmem::rfind(beginning, b"!vspc-load ").ok_or("the log does not begin as it should")?;
    let end = memchr::memchr(b'\n', &log[word..]).ok_or("the log ends where it begins")?;
    Ok(&log[word + end + 1..])
}

/// What a console is to be logged at without loss in any case, in bytes a second.
const STEADY: f64 = 40e6;

/// The most that one stream has.
const MOST: u64 = 3 << 30;

/// Room beside a log.
const ROOM: u64 = 64 << 20;

/// Before what counts there are only the words of a VM and a client that look for each other.
const BEFORE: usize = 4096;
