//! What is spoken with a server: the operator protocol, or vSPC.py's.
//!
//! Owns that either is used in the same way. What is said is `operator`'s and `v3`'s.

use std::io::IoSlice;

use vspc_core::mux::StreamId;
use vspc_core::time::Instant;

use crate::v3::V3;
use vspc_operator::{News, Operator};

/// One connection's conversation.
#[derive(Debug)]
pub(crate) enum Speech {
    Operator(Box<Operator>),
    V3(Box<V3>),
}

impl Speech {
    pub(crate) fn poll_news(&mut self) -> Option<News> {
        match self {
            Self::Operator(operator) => operator.poll_news(),
            Self::V3(v3) => v3.poll_news(),
        }
    }

    /// See [`Operator::read`].
    pub(crate) fn read(&mut self, stream: StreamId, most: usize, take: impl FnMut(&[u8])) -> bool {
        match self {
            Self::Operator(operator) => operator.read(stream, most, take),
            Self::V3(v3) => v3.read(most, take),
        }
    }

    /// See [`Operator::receive`]. vSPC.py's protocol has no stream whose directions end apart.
    pub(crate) fn receive(&mut self, stream: StreamId, take: impl FnMut(&[u8]) -> usize) -> bool {
        match self {
            Self::Operator(operator) => operator.receive(stream, take),
            Self::V3(_) => true,
        }
    }

    /// See [`Operator::leave`].
    pub(crate) fn leave(&mut self, stream: StreamId) {
        if let Self::Operator(operator) = self {
            operator.leave(stream);
        }
    }

    /// See [`Operator::write`].
    pub(crate) fn write(&mut self, stream: StreamId, bytes: &[u8], now: Instant) -> usize {
        match self {
            Self::Operator(operator) => operator.write(stream, bytes),
            Self::V3(v3) => v3.write(bytes, now),
        }
    }

    /// See [`Operator::room`].
    pub(crate) fn room(&self, stream: StreamId) -> usize {
        match self {
            Self::Operator(operator) => operator.room(stream),
            Self::V3(v3) => v3.room(),
        }
    }

    /// No more input. vSPC.py would take that for the end of everything, and is not told.
    pub(crate) fn finish(&mut self, stream: StreamId) {
        if let Self::Operator(operator) = self {
            operator.finish(stream);
        }
    }

    /// How much more is read from the server.
    pub(crate) fn receive_window(&self) -> usize {
        match self {
            Self::Operator(operator) => operator.receive_window(),
            Self::V3(v3) => v3.receive_window(),
        }
    }

    /// Bytes came from the server.
    pub(crate) fn handle_received(&mut self, data: &[u8], now: Instant) {
        match self {
            Self::Operator(operator) => operator.handle_received(data, now),
            Self::V3(v3) => v3.handle_received(data, now),
        }
    }

    /// The server closed the connection; `why`, where more is known.
    pub(crate) fn handle_closed(&mut self, why: Option<String>) {
        match self {
            Self::Operator(operator) => operator.handle_closed(why),
            Self::V3(v3) => v3.handle_closed(why),
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if let Self::Operator(operator) = self {
            operator.handle_timeout(now);
        }
    }

    pub(crate) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        match self {
            Self::Operator(operator) => operator.poll_timeout(),
            Self::V3(v3) => v3.poll_timeout(now),
        }
    }

    pub(crate) fn has_output(&self) -> bool {
        match self {
            Self::Operator(operator) => operator.has_output(),
            Self::V3(v3) => v3.has_output(),
        }
    }

    /// Offers what is to be sent, and counts as sent what `take` says that it took.
    pub(crate) fn transmit(&mut self, now: Instant, take: impl FnOnce(&[IoSlice<'_>]) -> usize) -> usize {
        match self {
            Self::Operator(operator) => operator.transmit(now, take),
            Self::V3(v3) => v3.transmit(take),
        }
    }
}
