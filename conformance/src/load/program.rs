//! A program that a run starts beside the server, which ends with the run.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, getppid, pidfd_open, set_parent_process_death_signal};

use super::LoadError;

/// A running program. It is killed when this is dropped.
#[derive(Debug)]
pub(super) struct Program(Child);

impl Program {
    /// Starts it with these arguments; nobody reads its log.
    pub(super) fn start(program: &Path, arguments: &[&str]) -> Result<Self, LoadError> {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stderr(Stdio::null());
        Self::spawn(command)
    }

    /// Starts it so that it ends when this program does, in whatever way that ends.
    pub(super) fn start_bound(program: &Path, arguments: &[&str]) -> Result<Self, LoadError> {
        let mut command = bound(program)?;
        command.args(arguments).stdin(Stdio::null()).stderr(Stdio::null());
        Self::spawn(command)
    }

    /// Starts a command. What it was given is closed on this side.
    pub(super) fn spawn(mut command: Command) -> Result<Self, LoadError> {
        command.spawn().map(Self).map_err(|error| {
            LoadError::Usage(format!("cannot start {}: {error}", command.get_program().display()))
        })
    }

    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Waits for its end, which has to be a good one, and come in time.
    pub(super) fn succeed(&mut self, what: &str, within: Duration) -> Result<(), LoadError> {
        match self.ends(within) {
            Ok(true) => {}
            Ok(false) => {
                return Err(LoadError::Violation(format!("{what} goes on after {} s", within.as_secs())));
            }
            Err(error) => return Err(LoadError::Violation(format!("{what}: {error}"))),
        }
        match self.0.wait() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(LoadError::Violation(format!("{what} has failed: {status}"))),
            Err(error) => Err(LoadError::Violation(format!("{what}: {error}"))),
        }
    }

    /// Whether it ends within this time.
    fn ends(&self, within: Duration) -> Result<bool, Errno> {
        let process = pidfd_open(Pid::from_child(&self.0), PidfdFlags::empty())?;
        let deadline = Instant::now() + within;
        loop {
            let left = Timespec::try_from(deadline.saturating_duration_since(Instant::now())).ok();
            match poll(&mut [PollFd::new(&process, PollFlags::IN)], left.as_ref()) {
                Ok(ready) => return Ok(ready > 0),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// A command that becomes this program, which then ends with this process. To be started by a thread that
/// lives as long as it.
pub(super) fn bound(program: impl AsRef<OsStr>) -> Result<Command, LoadError> {
    let mut command = Command::new(this()?);
    command.args(["load", "bound", &std::process::id().to_string(), "--"]).arg(program);
    Ok(command)
}

/// Options of `load bound`.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct BoundArgs {
    /// The process that starts it, and with which it ends
    parent: u32,
    /// What to become
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Runs `load bound`: becomes a program that ends when the process that has started it does.
pub(super) fn run_bound(args: &BoundArgs) -> ExitCode {
    let outcome = set_parent_process_death_signal(Some(Signal::KILL));
    // It may have ended before.
    let has_parent =
        getppid().is_some_and(|pid| u32::try_from(pid.as_raw_nonzero().get()) == Ok(args.parent));
    let error = match outcome {
        Ok(()) if !has_parent => return ExitCode::FAILURE,
        Ok(()) => Command::new(&args.command[0]).args(&args.command[1..]).exec(),
        Err(error) => error.into(),
    };
    eprintln!("{}: {error}", args.command[0].display());
    ExitCode::FAILURE
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The program that was named, or the one of this name that is beside this program.
pub(super) fn named_or_beside(named: Option<&Path>, name: &str) -> Result<PathBuf, LoadError> {
    if let Some(named) = named {
        return Ok(named.to_owned());
    }
    let beside = this()?.with_file_name(name);
    if beside.is_file() {
        return Ok(beside);
    }
    Err(LoadError::Usage(format!("there is no {}; --{} names one", beside.display(), option_of(name))))
}

/// This program.
pub(super) fn this() -> Result<PathBuf, LoadError> {
    std::env::current_exe().map_err(|error| LoadError::Usage(format!("cannot find myself: {error}")))
}

/// The option that names a program.
fn option_of(name: &str) -> &str {
    name.strip_prefix("vspc-").unwrap_or("client")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_does_not_end_in_time_is_waited_for_no_longer() {
        let start = |words: &[&str]| Program::start(Path::new("sh"), words).unwrap();
        start(&["-c", "exit 0"]).succeed("one", Duration::from_secs(60)).unwrap();
        assert!(start(&["-c", "exit 3"]).succeed("one", Duration::from_secs(60)).is_err());
        let slow = start(&["-c", "exec sleep 600"]).succeed("it", Duration::from_millis(1));
        assert_eq!(slow.unwrap_err().to_string(), "it goes on after 0 s");
    }
}
