//! Which sockets are ready: one epoll(7) instance with which all sockets are registered once, edge-triggered,
//! and which the reactor of async-io sees as a single descriptor. A source of async-io's own and a task for
//! it take 0.39 KiB for each socket, and a VM has two; here an idle socket takes nothing beside its place in
//! its table.
//!
//! **Owns** the instance, and what it calls each socket. **Refuses to know** what readiness leads to.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::task::{Context, Poll};

use async_io::Async;
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use vspc_core::concentrator::{ConnId, ListenerId};

/// What a socket belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Source {
    /// A connection, or what lingers of it.
    Connection(ConnId),
    /// A listener.
    Listener(ListenerId),
}

/// What has come to pass at a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Readiness {
    pub(crate) source: Source,
    /// There is something to read: data, an end or an error.
    pub(crate) readable: bool,
    /// It takes bytes again.
    pub(crate) writable: bool,
    /// An end, an error or an urgent mark is among it, at which a read stops short.
    pub(crate) more_behind: bool,
    /// It has failed.
    pub(crate) failed: bool,
}

/// All sockets.
pub(crate) struct Sockets {
    epoll: Async<OwnedFd>,
    /// What the last poll has found, and how much of that has been taken.
    events: Vec<Event>,
    taken: usize,
}

impl Sockets {
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = Async::new_nonblocking(epoll::create(CreateFlags::CLOEXEC)?)?;
        Ok(Self { epoll, events: Vec::with_capacity(BATCH), taken: 0 })
    }

    /// Registers a socket. Closing it takes it off again, because nobody else has its descriptor.
    pub(crate) fn register(&self, socket: impl AsFd, source: Source) -> io::Result<()> {
        let interest = match source {
            Source::Connection(_) => {
                EventFlags::IN | EventFlags::OUT | EventFlags::PRI | EventFlags::RDHUP | EventFlags::ET
            }
            Source::Listener(_) => EventFlags::IN | EventFlags::ET,
        };
        Ok(epoll::add(self.epoll.get_ref(), socket, EventData::new_u64(source.to_bits()), interest)?)
    }

    /// Asks the kernel which sockets are ready, without waiting; false: there may be more than it has told.
    pub(crate) fn poll(&mut self) -> io::Result<bool> {
        self.events.clear();
        self.taken = 0;
        epoll::wait(self.epoll.get_ref(), spare_capacity(&mut self.events), Some(&Timespec::default()))?;
        Ok(self.events.len() < BATCH)
    }

    /// The next of those that the last poll has found.
    pub(crate) fn next(&mut self) -> Option<Readiness> {
        let event = self.events.get(self.taken)?;
        self.taken += 1;
        Some(Readiness::of(event.flags, Source::from_bits(event.data.u64())))
    }

    /// Has the reactor wake the task that runs now when a socket is ready; ready if one may be.
    pub(crate) fn poll_any(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.epoll.poll_readable(cx)
    }
}

impl Readiness {
    fn of(flags: EventFlags, source: Source) -> Self {
        let more_behind = flags.intersects(END | EventFlags::PRI | EventFlags::ERR);
        Self {
            source,
            readable: more_behind || flags.contains(EventFlags::IN),
            writable: flags.contains(EventFlags::OUT),
            more_behind,
            failed: flags.contains(EventFlags::ERR),
        }
    }
}

impl Source {
    fn to_bits(self) -> u64 {
        match self {
            Self::Connection(id) => id.to_bits(),
            Self::Listener(id) => id.to_bits() | LISTENER,
        }
    }

    fn from_bits(bits: u64) -> Self {
        match bits & LISTENER {
            0 => Self::Connection(ConnId::from_bits(bits)),
            _ => Self::Listener(ListenerId::from_bits(bits & !LISTENER)),
        }
    }
}

/// The peer has ended its half, or both are over.
const END: EventFlags = EventFlags::RDHUP.union(EventFlags::HUP);

/// The bit that no connection's id has: generations stay below 2^31.
const LISTENER: u64 = 1 << 63;

/// Readiness taken from the kernel at a time. Enough that a storm is met in a few turns, and at 12 bytes each
/// no memory to speak of.
const BATCH: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_socket_is_told_of_once_for_each_thing_that_happens_to_it() {
        let mut sockets = Sockets::new().unwrap();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let source = Source::Connection(ConnId::from_bits(7 << 32 | 3));
        sockets.register(&ours, source).unwrap();
        let mut next = || {
            assert!(sockets.poll().unwrap());
            let found = sockets.next();
            assert_eq!(sockets.next(), None);
            found
        };
        let nothing =
            Readiness { source, readable: false, writable: true, more_behind: false, failed: false };
        assert_eq!(next(), Some(nothing));
        assert_eq!(next(), None);
        theirs.write_all(b"x").unwrap();
        assert_eq!(next(), Some(Readiness { readable: true, ..nothing }));
        // Unread bytes are not told of again.
        assert_eq!(next(), None);
        drop(theirs);
        assert_eq!(next(), Some(Readiness { readable: true, more_behind: true, ..nothing }));
        assert_eq!(next(), None);
        drop(ours);
        assert_eq!(next(), None);
    }

    #[test]
    fn names_of_listeners_and_of_connections_are_never_the_same() {
        for bits in [0, 1, u64::from(u32::MAX), (1 << 63) - 1] {
            for source in
                [Source::Connection(ConnId::from_bits(bits)), Source::Listener(ListenerId::from_bits(bits))]
            {
                assert_eq!(Source::from_bits(source.to_bits()), source);
            }
        }
    }
}
