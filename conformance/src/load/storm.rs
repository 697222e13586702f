//! `load storm`: how fast a fleet comes up, and what it costs to keep it.
//!
//! By default VMs are paced: a few connect, and those that are answered go on before the next few connect.
//! However many may be on their way then, a fast server never has more than a handful unanswered.
//! `--all-at-once` is the other thing: every VM has begun to connect before the first is answered, as when a
//! concentrator comes back.

use std::net::TcpStream;
use std::time::Duration;

use super::LoadError;
use super::fleet::{FLEET_PATIENCE, Fleet};
use super::process::{Meter, listen_overflows, require_descriptors, start_bare};
use super::report::Report;
use super::stats::{median, millis, round};
use super::strangers::{Addresses, Strangers};
use super::subject::{Common, LOCALHOST, Opened, Subject, read};
use crate::fake_vm::duration::parse_duration;
use crate::tunnel::{Dial, VmForm};

/// Options of `load storm`.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct StormArgs {
    #[command(flatten)]
    pub(super) common: Common,
    /// VMs that connect
    #[arg(long, value_name = "N", default_value_t = 1000)]
    vms: usize,
    /// How many may be on their way at a time, each going on as soon as it is answered; 0: all of them
    #[arg(long, value_name = "N", default_value_t = 64)]
    concurrency: usize,
    /// All of them connect at one moment, before the first of them hears or says a word
    #[arg(long, conflicts_with = "concurrency")]
    all_at_once: bool,
    /// Where they connect from (with --all-at-once)
    #[arg(long, value_name = "HOW", default_value = "one", requires = "all_at_once")]
    addresses: Addresses,
    /// When they are up they all leave, and come again at one moment, as when a network was down: that is
    /// what is timed
    #[arg(long, requires = "all_at_once")]
    again: bool,
    /// So many connections that say nothing are there before them, from the address of the first VM
    #[arg(long, value_name = "N", default_value_t = 0)]
    strangers: usize,
    /// How long those have been there when the fleet comes
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = parse_duration)]
    strangers_for: Duration,
    /// Do the same to a bare server that accepts and answers, and tell the ratio of the times to the last VM
    #[arg(long)]
    beside_bare: bool,
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

#[derive(Debug)]
struct Outcome {
    rate: f64,
    elapsed: Duration,
    p99: Duration,
    words: String,
    latency: serde_json::Value,
    missing: usize,
    refused: usize,
    /// Disconnected after the server had said something, before or after it was up.
    cut: usize,
    /// Of the cut, those that were up.
    lost: usize,
    strangers_left: usize,
    /// Connections that overran a listener's backlog, on all of the machine: the kernel tries them again
    /// after 1, 3, 7, 15 s.
    overrun: u64,
    why: Option<String>,
    kib_per_vm: Option<f64>,
    cost: Option<super::process::Cost>,
    reachable: Option<usize>,
}

/// Runs `load storm`.
pub(super) fn run(args: &StormArgs) -> Result<Report, LoadError> {
    require_descriptors(args.common.tls.descriptors(args.vms + 2) + args.strangers)?;
    if args.addresses == Addresses::Many && args.common.tls.tls != VmForm::Off {
        return Err(LoadError::Usage("--addresses many is for connections in clear".into()));
    }
    let (mut runs, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..args.runs.max(1) {
        runs.push(through_server(args)?);
        if args.beside_bare {
            bare.push(through_bare(args)?);
        }
    }
    let mut report = Report::new();
    describe(args, &mut report);
    let rates: Vec<f64> = runs.iter().map(|run| run.rate).collect();
    report.say(format!("{:.0} handshakes/s", median(&rates)));
    report.put("handshakes_per_s", round(median(&rates), 0));
    report.put("runs_handshakes_per_s", rates.iter().map(|&rate| round(rate, 0)).collect::<Vec<_>>());
    let elapsed = last_up(&runs);
    report.say(format!("all up in {:.3} s", median(&elapsed)));
    report.put("all_up_s", round(median(&elapsed), 4));
    if args.beside_bare {
        compare(&elapsed, &last_up(&bare), &mut report);
    }
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
        judge(args, run, &mut report);
    }
    if bare.iter().any(|run| run.missing + run.lost > 0) {
        report.problem("not even the bare server took in all: this machine is no place for this run");
    }
    Ok(report)
}

fn describe(args: &StormArgs, report: &mut Report) {
    report.put("vms", args.vms);
    if args.all_at_once {
        let from = if args.addresses == Addresses::Many { "an address each" } else { "one address" };
        let again = if args.again { " again" } else { "" };
        report.say(format!("{} VMs{again} at one moment from {from}", args.vms));
        report.put("all_at_once", true);
        report.put("again", args.again);
        report.put("addresses", from);
    } else {
        let together = args.together();
        report.say(format!("{} VMs, {together} at once", args.vms));
        report.put("concurrency", together);
    }
    if args.strangers > 0 {
        report.say(format!("beside {} silent strangers", args.strangers));
        report.put("strangers", args.strangers);
    }
}

