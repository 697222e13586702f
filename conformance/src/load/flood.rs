//! `load flood`: how long a key takes there and back while another VM prints as fast as it can.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::LoadError;
use super::bulk::{Plan, Received, receive, send};
use super::link::{ClientKind, ClientLink, VmLink, meet, numbered_vm};
use super::pattern::{Content, Pattern};
use super::probe::Probe;
use super::report::Report;
use super::stats::{Samples, round};
use super::subject::{Common, Opened, read};
use crate::fake_vm::duration::parse_duration;

/// Options of `load flood`.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct FloodArgs {
    #[command(flatten)]
    pub(super) common: Common,
    /// Clients that watch the flood
    #[arg(long, value_name = "N", default_value_t = 1)]
    clients: u16,
    /// What the flood is made of
    #[arg(long, value_enum, default_value_t = Content::Text)]
    content: Content,
    /// Time between two keys
    #[arg(long, value_name = "TIME", default_value = "3ms", value_parser = parse_duration)]
    key_every: Duration,
    /// For how long
    #[arg(long, value_name = "SECONDS", default_value_t = 8.0)]
    seconds: f64,
    /// Losses of those who watch are told but are no failure
    #[arg(long)]
    allow_loss: bool,
}

/// Runs `load flood`.
pub(super) fn run(args: &FloodArgs) -> Result<Report, LoadError> {
    let opened = Opened::server(&args.common, 2)?;
    let mut probe = Probe::open(&opened.subject)?;
    let mut vm = VmLink::open(&opened.subject, numbered_vm(1))?;
    let clients = if args.clients == 0 {
        Vec::new()
    } else {
        meet(&mut vm, &opened.subject, ClientKind::Telnet, usize::from(args.clients))?
    };
    let (streams, first): (Vec<_>, Vec<_>) =
        clients.into_iter().map(|ClientLink { stream, received, .. }| (stream, received)).unzip();
    let pattern = Pattern::wire(args.content);
    let stop = AtomicBool::new(false);
    let mut quiet = probe.run(args.key_every, Duration::from_secs(1), &stop)?;
    let meter = opened.meter()?;
    let (periods, broken) = (AtomicU64::new(u64::MAX), AtomicBool::new(false));
    let time = Duration::from_secs_f64(args.seconds);
    let plan = Plan { periods: u64::MAX, until: time, rate: None };
    let started = Instant::now();
    let (keys, watched) = thread::scope(|scope| {
        let (periods, broken, stop, pattern) = (&periods, &broken, &stop, &pattern);
        let stream = &mut vm.stream;
        let flood =
            scope.spawn(move || periods.store(send(stream, pattern, plan, broken), Ordering::Release));
        let watch = (!streams.is_empty())
            .then(|| scope.spawn(move || receive(streams, first, pattern, periods, broken)));
        let keys = probe.run(args.key_every, time, stop);
        let _ = flood.join();
        let watched = watch.and_then(|watch| watch.join().ok()).transpose();
        (keys, watched)
    });
    let (mut keys, watched): (Samples, Option<Received>) = (keys?, watched?);
    let cost = read(meter.as_ref())?;
    let sent = periods.load(Ordering::Acquire) * pattern.period();
    let rate = pattern.guest_bytes(sent) as f64 / 1e6 / started.elapsed().as_secs_f64();

    let mut report = Report::new();
    report.say(format!("{} flood of {rate:.0} MB/s to {} client(s)", args.content, args.clients));
    report.say(format!("another VM's key {}", keys.words()));
    report.say(format!("before the flood {}", quiet.words()));
    report.put("content", args.content.to_string());
    report.put("clients", args.clients);
    report.put("flood_mb_s", round(rate, 1));
    report.put("key", keys.json());
    report.put("key_before", quiet.json());
    if let Some(watched) = watched {
        let lost: u64 = watched.ends.iter().map(|end| end.totals.lost).sum();
        report.put("lost_bytes", lost);
        report.say(format!("{lost} flood bytes lost"));
        let bad = watched.ends.iter().any(|end| !end.totals.clean() || end.closed);
        if bad && !args.allow_loss {
            let totals: Vec<_> = watched.ends.iter().map(|end| end.totals).collect();
            report.problem(format!("those who watch the flood: {totals:?}"));
        }
    }
    if let Some(cost) = cost {
        report.say(cost.words());
        report.put("cost", cost.json());
    }
    report.put("seconds", json!(args.seconds));
    Ok(report)
}
