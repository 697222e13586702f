//! What accept needs: surviving the end of descriptors, listeners that fail, and one log line per burst of
//! refusals instead of one per victim.
//!
//! One descriptor is held back, so that a connection that cannot be served can still be taken out of the
//! kernel's queue and closed. Without it, accept fails at once for as long as the queue is not empty, and a
//! server that asks again spins, or one that does not ask again is never woken for the listener again.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::fs::File;
use std::io;
use std::time::Duration;

use vspc_core::concentrator::{Address, ListenError, ListenerId};
use vspc_core::time::Instant;

use crate::inherited::Inherited;
use crate::listener::Listener;

/// Takes connections in, for all listeners of one loop. Owns the spare descriptor, the count of refusals, and
/// which listeners have failed; does not know how a listener says that connections wait.
#[derive(Debug)]
pub struct Accepting {
    spare: Spare,
    refusals: Refusals,
    /// Listeners that failed and cannot say when to ask them again.
    to_retry: BTreeSet<ListenerId>,
    /// When they are asked again.
    retry_at: Option<Instant>,
    /// Listeners that the process was started with, and that are not open yet.
    inherited: Inherited,
}

/// What one accept led to.
#[derive(Debug)]
pub enum Accepted<T> {
    /// A connection.
    One(T),
    /// One was refused, or ended by itself, or room was made for it: ask again.
    Again,
    /// No connection waits any more.
    Nobody,
    /// The listener has failed. [`take_to_retry`](Accepting::take_to_retry) returns it when it is to be asked
    /// again.
    Failed,
}

impl Accepting {
    /// Takes the spare descriptor.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            spare: Spare::new()?,
            refusals: Refusals::default(),
            to_retry: BTreeSet::new(),
            retry_at: None,
            inherited: Inherited::default(),
        })
    }

    /// Listeners that the process was started with are taken from among these from now on.
    pub(crate) fn inherit(&mut self, inherited: Inherited) {
        self.inherited = inherited;
    }

    /// Opens a listener, or takes one that was handed over. `make_room` frees a descriptor if it can.
    pub fn listen(&mut self, address: &Address, make_room: impl FnOnce() -> bool) -> io::Result<Listener> {
        if let Address::Inherited(name) = address {
            return self.inherited.take(name).and_then(Listener::of);
        }
        match Listener::open(address) {
            Err(error) if is_exhaustion(&error) && make_room() => Listener::open(address),
            outcome => outcome,
        }
    }

    /// Takes one waiting connection in, or out of the queue at least. `make_room` frees a descriptor if it
    /// can.
    pub fn accept<T>(
        &mut self,
        id: ListenerId,
        mut accept: impl FnMut() -> io::Result<T>,
        make_room: impl FnOnce() -> bool,
        now: Instant,
    ) -> Accepted<T> {
        let error = match accept() {
            Ok(connection) => return Accepted::One(connection),
            Err(error) => error,
        };
        match AcceptFailure::of(&error) {
            AcceptFailure::Nobody => Accepted::Nobody,
            AcceptFailure::Passing => Accepted::Again,
            AcceptFailure::Exhausted if make_room() => Accepted::Again,
            AcceptFailure::Exhausted => match self.spare.refuse(accept) {
                Ok(()) => {
                    self.refusals.count(NO_DESCRIPTOR, now);
                    Accepted::Again
                }
                Err(error) => match AcceptFailure::of(&error) {
                    AcceptFailure::Nobody => Accepted::Nobody,
                    AcceptFailure::Passing => Accepted::Again,
                    AcceptFailure::Exhausted => self.fail(id, NO_DESCRIPTOR, now),
                    AcceptFailure::Lasting => self.fail(id, error, now),
                },
            },
            AcceptFailure::Lasting => self.fail(id, error, now),
        }
    }

    /// A listener has failed. What waits there stays in the kernel's queue, so nothing is counted.
    fn fail<T>(&mut self, id: ListenerId, why: impl Display, now: Instant) -> Accepted<T> {
        self.refusals.begin(why, now);
        self.retry_later(id, now);
        Accepted::Failed
    }

    /// Has a listener asked again after a tenth of a second, or sooner with others that wait for that: one
    /// that fails again and again does not put them off.
    pub fn retry_later(&mut self, id: ListenerId, now: Instant) {
        self.to_retry.insert(id);
        self.retry_at.get_or_insert(now + RETRY);
    }

    /// The engine did not take a connection that was accepted.
    pub fn refused_by_engine(&mut self, now: Instant) {
        self.refusals.count(REFUSED_BY_ENGINE, now);
    }

    /// When [`take_to_retry`](Self::take_to_retry) or [`log_burst`](Self::log_burst) has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        [self.retry_at, self.refusals.deadline()].into_iter().flatten().min()
    }

    /// Listeners that failed and are to be asked again now.
    pub fn take_to_retry(&mut self, now: Instant) -> Vec<ListenerId> {
        if self.retry_at.is_none_or(|at| now < at) {
            return Vec::new();
        }
        self.retry_at = None;
        std::mem::take(&mut self.to_retry).into_iter().collect()
    }

    /// Logs how many were refused, when a burst of refusals is over.
    pub fn log_burst(&mut self, now: Instant) {
        self.refusals.log_burst(now);
    }
}

/// A descriptor held back for the day none is left.
#[derive(Debug)]
struct Spare {
    held: Option<File>,
}

impl Spare {
    fn new() -> io::Result<Self> {
        Ok(Self { held: Some(hold()?) })
    }

