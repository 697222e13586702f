//! What a session reports to its application, and what it has counted.
//!
//! Owns the reasons. Refuses to know what an application makes of them.

use super::error::Violation;
use super::terms::Terms;
use super::wire::{GoAwayCode, StreamId};

/// Something changed. Events are coalesced: at most six wait per live stream and four for the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Both sides know what they speak; streams begin to move.
    Started(Terms),
    /// The peer is another one, or started anew: every stream was reset (a [`Event::Reset`] follows for each
    /// that was not polled before), and new terms hold.
    Restarted(Terms),
    /// The peer opened this stream.
    Opened(StreamId),
    /// Bytes, or the end of them, wait to be read; once until it was polled, then again for new bytes.
    Readable(StreamId),
    /// After a short write there is room again.
    Writable(StreamId),
    /// After [`Session::want_credit`](super::Session::want_credit): what is written now can leave at once.
    Credit(StreamId),
    /// v1 up to API 4242: the process behind this stream ended with this code (255 where the peer sent none).
    Exited(StreamId, u8),
    /// The stream is gone in both directions; its id is dead.
    Reset(StreamId, ResetReason),
    /// Both directions ended in good order; its id is dead.
    Retired(StreamId),
    /// The peer takes no new streams; those of ours above `last` it has not seen and never will.
    GoingAway {
        /// Why.
        code: GoAwayCode,
        /// The highest of our streams that it accepted.
        last: StreamId,
    },
    /// The session is over; the last event. A guest on a line goes on listening, unless it ended the session
    /// itself: when a host sends HELLO again, [`Event::Restarted`] follows.
    Closed(CloseReason),
}

/// Why a stream was reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResetReason {
    /// This side asked.
    Local,
    /// The peer asked.
    Remote,
    /// The peer broke the protocol on this stream.
    Violation(Violation),
    /// The peer started anew.
    Restarted,
    /// The peer went away before it accepted the stream.
    Refused,
    /// The dialect found cannot carry this stream.
    Dialect,
    /// The session ended.
    SessionClosed,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// This side closed it.
    Local,
    /// The peer sent GOAWAY with an error code.
    Remote(GoAwayCode),
    /// The peer broke the protocol.
    Violation(Violation),
    /// No common version.
    Version,
    /// Three PINGs in a row went unanswered.
    Silent,
    /// [`Start::S2Only`](super::Start::S2Only): the peer speaks something else.
    NotS2,
    /// [`Start::S2Only`](super::Start::S2Only): nothing came in time.
    NoHello,
    /// [`Start::S2Only`](super::Start::S2Only): nothing but this side's own HELLO came in time; the line is
    /// looped.
    Echo,
    /// [`Session::transmit_with`](super::Session::transmit_with) was told that more was taken than it had
    /// offered: what is on the line is unknown.
    Misuse,
}

/// What a session has done so far; wraps after 2^64 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Payload bytes sent, repetitions included.
    pub sent: u64,
    /// Payload bytes that will be sent again because the peer threw them away.
    pub repeated: u64,
    /// Payload bytes kept.
    pub received: u64,
    /// Payload bytes thrown away: to come again, for nobody, or (v1) lost.
    pub discarded: u64,
    /// Frames and words that made no sense where they came and were survived.
    pub malformed: u64,
    /// Frames for streams that are not open.
    pub stray: u64,
    /// Bytes skipped while waiting for HELLO.
    pub skipped: u64,
    /// HELLOs that were not for this side: its own, another host's to a host, another guest's to a guest.
    pub echoes: u64,
}
