//! What all copies of a run have in common: the file, where it lies, and the programs at their ends.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use vspc_guest::Checksum;

use super::GuestsArgs;
use super::bytes;
use crate::load::LoadError;
use crate::load::folder::Folder;
use crate::load::program::{Program, this};
use crate::load::proof::Proof;

/// A file that is copied, and the program at either end.
#[derive(Debug)]
pub(super) struct Stage {
    folder: Folder,
    /// Of the file.
    pub(super) length: u64,
    pub(super) sum: Checksum,
    /// This program, which is the end of a copy that is a program of its own.
    this: PathBuf,
}

impl Stage {
    /// Writes the file.
    pub(super) fn set(args: &GuestsArgs) -> Result<Self, LoadError> {
        let folder = Folder::new("guests", args.dir.as_deref())?;
        folder.go_on_signals()?;
        let length = args.size * 1_000_000;
        let path = folder.path(FILE);
        let sum = bytes::write(&path, length)
            .map_err(|error| LoadError::Usage(format!("cannot write {}: {error}", path.display())))?;
        Ok(Self { folder, length, sum, this: this()? })
    }

    /// Where something of this name is.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path(name)
    }

    /// Where all of it is.
    pub(super) fn folder(&self) -> &Path {
        self.folder.as_path()
    }

    /// The file.
    pub(super) fn file(&self) -> PathBuf {
        self.path(FILE)
    }

    pub(super) fn proof(&self) -> Proof {
        bytes::proof(self.length)
    }

    pub(super) fn gigabytes(&self) -> f64 {
        self.length as f64 / 1e9
    }

    /// The program that writes the file to its standard output.
    pub(super) fn sender(&self) -> Vec<String> {
        self.end(["--send", &self.file().display().to_string()])
    }

    /// The program that reads it from its standard input, and then says how many bytes it has read.
    pub(super) fn taker(&self) -> Vec<String> {
        self.end(["--take", &self.length.to_string()])
    }

    fn end(&self, words: [&str; 2]) -> Vec<String> {
        let this = self.this.display().to_string();
        [&this, "load", "guests-end", words[0], words[1]].map(str::to_owned).to_vec()
    }

    /// Starts the sender, with a socket for its standard output. `further` are more words for it.
    pub(super) fn send_into(&self, socket: OwnedFd, further: &[&str]) -> Result<Program, LoadError> {
        let words = self.sender();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(further).stdin(Stdio::null()).stdout(Stdio::from(socket));
        Program::spawn(command)
    }

    /// Starts the program that takes one stream of yamux off a socket, and writes it into another one.
    pub(super) fn pass_on(&self, from: OwnedFd, to: OwnedFd) -> Result<Program, LoadError> {
        let mut command = Command::new(&self.this);
        command.args(["load", "guests-end", "--pass-on"]).stdin(Stdio::from(from)).stdout(Stdio::from(to));
        Program::spawn(command)
    }
}

const FILE: &str = "file";
