//! Surviving the end of descriptors: one held back so that a connection that cannot be served can still
//! be taken out of the kernel's queue and closed, and one log line per burst instead of one per victim.
//!
//! Without it, accept fails at once for as long as the queue is not empty, and a server that asks again
//! spins, or one that does not ask again never hears of the listener any more.

use std::fmt::Display;
use std::fs::File;
use std::io;
use std::time::Duration;

use vspc_core::concentrator::ListenError;
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

/// What it means that accept brought no connection (accept(2) lists the ways).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AcceptFailure {
    /// Nobody waits any more.
    Nobody,
    /// One connection ended before it was accepted; the next may be well.
    Passing,
    /// Descriptors have run out, in this process or in the whole system.
    Exhausted,
    /// Something else of this machine: asking again at once would spin, and nothing tells when not to.
    Lasting,
}

impl AcceptFailure {
    /// Sorts an error of accept.
    #[must_use]
    pub fn of(error: &io::Error) -> Self {
        use io::ErrorKind::{
            ConnectionAborted, ConnectionReset, HostUnreachable, Interrupted, NetworkDown,
            NetworkUnreachable, PermissionDenied, TimedOut, WouldBlock,
        };
        match error.kind() {
            WouldBlock => Self::Nobody,
            ConnectionAborted | ConnectionReset | HostUnreachable | Interrupted | NetworkDown
            | NetworkUnreachable | PermissionDenied | TimedOut => Self::Passing,
            _ if is_exhaustion(error) => Self::Exhausted,
            _ => Self::Lasting,
        }
    }
}

/// True for the errors that mean that descriptors have run out, in this process or in the whole system.
#[must_use]
pub fn is_exhaustion(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::MFILE, Errno::NFILE].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Why a listener could not be opened, as the engine is told it.
#[must_use]
pub fn listen_error(error: &io::Error) -> ListenError {
    match error.kind() {
        _ if is_exhaustion(error) => ListenError::Exhausted,
        io::ErrorKind::AddrInUse => ListenError::InUse,
        io::ErrorKind::PermissionDenied => ListenError::Denied,
        other => ListenError::Other(other),
    }
}

/// How many connections to accept in one visit of a listener: a storm of them must not keep others waiting
/// for milliseconds.
pub const ACCEPTS_PER_VISIT: usize = 64;

/// How long to leave a listener alone after [`AcceptFailure::Lasting`].
pub const RETRY: Duration = Duration::from_millis(100);

/// Counts refused connections and logs the first and the sum of each burst.
#[derive(Debug, Default)]
pub struct Refusals {
    count: u64,
    last: Instant,
}

impl Refusals {
    /// One connection was refused.
    pub fn refused(&mut self, why: impl Display, now: Instant) {
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

/// Why a connection is refused when accept finds no descriptor.
pub const NO_DESCRIPTOR: &str = "no descriptor is left; raise the limit (ulimit -n, LimitNOFILE=)";

/// Why a connection is refused that the engine did not take.
pub const NOT_TAKEN: &str = "the engine takes no more";

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
    fn accepts_failures_are_told_apart() {
        use rustix::io::Errno;
        for (errno, failure) in [
            (Errno::AGAIN, AcceptFailure::Nobody),
            (Errno::CONNABORTED, AcceptFailure::Passing),
            (Errno::MFILE, AcceptFailure::Exhausted),
            (Errno::NFILE, AcceptFailure::Exhausted),
            (Errno::NOBUFS, AcceptFailure::Lasting),
            (Errno::NOMEM, AcceptFailure::Lasting),
        ] {
            assert_eq!(AcceptFailure::of(&errno.into()), failure, "{errno:?}");
        }
    }

    #[test]
    fn listeners_failures_are_told_apart() {
        use rustix::io::Errno;
        for (errno, why) in [
            (Errno::MFILE, ListenError::Exhausted),
            (Errno::NFILE, ListenError::Exhausted),
            (Errno::ADDRINUSE, ListenError::InUse),
            (Errno::ACCESS, ListenError::Denied),
            (Errno::ADDRNOTAVAIL, ListenError::Other(io::ErrorKind::AddrNotAvailable)),
        ] {
            assert_eq!(listen_error(&errno.into()), why, "{errno:?}");
        }
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
