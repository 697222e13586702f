//! How many descriptors the process may have, and how many VMs that is enough for.
//!
//! **Owns** what the process keeps for itself. **Refuses to know** how the engine shares out the rest.

use std::fmt;
use std::fs::File;
use std::io;

use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::fatal::Fatal;

/// The descriptor limit in force.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// How many descriptors the process may have open.
    pub(crate) descriptors: usize,
    /// How many it could have before the limit was raised.
    pub(crate) before: usize,
    /// How many of them are for files of logs.
    pub(crate) for_logs: usize,
    /// How many are for serial lines that are this machine's own.
    pub(crate) for_lines: usize,
    /// How many are for connections that are being made, beyond one for each.
    pub(crate) for_dials: usize,
}

impl Limits {
    /// Raises the soft limit to the hard limit. If the system refuses, logs a warning and keeps the limit.
    #[must_use]
    pub fn raise() -> Self {
        let mut limit = getrlimit(Resource::Nofile);
        let before = count(limit.current);
        limit.current = limit.maximum;
        match setrlimit(Resource::Nofile, limit) {
            Ok(()) => {
                Self { descriptors: count(limit.maximum), before, for_logs: 0, for_lines: 0, for_dials: 0 }
            }
            Err(error) => {
                log::warn!("descriptor limit stays at {before}: {}", io::Error::from(error));
                Self { descriptors: before, before, for_logs: 0, for_lines: 0, for_dials: 0 }
            }
        }
    }

    /// Has the kernel make the table of descriptors as long as it may become, up to 65 536 (8 bytes each). It
    /// would grow by doubling, and each time a process with more than one thread waits for all processors (an
    /// RCU grace period, tens of milliseconds under load): while a fleet connects, the listener's queue
    /// overflows meanwhile, and those that do not fit try again a second later. If it cannot be done, nothing
    /// but that time is lost.
    pub(crate) fn lengthen_table(&self) -> io::Result<()> {
        let last = i32::try_from(self.descriptors.min(TABLE) - 1).unwrap_or(0);
        Ok(fcntl_dupfd_cloexec(File::open("/dev/null")?, last).map(drop)?)
    }

    /// The same, with a share for files of logs.
    #[must_use]
    pub(crate) fn with_logs(self) -> Self {
        Self { for_logs: (self.descriptors / LOG_SHARE).clamp(LEAST_LOGS, MOST_LOGS), ..self }
    }

    /// The same, with what so many serial lines that are this machine's own take beside their connections.
    #[must_use]
    pub(crate) fn with_local_lines(self, lines: usize) -> Self {
        Self { for_lines: lines * LOCAL_LINE, ..self }
    }

    /// The same, with what attempts to connect to somebody take who has several addresses.
    #[must_use]
    pub(crate) fn with_dials(self) -> Self {
        Self { for_dials: (self.descriptors / DIAL_SHARE).clamp(LEAST_DIALS, MOST_DIALS), ..self }
    }

    /// What the engine may use for connections and listeners together.
    pub(crate) fn for_engine(&self) -> Result<usize, Fatal> {
        let reserved = self.reserved();
        match self.descriptors.checked_sub(reserved) {
            Some(rest) if rest >= LEAST => Ok(rest),
            _ => Err(Fatal::Descriptors(self.descriptors, reserved + LEAST)),
        }
    }

    /// How many VMs fit if each has `each` descriptors (its connection, its client port) and no clients.
    #[must_use]
    pub(crate) fn fleet(&self, each: usize) -> usize {
        self.descriptors.saturating_sub(self.reserved()) / each
    }

    fn reserved(&self) -> usize {
        let for_logs = match self.for_logs {
            0 => 0,
            files => LOG_FOLDERS + LOG_READERS + files,
        };
        RESERVED + for_logs + self.for_lines + self.for_dials
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "descriptor limit {}", self.descriptors)?;
        if self.before != self.descriptors {
            write!(f, " (was {})", self.before)?;
        }
        Ok(())
    }
}

/// `None` is "no limit"; the kernel's own ceiling (fs.nr_open) is 2^20 unless someone raised it.
fn count(limit: Option<u64>) -> usize {
    limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(1 << 20)
}

