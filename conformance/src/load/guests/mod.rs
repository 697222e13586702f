//! `load guests`: copies out of a guest with an agent and into it, through a server, beside what the same
//! bytes take through raw pipes, and beside plain bulk (docs/guests.md).
//!
//! Each run goes all ways in turn, so that all meet the same machine; the medians are told. The bytes are
//! random, and each of them is checked at the end of its way.
//!
//! Owns the ways and how they are told. Parts: `bytes` and `stage` (what is copied), `ends` (programs that
//! write and read it), `raw` (pipes), `plain` (a VM's bulk), `rig` (server and agent), `copies`
//! (an operator's streams), `clients` (`vspc`), `yamux` (a peer), `keys` (beside copies), `idle` and
//! `idle_guest` (memory).

mod bytes;
mod clients;
mod copies;
mod ends;
mod idle;
mod idle_guest;
mod keys;
mod plain;
mod raw;
mod rig;
mod stage;
mod yamux;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use serde_json::json;

pub(super) use self::ends::{EndArgs, run_end};
pub(super) use self::idle_guest::IdleGuest;
use self::rig::Rig;
use self::stage::Stage;
use super::LoadError;
use super::operator::PATIENCE;
use super::report::Report;
use super::stats::{median, round};

/// Options of `load guests`.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct GuestsArgs {
    /// The server to start: a command line such as "target/release/vspc-mio --slow-client wait". One that
    /// leaves out what a slow client misses fails here
    #[arg(long, value_name = "COMMAND")]
    spawn: String,
    /// The agent's program [default: vspc-agent, beside this program]
    #[arg(long, value_name = "PROGRAM")]
    agent: Option<PathBuf>,
    /// The client's program [default: vspc, beside this program]
    #[arg(long, value_name = "PROGRAM")]
    client: Option<PathBuf>,
    /// How much is copied each time
    #[arg(long, value_name = "MB", default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..))]
    size: u64,
    /// Runs; the median of each figure is told
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    /// These ways alone
    #[arg(long, value_name = "WAY", value_enum)]
    only: Vec<Way>,
    /// How long keys are timed beside each kind of copy; 0: not at all
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0)]
    key_seconds: f64,
    /// Guests with idle streams, for the server's memory; 0: none
    #[arg(long, value_name = "N", default_value_t = 1000)]
    guests: usize,
    /// Streams that each of them has
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    streams: u8,
    /// How long a server is given to let go of what coming up took, before its memory is read
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    settle: f64,
    /// Keep the file that is copied in this directory [default: where the system keeps what is temporary]
    #[arg(long, value_name = "DIRECTORY")]
    dir: Option<PathBuf>,
    /// Print one JSON object instead of a line
    #[arg(long)]
    json: bool,
}

/// How the bytes go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Way {
    /// From the file to nowhere by `socat -b 65536 -u` at both ends of a unix socket; checked by nobody
    Socat,
    /// From one program to another through a unix socket, with a read and a write for each 64 KiB
    Pipe,
    /// As pipe, by TCP, with the raw relay in between
    Relay,
    /// As pipe, as one stream of the yamux crate
    Yamux,
    /// As yamux, to a program that takes it off the line and passes it on by TCP, as a server does
    YamuxRelay,
    /// Without a guest: what a VM prints, by TCP, to one telnet client
    Plain,
    /// What a program in the guest writes, to an operator
    ExecOut,
    /// What an operator has, to a program in the guest
    ExecIn,
    /// A file of the guest's, to an operator; the agent sums it
    Get,
    /// A file from an operator, onto the guest's disk; the agent sums it
    Put,
    /// As exec-out, by `vspc exec`
    VspcExec,
    /// A file out of the guest, by `vspc cp`, which sums it and has it packed
    VspcOut,
    /// A file into the guest, by `vspc cp`
    VspcIn,
}

impl GuestsArgs {
    /// Whether it is told as one object.
    #[must_use]
    pub(super) fn is_json(&self) -> bool {
        self.json
    }
}

impl Way {
    fn name(self) -> String {
        self.to_possible_value().map_or(String::new(), |value| value.get_name().to_owned())
    }
}

/// What one copy gave.
#[derive(Clone, Copy, Debug)]
struct Figures {
    megabytes_per_second: f64,
    /// Of the programs in between.
    cpu: Option<Shares>,
}

/// Seconds of processor time per GB.
#[derive(Clone, Copy, Debug)]
struct Shares {
    server: f64,
    agent: Option<f64>,
}

impl Figures {
    fn of(stage: &Stage, time: Duration) -> Self {
        let seconds = time.as_secs_f64().max(1e-6);
        Self { megabytes_per_second: stage.gigabytes() * 1e3 / seconds, cpu: None }
    }
}

