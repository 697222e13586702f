//! `load flood`: how long a key takes there and back while another VM prints as fast as it can.

use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use serde_json::json;

use super::LoadError;
use super::bulk::{Plan, carry};
use super::link::{ClientKind, ClientLink, VmLink, meet, numbered_vm};
use super::pattern::{Content, Pattern};
use super::probe::Probe;
use super::report::Report;
use super::stats::round;
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
    let time = Duration::from_secs_f64(args.seconds);
    let plan = Plan { periods: u64::MAX, until: time, rate: None };
    let (keys, flood) = thread::scope(|scope| {
        let (stream, pattern) = (&mut vm.stream, &pattern);
        let flood = scope.spawn(move || carry((stream, pattern), (streams, pattern), first, plan));
        let keys = probe.run(args.key_every, time, &stop);
        (keys, flood.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    let (mut keys, flood) = (keys?, flood?);
    let cost = read(meter.as_ref())?;
    let rate = pattern.guest_bytes(flood.periods * pattern.period()) as f64 / 1e6 / flood.seconds;

    let mut report = Report::new();
    report.say(format!("{} flood of {rate:.0} MB/s to {} client(s)", args.content, args.clients));
    report.say(format!("another VM's key {}", keys.words()));
    report.say(format!("before the flood {}", quiet.words()));
    report.put("content", args.content.to_string());
    report.put("clients", args.clients);
    report.put("flood_mb_s", round(rate, 1));
    report.put("key", keys.json());
    report.put("key_before", quiet.json());
    if args.clients > 0 {
        let lost: u64 = flood.ends.iter().map(|end| end.totals.lost).sum();
        report.put("lost_bytes", lost);
        report.say(format!("{lost} flood bytes lost"));
        let bad = flood.ends.iter().any(|end| !end.totals.clean() || end.closed);
        if bad && !args.allow_loss {
            let totals: Vec<_> = flood.ends.iter().map(|end| end.totals).collect();
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
