//! `load logs`: what logs of consoles cost everybody else, and whether what is in them is what was printed.
//!
//! Two parts, each beside the same server without logs in the same run. *Keys*: a fleet prints lines, and
//! another VM's key is timed, with room on the disk, while it is full, and when it has room again. *Bulk*:
//! one console prints as fast as it can, at the rate that a raw `tee` holds, and at forty megabytes a second.
//! When the server has ended each log is held, byte for byte, against what its VM printed.
//!
//! Owns the parts and what is a failure. Refuses to know how a server writes logs, but for the words with
//! which a log says that something is missing.

mod account;
mod bulk;
mod keys;
mod place;
mod server;
mod tee;

use std::path::PathBuf;
use std::time::Duration;

use super::LoadError;
use super::process::require_descriptors;
use super::report::Report;
use crate::fake_vm::duration::parse_duration;

/// Options of `load logs`.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct LogsArgs {
    /// The server, without a log directory, which it is given here: a command line such as
    /// "target/release/vspc-mio --slow-client wait"
    #[arg(long, value_name = "COMMAND")]
    spawn: String,
    /// VMs that print lines while keys are timed; 0: no keys
    #[arg(long, value_name = "N", default_value_t = 1000)]
    vms: usize,
    /// How often each of them prints one
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    line_every: Duration,
    /// How long keys are timed in each state of the disk
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    seconds: f64,
    /// How long one console prints in bulk, in each way; 0: no bulk
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0)]
    bulk_seconds: f64,
    /// Runs; the median of each figure is told
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    /// Keep logs in this directory; by default on disks of memory (tmpfs), which only root can make, and only
    /// those are filled
    #[arg(long, value_name = "DIRECTORY")]
    dir: Option<PathBuf>,
    /// Print one JSON object instead of a line
    #[arg(long)]
    pub(super) json: bool,
}

/// Runs `load logs`.
pub(super) fn run(args: &LogsArgs) -> Result<Report, LoadError> {
    require_descriptors(args.vms + 8)?;
    let mut report = Report::new();
    if args.vms > 0 {
        keys::run(args, &mut report)?;
    }
    if args.bulk_seconds > 0.0 {
        bulk::run(args, &mut report)?;
    }
    Ok(report)
}

/// How much longer a key may take at the 99th percentile with logs than without.
const MOST_SLOWER: f64 = 2.0;

/// The part of the rate without logs that is to be left with them.
const LEAST_LEFT: f64 = 0.8;

/// What an idle VM may take with a log, in KiB of resident memory.
const MOST_IDLE: f64 = 1.3;