fn last_up(runs: &[Outcome]) -> Vec<f64> {
    runs.iter().map(|run| run.elapsed.as_secs_f64()).collect()
}

/// The bare server's times, and the ratio of each pair of runs.
fn compare(server: &[f64], bare: &[f64], report: &mut Report) {
    let ratios: Vec<f64> = server.iter().zip(bare).map(|(server, bare)| server / bare).collect();
    let each = ratios.iter().map(|ratio| format!("{ratio:.2}")).collect::<Vec<_>>().join(" ");
    report.say(format!("bare {:.3} s, ratio {:.2} ({each})", median(bare), median(&ratios)));
    report.put("bare_all_up_s", round(median(bare), 4));
    report.put("ratio", round(median(&ratios), 3));
    report.put("runs_ratio", ratios.iter().map(|&ratio| round(ratio, 3)).collect::<Vec<_>>());
}

fn judge(args: &StormArgs, run: &Outcome, report: &mut Report) {
    report.put("refused", run.refused);
    report.put("cut", run.cut);
    if run.missing > 0 {
        let why = run.why.as_deref().unwrap_or("no reason known");
        report.problem(format!(
            "{} of {} VMs did not come up ({} refused, {} cut): {why}",
            run.missing,
            args.vms,
            run.refused,
            run.cut - run.lost
        ));
    }
    if run.overrun > 0 {
        report.say(format!("{} times a backlog was overrun, which costs seconds", run.overrun));
    }
    report.put("backlog_overrun", run.overrun);
    if args.strangers > 0 {
        report.say(format!("{} strangers left", run.strangers_left));
        report.put("strangers_left", run.strangers_left);
    }
    if let Some(reachable) = run.reachable {
        report.say(format!("{reachable} client ports open"));
        report.put("client_ports", reachable);
        if reachable < args.vms {
            report.problem(format!("{} VMs have no client port", args.vms - reachable));
        }
    }
    if run.lost > 0 {
        report.problem(format!("{} VMs were disconnected after they were up", run.lost));
    }
}

fn through_server(args: &StormArgs) -> Result<Outcome, LoadError> {
    let opened = Opened::server(&args.common, args.vms + 1)?;
    let meter = opened.meter()?;
    once(args, &opened.subject.clone(), meter.as_ref(), args.check_ports, opened)
}

fn through_bare(args: &StormArgs) -> Result<Outcome, LoadError> {
    let (process, vms) = start_bare()?;
    once(args, &Subject::Server { vms, first: 1, dial: Dial::default() }, None, false, process)
}

/// One run through `subject`, which `server` keeps open.
fn once<S>(
    args: &StormArgs,
    subject: &Subject,
    meter: Option<&Meter>,
    check_ports: bool,
    server: S,
) -> Result<Outcome, LoadError> {
    let mut strangers =
        Strangers::connect(args.strangers, args.addresses, subject.vms(), args.strangers_for)?;
    let mut fleet = Fleet::new(subject, 1, args.vms)?;
    if args.again {
        fleet.start_at_once(args.addresses, FLEET_PATIENCE).require_any(subject)?;
        fleet.idle(args.hold);
        drop(fleet);
        fleet = Fleet::new(subject, 1, args.vms)?;
    }
    let overrun = listen_overflows();
    let mut starts = if args.all_at_once {
        fleet.start_at_once(args.addresses, FLEET_PATIENCE)
    } else {
        fleet.start(args.together(), FLEET_PATIENCE)
    };
    starts.require_any(subject)?;
    let up = fleet.up();
    fleet.idle(args.hold);
    let lost = starts.latency.len() - fleet.up();
    let cost = read(meter)?;
    let strangers_left = strangers.left();
    let reachable = check_ports.then(|| reachable(subject, args.vms));
    // The server ends first: who closes first keeps its port for a minute, and ours are needed again.
    drop(server);
    Ok(Outcome {
        rate: starts.latency.len() as f64 / starts.elapsed.as_secs_f64(),
        elapsed: starts.elapsed,
        p99: starts.latency.percentile(99.0),
        words: starts.latency.words(),
        latency: starts.latency.json(),
        missing: args.vms - starts.latency.len(),
        refused: starts.refused,
        cut: starts.cut + lost,
        lost,
        strangers_left,
        overrun: listen_overflows().saturating_sub(overrun),
        why: starts.why,
        kib_per_vm: cost.map(|cost| cost.rss_after.saturating_sub(cost.rss_before) as f64 / up.max(1) as f64),
        cost,
        reachable,
    })
}

impl StormArgs {
    /// How many may be on their way.
    fn together(&self) -> usize {
        if self.concurrency == 0 { self.vms } else { self.concurrency }
    }
}

/// How many of `count` consecutive client ports take a client.
fn reachable(subject: &Subject, count: usize) -> usize {
    let Subject::Server { first, .. } = *subject else { return 0 };
    let ports = (first..=u16::MAX).take(count + SKIPPED);
    ports.filter(|&port| TcpStream::connect((LOCALHOST, port)).is_ok()).count()
}

/// Ports that may be held by something else.
const SKIPPED: usize = 64;
