//! Signals as something to poll for.
//!
//! Owns what a process does when it is to end or to stop by a signal, after it has tidied up: what it would
//! have done without a handler, so that a shell sees the same.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGWINCH};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;
use signal_hook::low_level::emulate_default_handler;

/// What a signal asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Asked {
    /// To end; the signal's number.
    End(i32),
    /// To stop until SIGCONT.
    Stop,
    /// Nothing: the process was stopped and goes on.
    Continued,
    /// Nothing: the window has another size.
    Resized,
}

impl Asked {
    /// A key sends it to everything that runs in the terminal: it may have been for another program.
    pub(crate) const fn is_key(self) -> bool {
        matches!(self, Self::End(SIGINT | SIGQUIT) | Self::Stop)
    }
}

/// The signals of this process, from now on.
#[derive(Debug)]
pub(crate) struct Signals {
    delivery: SignalDelivery<UnixStream, SignalOnly>,
}

impl Signals {
    /// Takes the signals over.
    pub(crate) fn take() -> io::Result<Self> {
        let (read, write) = UnixStream::pair()?;
        let wanted = [SIGTERM, SIGHUP, SIGINT, SIGQUIT, SIGTSTP, SIGCONT, SIGWINCH];
        Ok(Self { delivery: SignalDelivery::with_pipe(read, write, SignalOnly, wanted)? })
    }

    /// What was asked for since the last time.
    pub(crate) fn pending(&mut self) -> Vec<Asked> {
        let meaning = |signal| match signal {
            SIGTSTP => Asked::Stop,
            SIGCONT => Asked::Continued,
            SIGWINCH => Asked::Resized,
            other => Asked::End(other),
        };
        self.delivery.pending().map(meaning).collect()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.delivery.get_read().as_fd()
    }
}

/// Ends as the signal would have ended it.
pub(crate) fn end_by(signal: i32) {
    let _ = emulate_default_handler(signal);
}

/// Stops; returns when the process goes on.
pub(crate) fn stop() {
    let _ = emulate_default_handler(SIGTSTP);
}
