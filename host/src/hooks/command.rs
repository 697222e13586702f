//! One command that runs for an event.
//!
//! **Owns** its process group and its standard input, which is a file in memory: a command that reads nothing
//! of it, or ends before it has, keeps nobody waiting. Whatever the command has started ends with it.
//! **Refuses to know** which event it is for.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use crate::inherited;
use crate::outlets::foreign;

/// A command that has been started, and whose process has not been waited for: until then its id is no other
/// process's.
#[derive(Debug)]
pub(super) struct Running(Child);

/// Starts a command with these variables, in a process group of its own. What it prints goes where the log
/// goes.
pub(super) fn start(program: &Path, variables: Vec<(String, String)>, input: &[u8]) -> io::Result<Running> {
    let mut file = File::from(memfd_create("vspc-event", MemfdFlags::CLOEXEC)?);
    file.write_all(input)?;
    file.rewind()?;
    let mut command = Command::new(program);
    for name in foreign() {
        command.env_remove(name);
    }
    for name in inherited::VARIABLES {
        command.env_remove(name);
    }
    command.envs(variables).stdin(file).stdout(io::stderr().as_fd().try_clone_to_owned()?);
    command.stderr(Stdio::inherit()).process_group(0).spawn().map(Running)
}

impl Running {
    pub(super) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Calls `ended` from a thread of its own as soon as the command has ended by itself or was killed.
    pub(super) fn watch(&self, ended: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let pid = Pid::from_child(&self.0);
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let wait = move || {
            // It stays a zombie: who holds it waits for it, and may signal its group until then.
            while let Err(Errno::INTR) = waitid(WaitId::Pid(pid), options) {}
            ended();
        };
        thread::Builder::new().name("hook".to_owned()).stack_size(STACK).spawn(wait).map(drop)
    }

    /// Kills it, and what it has started.
    pub(super) fn kill(&self) {
        // Fails when none of them is left.
        let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
    }

    /// It has ended: how. Kills what it has started and left behind.
    pub(super) fn end(mut self) -> io::Result<ExitStatus> {
        self.kill();
        self.0.wait()
    }
}

/// A thread that only waits.
const STACK: usize = 64 << 10;
