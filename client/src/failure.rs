//! Why a command ended without having done what it was for, and with which exit code.
//!
//! Owns the codes, which scripts rely on (vspc.md).

use std::fmt;
use std::io;
use std::process::ExitCode;

/// What a command says last, and what the shell is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) code: Code,
    /// For people; may have several lines.
    pub(crate) message: String,
}

/// The exit codes. 0 is success.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Code {
    /// Anything that has no code of its own.
    Error,
    /// The command line or the configuration file makes no sense.
    Usage,
    /// No console has this name, or several have.
    NoSuchConsole,
    /// Somebody's lock is in the way, or a right is missing.
    Refused,
    /// The server cannot be reached, or went away.
    NoConnection,
    /// What was waited for did not come in time.
    TimedOut,
    /// What was to run in a guest has not run, or was lost: all others are its own.
    NotRun,
    /// The guest cannot run it, or does not allow it.
    CannotRun,
    /// The guest has no such program.
    NoSuchProgram,
    /// How a process in a guest has ended.
    Status(u8),
}

impl Code {
    /// What a shell sees.
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Error => 1,
            Self::Usage => 2,
            Self::NoSuchConsole => 3,
            Self::Refused => 4,
            Self::NoConnection => 5,
            Self::TimedOut => 6,
            Self::NotRun => 125,
            Self::CannotRun => 126,
            Self::NoSuchProgram => 127,
            Self::Status(status) => status,
        }
    }
}

impl Failure {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub(crate) fn error(message: impl Into<String>) -> Self {
        Self::new(Code::Error, message)
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Code::Usage, message)
    }

    pub(crate) fn no_connection(message: impl Into<String>) -> Self {
        Self::new(Code::NoConnection, message)
    }

    /// A failed write to the standard output. A reader that has seen enough (`vspc list | head`) is no
    /// failure that is worth a message.
    pub(crate) fn output(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::error(""),
            _ => Self::error(format!("cannot write the output: {error}")),
        }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code.number())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
