//! Copies by `vspc`, a program of its own: `vspc exec`, and `vspc cp` both ways, which sums at both ends and
//! packs what can be packed.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::copies::measured;
use super::rig::{GUEST, Rig};
use super::stage::Stage;
use super::{Figures, GuestsArgs, LONGEST, PATIENCE, PIECE, Way, broken};
use crate::load::LoadError;
use crate::load::program::{Program, named_or_beside};

/// Copies once, and measures server and agent.
pub(super) fn copy(args: &GuestsArgs, rig: &Rig, stage: &Stage, way: Way) -> Result<Figures, LoadError> {
    let vspc =
        Vspc { program: named_or_beside(args.client.as_deref(), "vspc")?, server: rig.admin().to_string() };
    let (file, copy) = (stage.file(), stage.path("copy"));
    let (file, copy) = (file.display().to_string(), copy.display().to_string());
    if way == Way::VspcExec {
        return measured(rig, stage, || vspc.exec(stage));
    }
    let [from, to] = match way {
        Way::VspcOut => [format!("{GUEST}:{file}"), copy.clone()],
        _ => [file, format!("{GUEST}:{copy}")],
    };
    let figures = measured(rig, stage, || vspc.cp(&from, &to))?;
    let bytes = fs::read(&copy).map_err(|error| broken(&error))?;
    let mut proof = stage.proof();
    let taken = proof.take(&bytes).map_err(|error| broken(&error))?;
    if taken < bytes.len() || !proof.is_whole() {
        return Err(LoadError::Violation(format!("the copy has {} bytes", bytes.len())));
    }
    fs::remove_file(copy).map_err(|error| broken(&error))?;
    Ok(figures)
}

/// The client's program, and where its server is.
struct Vspc {
    program: PathBuf,
    server: String,
}

impl Vspc {
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["--server", &self.server]).args(words);
        // Nothing of whoever runs this.
        command.env_remove("VSPC_SERVER").env_remove("XDG_CONFIG_HOME").env("HOME", "/nonexistent");
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// Its standard output is a socket, which is read as a raw pipe is.
    fn exec(&self, stage: &Stage) -> Result<(), LoadError> {
        let (mut near, far) = UnixStream::pair().map_err(|error| broken(&error))?;
        near.set_read_timeout(Some(PATIENCE)).map_err(|error| broken(&error))?;
        let mut command = self.command(&["exec", GUEST, "--"]);
        command.args(stage.sender()).stdout(Stdio::from(OwnedFd::from(far)));
        let mut vspc = Program::spawn(command)?;
        stage.proof().read(&mut near, PIECE).map_err(|error| broken(&error))?;
        vspc.succeed("vspc exec", PATIENCE)
    }

    fn cp(&self, from: &str, to: &str) -> Result<(), LoadError> {
        Program::spawn(self.command(&["cp", "--quiet", from, to]))?.succeed("vspc cp", LONGEST)
    }
}
