//! How bytes go between a socket and the engine in one visit: each bound on that, and what the visit's
//! outcome means.
//!
//! It owns no socket and waits for none. What a runtime does with an outcome depends on how it learns of
//! readiness.

use std::io::{ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::SockRef;
use vspc_core::concentrator::{Closed, Concentrator, ConnId, READ_MAX};
use vspc_core::time::Instant;

pub use crate::sockets::{Refills, serve_well};

/// The buffer that all reads of one loop share.
#[must_use]
pub fn scratch() -> Box<[u8]> {
    vec![0; READ_MAX].into_boxed_slice()
}

/// How far a connection is closed, as its runtime knows it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Ending(Option<Closed>);

impl Ending {
    /// Takes note that it is closed this far.
    pub fn note(&mut self, closed: Closed) {
        self.0 = Some(closed);
    }

    /// As far as is known it is open both ways.
    #[must_use]
    pub fn is_none(self) -> bool {
        self.0.is_none()
    }

    /// Its peer has ended its half: nothing more will be read.
    #[must_use]
    pub fn has_ended(self) -> bool {
        self.0 == Some(Closed::Input)
    }

    /// Writing has failed: nothing more will be written, and what had arrived before is still read.
    #[must_use]
    pub fn has_failed(self) -> bool {
        matches!(self.0, Some(Closed::Failed(_)))
    }
}

/// What an attempt to read brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received {
    /// Bytes, and the engine has them.
    Bytes {
        /// They were as many as were asked for, so there may be more. Fewer have emptied the socket.
        more: bool,
    },
    /// There is nothing to read.
    Nothing,
    /// There are bytes, and the connection's window is 0: the engine says when they may be read.
    WindowClosed,
    /// As [`WindowClosed`](Self::WindowClosed), and behind the bytes the peer has ended its half.
    WindowClosedAndEnded,
    /// As [`WindowClosed`](Self::WindowClosed), and behind the bytes the connection has failed.
    WindowClosedAndFailed(ErrorKind),
    /// All that will ever come has been read. The engine does not know yet.
    Closed(Closed),
}

/// Reads once from a connection into the engine. `ending` is how far it is known to be closed: with a failure
/// that a write has met, what had arrived before is still read.
///
/// While the window is 0 nothing is read, but an end or an error is still found, so that a connection does
/// not stay when its peer has left. Costs one system call, with the window 0 two.
pub fn receive<S>(
    engine: &mut Concentrator,
    id: ConnId,
    socket: &S,
    ending: Ending,
    scratch: &mut [u8],
    now: Instant,
) -> Received
where
    S: AsFd,
    for<'s> &'s S: Read,
{
    let window = engine.receive_window(id).min(scratch.len());
    loop {
        let outcome = match window {
            0 => SockRef::from(socket).peek(&mut [MaybeUninit::uninit()]),
            _ => (&*socket).read(&mut scratch[..window]),
        };
        return match outcome {
            Ok(0) => Received::Closed(ending.0.unwrap_or(Closed::Input)),
            Ok(_) if window == 0 => behind(socket),
            Ok(n) => {
                engine.handle_received(id, &mut scratch[..n], now);
                Received::Bytes { more: n == window }
            }
            Err(error) => match error.kind() {
                ErrorKind::Interrupted => continue,
                ErrorKind::WouldBlock => ending.0.map_or(Received::Nothing, Received::Closed),
                why => Received::Closed(ending.0.unwrap_or(Closed::Failed(why))),
            },
        };
    }
}

/// What is behind bytes that may not be read. One system call, and one more if the connection has failed.
fn behind(socket: &impl AsFd) -> Received {
    let mut polled = [PollFd::new(socket, PollFlags::RDHUP)];
    // Does not wait. What it does not report now is looked for again.
    let is_known = poll(&mut polled, Some(&Timespec::default())).is_ok();
    match polled[0].revents() {
        _ if !is_known => Received::WindowClosed,
        found if found.contains(PollFlags::ERR) => {
            failure(socket).map_or(Received::WindowClosed, Received::WindowClosedAndFailed)
        }
        found if found.contains(PollFlags::RDHUP) => Received::WindowClosedAndEnded,
        _ => Received::WindowClosed,
    }
}

/// Why a socket has failed, if it has and no call has returned that yet. One system call.
pub fn failure(socket: &impl AsFd) -> Option<ErrorKind> {
    SockRef::from(socket).take_error().ok().flatten().map(|error| error.kind())
}

/// What became of an attempt to write all that the engine has for a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transmitted {
    /// The engine has no more.
    All,
    /// The socket took less than it was offered: it is full.
    Full,
    /// The visit has been long enough: there is more, and the socket may take it.
    More,
    /// Nothing more can be written.
    Failed(ErrorKind),
}

/// Writes what the engine has for a connection, until the socket is full, the engine has no more, or this
/// visit has written `WRITE_MAX`: a reader that catches up on megabytes lets others have their turn. Writes
/// at most that and one offer more; one system call an offer. `refills` is the connection's.
pub fn transmit<S>(
    engine: &mut Concentrator,
    id: ConnId,
    socket: &S,
    refills: &mut Refills,
    now: Instant,
) -> Transmitted
where
    S: AsFd,
    for<'s> &'s S: Write,
{
    let mut taken = 0;
    let mut full = |taken| {
        // A runtime may try again for another reason than that there is room.
        if taken > 0 {
            refills.count(socket);
        }
        Transmitted::Full
    };
    while taken < WRITE_MAX {
        let mut failure = None;
        let sent = engine.transmit(id, now, |runs| {
            (&*socket).write_vectored(runs).unwrap_or_else(|error| {
                failure = Some(error.kind());
                0
            })
        });
        match failure {
            None if sent.is_idle() => return Transmitted::All,
            None if sent.is_short() => return full(taken + sent.taken),
            None => taken += sent.taken,
            Some(ErrorKind::Interrupted) => {}
            Some(ErrorKind::WouldBlock) => return full(taken),
            Some(why) => return Transmitted::Failed(why),
        }
    }
    Transmitted::More
}

/// What an attempt to discard a lingering socket's input met.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Discarded {
    /// Bytes; there may be more.
    More,
    /// Nothing; more may come.
    Nothing,
    /// The end, or an error that is one.
    End,
}

/// Reads once from a socket that lingers, for nobody: one system call, at most `DISCARD_MAX` bytes. A crowd
/// that was turned away and still sends as fast as it can is held back by its windows, and keeps nobody from
/// their turn.
pub fn discard<S>(socket: &S, scratch: &mut [u8]) -> Discarded
where
    for<'s> &'s S: Read,
{
    let most = scratch.len().min(DISCARD_MAX);
    match (&*socket).read(&mut scratch[..most]) {
        Ok(1..) => Discarded::More,
        Ok(_) => Discarded::End,
        Err(error) => match error.kind() {
            ErrorKind::Interrupted => Discarded::More,
            ErrorKind::WouldBlock => Discarded::Nothing,
            _ => Discarded::End,
        },
    }
}

/// Read at once from one that lingers. What a host still says when it is turned away is less; and two hundred
/// that never stop cost a turn a millisecond, where reads of 256 KiB cost it twenty.
const DISCARD_MAX: usize = 16 << 10;

/// Written to one connection in one visit, about: as much as two reads bring.
const WRITE_MAX: usize = 2 * READ_MAX;

#[cfg(test)]
#[path = "transfer_tests.rs"]
mod tests;
