//! `load vmotion`: VMs that print numbered lines move, while a client at each types numbered lines.
//!
//! It counts how long the server takes for GOAHEAD and PEER-OK, how long the guests stand still, every line
//! that is lost, doubled or out of order in either direction, and every byte that goes to a connection that
//! has no right to it.

pub(super) mod console;
pub(super) mod stage;
mod tally;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use vspc_core::vmware::VmConfig;

use self::console::{Console, Course};
use self::stage::{Lines, Stage};
use super::LoadError;
use super::fleet::{FLEET_PATIENCE, Fleet};
use super::link::numbered_vm;
use super::process::{Cost, require_descriptors};
use super::report::Report;
use super::subject::{Common, Opened, read};
use crate::fake_vm::duration::parse_duration;
use crate::tunnel::TlsArgs;

/// Options of `load vmotion`.
#[derive(clap::Args, Clone, Debug)]
pub struct VmotionArgs {
    #[command(flatten)]
    pub(super) common: Common,
    /// VMs that print and have a client that types
    #[arg(long, value_name = "N", default_value_t = 100)]
    vms: usize,
    /// Further VMs that are connected and silent
    #[arg(long, value_name = "N", default_value_t = 0)]
    idle: usize,
    /// How many of them move at the same time
    #[arg(long, value_name = "N", default_value_t = 50)]
    at_once: usize,
    /// How often
    #[arg(long, value_name = "N", default_value_t = 10)]
    rounds: usize,
    /// Time between two lines of each VM and of each client
    #[arg(long, value_name = "TIME", default_value = "50ms", value_parser = parse_duration)]
    line_every: Duration,
    /// Time between two rounds
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = parse_duration)]
    pause: Duration,
    /// Clients of the moving VMs paste this much right before each move
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    paste: usize,
    /// Serial ports per VM; they move together (the server needs --multi-console)
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    ports_per_vm: u16,
    /// The source's connection ends right after GOAHEAD
    #[arg(long)]
    source_dies_first: bool,
    /// Every N-th move is aborted, by turns before and after the target has come
    #[arg(long, value_name = "N")]
    abort_every: Option<usize>,
    /// Every N-th move is given up by its host without a word (takes 5 s)
    #[arg(long, value_name = "N")]
    silent_giveup: Option<usize>,
    /// No new round after this time
    #[arg(long, value_name = "SECONDS", default_value_t = 300.0)]
    seconds: f64,
}

impl VmotionArgs {
    /// A short run at a server that runs already, whose first client port this is: whether anything is lost.
    #[must_use]
    pub fn brief(target: SocketAddr, first: u16) -> Self {
        let common = Common {
            target,
            client_port_base: first,
            server_pid: None,
            spawn: None,
            json: false,
            tls: TlsArgs::default(),
        };
        Self {
            common,
            vms: 8,
            idle: 0,
            at_once: 4,
            rounds: 5,
            line_every: Duration::from_millis(10),
            pause: Duration::from_millis(50),
            paste: 1000,
            ports_per_vm: 1,
            source_dies_first: false,
            abort_every: Some(5),
            silent_giveup: None,
            seconds: 60.0,
        }
    }
}

/// Runs `load vmotion`.
pub fn run(args: &VmotionArgs) -> Result<Report, LoadError> {
    if args.at_once > args.vms || args.vms == 0 {
        return Err(LoadError::Usage(format!("{} of {} VMs cannot move at once", args.at_once, args.vms)));
    }
    require_descriptors(args.common.tls.descriptors(args.vms * 4 + args.idle + 64))?;
    let opened = Opened::server(&args.common, args.vms + args.idle)?;
    let mut stage = Stage::new(consoles(args, &opened), args.line_every)?;
    stage.bring_up(opened.subject.vms())?;
    let super::subject::Subject::Server { first, .. } = opened.subject else {
        return Err(LoadError::Usage("a relay moves no VMs".into()));
    };
    stage.find_clients(&opened.subject.dial(), first)?;
    let mut fleet = Fleet::new(&opened.subject, args.vms, args.idle)?;
    let starts = fleet.start(64, FLEET_PATIENCE);
    if args.idle > 0 {
        starts.require_any(&opened.subject)?;
    }
    let stop = AtomicBool::new(false);
    let meter = opened.meter()?;
    thread::scope(|scope| {
        let (fleet, stop) = (&mut fleet, &stop);
        scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) && fleet.up() > 0 {
                fleet.idle(Duration::from_millis(200));
            }
        });
        play(args, &mut stage);
        stop.store(true, Ordering::Relaxed);
    });
    let cost = read(meter.as_ref());
    let mut report = tell(args, stage, cost.as_ref().ok().copied().flatten());
    if starts.missing > 0 || fleet.up() < args.idle {
        report.problem(format!("{} idle VMs are not connected", args.idle - fleet.up()));
    }
    if let Err(error) = cost {
        report.problem(error.to_string());
    }
    Ok(report)
}

