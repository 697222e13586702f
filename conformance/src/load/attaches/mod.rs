//! `load attaches`: what a reader of each console costs a server, as many telnet clients and as many attaches
//! of one operator connection.

mod operator;
mod telnet;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::LoadError;
use super::fleet::{FLEET_PATIENCE, Fleet};
use super::process::{Cost, Launch, Meter, require_descriptors};
use super::report::Report;
use super::stats::{median, round};
use super::subject::Subject;
use crate::fake_vm::duration::parse_duration;
use crate::tunnel::Dial;

/// Options of `load attaches`.
#[derive(clap::Args, Clone, Debug)]
pub struct AttachesArgs {
    /// The server, which is started afresh for each run: a command line such as "target/release/vspc-mio"
    #[arg(long, value_name = "COMMAND")]
    spawn: String,
    /// VMs, each with one reader
    #[arg(long, value_name = "N", default_value_t = 1000)]
    vms: u16,
    /// How often each VM prints a line
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = parse_duration)]
    line_every: Duration,
    /// How long to read
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    seconds: f64,
    /// Runs of each kind, in turn; the median of each figure is told
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    /// Print one JSON object instead of a line
    #[arg(long)]
    pub(super) json: bool,
}

impl AttachesArgs {
    /// A short run: whether all is read, not what it costs.
    #[must_use]
    pub fn brief(command: &str) -> Self {
        Self {
            spawn: command.to_owned(),
            vms: 30,
            line_every: Duration::from_millis(20),
            seconds: 0.5,
            runs: 1,
            json: false,
        }
    }
}

/// Those who read all consoles of a server.
trait Readers {
    /// Waits for bytes for so long and takes them; returns how many lines ended in them.
    fn read(&mut self, wait: Duration) -> Result<u64, LoadError>;
}

/// Runs `load attaches`.
pub fn run(args: &AttachesArgs) -> Result<Report, LoadError> {
    require_descriptors(2 * usize::from(args.vms) + 16)?;
    let (mut telnet, mut operator) = (Vec::new(), Vec::new());
    for _ in 0..args.runs {
        telnet.push(once(args, |admin| telnet::Clients::open(admin, args.vms))?);
        operator.push(once(args, |admin| operator::Operator::open(admin, args.vms))?);
    }
    let mut report = Report::new();
    report.say(format!("{} consoles, a line each {} ms", args.vms, args.line_every.as_millis()));
    report.put("vms", args.vms);
    let telnet = tell(&mut report, "telnet clients", "telnet", &telnet);
    let operator = tell(&mut report, "attaches of one connection", "attaches", &operator);
    let [cpu, rss] = [0, 1].map(|at| operator[at] / telnet[at]);
    report.say(format!("{cpu:.2} x the CPU and {rss:.2} x the memory"));
    report.put("cpu_ratio", round(cpu, 3));
    report.put("rss_ratio", round(rss, 3));
    Ok(report)
}

struct Outcome {
    cost: Cost,
    /// Lines printed, and lines that were read.
    lines: (u64, u64),
}

fn once<R: Readers + Send>(
    args: &AttachesArgs,
    open: impl FnOnce(SocketAddr) -> Result<R, LoadError>,
) -> Result<Outcome, LoadError> {
    let (process, vms, first) =
        Launch { command: &args.spawn, ports: args.vms, ..Launch::default() }.start()?;
    let subject = Subject::Server { vms, first, dial: Dial::default() };
    let mut fleet = Fleet::new(&subject, 0, args.vms.into())?;
    let starts = fleet.start(64, FLEET_PATIENCE);
    starts.require_all()?;
    let mut readers = open(process.admin())?;
    // What a server says of its own.
    let quiet = Instant::now() + SETTLES;
    while Instant::now() < quiet {
        readers.read(Duration::from_millis(50))?;
    }
    let meter = Meter::start(process.pid())?;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let talker = scope.spawn(|| fleet.talk(args.line_every, &stop));
        let mut read = 0;
        let until = Instant::now() + Duration::from_secs_f64(args.seconds);
        let outcome = loop {
            match readers.read(Duration::from_millis(50)) {
                Ok(lines) => read += lines,
                Err(error) => break Err(error),
            }
            if Instant::now() >= until {
                break meter.read();
            }
        };
        stop.store(true, Ordering::Relaxed);
        let printed = talker.join().unwrap_or(0);
        let cost = outcome?;
        let patience = Instant::now() + SETTLES;
        while read < printed && Instant::now() < patience {
            read += readers.read(Duration::from_millis(50))?;
        }
        Ok(Outcome { cost, lines: (printed, read) })
    })
}

/// Tells the medians of some runs; returns CPU in per cent and memory in KiB.
fn tell(report: &mut Report, name: &str, key: &str, runs: &[Outcome]) -> [f64; 2] {
    let all = |figure: fn(&Cost) -> f64| runs.iter().map(|run| figure(&run.cost)).collect::<Vec<_>>();
    let (cpu, rss) = (all(Cost::percent), all(|cost| cost.rss_peak as f64));
    report.say(format!("{name}: CPU {:.2} %, memory {:.0} KiB", median(&cpu), median(&rss)));
    report.put(
        key,
        json!({"cpu_percent": cpu.iter().map(|cpu| round(*cpu, 2)).collect::<Vec<_>>(), "rss_kib": rss}),
    );
    for &Outcome { lines: (printed, read), .. } in runs {
        if printed != read {
            report.problem(format!("{name}: {read} lines read of {printed}"));
        }
    }
    [median(&cpu), median(&rss)]
}

/// How many lines end in these bytes.
fn lines_in(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

/// A server takes this long at most to say what it has to say of its own, or to pass on what was printed.
const SETTLES: Duration = Duration::from_secs(3);
