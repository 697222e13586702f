//! `vspc doctor`: what is in a server's way on its machine, and, from anywhere, what an ESXi host will find
//! at its address (doctor.md).
//!
//! Owns which program looks. At the server's machine that is the server's own, which alone knows its options,
//! its file and its environment: it becomes this process, so that its output and its exit code are what the
//! user gets. What a host finds is looked at here, with nothing but an address.

mod esxi;
mod finding;
mod secure;
mod settings;
mod words;

use std::env;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::args::DoctorArgs;
use crate::failure::{Code, Failure};
use crate::output::print;
use finding::Report;

/// Looks. Where something is wrong, that has been said, and the code is 1.
pub(crate) fn run(args: &DoctorArgs) -> Result<(), Failure> {
    let Some(place) = &args.esxi else { return become_the_server(args) };
    let report: Report = esxi::look(place);
    match args.json {
        true => print([report.json()])?,
        false => print(report.lines())?,
    }
    match report.has_errors() {
        true => Err(Failure::new(Code::Error, "")),
        false => Ok(()),
    }
}

/// Returns only if there is no server's program.
fn become_the_server(args: &DoctorArgs) -> Result<(), Failure> {
    let program = match &args.program {
        Some(program) => program.clone(),
        None => found().ok_or_else(|| {
            Failure::error(
                "neither vspc-mio nor vspc-smol is beside vspc or in PATH. The server's machine is looked at \
                 there: run this on it, or name the server with --program PATH. From here, --esxi HOST:PORT \
                 looks at what hosts will find",
            )
        })?,
    };
    let mut command = Command::new(&program);
    command.arg(if args.json { "--doctor=json" } else { "--doctor" });
    if let Some(vms) = args.vms {
        command.arg(format!("--doctor-vms={vms}"));
    }
    if let Some(config) = &args.config {
        command.arg("--config").arg(config);
    }
    let error: io::Error = command.args(&args.options).exec();
    Err(Failure::error(format!("cannot run {}: {error}", program.display())))
}

/// One of the servers: beside this program, else where the shell would find it.
fn found() -> Option<PathBuf> {
    let beside = env::current_exe().ok().and_then(|path| path.parent().map(Path::to_owned));
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = beside.into_iter().chain(env::split_paths(&path)).collect();
    folders
        .iter()
        .find_map(|folder| SERVERS.iter().map(|server| folder.join(server)).find(|program| program.is_file()))
}

const SERVERS: [&str; 2] = ["vspc-mio", "vspc-smol"];
