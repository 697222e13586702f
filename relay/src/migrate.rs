//! `vspc-relay migrate`: tells a relay that runs that a VM leaves or comes.

use std::io::{self, Write};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::args::{MigrateArgs, Step};
use crate::control;
use crate::endpoint::Place;
use crate::fatal::Fatal;
use crate::qmp::{take_secret, write_secret};

/// Does one step of a move, and prints the secret where the step has one and no file is to have it.
pub(crate) fn run(args: &MigrateArgs) -> Result<(), Fatal> {
    let Place::Unix(socket) = &args.control.place else {
        return Err(Fatal::Options(format!("--control {}: it is a unix socket: unix:/PATH", args.control)));
    };
    let word = match args.step {
        Step::Begin => "begin",
        Step::Secret => "secret",
        Step::Expect => "expect",
        Step::Complete => "complete",
        Step::Abort => "abort",
    };
    let secret = match args.step {
        Step::Expect => secret(args)?,
        _ => None,
    };
    let request = json!({"do": word, "line": args.name, "secret": secret});
    let refused = |why| Fatal::Refused(format!("{}: {why}", args.name));
    let answer = control::ask(socket, &request)
        .map_err(|error| Fatal::Refused(format!("{}: {error}", args.control)))?
        .map_err(refused)?;
    match &args.secret_file {
        Some(path) if !answer.is_empty() => {
            write_secret(path, &answer).map_err(|error| refused(format!("{}: {error}", path.display())))
        }
        _ if answer.is_empty() => Ok(()),
        _ => writeln!(io::stdout(), "{answer}").map_err(|error| Fatal::System("write the output", error)),
    }
}

/// The secret that the target is told: the word of the command line, `-` for a line of the standard input, or
/// what is in the file as soon as it is there.
fn secret(args: &MigrateArgs) -> Result<Option<String>, Fatal> {
    if let Some(word) = &args.secret {
        if word != "-" {
            return Ok(Some(word.clone()));
        }
        let mut line = String::new();
        io::stdin().read_line(&mut line).map_err(|error| Fatal::System("read the secret", error))?;
        return Ok(Some(line.trim().to_owned()));
    }
    let Some(path) = &args.secret_file else { return Ok(None) };
    let until = Instant::now() + Duration::from_secs(args.timeout.into());
    loop {
        let fault = |why| Fatal::Refused(format!("{}: {why}", path.display()));
        match take_secret(path).map_err(|error| fault(error.to_string()))? {
            Some(secret) => return Ok(Some(secret.to_string())),
            None if Instant::now() >= until => return Err(fault("it does not come".to_owned())),
            // It may lie on a file system that tells nobody of changes.
            None => thread::sleep(LOOK),
        }
    }
}

const LOOK: Duration = Duration::from_millis(20);
