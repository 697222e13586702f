//! Surviving the end of descriptors: one held back so that a connection that cannot be served can still
//! be taken out of the kernel's queue and closed, and one log line per burst instead of one per victim.
//!
//! Without it, accept fails at once for as long as the queue is not empty, and a server that asks again
//! spins, or one that does not ask again never hears of the listener any more.

use std::fs::File;
use std::io;
use std::time::Duration;

use vspc_core::time::Instant;

/// A descriptor held back for the day none is left.
#[derive(Debug)]
pub struct Spare {
    held: Option<File>,
}

impl Spare {
    /// Takes one descriptor.
    pub fn new() -> io::Result<Self> {
        Ok(Self { held: Some(hold()?) })
    }

    /// Gives the descriptor up for `accept`, closes what that accepted, and takes the descriptor back. An
    /// error is `accept`'s own: nothing was waiting, or not even this helped.
    pub fn refuse<T>(&mut self, accept: impl FnOnce() -> io::Result<T>) -> io::Result<()> {
        self.held = None;
        let outcome = accept().map(drop);
        self.held = hold().ok();
        outcome
    }
}

fn hold() -> io::Result<File> {
    File::open("/dev/null")
}

/// True for the errors that mean that descriptors have run out, in this process or in the whole system.
#[must_use]
pub fn is_exhaustion(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::MFILE, Errno::NFILE].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Counts refused connections and logs the first and the sum of each burst.
#[derive(Debug, Default)]
pub struct Refusals {
    count: u64,
    last: Instant,
}

impl Refusals {
    /// One connection was refused.
    pub fn refused(&mut self, why: &str, now: Instant) {
        if self.count == 0 {
            log::warn!("connections are refused: {why}");
        }
        self.count += 1;
        self.last = now;
    }

    /// When [`settle`](Self::settle) has something to say, unless more is refused until then.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        (self.count > 0).then(|| self.last + QUIET)
    }

    /// Logs the sum of a burst that is over.
    pub fn settle(&mut self, now: Instant) {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            log::warn!("{} connections were refused", self.count);
            self.count = 0;
        }
    }
}

/// A burst is over when nothing was refused for this long: long enough that a peer that tries again every
/// second makes one burst, not one a second.
const QUIET: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn one_waiting_connection_is_taken_and_closed_and_the_spare_is_back() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut spare = Spare::new().unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        spare.refuse(|| listener.accept()).unwrap();
        assert!(spare.held.is_some());
        assert_eq!(io::Read::read(&mut peer, &mut [0; 1]).unwrap(), 0, "the peer sees the end");
        listener.set_nonblocking(true).unwrap();
        let nothing = spare.refuse(|| listener.accept()).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        assert!(spare.held.is_some());
    }

    #[test]
    fn a_burst_ends_when_nothing_was_refused_for_a_while() {
        let mut refusals = Refusals::default();
        assert_eq!(refusals.deadline(), None);
        refusals.refused("test", Instant::from_millis(10));
        refusals.refused("test", Instant::from_millis(20));
        let over = Instant::from_millis(20) + QUIET;
        assert_eq!(refusals.deadline(), Some(over));
        refusals.settle(Instant::from_millis(30));
        assert_eq!(refusals.count, 2);
        refusals.settle(over);
        assert_eq!(refusals.deadline(), None);
    }
}
