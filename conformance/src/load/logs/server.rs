//! The server of a part, with logs or without, from its start to its orderly end.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::LogsArgs;
use super::place::Place;
use crate::load::LoadError;
use crate::load::process::{Launch, Started};
use crate::load::subject::Subject;
use crate::tunnel::Dial;

/// A server that runs.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) subject: Subject,
    process: Started,
}

impl Server {
    /// Starts it; `place` is where it keeps logs, each under its VM's name.
    pub(super) fn start(args: &LogsArgs, consoles: usize, place: Option<&Place>) -> Result<Self, LoadError> {
        let options = place.map(|place| {
            let path = place.path().display().to_string();
            ["--log-dir".to_owned(), path, "--log-layout".to_owned(), "{name}.log".to_owned()].to_vec()
        });
        let launch = Launch {
            command: &args.spawn,
            ports: u16::try_from(consoles).unwrap_or(u16::MAX),
            options: options.unwrap_or_default(),
            ..Launch::default()
        };
        let (process, vms, first) = launch.start()?;
        Ok(Self { subject: Subject::Server { vms, first, dial: Dial::default() }, process })
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Ends it in order, with all that it has to write.
    pub(super) fn end(self) -> Result<(), LoadError> {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        let failed = || LoadError::Violation("the server does not end when it is told to".to_owned());
        pid.and_then(|pid| kill_process(pid, Signal::TERM).ok()).ok_or_else(failed)?;
        let deadline = Instant::now() + PATIENCE;
        while is_running(self.pid()) {
            if Instant::now() > deadline {
                return Err(failed());
            }
            thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }
}

/// Waits until the logs grow no more: what VMs have printed is in them then, or never will be.
pub(super) fn wait_for_silence(place: &Place) {
    let (mut before, mut since) = (place.bytes(), Instant::now());
    let deadline = Instant::now() + PATIENCE;
    while since.elapsed() < SILENCE && Instant::now() < deadline {
        thread::sleep(LOOK_AGAIN);
        let now = place.bytes();
        if now != before {
            (before, since) = (now, Instant::now());
        }
    }
}

/// Not one that has ended and whom nobody has waited for.
fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    stat.is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X'])))
}

const PATIENCE: Duration = Duration::from_secs(60);
/// Longer than a server leaves a file alone that could not be written.
const SILENCE: Duration = Duration::from_secs(3);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
