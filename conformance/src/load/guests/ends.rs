//! The ends of a copy that are programs: what a guest runs, and what writes into a raw pipe.
//!
//! Owns how they read and write: 64 KiB at a time.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::bytes::proof;
use super::{PIECE, yamux};

/// Options of `load guests-end`.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct EndArgs {
    /// Write this file to standard output
    #[arg(long, value_name = "FILE", required_unless_present_any = ["take", "pass_on"],
        conflicts_with = "take")]
    send: Option<PathBuf>,
    /// Read so many bytes from standard input, hold them against the file that `load guests` makes, and say
    /// how many they were
    #[arg(long, value_name = "BYTES")]
    take: Option<u64>,
    /// Standard output is a socket, on which one stream of yamux carries it
    #[arg(long, requires = "send")]
    yamux: bool,
    /// Standard input is a socket: pass on to standard output what one stream of yamux on it carries
    #[arg(long, conflicts_with_all = ["send", "take"])]
    pass_on: bool,
}

/// Runs `load guests-end`.
pub(crate) fn run_end(args: &EndArgs) -> ExitCode {
    let outcome = match (&args.send, args.take) {
        (Some(file), _) if args.yamux => send_by_yamux(file),
        (Some(file), _) => send(file),
        (None, None) => pass_on(),
        (None, Some(length)) => take_in(length),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("guests-end: {error}");
            ExitCode::FAILURE
        }
    }
}

fn send(file: &Path) -> io::Result<()> {
    // Not by the buffer that standard output has.
    let mut out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let mut file = File::open(file)?;
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(()),
            n => out.write_all(&piece[..n])?,
        }
    }
}

fn send_by_yamux(file: &Path) -> io::Result<()> {
    let socket = io::stdout().as_fd().try_clone_to_owned()?;
    yamux::send(socket.into(), File::open(file)?)
}

fn pass_on() -> io::Result<()> {
    let from = io::stdin().as_fd().try_clone_to_owned()?;
    // Not by the buffer that standard output has.
    yamux::pass_on(from.into(), File::from(io::stdout().as_fd().try_clone_to_owned()?))
}

fn take_in(length: u64) -> io::Result<()> {
    let mut from = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut proof = proof(length);
    let mut piece = vec![0; PIECE];
    loop {
        let n = from.read(&mut piece)?;
        if n == 0 {
            println!("{} bytes", proof.so_far());
            return Ok(());
        }
        if proof.take(&piece[..n])? < n {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "there is more than was to come"));
        }
    }
}
