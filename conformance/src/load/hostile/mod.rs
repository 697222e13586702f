//! `load hostile`: strangers, clones, quitters and storms, one drill each, and what everybody else notices of
//! them.
//!
//! A drill is an attack on a fresh server. While it goes on, somebody types at another console, VMs come that
//! nobody knows yet, and consoles talk both ways, in some drills while their VMs move. Nobody of these may
//! wait or lose a byte, and what the attack took must be given back. Where this machine is so busy that even
//! a raw relay or a bare server is slow under the same attack, their figures are the measure.
//!
//! Owns the attacks, their pace, what is measured meanwhile and the limits (`outcome.rs`). Refuses to know
//! how any server defends itself.

mod attack;
mod drill;
mod drills;
mod ground;
mod mixed;
mod outcome;
mod peer;
mod play;
mod table;
mod watch;
mod wire;

use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use self::drill::Drill;
use self::drills::DRILLS;
use self::mixed::Mixed;
use self::outcome::Outcome;
use self::play::{Disturb, Run, play};
use self::table::Table;
use super::LoadError;
use crate::fake_vm::duration::parse_duration;

/// Options of `load hostile`.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct HostileArgs {
    /// How to start a server: a command line such as "target/release/vspc-mio". Each drill has a fresh one.
    /// Give it again for a second server: the table sets them side by side
    #[arg(long, value_name = "COMMAND", required_unless_present = "list")]
    spawn: Vec<String>,
    /// Only this drill, or those whose names begin so. May be repeated; `mixed` is played only when it is
    /// named
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// How long each attack goes on
    #[arg(long, value_name = "SECONDS", default_value_t = 8.0, value_parser = seconds)]
    seconds: f64,
    /// How long the mixed drill takes at each server, with what comes after its attacks: a third of it, and
    /// no more than 75 seconds
    #[arg(long = "for", value_name = "TIME", default_value = "1m", value_parser = parse_duration)]
    mixed_for: Duration,
    /// Where chance starts from; the same number makes the same attacks in the same order
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Print one JSON object per drill and server instead of lines and a table
    #[arg(long)]
    json: bool,
    /// List the drills and play none
    #[arg(long)]
    list: bool,
}

/// Runs drills. Exit code 0: all within their limits; 1: not; 2: they could not be run.
#[must_use]
pub fn run(args: &HostileArgs) -> ExitCode {
    let chosen = match choose(&args.only) {
        Ok(chosen) => chosen,
        Err(why) => {
            eprintln!("hostile: {why}");
            return ExitCode::from(2);
        }
    };
    if args.list {
        list(&chosen, args.json);
        return ExitCode::SUCCESS;
    }
    let mut table = Table::default();
    let mut code = 0;
    for (at, drill) in chosen.iter().enumerate() {
        for command in &args.spawn {
            let name = server_name(command);
            eprintln!("hostile: {} of {}: {} at {name}", at + 1, chosen.len(), drill.name);
            match one(drill, command, args) {
                Ok(mut outcome) => code = code.max(tell(&mut outcome, name, args.json, &mut table)),
                Err(error) => {
                    code = code.max(error.exit_code());
                    fail(drill, name, &error, args.json);
                    table.failed(drill.name, name);
                }
            }
        }
    }
    if !args.json {
        println!("\n{table}");
    }
    ExitCode::from(code)
}

fn one(drill: &Drill, command: &str, args: &HostileArgs) -> Result<Outcome, LoadError> {
    let run = if drill.name == mixed::NAME {
        Run::within(command, args.mixed_for, args.seed)
    } else {
        Run::of(command, Duration::from_secs_f64(args.seconds), args.seed)
    };
    play(drill, what(drill), &run)
}

/// Plays one drill at a server, for so long, and returns its figures and problems as `--json` tells them.
///
/// # Errors
///
/// There is no such drill, or it could not be played.
pub fn figures(name: &str, command: &str, time: Duration) -> Result<Value, LoadError> {
    let drill = choose(&[name.to_owned()]).map_err(LoadError::Usage)?.remove(0);
    let run = Run::of(command, time, 1);
    let mut outcome = play(&drill, what(&drill), &run)?;
    Ok(object(&mut outcome, server_name(command)))
}

/// What goes on in a drill.
fn what(drill: &Drill) -> &dyn Disturb {
    if drill.name == mixed::NAME { &Mixed } else { drill }
}

fn object(outcome: &mut Outcome, server: &str) -> Value {
    let problems = outcome.problems();
    let mut object = outcome.json();
    object["drill"] = json!(outcome.drill.name);
    object["server"] = json!(server);
    object["ok"] = json!(problems.is_empty());
    object["problems"] = json!(problems);
    object
}

