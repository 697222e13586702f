//! Bytes between a stream and a descriptor, each way.
//!
//! Owns when a descriptor is read and written: no more is read than can leave, and no more is written than
//! is taken, so nothing is queued here. Refuses to know what is behind the descriptor.

use std::io::IoSlice;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use rustix::event::PollFlags;
use rustix::io::Errno;
use vspc_core::mux::{Received, Session, StreamId};

use crate::task::Interest;

/// From a descriptor into a stream.
#[derive(Debug)]
pub(crate) struct Source {
    id: StreamId,
    fd: Option<Rc<OwnedFd>>,
    /// It can be reset, and that is passed on.
    is_socket: bool,
}

/// From a stream into a descriptor.
#[derive(Debug)]
pub(crate) struct Sink {
    id: StreamId,
    fd: Option<Rc<OwnedFd>>,
    at_end: AtEnd,
    /// A write found no room.
    blocked: bool,
}

/// What the end of the host's direction does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AtEnd {
    /// The descriptor is let go: a pipe's, whose only one it is; a terminal, which stays.
    LetGo,
    /// One direction is shut: a socket's.
    Shutdown,
}

impl Source {
    /// Of a descriptor that does not block.
    pub(crate) const fn new(id: StreamId, fd: Rc<OwnedFd>) -> Self {
        Self { id, fd: Some(fd), is_socket: false }
    }

    /// Of a socket that does not block.
    pub(crate) const fn of_socket(id: StreamId, fd: Rc<OwnedFd>) -> Self {
        Self { id, fd: Some(fd), is_socket: true }
    }

    /// Whether nothing more comes.
    pub(crate) const fn is_over(&self) -> bool {
        self.fd.is_none()
    }

    /// Reads what is there and can leave, for a while.
    pub(crate) fn pump(&mut self, session: &mut Session, scratch: &mut [u8]) {
        let Some(fd) = &self.fd else { return };
        for _ in 0..READS {
            let n = session.credit(self.id).min(scratch.len());
            if n == 0 {
                return;
            }
            match rustix::io::read(fd, &mut scratch[..n]) {
                Ok(n @ 1..) => {
                    let _ = session.write(self.id, &scratch[..n]);
                }
                Err(Errno::AGAIN | Errno::INTR) => return,
                // A terminal that nobody has open any more says EIO.
                outcome => {
                    self.fd = None;
                    let _ = match outcome {
                        Err(_) if self.is_socket => session.reset(self.id),
                        _ => session.finish(self.id),
                    };
                    return;
                }
            }
        }
    }

    /// What to wait for.
    pub(crate) fn interest<'a>(&'a self, session: &Session, into: &mut Interest<'a>) {
        if let Some(fd) = &self.fd
            && session.credit(self.id) > 0
        {
            into.push((fd.as_fd(), PollFlags::IN));
        }
    }
}

impl Sink {
    /// Into a descriptor that does not block.
    pub(crate) const fn new(id: StreamId, fd: Rc<OwnedFd>, at_end: AtEnd) -> Self {
        Self { id, fd: Some(fd), at_end, blocked: false }
    }

    /// Whether nothing more goes.
    pub(crate) const fn is_over(&self) -> bool {
        self.fd.is_none()
    }

    /// Nobody takes anything any more: what comes is dropped.
    pub(crate) fn stop(&mut self, session: &mut Session) {
        if self.fd.take().is_some() {
            let _ = session.stop_reading(self.id);
        }
    }

    /// Writes what has come.
    pub(crate) fn pump(&mut self, session: &mut Session) {
        self.blocked = false;
        while let Some(fd) = &self.fd {
            match session.received(self.id) {
                Ok(Received::Bytes(_)) => {}
                Ok(Received::Pending) => return,
                Ok(Received::End) => {
                    if self.at_end == AtEnd::Shutdown {
                        let _ = rustix::net::shutdown(fd, rustix::net::Shutdown::Write);
                    }
                    self.fd = None;
                    return;
                }
                Err(_) => {
                    self.fd = None;
                    return;
                }
            }
            let mut runs = [IoSlice::new(&[]); RUNS];
            let filled = session.received_runs(self.id, &mut runs);
            match rustix::io::writev(fd, &runs[..filled]) {
                Ok(n) => {
                    let _ = session.consume(self.id, n);
                }
                Err(Errno::AGAIN) => {
                    self.blocked = true;
                    return;
                }
                Err(Errno::INTR) => {}
                Err(_) => self.stop(session),
            }
        }
    }

    /// What to wait for.
    pub(crate) fn interest<'a>(&'a self, into: &mut Interest<'a>) {
        if let Some(fd) = &self.fd
            && self.blocked
        {
            into.push((fd.as_fd(), PollFlags::OUT));
        }
    }
}

/// Runs of 4 KiB that are written at once: as much as a pipe takes.
const RUNS: usize = 16;
/// Reads in a row before others have their turn.
const READS: usize = 4;
