//! `load keystroke`: how long a key takes there and back while a fleet talks.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;

use super::LoadError;
use super::fleet::{FLEET_PATIENCE, Fleet};
use super::probe::Probe;
use super::process::{Cost, require_descriptors};
use super::report::Report;
use super::stats::{Samples, median, millis, round};
use super::subject::{Beside, Common, Opened, read};
use crate::fake_vm::duration::parse_duration;

/// Options of `load keystroke`.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct KeystrokeArgs {
    #[command(flatten)]
    pub(super) common: Common,
    #[command(flatten)]
    beside: Beside,
    /// VMs that talk meanwhile
    #[arg(long, value_name = "N", default_value_t = 1000)]
    vms: usize,
    /// How often each of them prints a line
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    line_every: Duration,
    /// Time between two keys
    #[arg(long, value_name = "TIME", default_value = "3ms", value_parser = parse_duration)]
    key_every: Duration,
    /// How long to type
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    seconds: f64,
}

struct Outcome {
    samples: Samples,
    cost: Option<Cost>,
    lines: u64,
    gone: usize,
}

/// Runs `load keystroke`.
pub(super) fn run(args: &KeystrokeArgs) -> Result<Report, LoadError> {
    require_descriptors(args.common.tls.descriptors(args.vms + 4))?;
    let mut runs = args.beside.runs(&args.common, args.vms + 1, |opened| once(args, opened))?;
    let mut report = Report::new();
    report.say(format!("{} VMs talking", args.vms));
    report.put("vms", args.vms);
    let server = tell(&mut report, "server", &mut runs.server);
    let relay = tell(&mut report, "relay", &mut runs.relay);
    if let (Some(server), Some(relay)) = (server, relay) {
        let more = |at: usize| (server[at] - relay[at]) * 1e3;
        report.say(format!("p50 {:+.3} ms and p99 {:+.3} ms beside the relay", more(0), more(1)));
        report.put("p50_more_ms", round(more(0), 4));
        report.put("p99_more_ms", round(more(1), 4));
    }
    Ok(report)
}

/// Tells the medians of some runs; returns p50 and p99 in seconds.
fn tell(report: &mut Report, name: &str, runs: &mut [Outcome]) -> Option<[f64; 2]> {
    if runs.is_empty() {
        return None;
    }
    let mut percentile = |percent| {
        let each: Vec<f64> =
            runs.iter_mut().map(|run| run.samples.percentile(percent).as_secs_f64()).collect();
        median(&each)
    };
    let [p50, p99, max] = [50.0, 99.0, 100.0].map(&mut percentile);
    let words = [p50, p99, max].map(|seconds| millis(Duration::from_secs_f64(seconds)));
    report.say(format!("{name} p50 {} p99 {} max {} ms", words[0], words[1], words[2]));
    let cpu: Vec<f64> = runs.iter().filter_map(|run| Some(run.cost?.percent())).collect();
    let mut object = json!({"runs": runs.iter_mut().map(|run| run.samples.json()).collect::<Vec<_>>(),
        "p50_us": round(p50 * 1e6, 1), "p99_us": round(p99 * 1e6, 1),
        "lines": runs.iter().map(|run| run.lines).collect::<Vec<_>>()});
    if !cpu.is_empty() {
        report.say(format!("CPU {:.2} %", median(&cpu)));
        object["cpu_percent"] = json!(round(median(&cpu), 2));
    }
    if let Some(cost) = runs.last().and_then(|run| run.cost) {
        object["cost"] = cost.json();
    }
    report.put(name, object);
    for run in runs.iter().filter(|run| run.gone > 0) {
        report.problem(format!("the {name} disconnected {} talking VMs", run.gone));
    }
    Some([p50, p99])
}

fn once(args: &KeystrokeArgs, opened: &Opened) -> Result<Outcome, LoadError> {
    // First, so that its console has the first port and a relay gives it the client.
    let mut probe = Probe::open(&opened.subject)?;
    let mut fleet = Fleet::new(&opened.subject, 1, args.vms)?;
    let starts = fleet.start(64, FLEET_PATIENCE);
    if args.vms > 0 {
        starts.require_any(&opened.subject)?;
    }
    starts.require_all()?;
    let stop = AtomicBool::new(false);
    // The first keys find cold caches everywhere.
    probe.run(Duration::from_millis(1), WARM_UP, &stop)?;
    thread::scope(|scope| {
        let (talking, stop) = (&mut fleet, &stop);
        let talker = scope.spawn(move || talking.talk(args.line_every, stop));
        let measured = measure(args, opened, &mut probe, stop);
        stop.store(true, Ordering::Relaxed);
        let lines = talker.join().unwrap_or(0);
        measured.map(|(samples, cost)| (samples, cost, lines))
    })
    .map(|(samples, cost, lines)| Outcome { samples, cost, lines, gone: args.vms - fleet.up() })
}

fn measure(
    args: &KeystrokeArgs,
    opened: &Opened,
    probe: &mut Probe,
    stop: &AtomicBool,
) -> Result<(Samples, Option<Cost>), LoadError> {
    let meter = opened.meter()?;
    let samples = probe.run(args.key_every, Duration::from_secs_f64(args.seconds), stop)?;
    Ok((samples, read(meter.as_ref())?))
}

/// Typed before anything is measured.
const WARM_UP: Duration = Duration::from_millis(200);
