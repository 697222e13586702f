//! A process' group: everything it has started that did not leave it.
//!
//! Owns how a group is signalled, and whether anything is left of it. The number is the group's own as long
//! as its leader was not reaped, so that comes last.

use std::process::Child;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus};

/// A group whose leader was not reaped.
#[derive(Debug)]
pub(super) struct Group {
    leader: Child,
    number: Pid,
}

impl Group {
    pub(super) fn new(leader: Child) -> Self {
        let number = Pid::from_child(&leader);
        Self { leader, number }
    }

    /// How the leader ended, if it has. It stays a zombie.
    pub(super) fn status(&self) -> Option<WaitIdStatus> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        rustix::process::waitid(WaitId::Pid(self.number), options).ok().flatten()
    }

    pub(super) fn signal(&self, signal: Signal) {
        if rustix::process::kill_process_group(self.number, signal).is_err() {
            // It has no group of its own yet.
            let _ = rustix::process::kill_process(self.number, signal);
        }
    }

    /// Whether anything but the leader is in it. Where that cannot be seen, something is.
    pub(super) fn has_others(&self) -> bool {
        let Ok(processes) = std::fs::read_dir("/proc") else { return true };
        let numbers = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let own = self.number.as_raw_pid();
        numbers.filter(|number| *number != own).any(|number: i32| group_of(number) == Some(own))
    }

    /// Lets go of the number of a leader that has ended.
    pub(super) fn reap(&mut self) {
        let _ = self.leader.try_wait();
    }
}

/// The group of a process that has not ended.
fn group_of(number: i32) -> Option<i32> {
    let stat = std::fs::read(format!("/proc/{number}/stat")).ok()?;
    // Its name, in brackets, may have anything in it; its state and its parent are behind it.
    let name = stat.iter().rposition(|byte| *byte == b')')?;
    let mut fields = std::str::from_utf8(&stat[name + 1..]).ok()?.split_ascii_whitespace();
    let state = fields.next()?;
    if state == "Z" { None } else { fields.nth(1)?.parse().ok() }
}
