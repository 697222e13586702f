//! Signals, turned into something a poller can wait for: one readable socket, and what lies behind it.
//!
//! SIGTERM and SIGINT ask the server to stop, a second one ends it at once (a flush that hangs must not
//! need SIGKILL). SIGUSR1 asks for the counters. SIGHUP asks for certificates to be loaded anew: a thread of
//! its own does that, because a disk may take its time, and wakes the loop when they are there. SIGPIPE is
//! ignored by the Rust runtime already.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::{flag, low_level::pipe};

use crate::credentials::Credentials;

/// What signals have asked for.
#[derive(Debug)]
pub struct Signals {
    stop: Arc<AtomicBool>,
    report: Arc<AtomicBool>,
    /// The newest that were loaded and not taken. Locked for a move only.
    loaded: Arc<Mutex<Option<Credentials>>>,
}

/// What to do now, from [`Signals::take`].
#[derive(Debug)]
pub struct Requests {
    /// Go down in good order. Once said, it stays said.
    pub stop: bool,
    /// Log the counters.
    pub report: bool,
    /// Have these take effect.
    pub credentials: Option<Credentials>,
}

impl Signals {
    /// Takes over the signals; `reload` is called in a thread of its own for each SIGHUP, or for several at
    /// once. The socket becomes readable with every signal: empty it first, then [`take`](Self::take), so
    /// that no request is lost.
    pub fn register(
        reload: impl FnMut() -> Option<Credentials> + Send + 'static,
    ) -> io::Result<(Self, UnixStream)> {
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
        pipe::register(SIGUSR1, write.try_clone()?)?;
        let (hangups, hangup) = UnixStream::pair()?;
        let loaded = Arc::new(Mutex::new(None));
        let reloader = Reloader { hangups, reload, loaded: Arc::clone(&loaded), wake: write };
        thread::Builder::new().name("reload".to_owned()).spawn(move || reloader.run())?;
        pipe::register(SIGHUP, hangup)?;
        Ok((Self { stop, report, loaded }, wake))
    }

    /// What was asked for since the last call.
    #[must_use]
    pub fn take(&self) -> Requests {
        Requests {
            stop: self.stop.load(Ordering::SeqCst),
            report: self.report.swap(false, Ordering::SeqCst),
            credentials: self.loaded.lock().unwrap_or_else(PoisonError::into_inner).take(),
        }
    }
}

/// The thread that loads certificates anew.
struct Reloader<F> {
    hangups: UnixStream,
    reload: F,
    loaded: Arc<Mutex<Option<Credentials>>>,
    wake: UnixStream,
}

impl<F: FnMut() -> Option<Credentials>> Reloader<F> {
    /// Ends with the process.
    fn run(mut self) {
        // Signals that come together ask for the same.
        while let Ok(1..) = self.hangups.read(&mut [0; 64]) {
            if let Some(credentials) = (self.reload)() {
                *self.loaded.lock().unwrap_or_else(PoisonError::into_inner) = Some(credentials);
                // Fails when the loop is gone.
                let _ = self.wake.write_all(&[0]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn a_signal_wakes_the_loop_and_says_what_it_wants_once() {
        let (hung_up, hangups) = channel();
        let reload = move || hung_up.send(()).ok().map(|()| Credentials::default());
        let (signals, mut wake) = Signals::register(reload).unwrap();
        let said = |requests: Requests| (requests.stop, requests.report, requests.credentials.is_some());
        assert_eq!(said(signals.take()), (false, false, false));
        signal_hook::low_level::raise(SIGUSR1).unwrap();
        // Raised in this thread, so its handler has run by now.
        assert_eq!(wake.read(&mut [0; 16]).unwrap(), 1);
        assert_eq!(said(signals.take()), (false, true, false));
        assert_eq!(said(signals.take()), (false, false, false));
        signal_hook::low_level::raise(SIGHUP).unwrap();
        hangups.recv().unwrap();
        wake.set_nonblocking(false).unwrap();
        wake.read_exact(&mut [0; 1]).unwrap();
        assert_eq!(said(signals.take()), (false, false, true));
        assert_eq!(said(signals.take()), (false, false, false));
    }
}
