//! `replay CAPTURE`: plays the VM side of a captured session to this project's core, or to a server that
//! runs, and judges what comes back.
//!
//! ```text
//! capture ─▶ script ─▶ play ◀─▶ memory (the core) or live (a server)
//!               │        │
//!               └─▶ check + consoles + moves ─▶ report ─▶ text or json
//! ```
//!
//! Nothing here reads telnet with the core's own decoder: a judge must not be the accused.

pub mod check;
pub mod client;
pub mod consoles;
pub mod dialogue;
pub mod identity;
pub mod json;
pub mod live;
pub mod memory;
pub mod moves;
pub mod play;
pub mod report;
pub mod rules;
pub mod script;
pub mod telnet;
pub mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use dialogue::{Act, Step};
use live::Live;
use memory::Memory;
use play::Speed;
use report::Report;
use script::Script;
use world::World;

use crate::capture::{self, Capture};

/// Plays a captured session again and judges the answers.
#[derive(clap::Args, Clone, Debug)]
pub struct ReplayArgs {
    /// The capture: pcap or pcapng, gzipped or not.
    pub capture: PathBuf,
    /// The port on which the captured concentrator served VMs.
    #[arg(long, default_value_t = 13370, value_name = "PORT")]
    pub port: u16,
    /// Play to the server at this address instead of the core in memory.
    #[arg(long, value_name = "HOST:PORT")]
    pub target: Option<String>,
    /// The first of the target's client ports.
    #[arg(long, default_value_t = 50000, value_name = "PORT", requires = "target")]
    pub client_port: u16,
    /// How fast: max, original, or how many times the original speed. In memory time costs nothing.
    #[arg(long, default_value = "original", value_name = "SPEED", value_parser = speed)]
    pub speed: Speed,
    /// Tell serial ports of one VM apart by their service URI (the core in memory does so, the target is
    /// expected to).
    #[arg(long)]
    pub multi_console: bool,
    /// Write the report as one JSON object.
    #[arg(long)]
    pub json: bool,
    /// Show every message as it is played.
    #[arg(long, short)]
    pub verbose: bool,
}

fn speed(text: &str) -> Result<Speed, String> {
    match text {
        "max" => Ok(Speed::Max),
        "original" => Ok(Speed::Times(1.0)),
        number => match number.parse::<f64>() {
            Ok(factor) if factor.is_finite() && (1e-3..=1e6).contains(&factor) => Ok(Speed::Times(factor)),
            _ => Err("max, original, or a number from 0.001 to 1000000".into()),
        },
    }
}

/// Runs the command: 0 if our side broke no rule and lost nothing, 1 if it did, 2 if the capture or the
/// target cannot be used, or not all of the capture.
#[must_use]
pub fn run(args: &ReplayArgs) -> ExitCode {
    let name = args.capture.display().to_string();
    let fail = |why: &dyn std::fmt::Display| {
        eprintln!("error: {name}: {why}");
        ExitCode::from(2)
    };
    let capture = match capture::open(&args.capture, args.port) {
        Ok(capture) => capture,
        Err(why) => return fail(&why),
    };
    let script = match script::of(&capture, args.port) {
        Ok(script) => script,
        Err(why) => {
            return match &capture.broken {
                Some(broken) => fail(&format_args!("{broken}; up to there: {why}")),
                None => fail(&why),
            };
        }
    };
    let tell = |step: &Step| {
        if args.verbose {
            tell(step, &script);
        }
    };
    let report = match &args.target {
        None => {
            let mut memory = Memory::new(args.port, args.multi_console);
            replay(&script, &mut memory, args, tell)
        }
        Some(target) => match Live::new(target, args.client_port) {
            Ok(mut live) => replay(&script, &mut live, args, tell),
            Err(why) => return fail(&why),
        },
    };
    let report = complete(report, &capture, name.clone());
    if args.json {
        println!("{:#}", json::of(&report));
    } else {
        println!("{report}");
    }
    match &report.broken {
        _ if !report.is_good() => ExitCode::from(1),
        Some(broken) => fail(&format_args!("{broken}; it was played up to there")),
        None => ExitCode::SUCCESS,
    }
}

/// Plays `script` against `world` and draws up the report.
fn replay(script: &Script, world: &mut dyn World, args: &ReplayArgs, mut tell: impl FnMut(&Step)) -> Report {
    let played = play::play(script, world, args.speed, &mut tell);
    let (consoles, _) = consoles::of(&played.steps, &script.identities, args.multi_console);
    let expected: Vec<&[u8]> = consoles.iter().map(|console| &console.bytes[..]).collect();
    world.finish(&expected);
    report::draw(script, &played, args.multi_console, world.seen())
}

fn complete(mut report: Report, capture: &Capture, name: String) -> Report {
    report.capture = name;
    report.frames = capture.frames;
    report.broken.clone_from(&capture.broken);
    report.remarks.splice(0..0, capture.remarks.iter().cloned());
    report
}

/// One step in a line of its own.
fn tell(step: &Step, script: &Script) {
    let vm = script.conns[step.conn].vm;
    let (frame, time) = (step.mark.frame, step.mark.time.as_secs_f64());
    match &step.act {
        Act::Open => eprintln!("{frame:>6} {time:>12.6} {vm} connects"),
        Act::Say(by, item) => eprintln!("{frame:>6} {time:>12.6} {vm} {by:>5}: {item}"),
        Act::Gap(by, bytes) => eprintln!("{frame:>6} {time:>12.6} {vm} {by:>5}: {bytes} bytes missing"),
        Act::End(by, how, _) => eprintln!("{frame:>6} {time:>12.6} {vm} {by:>5}: {how:?}"),
    }
}

#[cfg(test)]
mod tests;
