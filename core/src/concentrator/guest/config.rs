//! How a guest's line is used: which multiplexer it carries, what the guest has to prove that it knows, and
//! how much its streams may have under way.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use thiserror::Error;
use vspc_guest::Secret;

use crate::mux::{Config as SessionConfig, Role};

/// How streams are carried on a console's line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mux {
    /// `s2`: the line loses nothing, and says when it opens and closes.
    S2,
    /// `s2+sl`: it may lose bytes: a serial port of the guest's.
    S2OverSl,
    /// `v1`: hyperstart's channel of streams. Its control channel is another line of the same VM.
    V1,
    /// `v1-control`: hyperstart's control channel.
    V1Control,
    /// `auto`: as `s2` where the guest answers that, as `v1` where it answers as hyperstart does.
    Auto,
}

/// A text names no way to carry streams.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error(
    "{0:?} is no multiplexer: there are s2 (a virtio port, a socket), s2+sl (a serial port), v1 and \
     v1-control (hyperstart's two channels) and auto (s2 or v1)"
)]
pub struct NoMux(Box<str>);

impl FromStr for Mux {
    type Err = NoMux;

    fn from_str(text: &str) -> Result<Self, NoMux> {
        match text {
            "s2" => Ok(Self::S2),
            // A + in a query string is a space to some.
            "s2+sl" | "s2 sl" | "s2%2Bsl" | "s2%2bsl" => Ok(Self::S2OverSl),
            "v1" => Ok(Self::V1),
            "v1-control" => Ok(Self::V1Control),
            "auto" => Ok(Self::Auto),
            _ => Err(NoMux(text.chars().take(32).collect::<String>().into())),
        }
    }
}

impl fmt::Display for Mux {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::S2 => "s2",
            Self::S2OverSl => "s2+sl",
            Self::V1 => "v1",
            Self::V1Control => "v1-control",
            Self::Auto => "auto",
        })
    }
}

/// What a guest has to prove that it knows, 32 bytes or more.
#[derive(Clone, PartialEq, Eq)]
pub struct GuestKey(Arc<KeyFile>);

#[derive(PartialEq, Eq)]
struct KeyFile {
    bytes: Box<[u8]>,
    path: Box<str>,
}

impl GuestKey {
    /// What a file holds. `None`: it is too short.
    #[must_use]
    pub fn new(bytes: &[u8], file: &str) -> Option<Self> {
        Secret::new(bytes).map(|_| Self(Arc::new(KeyFile { bytes: bytes.into(), path: file.into() })))
    }

    /// Where it comes from, for people.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.0.path
    }

    pub(super) fn secret(&self) -> Option<Secret> {
        Secret::new(&self.0.bytes)
    }
}

impl fmt::Debug for GuestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GuestKey(…)")
    }
}

/// What sessions without SL agree on, and those with it.
pub(super) static SIZES: LazyLock<[Arc<SessionConfig>; 2]> = LazyLock::new(|| {
    [(16 << 10, WINDOW, GROWTH), (1 << 10, SLOW_WINDOW, 0)].map(|(max_frame, window, growth)| {
        Arc::new(SessionConfig {
            max_frame,
            window,
            receive_buffer: window,
            send_buffer: SEND_BUFFER,
            most_window: MOST_WINDOW,
            growth,
            max_peer_streams: PEER_STREAMS,
            max_own_streams: OWN_STREAMS,
            ..SessionConfig::new(Role::Host)
        })
    })
});
/// What a stream may have under way towards us: as much as a socket carries at a time, and on a serial port,
/// where it holds a packed block.
const WINDOW: u32 = 128 << 10;
const SLOW_WINDOW: u32 = 64 << 10;
/// What it grows to on a line without SL, for a copy: agent, server and client then wait for each other once
/// in many pieces. And by how much the windows of one guest's streams grow together, each way: twice that is
/// what it can make us hold, of what it says and of what it does not take, beyond what it may with windows of
/// the first size.
const MOST_WINDOW: u32 = 512 << 10;
const GROWTH: u64 = 2 << 20;
/// What is kept of one for a guest that has not taken it.
const SEND_BUFFER: u32 = 128 << 10;
/// Streams that a guest may have announced at a time.
const PEER_STREAMS: u32 = 72;
/// Streams that operators may have opened in a guest at a time.
const OWN_STREAMS: u32 = 200;
