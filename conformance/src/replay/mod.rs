//! `replay CAPTURE`: plays the VM side of a captured session to this project's core, or to a server that
//! runs, and judges what comes back.
//!
//! ```text
//! capture ─▶ script ─▶ play ◀─▶ target: the core in memory, or a server that runs
//!               │        │
//!               └─▶ check + consoles + moves ─▶ report ─▶ text or json
//! ```
//!
//! Nothing here reads telnet with the core's own decoder: a judge must not be the accused.

mod check;
mod clients;
mod consoles;
mod dialogue;
mod identity;
mod json;
mod moves;
pub mod play;
pub mod report;
mod rules;
mod script;

use std::io::{Write, stderr, stdout};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use dialogue::{Act, Step};
use play::Speed;
use report::Report;
use script::Script;

use crate::capture::{self, Capture, How};
use crate::drive::{ClientPort, Live, LiveOptions, Memory, Ports, Target};
use crate::telnet::Word;
use crate::tunnel::{Dial, Port, TlsArgs};

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
    /// How many client ports to look at.
    #[arg(long, value_name = "COUNT", default_value_t = 2000, requires = "target")]
    pub client_ports: u16,
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
    /// Whether and how to speak TLS to the target.
    #[command(flatten)]
    pub tls: TlsArgs,
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

/// Why there is no report.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The file cannot be used.
    #[error(transparent)]
    Capture(#[from] capture::CaptureError),
    /// It holds nothing to play.
    #[error("{}{why}", broken.as_ref().map(|broken| format!("{broken}; up to there: ")).unwrap_or_default())]
    Nothing {
        /// Why not.
        why: script::NothingToPlay,
        /// Why the file was not read to its end, if it was not.
        broken: Option<String>,
    },
    /// The target cannot be used; why, in words.
    #[error("{0}")]
    Target(String),
}

/// Runs the command: 0 if our side broke no rule and lost nothing, 1 if it did, 2 if the capture or the
/// target cannot be used, or not all of the capture.
#[must_use]
pub fn run(args: &ReplayArgs) -> ExitCode {
    let name = args.capture.display();
    // Whoever reads may have seen enough and gone.
    let say = |line: std::fmt::Arguments<'_>| {
        let _ = if args.json { writeln!(stderr(), "{line}") } else { writeln!(stdout(), "{line}") };
    };
    let show = |step: &Step, conns: &[script::Conn]| {
        if args.verbose {
            say(format_args!("{}", shown(step, conns)));
        }
    };
    let report = match report(args, show) {
        Ok(report) => report,
        Err(why) => {
            let _ = writeln!(stderr(), "error: {name}: {why}");
            return ExitCode::from(2);
        }
    };
    if args.json {
        let _ = writeln!(stdout(), "{:#}", json::of(&report));
    } else {
        say(format_args!("{report}"));
    }
    if let Some(broken) = &report.broken {
        let _ = writeln!(stderr(), "error: {name}: {broken}; it was played up to there");
    }
    match &report.broken {
        _ if !report.is_good() => ExitCode::from(1),
        Some(_) => ExitCode::from(2),
        None => ExitCode::SUCCESS,
    }
}

/// Plays the capture as `args` say and judges it. `show` is called with each step as it happens, and the
/// connections that steps are numbered by.
///
/// # Errors
///
/// The capture holds nothing to play, or the target does not answer.
pub fn report(args: &ReplayArgs, show: impl Fn(&Step, &[script::Conn])) -> Result<Report, ReplayError> {
    let capture = capture::open(&args.capture, args.port)?;
    let script = script::of(&capture, args.port)
        .map_err(|why| ReplayError::Nothing { why, broken: capture.broken.clone() })?;
    let show = |step: &Step| show(step, &script.conns);
    let dial = args.tls.open(args.target.as_deref().unwrap_or_default()).map_err(ReplayError::Target)?;
    let report = match &args.target {
        None => replay(&script, &mut Memory::keeping_all(args.multi_console), args, show),
        Some(target) => {
            let target = reach(target, &dial).map_err(ReplayError::Target)?;
            let client_host = target.ip();
            let ports = Ports::new(client_host, args.client_port, args.client_ports, dial.clone());
            ports.look().map_err(ReplayError::Target)?;
            let clients = ClientPort::Among(Arc::new(ports));
            let live = Live::new(LiveOptions { target, clients, client_host, admin: None, dial });
            let live = live.map_err(|why| ReplayError::Target(why.to_string()))?;
            replay(&script, &mut live.without_gaps(), args, show)
        }
    };
    Ok(complete(report, &capture, args.capture.display().to_string()))
}

/// The address of `target` at which a server answers, or why there is none, in words.
fn reach(target: &str, dial: &Dial) -> Result<SocketAddr, String> {
    let addresses = target.to_socket_addrs().map_err(|why| format!("cannot find {target}: {why}"))?;
    let mut last = format!("{target} has no address");
    for address in addresses {
        match dial.try_out(Port::Vm, address) {
            Ok(()) => return Ok(address),
            Err(why) => last = format!("{target}: {why}"),
        }
    }
    Err(last)
}

/// Plays `script` to `target` and draws up the report.
fn replay(
    script: &Script,
    target: &mut dyn Target,
    args: &ReplayArgs,
    mut tell: impl FnMut(&Step),
) -> Report {
    let played = play::play(script, target, args.speed, args.multi_console, &mut tell);
    report::draw(script, &played, args.multi_console)
}

fn complete(mut report: Report, capture: &Capture, name: String) -> Report {
    report.capture = name;
    report.frames = capture.frames;
    report.broken.clone_from(&capture.broken);
    report.remarks.splice(0..0, capture.remarks.iter().cloned());
    report
}

/// One step in a line of its own.
fn shown(step: &Step, conns: &[script::Conn]) -> String {
    let vm = conns[step.conn].vm;
    let (frame, time) = (step.mark.frame, step.mark.time.as_secs_f64());
    let what = match &step.act {
        Act::Open => "connects".to_owned(),
        Act::Say(by, word) => format!("{by:>5}: {word}"),
        Act::Gap(by, bytes) => format!("{by:>5}: {bytes} bytes missing"),
        Act::Half(by, begun) => {
            format!("{by:>5}: {} and no more of the command", Word::Fault(begun.clone()))
        }
        Act::End(by, How::Fin) => format!("{by:>5}: closes"),
        Act::End(by, How::Rst) => format!("{by:>5}: resets"),
    };
    format!("{frame:>6} {time:>12.6} {vm} {what}")
}

#[cfg(test)]
mod tests;
