//! Signals to the agent: that a process has ended, that it is to stop.
//!
//! Owns the sockets by which the loop wakes up.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM};
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
