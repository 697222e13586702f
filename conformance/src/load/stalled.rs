//! `load stalled`: a client that never reads, beside one that does.
//!
//! What it must show: the reading one misses nothing, and the server's memory does not grow with what the
//! other one does not take.

use std::io::Read;
use std::time::Duration;

use serde_json::json;

use super::LoadError;
use super::bulk::{Plan, carry};
use super::link::{ClientKind, VmLink, is_timeout, meet, numbered_vm};
use super::pattern::{Content, Pattern};
use super::process::require_descriptors;
use super::report::Report;
use super::stats::round;
use super::subject::{Common, Opened, read};

/// Options of `load stalled`.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct StalledArgs {
    #[command(flatten)]
    pub(super) common: Common,
    /// Clients that never read
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    stalled: u16,
    /// What the VM prints, in MB (guest) per second
    #[arg(long, value_name = "MB", default_value_t = 20.0)]
    rate: f64,
    /// What the VM prints
    #[arg(long, value_enum, default_value_t = Content::Text)]
    content: Content,
    /// What the clients are
    #[arg(long, value_enum, default_value_t = ClientKind::Telnet)]
    client: ClientKind,
    /// For how long
    #[arg(long, value_name = "SECONDS", default_value_t = 8.0)]
    seconds: f64,
    /// The run fails when the server's memory grows by more than this; needs --server-pid or --spawn
    #[arg(long, value_name = "KIB", default_value_t = 4096)]
    max_growth: u64,
}

/// Runs `load stalled`.
pub(super) fn run(args: &StalledArgs) -> Result<Report, LoadError> {
    require_descriptors(args.common.tls.descriptors(usize::from(args.stalled) + 3))?;
    let opened = Opened::server(&args.common, 1)?;
    let mut vm = VmLink::open(&opened.subject, numbered_vm(0))?;
    let mut clients = meet(&mut vm, &opened.subject, args.client, usize::from(args.stalled) + 1)?;
    let reader = clients.remove(0);
    let wire = Pattern::wire(args.content);
    let form = if args.client == ClientKind::Raw { Pattern::guest(args.content) } else { wire.clone() };
    let plan = Plan {
        periods: u64::MAX,
        until: Duration::from_secs_f64(args.seconds),
        rate: Some(args.rate * 1e6 * wire.period() as f64 / super::pattern::PERIOD as f64),
    };
    let meter = opened.meter()?;
    let reads = (vec![reader.stream], &form);
    let carried = carry((&mut vm.stream, &wire), reads, vec![reader.received], plan)?;
    let cost = read(meter.as_ref())?;
    let end = &carried.ends[0];
    let rate = form.guest_bytes(end.matched) as f64 / 1e6 / carried.seconds;
    let still = clients.iter_mut().filter_map(|client| is_connected(&mut client.stream)).count();

    let mut report = Report::new();
    report.say(format!(
        "{} at {} MB/s beside {} client(s) that never read",
        args.content, args.rate, args.stalled
    ));
    let bytes = carried.periods * wire.period();
    report.say(format!("the reading one got {rate:.1} MB/s, {} of {bytes} bytes lost", end.totals.lost));
    report.say(format!("{still} of {} others still connected", args.stalled));
    report.put("asked_mb_s", args.rate);
    report.put("mb_s", round(rate, 2));
    report.put("sent_wire_bytes", bytes);
    report.put("lost_bytes", end.totals.lost);
    report.put("stalled", args.stalled);
    report.put("stalled_still_connected", still);
    if !end.totals.clean() || end.closed {
        let first = end.faults.first().map_or(String::new(), |fault| format!("; first: {fault}"));
        report.problem(format!("the reading client: {:?}, disconnected: {}{first}", end.totals, end.closed));
    }
    if rate < args.rate * 0.9 {
        report.problem(format!("the VM was held up: {rate:.1} of {} MB/s", args.rate));
    }
    if let Some(cost) = cost {
        let growth = cost.rss_peak.saturating_sub(cost.rss_before);
        report.say(format!("RSS grew by {growth} KiB at most"));
        report.say(cost.words());
        report.put("rss_growth_kib", growth);
        report.put("cost", cost.json());
        if growth > args.max_growth {
            report.problem(format!("the server grew by {growth} KiB, {} allowed", args.max_growth));
        }
    }
    report.put("content", json!(args.content.to_string()));
    Ok(report)
}

/// Whether a connection still is one, after everything that lies in its buffer is read.
fn is_connected(stream: &mut std::net::TcpStream) -> Option<()> {
    let mut scratch = vec![0; 1 << 16];
    stream.set_nonblocking(true).ok()?;
    // Bounded: a server that goes on sending is connected.
    for _ in 0..10_000 {
        match stream.read(&mut scratch) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(error) => return is_timeout(&error).then_some(()),
        }
    }
    Some(())
}
