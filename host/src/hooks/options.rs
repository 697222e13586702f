//! The options for commands that are run for events.

use std::fmt;
use std::path::{self, PathBuf};
use std::time::Duration;

use clap::Args;
use rustix::fs::{Access, access};

use crate::outlets::Kind;

/// The options for commands that are run for events.
#[derive(Clone, PartialEq, Eq, Debug, Args)]
pub(crate) struct HookOptions {
    /// A program that is run for each event of a console: VMs that come, go and move, clients, ports. It is
    /// told what in VSPC_EVENT and other variables, and as JSON on its standard input. May be repeated.
    #[arg(long, value_name = "PROGRAM", value_parser = program, help_heading = EVENTS)]
    pub on_event: Vec<PathBuf>,

    /// Run it for these kinds of events only: repeat it or separate by commas [default: all].
    #[arg(long, value_name = "KIND", value_enum, value_delimiter = ',')]
    #[arg(help_heading = EVENTS)]
    pub on_event_kinds: Vec<Kind>,

    /// How long it may run, in seconds; then it is killed, and what it has started with it.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, help_heading = EVENTS)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub on_event_timeout: u32,

    /// How many of it may run at once.
    #[arg(long, value_name = "NUMBER", default_value_t = 8, help_heading = EVENTS)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=64))]
    pub on_event_jobs: u32,
}

/// What is run for events, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Settings {
    pub(super) program: PathBuf,
    /// Of none: of all.
    pub(super) kinds: Vec<Kind>,
    pub(super) timeout: Duration,
    pub(super) jobs: usize,
}

/// All about it.
impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { program, kinds, timeout, jobs } = self;
        write!(f, "program:{} {kinds:?} {timeout:?} {jobs}", program.display())
    }
}

impl HookOptions {
    /// Says which options mean nothing together, and what to do.
    pub(crate) fn fault(&self) -> Option<String> {
        let is_idle = self.on_event.is_empty() && !self.on_event_kinds.is_empty();
        is_idle.then(|| "--on-event-kinds is for --on-event: add that, or drop it".to_owned())
    }

    pub(crate) fn settings(&self) -> impl Iterator<Item = Settings> + '_ {
        self.on_event.iter().map(|program| Settings {
            program: program.clone(),
            kinds: self.on_event_kinds.clone(),
            timeout: Duration::from_secs(self.on_event_timeout.into()),
            jobs: self.on_event_jobs as usize,
        })
    }
}

/// A program that can be run, by its path. Nothing is split, and nothing is looked for in PATH.
fn program(text: &str) -> Result<PathBuf, String> {
    let path = path::absolute(text).map_err(|error| error.to_string())?;
    if !path.is_file() {
        return Err("there is no such file: give the path of a program, without arguments".to_owned());
    }
    match access(&path, Access::EXEC_OK) {
        Ok(()) => Ok(path),
        Err(error) => Err(format!("it cannot be run ({error}): chmod +x?")),
    }
}

const EVENTS: &str = "Events (told to programs)";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::tests::parse;

    #[test]
    fn a_program_is_a_path_and_has_to_be_one_that_can_be_run() {
        let options = parse(
            "--on-event /bin/sh --on-event /bin/cat --on-event-kinds vm-up,vm-down --on-event-timeout 3 \
             --on-event-jobs 2",
        );
        let settings: Vec<_> = options.unwrap().hooks.settings().collect();
        assert_eq!(settings.len(), 2);
        let first = Settings {
            program: "/bin/sh".into(),
            kinds: vec![Kind::VmUp, Kind::VmDown],
            timeout: Duration::from_secs(3),
            jobs: 2,
        };
        assert_eq!(settings[0], first);
        for wrong in [
            "--on-event /no/such",
            "--on-event /etc",
            "--on-event /etc/passwd",
            "--on-event sh",
            "--on-event-kinds vm-up",
            "--on-event /bin/sh --on-event-kinds vm-upp",
            "--on-event /bin/sh --on-event-timeout 0",
            "--on-event /bin/sh --on-event-jobs 0",
        ] {
            let why = parse(wrong).unwrap_err();
            assert!(why.contains("--on-event") && !why.contains('\n'), "{wrong}: {why}");
        }
    }
}
