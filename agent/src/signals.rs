//! Signals to the agent: that a process has ended, that it is to stop.
//!
//! Owns the sockets by which the loop wakes up.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::flag;
use signal_hook::low_level::pipe;

/// What came.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Came {
    pub(crate) child: bool,
    pub(crate) stop: bool,
}

/// The sockets.
#[derive(Debug)]
pub(crate) struct Signals {
    child: UnixStream,
    stop: UnixStream,
}

impl Signals {
    /// From now on.
    pub(crate) fn open() -> io::Result<Self> {
        let (child, to_child) = UnixStream::pair()?;
        let (stop, to_stop) = UnixStream::pair()?;
        pipe::register(SIGTERM, to_stop.try_clone()?)?;
        pipe::register(SIGINT, to_stop)?;
        pipe::register(SIGCHLD, to_child)?;
        hear_for_children()?;
        child.set_nonblocking(true)?;
        stop.set_nonblocking(true)?;
        Ok(Self { child, stop })
    }

    /// What to wait for.
    pub(crate) fn fds(&self) -> [BorrowedFd<'_>; 2] {
        [self.child.as_fd(), self.stop.as_fd()]
    }

    /// What has come since the last time.
    pub(crate) fn take(&mut self) -> Came {
        let mut bytes = [0; 64];
        let mut drain = |socket: &mut UnixStream| {
            let mut any = false;
            while socket.read(&mut bytes).is_ok_and(|n| n > 0) {
                any = true;
            }
            any
        };
        Came { child: drain(&mut self.child), stop: drain(&mut self.stop) }
    }
}

/// What the agent was started with ignored (by nohup, say) it goes on not minding. But what it starts would
/// ignore that, too, and is to hear it: signals that are handled are as usual there.
fn hear_for_children() -> io::Result<()> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    for signal in [SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2] {
        if ignored >> (signal - 1) & 1 == 1 {
            flag::register(signal, Arc::new(AtomicBool::new(false)))?;
        }
    }
    Ok(())
}
