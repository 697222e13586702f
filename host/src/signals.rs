//! Signals, turned into something a poller can wait for: one readable socket and two flags.
//!
//! SIGTERM and SIGINT ask the server to stop, a second one ends it at once (a flush that hangs must not
//! need SIGKILL). SIGUSR1 asks for the counters. SIGPIPE is ignored by the Rust runtime already.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::{flag, low_level::pipe};

/// What signals have asked for.
#[derive(Debug)]
pub struct Signals {
    stop: Arc<AtomicBool>,
    report: Arc<AtomicBool>,
}

/// What to do now, from [`Signals::take`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Requests {
    /// Go down in good order. Once said, it stays said.
    pub stop: bool,
    /// Log the counters.
    pub report: bool,
}

impl Signals {
    /// Takes over the signals. The socket becomes readable with every signal: empty it first, then
    /// [`take`](Self::take), so that no request is lost.
    pub fn register() -> io::Result<(Self, UnixStream)> {
        let (wake, write) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGINT] {
            // In this order: the first signal finds the flag down, raises it and wakes the loop; the
            // second finds it up and ends the process with the code a shell expects of it.
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&stop))?;
            flag::register(signal, Arc::clone(&stop))?;
            pipe::register(signal, write.try_clone()?)?;
        }
        let report = Arc::new(AtomicBool::new(false));
        flag::register(SIGUSR1, Arc::clone(&report))?;
        pipe::register(SIGUSR1, write)?;
        Ok((Self { stop, report }, wake))
    }

    /// What was asked for since the last call.
    #[must_use]
    pub fn take(&self) -> Requests {
        Requests { stop: self.stop.load(Ordering::SeqCst), report: self.report.swap(false, Ordering::SeqCst) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn a_signal_wakes_the_loop_and_says_what_it_wants_once() {
        let (signals, mut wake) = Signals::register().unwrap();
        assert_eq!(signals.take(), Requests { stop: false, report: false });
        signal_hook::low_level::raise(SIGUSR1).unwrap();
        // Raised in this thread, so its handler has run by now.
        assert_eq!(wake.read(&mut [0; 16]).unwrap(), 1);
        assert_eq!(signals.take(), Requests { stop: false, report: true });
        assert_eq!(signals.take(), Requests { stop: false, report: false });
    }
}
