//! Why an agent does not start: one line for each reason, and the exit code.

use std::io;
use std::path::PathBuf;

/// Why an agent did not start, or could not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fatal {
    /// A command line that makes no sense; the text says which option and what to do.
    #[error("{0}")]
    Options(String),
    /// A file that cannot be used.
    #[error("{}: {why}", .path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// What is wrong, and where.
        why: String,
    },
    /// An agent that runs was asked for something, and it cannot be done.
    #[error("{0}")]
    Refused(String),
    /// The system cannot do something that every Linux can.
    #[error("cannot {0}: {1}")]
    System(&'static str, io::Error),
}

impl Fatal {
    /// The exit code: 2 for what can be put right on the command line or the machine, 1 for the rest.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Options(_) | Self::File { .. } => 2,
            Self::Refused(_) | Self::System(..) => 1,
        }
    }
}