/// The drills of these names; without any, all but the mixed one.
fn choose(only: &[String]) -> Result<Vec<Drill>, String> {
    let all = || DRILLS.iter().chain([&mixed::DRILL]);
    if let Some(name) = only.iter().find(|name| !all().any(|drill| drill.name.starts_with(name.as_str()))) {
        return Err(format!("no drill is called {name}; --list shows them"));
    }
    let is_chosen = |drill: &&Drill| match only {
        [] => drill.name != mixed::NAME,
        only => {
            // A whole name means that drill alone.
            only.iter().any(|name| {
                drill.name == name
                    || (drill.name.starts_with(name.as_str()) && !all().any(|d| d.name == name))
            })
        }
    };
    Ok(all().filter(is_chosen).copied().collect())
}

fn list(drills: &[Drill], as_json: bool) {
    if as_json {
        let drills: Vec<_> =
            drills.iter().map(|drill| json!({"name": drill.name, "about": drill.about})).collect();
        println!("{:#}", json!({ "drills": drills }));
        return;
    }
    for drill in drills {
        println!("{:22} {}", drill.name, drill.about);
    }
}

/// Tells one drill; the exit code that it makes.
fn tell(outcome: &mut Outcome, server: &str, as_json: bool, table: &mut Table) -> u8 {
    let (name, problems) = (outcome.drill.name, outcome.problems());
    if as_json {
        println!("{}", object(outcome, server));
    } else {
        let verdict = if problems.is_empty() { "ok" } else { "FAILED" };
        println!("{name} at {server}: {} - {verdict}", outcome.words());
    }
    for problem in &problems {
        eprintln!("{name} at {server}: {problem}");
    }
    table.row(name, server, outcome.row(), problems.is_empty());
    u8::from(!problems.is_empty())
}

fn fail(drill: &Drill, server: &str, error: &LoadError, as_json: bool) {
    let name = drill.name;
    if as_json {
        let problems = [error.to_string()];
        println!("{}", json!({"drill": name, "server": server, "ok": false, "problems": problems}));
    }
    eprintln!("{name} at {server}: {error}");
}

/// What a server is called in a line: its program's name.
fn server_name(command: &str) -> &str {
    let program = command.split_ascii_whitespace().next().unwrap_or(command);
    program.rsplit('/').next().unwrap_or(program)
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    if (0.1..=3600.0).contains(&seconds) { Ok(seconds) } else { Err("from 0.1 to 3600".to_owned()) }
}

const AFTER_HELP: &str = "\
Limits, during every drill: another console's key comes back within 20 ms (p99), or twice what the raw relay
takes under the same attack; a new VM is served within 100 ms (p99) after the server has accepted it, and end
to end, or one and a half times what the bare server takes; consoles that talk meanwhile lose no byte either
way; afterwards the server has given back its connections and all but 16 MiB of memory, and serves a new VM.

Columns of the table: p99 and maximum of a key, a new VM end to end and after it was accepted (p99), all in
ms; new VMs not served; lines of others lost; growth of RSS; connections left; log.

Examples:
  vspc-conformance load hostile --list
  vspc-conformance load hostile --spawn target/release/vspc-mio --spawn target/release/vspc-smol
  vspc-conformance load hostile --spawn target/release/vspc-mio --only consoles --only takeover --seconds 3
  vspc-conformance load hostile --spawn target/release/vspc-mio --only mixed --for 1h --seed 7

Exit code: 0 all within the limits, 1 not, 2 a drill could not be played.";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn names(only: &[&str]) -> Vec<&'static str> {
        let only: Vec<String> = only.iter().map(|&name| name.to_owned()).collect();
        choose(&only).unwrap().iter().map(|drill| drill.name).collect()
    }

    #[test]
    fn drills_are_chosen_by_their_names_and_the_mixed_one_only_so() {
        let all = names(&[]);
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        assert!(!all.contains(&"mixed"));
        assert_eq!(names(&["mixed"]), ["mixed"]);
        assert!(names(&["consoles"]).len() == 3);
        assert_eq!(names(&["garbage"]), ["garbage"]);
        assert!(choose(&["nothing".into()]).is_err());
    }

    #[test]
    fn a_server_is_called_by_its_program() {
        assert_eq!(server_name("target/release/vspc-mio --slow-client wait"), "vspc-mio");
    }

    #[test]
    fn what_is_said_of_drills_fits_a_line() {
        for drill in DRILLS {
            assert!(drill.about.len() <= 110 && !drill.about.ends_with('.'), "{}", drill.name);
        }
    }
}
