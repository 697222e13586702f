//! A recording of what a console prints: its bytes, in a file.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A file that is being written.
#[derive(Debug)]
pub(crate) struct Record {
    file: File,
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
}

impl Record {
    /// Goes on at the end of the file; a new one is the user's alone, for consoles print secrets.
    pub(crate) fn start(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        Ok(Self { file, path: path.to_owned(), bytes: 0 })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes)
    }
}
