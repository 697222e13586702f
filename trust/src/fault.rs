//! Why there is nobody to trust, or nothing to show.

use std::fmt::Display;
use std::path::{Path, PathBuf};

/// Why sessions cannot be opened. What an option is called that would help is the program's to add.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// A certificate or key that cannot be used.
    #[error("{}: {why}", .path.display())]
    File {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// No file was named, and the system has no certificates; why, where the system says it.
    #[error("this system trusts no certificates{}", in_brackets(.0.as_deref()))]
    NoSystemRoots(Option<String>),
    /// The server would have to be called by something that no certificate can be for.
    #[error("{0:?} is no name that a certificate could be for")]
    Name(String),
    /// The TLS library does not do what it is built to do.
    #[error("{0}")]
    Library(#[from] rustls::Error),
}

impl Fault {
    /// A file that cannot be used, and why.
    #[must_use]
    pub fn file(path: &Path, why: &impl Display) -> Self {
        Self::File { path: path.to_owned(), why: why.to_string() }
    }
}

fn in_brackets(why: Option<&str>) -> String {
    why.map_or(String::new(), |why| format!(" ({why})"))
}