fn consoles(args: &VmotionArgs, opened: &Opened) -> Vec<Console> {
    let ports = usize::from(args.ports_per_vm);
    let console = |number: usize| {
        let uri =
            if ports == 1 { "vSPC.py".into() } else { format!("vSPC.py?port=com{}", number % ports + 1) };
        let config = VmConfig { uri, ..numbered_vm(number / ports) };
        Console::new(number, opened.subject.clone(), opened.subject.adapt(config))
    };
    (0..args.vms).map(console).collect()
}

fn play(args: &VmotionArgs, stage: &mut Stage) {
    let started = Instant::now();
    // With 0xFF in many a sequence: an escape that is forgotten must not go unnoticed.
    let mut sequence = u32::MAX;
    let mut moves = 0usize;
    stage.talk(args.pause.max(Duration::from_millis(50)));
    for round in 0..args.rounds {
        let movers: Vec<(usize, Course)> = (0..args.at_once)
            .map(|mover| {
                moves += 1;
                ((round * args.at_once + mover) % args.vms, course(args, moves))
            })
            .collect();
        stage.round(&movers, args.paste, &mut sequence);
        stage.talk(args.pause);
        if started.elapsed().as_secs_f64() > args.seconds || stage.consoles.iter().all(Console::is_dead) {
            break;
        }
    }
    stage.run_out();
}

fn course(args: &VmotionArgs, number: usize) -> Course {
    let every = |n: Option<usize>| n.is_some_and(|n| n > 0 && number.is_multiple_of(n));
    if every(args.silent_giveup) {
        Course::GiveUp
    } else if every(args.abort_every) {
        let times = number / args.abort_every.unwrap_or(1);
        if times.is_multiple_of(2) { Course::AbortLate } else { Course::AbortEarly }
    } else if args.source_dies_first {
        Course::SourceDiesFirst
    } else {
        Course::Plain
    }
}

fn tell(args: &VmotionArgs, mut stage: Stage, cost: Option<Cost>) -> Report {
    let Lines { said: lines, lost, repeated, foreign } = stage.finish();
    let mut tally = stage.tally;
    let mut report = Report::new();
    report.say(format!("{} VMs ({} more idle), {} at once", args.vms, args.idle, args.at_once));
    report.say(format!(
        "{} moves: {} completed {} aborted {} given up {} refused {} timed out",
        tally.begun, tally.completed, tally.aborted, tally.given_up, tally.refused, tally.timed_out
    ));
    report.say(format!("GOAHEAD {}", tally.goahead.words()));
    report.say(format!("PEER-OK {}", tally.peer_ok.words()));
    report.say(format!("guests stood still {}", tally.downtime.words()));
    report.say(format!("{lines} lines: {lost} lost {repeated} repeated {foreign} damaged"));
    report.say(format!("{} bytes to the wrong connection", tally.misdirected));
    for (key, value) in [
        ("vms", json!(args.vms)),
        ("idle", json!(args.idle)),
        ("at_once", json!(args.at_once)),
        ("begun", json!(tally.begun)),
        ("completed", json!(tally.completed)),
        ("aborted", json!(tally.aborted)),
        ("given_up", json!(tally.given_up)),
        ("refused", json!(tally.refused)),
        ("timed_out", json!(tally.timed_out)),
        ("goahead", tally.goahead.json()),
        ("peer_ok", tally.peer_ok.json()),
        ("downtime", tally.downtime.json()),
        ("lines", json!(lines)),
        ("lost", json!(lost)),
        ("repeated", json!(repeated)),
        ("damaged", json!(foreign)),
        ("misdirected_bytes", json!(tally.misdirected)),
    ] {
        report.put(key, value);
    }
    if let Some(cost) = cost {
        report.say(cost.words());
        report.put("cost", cost.json());
    }
    if lost + repeated + foreign > 0 {
        report.problem(format!("of {lines} lines {lost} lost, {repeated} repeated, {foreign} damaged"));
    }
    if tally.begun == 0 {
        report.problem("no move was begun");
    }
    for problem in tally.problems() {
        report.problem(problem);
    }
    report
}