/// Descriptors that are not the engine's: 3 for stdio, 4 for the poller (epoll; with smol two of them, an
/// eventfd and a timerfd), 2 for commands, 2 for signals, 1 for a certificate that is being read, 1 that
/// accept holds back, 1 for a connection that is being accepted or refused, 16 that a supervisor may pass on,
/// and 2 to spare. Sockets that linger are not counted: they are the first to be closed when descriptors run
/// out.
const RESERVED: usize = 32;

/// What a program takes that is a line: its end of that, its standard error, and one that tells its end. A
/// pseudoterminal takes as many, and a serial port one less.
const LOCAL_LINE: usize = 3;

/// Addresses that are tried beside another have a sixteenth of the descriptors, up to a few: it is a matter
/// of moments.
const DIAL_SHARE: usize = 16;
const LEAST_DIALS: usize = 1;
const MOST_DIALS: usize = 16;

/// Files of logs have a sixteenth of the descriptors: one that is not open is opened when its VM prints.
const LOG_SHARE: usize = 16;

/// The least files of logs that are open at once, and the most: beyond that one more saves hardly anything.
const LEAST_LOGS: usize = 4;
const MOST_LOGS: usize = 1024;

/// Directories that are open while a log is opened.
const LOG_FOLDERS: usize = 2;

/// Logs that are read, each with a file and a folder, and an index that is written.
const LOG_READERS: usize = 33;

/// The least that a server is of use with: a listener, and two VMs with a client port and a client each.
const LEAST: usize = 8;

/// The table of descriptors is made so long from the start: 32 000 VMs with a client port each.
const TABLE: usize = 1 << 16;

/// How many consoles without VM and client are kept where nobody says: what a sixteenth of the machine's
/// memory holds.
pub(crate) fn unused_consoles() -> usize {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    (total_memory(&info).unwrap_or(GUESSED_MEMORY) / 16 / CONSOLE_COST).clamp(1000, 1_000_000)
}

/// The machine's memory in bytes, out of /proc/meminfo.
fn total_memory(info: &str) -> Option<usize> {
    let line = info.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()?.checked_mul(1024)
}

/// What an unused console may take, in bytes: its table entry, its names, its port, and some scrollback.
const CONSOLE_COST: usize = 4 << 10;

/// Where /proc does not tell: a small machine.
const GUESSED_MEMORY: usize = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_gets_what_the_process_does_not_need_itself() {
        let limits = Limits { descriptors: 20_000, before: 1024, for_logs: 0, for_lines: 0, for_dials: 0 };
        assert_eq!(limits.for_engine().unwrap(), 20_000 - RESERVED);
        assert_eq!(limits.with_local_lines(10).for_engine().unwrap(), 20_000 - RESERVED - 30);
        assert_eq!(limits.with_dials().for_engine().unwrap(), 20_000 - RESERVED - MOST_DIALS);
        assert_eq!(limits.fleet(2), (20_000 - RESERVED) / 2);
        assert_eq!(limits.to_string(), "descriptor limit 20000 (was 1024)");
    }

    #[test]
    fn a_limit_that_leaves_nothing_is_a_reason_not_to_start() {
        let limits = Limits { descriptors: 33, before: 33, for_logs: 0, for_lines: 0, for_dials: 0 };
        let fatal = limits.for_engine().unwrap_err();
        assert_eq!(fatal.exit_code(), 2);
        assert!(fatal.to_string().contains("ulimit -n"), "{fatal}");
    }

    #[test]
    fn raising_reaches_the_hard_limit() {
        let limits = Limits::raise();
        assert_eq!(count(getrlimit(Resource::Nofile).maximum), limits.descriptors);
        assert_eq!(count(getrlimit(Resource::Nofile).current), limits.descriptors);
    }

    #[test]
    fn the_table_of_descriptors_does_not_grow_later() {
        let limits = Limits::raise();
        limits.lengthen_table().unwrap();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let length = status.lines().find_map(|line| line.strip_prefix("FDSize:")).unwrap();
        assert!(length.trim().parse::<usize>().unwrap() >= limits.descriptors.min(TABLE), "{length}");
    }

    #[test]
    fn memory_is_read_out_of_meminfo() {
        assert_eq!(total_memory("MemTotal:       16384 kB\nMemFree: 1 kB\n"), Some(16 << 20));
        assert_eq!(total_memory("MemFree: 1 kB"), None);
        assert!((1000..=1_000_000).contains(&unused_consoles()));
    }
}