    /// Gives the descriptor up for `accept`, closes what that accepted, and takes the descriptor back. An
    /// error is `accept`'s own: nothing was waiting, or not even this helped.
    fn refuse<T>(&mut self, accept: impl FnOnce() -> io::Result<T>) -> io::Result<()> {
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
enum AcceptFailure {
    /// Nobody waits any more.
    Nobody,
    /// One connection ended before it was accepted; the next may be well.
    Passing,
    /// Descriptors have run out, in this process or in the whole system.
    Exhausted,
    /// Something else of this machine: asking again at once would spin, and nothing reports when it is over.
    Lasting,
}

impl AcceptFailure {
    /// Sorts an error of accept.
    fn of(error: &io::Error) -> Self {
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
fn is_exhaustion(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::MFILE, Errno::NFILE].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Why a listener could not be opened, in the engine's words.
#[must_use]
pub(crate) fn listen_error(error: &io::Error) -> ListenError {
    match error.kind() {
        _ if is_exhaustion(error) => ListenError::Exhausted,
        // A file that is no socket keeps a port as another server does.
        io::ErrorKind::AddrInUse | io::ErrorKind::AlreadyExists => ListenError::InUse,
        io::ErrorKind::PermissionDenied => ListenError::Denied,
        other => ListenError::Other(other),
    }
}

/// Counts refused connections and logs the first and the sum of each burst.
#[derive(Debug, Default)]
struct Refusals {
    counted: u64,
    /// When the latest trouble of the present burst was met.
    latest: Option<Instant>,
}

impl Refusals {
    /// One connection was refused.
    fn count(&mut self, why: impl Display, now: Instant) {
        self.begin(why, now);
        self.counted += 1;
    }

    /// Begins a burst, or goes on with one: connections are not taken in.
    fn begin(&mut self, why: impl Display, now: Instant) {
        if self.latest.replace(now).is_none() {
            log::warn!("connections are refused: {why}");
        }
    }

    /// When [`log_burst`](Self::log_burst) has something to log, unless more is refused until then.
    fn deadline(&self) -> Option<Instant> {
        self.latest.map(|latest| latest + QUIET)
    }

    /// Logs the sum of a burst that is over.
    fn log_burst(&mut self, now: Instant) {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            match self.counted {
                0 => log::info!("connections are taken in again"),
                counted => log::warn!("{counted} connections were refused"),
            }
            *self = Self::default();
        }
    }
}

/// How many connections to accept in one visit of a listener: a storm of them must not keep others waiting
/// for milliseconds.
pub const ACCEPTS_PER_VISIT: usize = 64;

/// How long a listener that has failed is left alone.
const RETRY: Duration = Duration::from_millis(100);

/// Why a connection is refused when accept finds no descriptor.
const NO_DESCRIPTOR: &str = "no descriptor is left; raise the limit (ulimit -n, LimitNOFILE=)";

/// Why a connection is refused that the engine did not take.
const REFUSED_BY_ENGINE: &str = "no room: descriptors are kept for VMs, or the server is stopping";

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
    fn a_connection_that_cannot_be_served_is_taken_out_of_the_queue() {
        let mut accepting = Accepting::new().unwrap();
        let (id, now) = (ListenerId::from_bits(3), Instant::ZERO);
        let mut attempts = 0;
        let full_once = || {
            attempts += 1;
            if attempts == 1 { Err(rustix::io::Errno::MFILE.into()) } else { Ok(()) }
        };
        assert!(matches!(accepting.accept(id, full_once, || false, now), Accepted::Again));
        assert_eq!((attempts, accepting.refusals.counted), (2, 1));
        // If room can be made there is no need to refuse.
        let full = || io::Result::<()>::Err(rustix::io::Errno::MFILE.into());
        assert!(matches!(accepting.accept(id, full, || true, now), Accepted::Again));
        assert_eq!(accepting.refusals.counted, 1);
    }

    #[test]
    fn a_listener_that_fails_is_asked_again_after_a_while() {
        let mut accepting = Accepting::new().unwrap();
        let (id, now) = (ListenerId::from_bits(3), Instant::from_millis(10));
        let fails = || io::Result::<()>::Err(rustix::io::Errno::NOMEM.into());
        assert!(matches!(accepting.accept(id, fails, || true, now), Accepted::Failed));
        assert_eq!(accepting.deadline(), Some(now + RETRY));
        assert_eq!(accepting.refusals.counted, 0, "who waits there is not refused yet");
        assert_eq!(accepting.take_to_retry(now), []);
        assert_eq!(accepting.take_to_retry(now + RETRY), [id]);
        assert_eq!(accepting.take_to_retry(now + RETRY), []);
    }

    #[test]
    fn a_listener_that_fails_again_and_again_does_not_put_off_the_others() {
        let mut accepting = Accepting::new().unwrap();
        let (other, failing) = (ListenerId::from_bits(3), ListenerId::from_bits(5));
        let start = Instant::from_millis(10);
        let mut fail = |id, now| {
            let fails = || io::Result::<()>::Err(rustix::io::Errno::NOBUFS.into());
            assert!(matches!(accepting.accept(id, fails, || false, now), Accepted::Failed));
            accepting.take_to_retry(now)
        };
        assert_eq!(fail(other, start), []);
        let mut asked = Vec::new();
        for n in 1..=10 {
            asked.extend(fail(failing, start + RETRY / 10 * n));
        }
        asked.sort_unstable();
        assert_eq!(asked, [other, failing]);
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
        refusals.count("test", Instant::from_millis(10));
        refusals.count("test", Instant::from_millis(20));
        let over = Instant::from_millis(20) + QUIET;
        assert_eq!(refusals.deadline(), Some(over));
        refusals.log_burst(Instant::from_millis(30));
        assert_eq!(refusals.counted, 2);
        refusals.log_burst(over);
        assert_eq!(refusals.deadline(), None);
    }
}
