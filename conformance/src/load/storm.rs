//! `load storm`: how fast a fleet comes up, and what it costs to keep it.

use std::net::TcpStream;
use std::time::Duration;

use super::LoadError;
use super::fleet::{FLEET_PATIENCE, Fleet};
use super::process::require_descriptors;
use super::report::Report;
use super::stats::{median, millis, round};
use super::way::{Common, LOCALHOST, Open, Way, read};
use crate::fake_vm::duration::parse_duration;

/// Options of `load storm`.
#[derive(clap::Args, Clone, Debug)]
pub struct StormArgs {
    #[command(flatten)]
    pub(super) common: Common,
    /// VMs that connect
    #[arg(long, value_name = "N", default_value_t = 1000)]
    vms: usize,
    /// How many may be on their way at a time; 0: all of them
    #[arg(long, value_name = "N", default_value_t = 64)]
    concurrency: usize,
    /// How long the fleet then stays, silent, before the server's memory is read
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    hold: Duration,
    /// Runs; the median is told (meant for --spawn: a fresh server for each)
    #[arg(long, value_name = "N", default_value_t = 1)]
    runs: u16,
    /// Then connect a client to each VM's port (on a fresh server: they are consecutive but for the few that
    /// something else holds)
    #[arg(long)]
    check_ports: bool,
}

struct Outcome {
    rate: f64,
    elapsed: Duration,
    p99: Duration,
    words: String,
    latency: serde_json::Value,
    missing: usize,
    lost: usize,
    why: Option<String>,
    kib_per_vm: Option<f64>,
    cost: Option<super::process::Cost>,
    reachable: Option<usize>,
}

/// Runs `load storm`.
pub fn run(args: &StormArgs) -> Result<Report, LoadError> {
    require_descriptors(args.common.tls.descriptors(args.vms + 2))?;
    let mut runs = Vec::new();
    for _ in 0..args.runs.max(1) {
        runs.push(once(args)?);
    }
    let mut report = Report::new();
    let together = if args.concurrency == 0 { args.vms } else { args.concurrency };
    let rates: Vec<f64> = runs.iter().map(|run| run.rate).collect();
    report.say(format!("{} VMs, {together} at once", args.vms));
    report.put("vms", args.vms);
    report.put("concurrency", together);
    report.say(format!("{:.0} handshakes/s", median(&rates)));
    report.put("handshakes_per_s", round(median(&rates), 0));
    report.put("runs_handshakes_per_s", rates.iter().map(|&rate| round(rate, 0)).collect::<Vec<_>>());
    let elapsed: Vec<f64> = runs.iter().map(|run| run.elapsed.as_secs_f64()).collect();
    report.say(format!("all up in {:.3} s", median(&elapsed)));
    report.put("all_up_s", round(median(&elapsed), 4));
    let p99: Vec<f64> = runs.iter().map(|run| run.p99.as_secs_f64()).collect();
    if runs.len() == 1 {
        report.say(format!("per VM {}", runs[0].words));
    } else {
        report.say(format!("per VM p99 {} ms", millis(Duration::from_secs_f64(median(&p99)))));
    }
    report.put("latency", runs.iter().map(|run| run.latency.clone()).collect::<Vec<_>>());
    let kib: Vec<f64> = runs.iter().filter_map(|run| run.kib_per_vm).collect();
    if !kib.is_empty() {
        report.say(format!("{:.2} KiB of RSS per VM", median(&kib)));
        report.put("rss_kib_per_vm", round(median(&kib), 3));
    }
    if let Some(cost) = runs.last().and_then(|run| run.cost) {
        report.say(cost.words());
        report.put("cost", cost.json());
    }
    for run in &runs {
        if run.missing > 0 {
            let why = run.why.as_deref().unwrap_or("no reason known");
            report.problem(format!("{} of {} VMs did not come up: {why}", run.missing, args.vms));
        }
        if let Some(reachable) = run.reachable {
            report.say(format!("{reachable} client ports open"));
            report.put("client_ports", reachable);
            if reachable < args.vms {
                report.problem(format!("{} VMs have no client port", args.vms - reachable));
            }
        }
        if run.lost > 0 {
            report.problem(format!("{} VMs were disconnected while they were idle", run.lost));
        }
    }
    Ok(report)
}

fn once(args: &StormArgs) -> Result<Outcome, LoadError> {
    let open = Open::server(&args.common, args.vms + 1)?;
    let meter = open.meter()?;
    let mut fleet = Fleet::new(&open.way, 1, args.vms)?;
    let together = if args.concurrency == 0 { args.vms } else { args.concurrency };
    let mut starts = fleet.start(together, FLEET_PATIENCE);
    starts.require_any(&open.way)?;
    let up = fleet.up();
    fleet.idle(args.hold);
    let lost = up - fleet.up();
    let cost = read(meter.as_ref())?;
    let reachable = args.check_ports.then(|| reachable(&open.way, args.vms));
    Ok(Outcome {
        rate: starts.latency.len() as f64 / starts.elapsed.as_secs_f64(),
        elapsed: starts.elapsed,
        p99: starts.latency.percentile(99.0),
        words: starts.latency.words(),
        latency: starts.latency.json(),
        missing: starts.missing,
        lost,
        why: starts.why,
        kib_per_vm: cost.map(|cost| cost.rss_after.saturating_sub(cost.rss_before) as f64 / up.max(1) as f64),
        cost,
        reachable,
    })
}

/// How many of `count` consecutive client ports take a client.
fn reachable(way: &Way, count: usize) -> usize {
    let Way::Server { first, .. } = *way else { return 0 };
    let ports = (first..=u16::MAX).take(count + SKIPPED);
    ports.filter(|&port| TcpStream::connect((LOCALHOST, port)).is_ok()).count()
}

/// Ports that may be held by something else.
const SKIPPED: usize = 64;
