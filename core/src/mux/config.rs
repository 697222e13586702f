//! What a session is given when it is made: sizes, limits and choices, each with the reason for its default.
//!
//! Owns what of it cannot work ([`ConfigError`]). Refuses to know what the peer asks for.

use std::time::Duration;

use super::error::ConfigError;
use super::v1::V1Config;
use super::wire::{Features, Hello, Role, StreamId, VERSION};

/// How the dialect is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// By HELLO: S2 where the peer answers or opens with one, v1 where it turns out not to know it. A guest
    /// takes v1 for found only when the first bytes are a message for a stream that was
    /// [attached](super::Session::attach).
    Negotiate,
    /// By HELLO, and only S2: the session ends when the peer speaks something else, or when no HELLO has come
    /// `within` this time (zero: it waits for ever).
    S2Only {
        /// How long to wait for HELLO.
        within: Duration,
    },
    /// S2 without HELLO; the peer's is known by other means (a control channel, a configuration file).
    S2(Hello),
    /// v1 without asking: where it is known that the other side speaks it.
    V1,
}

/// What the bytes travel on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// A line that outlives its ends (a serial port, a virtio channel): a peer may be replaced by another one
    /// without notice, and a receiver may throw payload away and ask for it again. So what was sent is kept
    /// until it is acked.
    Line,
    /// A connection that ends with either end and loses nothing (TCP, TLS, a unix socket). Where both sides
    /// announce it, nothing is asked for again, what was handed over is freed, and there is one HELLO.
    Reliable,
}

/// Whose payload goes first: nothing of a lower priority leaves while a higher one has something to send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Ahead of everything: requests, answers, keystrokes.
    High,
    /// The default.
    #[default]
    Normal,
    /// Behind everything: copies, backlogs.
    Low,
}

impl Priority {
    /// From first to last.
    pub(super) const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];
}

/// Everything a [`super::Session`] needs to know beforehand. Plain data; [`Config::new`] has the defaults.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which end this is.
    pub role: Role,
    /// How the dialect is chosen.
    pub start: Start,
    /// What the bytes travel on: a line.
    pub carrier: Carrier,
    /// What this side understands, besides what the carrier says.
    pub features: Features,
    /// Largest DATA payload this side accepts: 4096, 12 bytes of header make 0.3 % of that.
    pub max_frame: u16,
    /// A peer whose HELLO has a smaller `max_frame` is refused: 64; at 1, each byte would cost 13 on the
    /// line. It may always ask for this side's own `max_frame`.
    pub min_frame: u16,
    /// Bytes per stream this side promises to buffer, announced in HELLO; 0: strict, one frame at a time. 64
    /// KiB.
    pub window: u32,
    /// A peer whose HELLO has a smaller `window`, but 0, is refused: 64, for the same reason. It may always
    /// announce this side's own `window`.
    pub min_window: u32,
    /// Bytes per stream that this side really buffers: 64 KiB, the window; at least the smaller of 64 and
    /// `max_frame`. Below `window` it overcommits: frames that do not fit are thrown away and asked for
    /// again. A reliable carrier needs `window` or more. All streams together: that times the streams
    /// that may be open. There is no smaller cap, for each window is promised; who reads many streams, some
    /// of them slowly, announces a smaller window.
    pub receive_buffer: u32,
    /// Bytes per stream kept until acked (on a reliable carrier: until sent); a write beyond it is short. 128
    /// KiB, two windows of the default size.
    pub send_buffer: u32,
    /// The same for all streams together: no limit.
    pub session_send_buffer: u64,
    /// What a stream's window grows to, by doubling, while it carries much and the application takes all of
    /// it (SPEC §5): no meaning where `growth` is 0. Of a peer's window no more is used.
    pub most_window: u32,
    /// Bytes that the windows of all streams together grow by at most, and as much again that is kept to be
    /// sent where the peer's have grown: 0, the default: none grows, and that none does is announced.
    pub growth: u64,
    /// Streams at a time that each side may have open: 256. Beyond it the peer's new streams are refused.
    pub max_streams: u32,
    /// The same for this side's streams alone; `u32::MAX`, the default: `max_streams` counts.
    pub max_own_streams: u32,
    /// The same for the peer's streams alone, 0: it may open none; `u32::MAX`, the default: `max_streams`
    /// counts.
    pub max_peer_streams: u32,
    /// Silence after which PING is sent, three unanswered ones end the session. Zero, the default: never, for
    /// a guest that stands still (paused, in a debugger) is not dead.
    pub keepalive: Duration,
    /// The first id this side allocates; above every id an earlier session on this channel used.
    pub first_id: u64,
    /// Tells this start of this side from others: any number that differs from the last one's. 0: made of
    /// seed and time.
    pub nonce: u32,
    /// v1's sizes and paces.
    pub v1: V1Config,
    /// Keys the hash of stream ids, which the peer chooses: from the application's random seed.
    pub seed: [u64; 2],
}

