//! A key there and back while a fleet's lines are logged, beside the same without logs.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;

use super::account::{Account, settle};
use super::place::Place;
use super::server::{Server, wait_for_silence};
use super::{LogsArgs, MOST_IDLE, MOST_SLOWER};
use crate::load::LoadError;
use crate::load::fleet::{FLEET_PATIENCE, Fleet};
use crate::load::probe::Probe;
use crate::load::process::Meter;
use crate::load::report::Report;
use crate::load::stats::{Samples, median, millis, round};

/// What a server did in one run.
struct Outcome {
    /// Keys by the state of the disk.
    keys: Vec<(&'static str, Samples)>,
    /// KiB of resident memory that an idle VM takes.
    idle: f64,
    /// The most resident KiB.
    peak: u64,
    account: Account,
    faults: Vec<String>,
}

pub(super) fn run(args: &LogsArgs, report: &mut Report) -> Result<(), LoadError> {
    let (mut off, mut on) = (Vec::new(), Vec::new());
    for _ in 0..args.runs {
        off.push(once(args, None)?);
        // Room for what they print, and little more: a file takes whole pages.
        let lines = (args.seconds * 4.0 + 10.0) / args.line_every.as_secs_f64();
        let size = ROOM + args.vms as u64 * (lines as u64 * LINE as u64 + PAGE);
        on.push(once(args, Some(&Place::new(args.dir.as_deref(), size)?))?);
    }
    let p99 = |runs: &mut [Outcome], state: &str, percent: f64| {
        let of = |run: &mut Outcome| {
            let found = run.keys.iter_mut().find(|(name, _)| *name == state);
            found.map(|(_, keys)| keys.percentile(percent).as_secs_f64() * 1e3)
        };
        let each: Vec<f64> = runs.iter_mut().filter_map(of).collect();
        (!each.is_empty()).then(|| median(&each))
    };
    report.say(format!("{} VMs", args.vms));
    report.put("vms", args.vms);
    let bare = p99(&mut off, WITHOUT, 99.0).unwrap_or(0.0);
    let mut states = serde_json::Map::new();
    for state in [WITHOUT, ROOMY, FULL, FREED] {
        let runs = if state == WITHOUT { &mut off } else { &mut on };
        let Some(slowest) = p99(runs, state, 99.0) else { continue };
        let words = [50.0, 99.0, 100.0].map(|percent| p99(runs, state, percent).unwrap_or(0.0));
        let shown = words.map(|ms| millis(Duration::from_secs_f64(ms / 1e3)));
        let ratio = slowest / bare.max(1e-9);
        report
            .say(format!("key {state} p50 {} p99 {} max {} ms ({ratio:.2} x)", shown[0], shown[1], shown[2]));
        states.insert(
            state.to_owned(),
            json!({ "p50_ms": round(words[0], 4), "p99_ms": round(words[1], 4), "max_ms": round(words[2], 3),
                "p99_ratio": round(ratio, 3) }),
        );
        if ratio > MOST_SLOWER {
            report.problem(format!("keys {state}: p99 is {ratio:.2} x that without logs"));
        }
    }
    if p99(&mut on, FULL, 99.0).is_none() {
        report.say("the disk was not filled: none can be mounted here");
    }
    report.put("keys", states);
    tell(report, &off, &on);
    Ok(())
}

fn tell(report: &mut Report, off: &[Outcome], on: &[Outcome]) {
    let of =
        |runs: &[Outcome], value: fn(&Outcome) -> f64| median(&runs.iter().map(value).collect::<Vec<_>>());
    let idle = [off, on].map(|runs| of(runs, |run| run.idle));
    let peak = [off, on].map(|runs| of(runs, |run| run.peak as f64));
    let mut account = Account::default();
    on.iter().for_each(|run| account.add(run.account));
    report.say(format!("idle VM {:.2} KiB ({:.2} without)", idle[1], idle[0]));
    report.say(format!("RSS at most {:.0} KiB ({:.0} without)", peak[1], peak[0]));
    report.say(format!(
        "logged {} bytes as printed, {} missing as told in {} places",
        account.same, account.missing, account.gaps
    ));
    report.put("idle_kib", json!({ "with": round(idle[1], 3), "without": round(idle[0], 3) }));
    report.put("rss_peak_kib", json!({ "with": peak[1], "without": peak[0] }));
    report.put("logged", json!({ "same": account.same, "missing": account.missing, "gaps": account.gaps }));
    if idle[1] > MOST_IDLE {
        report.problem(format!("an idle VM with a log takes {:.2} KiB", idle[1]));
    }
    for fault in on.iter().flat_map(|run| &run.faults).take(5) {
        report.problem(fault.clone());
    }
    let gapless = on.iter().all(|run| run.keys.iter().all(|(state, _)| *state != FULL));
    if !gapless && account.missing == 0 {
        report.problem("nothing is missing though the disk was full: give more --seconds");
    }
    if gapless && account.missing > 0 {
        report.problem(format!("{} bytes are missing though there was room", account.missing));
    }
}

fn once(args: &LogsArgs, place: Option<&Place>) -> Result<Outcome, LoadError> {
    let server = Server::start(args, args.vms + 1, place)?;
    let mut probe = Probe::open(&server.subject)?;
    let mut fleet = Fleet::new(&server.subject, 1, args.vms)?;
    fleet.widen_lines(LINE);
    let meter = Meter::start(server.pid())?;
    let before = meter.rss().unwrap_or(0);
    let starts = fleet.start(64, FLEET_PATIENCE);
    starts.require_all()?;
    fleet.idle(SETTLE);
    let idle = meter.rss().unwrap_or(0).saturating_sub(before) as f64 / args.vms as f64;
    let stop = AtomicBool::new(false);
    let keys = thread::scope(|scope| {
        let (talking, stop) = (&mut fleet, &stop);
        scope.spawn(move || talking.talk(args.line_every, stop));
        let keys = measure(args, &mut probe, place);
        stop.store(true, Ordering::Relaxed);
        keys
    })?;
    fleet.deliver(FLEET_PATIENCE);
    let peak = meter.read()?.rss_peak;
    let (mut account, mut faults) = (Account::default(), Vec::new());
    if fleet.up() < args.vms {
        faults.push(format!("{} VMs were disconnected", args.vms - fleet.up()));
    }
    if let Some(place) = place {
        wait_for_silence(place);
    }
    server.end()?;
    if let Some(place) = place {
        for index in 0..args.vms {
            let (name, printed) = (fleet.name(index), fleet.printed(index));
            let log = fs::read(place.path().join(format!("{name}.log"))).unwrap_or_default();
            match settle(&log, &printed) {
                Ok(settled) => account.add(settled),
                Err(why) => faults.push(format!("the log of {name}: {why}")),
            }
        }
    }
    Ok(Outcome { keys, idle, peak, account, faults })
}

/// Types in each state of the disk.
fn measure(
    args: &LogsArgs,
    probe: &mut Probe,
    place: Option<&Place>,
) -> Result<Vec<(&'static str, Samples)>, LoadError> {
    let mut type_for = |time| probe.run(KEY_EVERY, time, &AtomicBool::new(false));
    let time = Duration::from_secs_f64(args.seconds);
    // The first keys find cold caches everywhere.
    type_for(WARM_UP)?;
    let Some(place) = place else { return Ok(vec![(WITHOUT, type_for(time)?)]) };
    let mut keys = vec![(ROOMY, type_for(time)?)];
    if place.can_be_filled() {
        place.fill()?;
        // What fits into pages that files have begun is written still.
        keys.push((FULL, type_for(time)?));
        place.free()?;
        keys.push((FREED, type_for(time)?));
        // Whoever was behind catches up, and says what is missing.
        type_for(CATCH_UP)?;
    }
    Ok(keys)
}

const WITHOUT: &str = "without logs";
const ROOMY: &str = "with logs";
const FULL: &str = "while the disk is full";
const FREED: &str = "when it has room again";

/// Time between two keys.
const KEY_EVERY: Duration = Duration::from_millis(3);
/// Typed before anything is measured.
const WARM_UP: Duration = Duration::from_millis(500);
/// How long a fleet is left alone before its memory is looked at.
const SETTLE: Duration = Duration::from_secs(1);
/// How long logs have to begin anew once there is room.
const CATCH_UP: Duration = Duration::from_secs(3);
/// Bytes of a line: a few fill a page, so that a disk that is full takes no more of them soon.
const LINE: usize = 1024;
const PAGE: u64 = 4096;
/// Room beside the logs.
const ROOM: u64 = 4 << 20;
