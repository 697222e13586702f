//! One connection to a target that may have several addresses (RFC 8305): they are tried in turn, IPv6 and
//! IPv4 alternating, each a little after the one before and while that is still being tried. The first that
//! answers is taken, and the others are closed. The engine counts one descriptor for each attempt: what it
//! takes beyond that is of a bounded store, and where that is empty, the oldest makes room.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use crate::sockets;

/// Where to connect.
#[derive(Debug)]
pub(super) enum Where {
    Tcp(Vec<SocketAddr>),
    Unix(Box<str>),
}

/// Descriptors for all attempts together, beyond one for each.
#[derive(Debug)]
pub(super) struct Spare(AtomicUsize);

/// One of them, until it is dropped.
#[derive(Debug)]
struct Taken<'a>(&'a Spare);

impl Spare {
    pub(super) fn new(count: usize) -> Self {
        Self(count.into())
    }

    fn take(&self) -> Option<Taken<'_>> {
        let one_less = |count: usize| count.checked_sub(1);
        let taken = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_less);
        taken.ok().map(|_| Taken(self))
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, Ordering::AcqRel);
    }
}

/// Connects; takes [`PATIENCE`] at most, and gives up soon when it is not wanted any more. The socket does
/// not block, and has the options of those that connect to us.
pub(super) fn connect(to: &Where, spare: &Spare, is_wanted: &dyn Fn() -> bool) -> io::Result<Socket> {
    let until = Instant::now() + PATIENCE;
    match to {
        Where::Unix(path) => connect_unix(path, until),
        Where::Tcp(addresses) => {
            let socket = race(alternating(addresses), until, spare, is_wanted)?;
            sockets::serve_well(&SockRef::from(&socket))?;
            Ok(socket)
        }
    }
}

/// A unix socket whose queue is full is tried again: nothing tells when it has room.
fn connect_unix(path: &str, until: Instant) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
    let address = SockAddr::unix(path)?;
    loop {
        match socket.connect(&address) {
            Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < until => {
                thread::sleep(UNIX_PAUSE);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(ErrorKind::TimedOut.into()),
            outcome => return outcome.map(|()| socket),
        }
    }
}

/// Those of the first one's family and of the other in turn, each family in its order.
fn alternating(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (mut first, mut second): (Vec<_>, Vec<_>) =
        addresses.iter().rev().partition(|address| address.is_ipv6() == is_v6);
    let mut all = Vec::new();
    while let Some(next) = first.pop().or_else(|| second.pop()) {
        all.push(next);
        all.extend(second.pop());
    }
    all
}

fn race(
    addresses: Vec<SocketAddr>,
    until: Instant,
    spare: &Spare,
    is_wanted: &dyn Fn() -> bool,
) -> io::Result<Socket> {
    let mut rest = addresses.into_iter();
    // The first needs nothing of what is spare.
    let mut tried: Vec<(Socket, Option<Taken<'_>>)> = Vec::new();
    let mut why = ErrorKind::HostUnreachable.into();
    let mut next_at = Instant::now();
    loop {
        let now = Instant::now();
        if now >= until || !is_wanted() {
            return Err(ErrorKind::TimedOut.into());
        }
        if (now >= next_at || tried.is_empty())
            && let Some(address) = rest.next()
        {
            let taken = if tried.is_empty() { None } else { spare.take() };
            let taken = match taken {
                None if !tried.is_empty() => tried.remove(0).1,
                taken => taken,
            };
            match begin(address) {
                Ok(socket) => tried.push((socket, taken)),
                Err(error) => why = error,
            }
            next_at = now + NEXT_AFTER;
            if tried.is_empty() {
                continue;
            }
        }
        if tried.is_empty() {
            return Err(why);
        }
        let wait = until.min(if rest.len() > 0 { next_at } else { now + NEXT_AFTER });
        let answered = answered(&tried, wait.saturating_duration_since(now))?;
        // From the last, so that the others stay where they are.
        for at in answered.into_iter().rev() {
            let (socket, _taken) = tried.remove(at);
            match socket.take_error()? {
                None if is_with_itself(&socket) => why = ErrorKind::ConnectionRefused.into(),
                None => return Ok(socket),
                Some(error) => {
                    why = error;
                    next_at = Instant::now();
                }
            }
        }
    }
}

/// The kernel has chosen the port that is connected to for this end as well: nobody listens there (RFC 9293
/// §3.5, simultaneous open).
fn is_with_itself(socket: &Socket) -> bool {
    let at = |address: io::Result<SockAddr>| address.ok().and_then(|address| address.as_socket());
    let own = at(socket.local_addr());
    own.is_some() && own == at(socket.peer_addr())
}

fn begin(address: SocketAddr) -> io::Result<Socket> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {
            Err(error)
        }
        _ => Ok(socket),
    }
}