/// Runs `load guests`.
pub(super) fn run(args: &GuestsArgs) -> Result<Report, LoadError> {
    let mut ways = args.only.clone();
    if ways.is_empty() {
        ways = Way::value_variants().to_vec();
        ways.retain(|way| *way != Way::Socat || raw::has_socat());
    }
    let stage = Stage::set(args)?;
    let mut figures: Vec<Vec<Figures>> = ways.iter().map(|_| Vec::new()).collect();
    for _ in 0..args.runs {
        for (way, figures) in ways.iter().zip(&mut figures) {
            let once = once(args, &stage, *way);
            figures.push(once.map_err(|error| error.of(&way.name()))?);
        }
    }
    let mut report = Report::new();
    report.say(format!("{} MB, median of {}", args.size, args.runs));
    report.put("megabytes", args.size);
    let told: Vec<(Way, Middle)> =
        ways.iter().zip(&figures).map(|(way, figures)| (*way, Middle::of(figures))).collect();
    for (way, middle) in &told {
        tell(&mut report, *way, *middle, &told);
    }
    if args.key_seconds > 0.0 {
        keys::run(args, &stage, &mut report)?;
    }
    if args.guests > 0 {
        idle::run(args, &mut report)?;
    }
    Ok(report)
}

fn once(args: &GuestsArgs, stage: &Stage, way: Way) -> Result<Figures, LoadError> {
    match way {
        Way::Socat => Ok(Figures::of(stage, raw::socat(stage)?)),
        Way::Pipe => Ok(Figures::of(stage, raw::pipe(stage)?)),
        Way::Relay => Ok(Figures::of(stage, raw::relay(stage)?)),
        Way::Yamux => Ok(Figures::of(stage, yamux::copy(stage)?)),
        Way::YamuxRelay => yamux::relay(stage),
        Way::Plain => plain::copy(args, stage),
        Way::ExecOut | Way::ExecIn | Way::Get | Way::Put => {
            copies::copy(&Rig::start(args, stage)?, stage, way)
        }
        Way::VspcExec | Way::VspcOut | Way::VspcIn => {
            clients::copy(args, &Rig::start(args, stage)?, stage, way)
        }
    }
}

/// The medians of some copies.
#[derive(Clone, Copy, Debug)]
struct Middle {
    rate: f64,
    server: Option<f64>,
    agent: Option<f64>,
}

impl Middle {
    fn of(figures: &[Figures]) -> Self {
        let middle = |of: &dyn Fn(&Figures) -> Option<f64>| {
            let values: Vec<f64> = figures.iter().filter_map(of).collect();
            (!values.is_empty()).then(|| median(&values))
        };
        Self {
            rate: middle(&|it| Some(it.megabytes_per_second)).unwrap_or(0.0),
            server: middle(&|it| Some(it.cpu?.server)),
            agent: middle(&|it| it.cpu?.agent),
        }
    }
}

/// Tells of one way, and how it stands to raw pipes, to yamux and to plain bulk.
fn tell(report: &mut Report, way: Way, middle: Middle, all: &[(Way, Middle)]) {
    let other = |wanted| all.iter().find(|(way, _)| *way == wanted).map(|(_, middle)| *middle);
    let name = way.name();
    let Middle { rate, server, agent } = middle;
    let mut words = format!("{name}: {rate:.0} MB/s");
    let mut object = json!({"mb_per_s": round(rate, 1)});
    let rivals = [
        (Way::Socat, "of_socat"),
        (Way::Pipe, "of_pipe"),
        (Way::Yamux, "of_yamux"),
        (Way::YamuxRelay, "of_yamux_relay"),
    ];
    for (beside, key) in rivals {
        if let Some(rate_beside) = other(beside).filter(|_| way != beside).map(|middle| middle.rate) {
            words += &format!(", {:.2} of {}'s", rate / rate_beside, beside.name());
            object[key] = json!(round(rate / rate_beside, 3));
        }
    }
    if let Some(server) = server {
        words += &format!(", server {server:.2} CPU-s/GB");
        object["server_cpu_s_per_gb"] = json!(round(server, 3));
        let plain = other(Way::Plain)
            .and_then(|plain| plain.server)
            .filter(|plain| way != Way::Plain && *plain > 0.0);
        if let Some(plain) = plain {
            words += &format!(" ({:.2} of plain bulk's)", server / plain);
            object["of_plain_cpu"] = json!(round(server / plain, 3));
        }
    }
    if let Some(agent) = agent {
        words += &format!(", agent {agent:.2}");
        object["agent_cpu_s_per_gb"] = json!(round(agent, 3));
    }
    report.say(words);
    report.put(&name, object);
}

fn broken(error: &io::Error) -> LoadError {
    LoadError::Violation(error.to_string())
}

/// Read and written at a time.
const PIECE: usize = 64 << 10;

/// How long a program may copy.
const LONGEST: Duration = Duration::from_secs(600);
