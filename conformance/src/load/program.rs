//! A program that a run starts beside the server, which ends with the run.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

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

    /// Waits for its end, which has to be a good one.
    pub(super) fn succeed(&mut self, what: &str) -> Result<(), LoadError> {
        match self.0.wait() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(LoadError::Violation(format!("{what} has failed: {status}"))),
            Err(error) => Err(LoadError::Violation(format!("{what}: {error}"))),
        }
    }
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
