//! Whose fault it was: the caller's ([`OpenError`], [`StreamError`], [`ConfigError`]) or the peer's
//! ([`Violation`]).

use thiserror::Error;

/// A stream could not be opened: the application asked for what it may not have now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// `Config::max_own_streams` (or, of the peer's ids, `max_peer_streams`) are open.
    #[error("as many streams are open as the configuration allows")]
    TooMany,
    /// The id is 0, is in use, or was used before.
    #[error("stream id is reserved, in use or used up")]
    Used,
    /// Only the host opens streams in v1, and nobody opens one that the other side could not name.
    #[error("this side cannot open streams in this dialect")]
    Dialect,
    /// A GOAWAY was sent or received, or the session is over.
    #[error("the session takes no new streams")]
    GoingAway,
}

/// A stream could not be used: the application is wrong about its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StreamError {
    /// No such stream: never opened, retired, or reset.
    #[error("no such stream")]
    Unknown,
    /// This side has closed its half.
    #[error("this side of the stream is closed")]
    Finished,
}

/// A configuration that cannot work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// No payload could ever be sent or received.
    #[error("max_frame must be at least 1")]
    MaxFrame,
    /// Queue lengths are 32 bits and add up.
    #[error("buffers must be from 1 byte to 1 GiB, and the window at most 1 GiB")]
    Buffer,
    /// Less is buffered than was promised: the window on a reliable carrier, else a smallest frame.
    #[error("receive_buffer is less than promised: the window if reliable, else 64 bytes or a frame")]
    Promise,
    /// No stream could ever be opened, or more than a table can number.
    #[error("max_streams must be from 1 to 2^24, and so must the limits of each side or be 0")]
    MaxStreams,
    /// A v1 size that leaves no room for payload, or a burst of 0.
    #[error("v1 sizes must be at least 13 bytes, bursts at least 1")]
    V1,
}

/// How a peer broke the protocol. On one stream it costs that stream where RESET was agreed, else the
/// session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Violation {
    /// ACK of bytes that were never sent.
    #[error("ack beyond what is outstanding")]
    AckBeyondOutstanding,
    /// Payload after CLOSE.
    #[error("data after close")]
    DataAfterClose,
    /// CLOSE while this side waits for payload to be sent again: it can never come.
    #[error("close while data must be sent again")]
    CloseWhileWaiting,
    /// CLOSE twice.
    #[error("second close")]
    SecondClose,
    /// A frame longer than agreed.
    #[error("frame longer than agreed")]
    FrameTooLong,
    /// A `01…` word: how much payload follows is unknown.
    #[error("undefined word, framing is lost")]
    UndefinedWord,
    /// A reserved word, or RESET or GROW where it was not agreed.
    #[error("reserved word")]
    ReservedWord,
    /// ACK, CLOSE, REQUEST, RESET or GROW on stream 0.
    #[error("stream word on stream 0")]
    WordOnSession,
    /// A session message longer than 64 bytes.
    #[error("session message too long")]
    MessageTooLong,
    /// A HELLO that accepts no payload at all.
    #[error("hello with a maximum frame of 0")]
    EmptyFrames,
    /// A HELLO with a largest payload or a window that costs more headers than this side is ready for.
    #[error("hello with a frame or window too small")]
    SmallFrames,
    /// More payload than the window on a carrier where nothing is thrown away.
    #[error("payload beyond the window")]
    BeyondWindow,
    /// REQUEST or REWIND on a carrier where nothing is asked for again.
    #[error("request or rewind on a reliable carrier")]
    Repetition,
    /// A second HELLO on a carrier whose end would have said that the peer is another one.
    #[error("second hello on a reliable carrier")]
    SecondHello,
}