impl Config {
    /// The defaults for one end.
    #[must_use]
    pub const fn new(role: Role) -> Self {
        Self {
            role,
            start: Start::Negotiate,
            carrier: Carrier::Line,
            features: Features::ALL,
            max_frame: 4096,
            min_frame: 64,
            window: 65536,
            min_window: 64,
            receive_buffer: 65536,
            send_buffer: 131_072,
            session_send_buffer: u64::MAX,
            most_window: 0,
            growth: 0,
            max_streams: 256,
            max_own_streams: u32::MAX,
            max_peer_streams: u32::MAX,
            keepalive: Duration::ZERO,
            first_id: 1,
            nonce: 0,
            v1: V1Config::new(),
            seed: [0; 2],
        }
    }

    /// The terms that announce this.
    #[must_use]
    pub const fn hello(&self) -> Hello {
        let reliable = match self.carrier {
            Carrier::Line => Features(0),
            Carrier::Reliable => Features::RELIABLE,
        };
        let grows = if self.growth > 0 { Features::GROWS } else { Features(0) };
        Hello {
            version: VERSION,
            features: Features(self.features.0 | reliable.0 | grows.0),
            max_frame: self.max_frame,
            window: self.window,
        }
    }

    /// How many streams of its own this side may have open.
    pub(super) const fn own_limit(&self) -> u32 {
        if self.max_own_streams == u32::MAX { self.max_streams } else { self.max_own_streams }
    }

    /// How many the peer may.
    pub(super) const fn peer_limit(&self) -> u32 {
        if self.max_peer_streams == u32::MAX { self.max_streams } else { self.max_peer_streams }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        const GIB: u32 = 1 << 30;
        if self.max_frame == 0 {
            return Err(ConfigError::MaxFrame);
        }
        let buffers = [self.receive_buffer, self.send_buffer];
        if buffers.iter().any(|&size| size == 0 || size > GIB) || self.window.max(self.most_window) > GIB {
            return Err(ConfigError::Buffer);
        }
        let promised = match self.carrier {
            _ if self.start == Start::V1 => 1,
            Carrier::Line => u32::from(self.max_frame.min(LEAST_BUFFER)),
            Carrier::Reliable => self.window.max(self.max_frame.into()),
        };
        if self.receive_buffer < promised {
            return Err(ConfigError::Promise);
        }
        if [self.own_limit(), self.peer_limit()].iter().any(|&limit| limit > 1 << 24) || self.max_streams == 0
        {
            return Err(ConfigError::MaxStreams);
        }
        self.v1.check()
    }

    pub(super) const fn own_bit(&self) -> u64 {
        match self.role {
            Role::Host => 0,
            Role::Guest => StreamId::GUEST_BIT,
        }
    }
}

/// The buffer that every receiver has at least, unless all frames are smaller: frames are not cut further for
/// one that keeps throwing them away (SPEC §4).
pub(super) const LEAST_BUFFER: u16 = 64;