/// Which of these have become connected, or have failed, after at most `wait`.
fn answered(tried: &[(Socket, Option<Taken<'_>>)], wait: Duration) -> io::Result<Vec<usize>> {
    let mut polled: Vec<PollFd<'_>> =
        tried.iter().map(|(socket, _)| PollFd::new(socket, PollFlags::OUT)).collect();
    // Rounded up, so that it is not polled again and again for less than it can wait.
    let wait = wait + Duration::from_micros(999);
    let wait = Timespec::try_from(wait).map_err(|_| ErrorKind::InvalidInput)?;
    match poll(&mut polled, Some(&wait)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(polled.iter().enumerate().filter(|(_, fd)| !fd.revents().is_empty()).map(|(at, _)| at).collect())
}

/// How long a target may take to answer, all of its addresses together.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// How long an address is tried alone (RFC 8305 §5).
const NEXT_AFTER: Duration = Duration::from_millis(250);

/// How long a unix socket whose queue is full is left alone.
const UNIX_PAUSE: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn families_alternate_and_each_keeps_its_order() {
        let all = ["[::1]:1", "[::2]:1", "[::3]:1", "10.0.0.1:1"].map(at);
        assert_eq!(alternating(&all), ["[::1]:1", "10.0.0.1:1", "[::2]:1", "[::3]:1"].map(at));
        assert_eq!(alternating(&[all[3], all[0]]), [all[3], all[0]]);
        assert!(alternating(&[]).is_empty());
    }

    #[test]
    fn the_next_address_is_tried_when_one_refuses_and_when_one_does_not_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let there = listener.local_addr().unwrap();
        let refuses = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let socket = connect(&Where::Tcp(vec![refuses, refuses, there]), &Spare::new(9), &|| true).unwrap();
        assert_eq!(socket.peer_addr().unwrap().as_socket(), Some(there));
        let why = connect(&Where::Tcp(vec![refuses]), &Spare::new(9), &|| true).unwrap_err();
        assert_eq!(why.kind(), ErrorKind::ConnectionRefused);
        // Its queue is full.
        let silent = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        silent.bind(&at("127.0.0.1:0").into()).unwrap();
        silent.listen(0).unwrap();
        let full = silent.local_addr().unwrap().as_socket().unwrap();
        let _queue: Vec<_> = (0..4).map(|_| begin(full).unwrap()).collect();
        let begun = Instant::now();
        let socket = connect(&Where::Tcp(vec![full, there]), &Spare::new(9), &|| true).unwrap();
        assert_eq!(socket.peer_addr().unwrap().as_socket(), Some(there));
        assert!(begun.elapsed() < PATIENCE);
    }

    #[test]
    fn an_attempt_that_is_not_wanted_any_more_ends_before_its_time() {
        let silent = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        silent.bind(&at("127.0.0.1:0").into()).unwrap();
        silent.listen(0).unwrap();
        let full = silent.local_addr().unwrap().as_socket().unwrap();
        let _queue: Vec<_> = (0..4).map(|_| begin(full).unwrap()).collect();
        let asked = std::cell::Cell::new(0);
        let is_wanted = || asked.replace(asked.get() + 1) == 0;
        let begun = Instant::now();
        assert!(connect(&Where::Tcp(vec![full]), &Spare::new(9), &is_wanted).is_err());
        assert!(begun.elapsed() < PATIENCE);
    }

    #[test]
    fn a_socket_that_is_connected_to_itself_is_known() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
        socket.bind(&at("127.0.0.1:0").into()).unwrap();
        let own = socket.local_addr().unwrap();
        socket.connect(&own).unwrap();
        assert!(is_with_itself(&socket));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let other = begin(listener.local_addr().unwrap()).unwrap();
        assert!(!is_with_itself(&other));
    }

    #[test]
    fn where_no_descriptor_is_spare_the_addresses_are_tried_one_after_the_other() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let there = listener.local_addr().unwrap();
        let silent = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        silent.bind(&at("127.0.0.1:0").into()).unwrap();
        silent.listen(0).unwrap();
        let full = silent.local_addr().unwrap().as_socket().unwrap();
        let _queue: Vec<_> = (0..4).map(|_| begin(full).unwrap()).collect();
        for count in [0, 1] {
            let spare = Spare::new(count);
            // It looks whether it is wanted in each turn, and then no more is taken than there was.
            let least = std::cell::Cell::new(count);
            let is_wanted = || {
                least.set(least.get().min(spare.0.load(Ordering::Acquire)));
                true
            };
            let socket = connect(&Where::Tcp(vec![full, full, full, there]), &spare, &is_wanted).unwrap();
            assert_eq!(socket.peer_addr().unwrap().as_socket(), Some(there));
            assert_eq!(least.get(), 0);
            assert_eq!(spare.0.load(Ordering::Acquire), count, "what was taken is there again");
        }
    }
}
