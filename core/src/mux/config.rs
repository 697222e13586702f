//! What a session is told when it is made.

use std::time::Duration;

use super::error::ConfigError;
use super::v1::V1Config;
use super::wire::{Features, Hello, StreamId, VERSION};

/// Which end of the line this is. The host speaks first and opens streams with bit 63 clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The side outside the VM.
    Host,
    /// The side inside it.
    Guest,
}

/// How the dialect is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// By HELLO: S2 where the peer answers or opens with one, v1 where it turns out not to know it.
    Negotiate,
    /// S2 without HELLO; the peer's is known by other means (a control channel, a configuration file).
    S2(Hello),
    /// v1 without asking.
    V1,
}

/// Everything a [`super::Session`] needs to know beforehand. Plain data; [`Config::new`] has the defaults.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which end this is.
    pub role: Role,
    /// How the dialect is chosen.
    pub start: Start,
    /// What this side understands.
    pub features: Features,
    /// Largest DATA payload this side accepts: 4096, 12 bytes of header make 0.3 % of that.
    pub max_frame: u16,
    /// Bytes per stream this side promises to buffer, announced in HELLO; 0: strict, one frame at a time. 64 KiB.
    pub window: u32,
    /// Bytes per stream this side does buffer. At least the window where nothing shall ever be thrown away (as by
    /// default); less is allowed, overcommits, and costs repetitions. When full: strict or overcommitted frames are
    /// thrown away and asked for again.
    pub receive_buffer: u32,
    /// Bytes per stream kept until acked; a write beyond it is short. 128 KiB, two windows of the default size.
    pub send_buffer: u32,
    /// Streams at a time, both sides' together: 256. Beyond it the peer's new streams are refused.
    pub max_streams: u32,
    /// Silence after which PING is sent, three unanswered ones end the session: 10 s; zero: never.
    pub keepalive: Duration,
    /// The first id this side allocates; above every id an earlier session on this channel used.
    pub first_id: u64,
    /// v1's sizes and paces.
    pub v1: V1Config,
    /// Keys the hash of stream ids, which the peer chooses: from the owner's random seed.
    pub seed: [u64; 2],
}

impl Config {
    /// The defaults for one end.
    #[must_use]
    pub const fn new(role: Role) -> Self {
        Self {
            role,
            start: Start::Negotiate,
            features: Features::ALL,
            max_frame: 4096,
            window: 65536,
            receive_buffer: 65536,
            send_buffer: 131_072,
            max_streams: 256,
            keepalive: Duration::from_secs(10),
            first_id: 1,
            v1: V1Config::new(),
            seed: [0; 2],
        }
    }

    /// The HELLO that announces this.
    #[must_use]
    pub const fn hello(&self) -> Hello {
        Hello { version: VERSION, features: self.features, max_frame: self.max_frame, window: self.window }
    }

    /// The most payload memory a session so configured can hold, in bytes: every stream full both ways.
    #[must_use]
    pub const fn memory_bound(&self) -> u64 {
        let per_stream = self.receive_buffer as u64 + self.send_buffer as u64 + 4 * super::SEGMENT as u64;
        self.max_streams as u64 * per_stream + 64 * super::SEGMENT as u64
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        const GIB: u32 = 1 << 30;
        if self.max_frame == 0 {
            return Err(ConfigError::MaxFrame);
        }
        let buffers = [self.receive_buffer, self.send_buffer];
        if buffers.iter().any(|&size| size == 0 || size > GIB) || self.window > GIB {
            return Err(ConfigError::Buffer);
        }
        if self.max_streams == 0 || self.max_streams > 1 << 24 {
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
