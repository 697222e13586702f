//! What two sides agreed on.
//!
//! Owns the rules by which two HELLOs come to one set of terms (SPEC §3). Refuses to know how HELLO travels.

use super::config::Config;
use super::decoder::Dialect;
use super::wire::{Features, Hello, Role};

/// What two sides agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The language.
    pub dialect: Dialect,
    /// What both understand; none in v1.
    pub features: Features,
    /// Largest DATA payload, either way.
    pub max_frame: u16,
    /// Bytes per stream that may be under way to the peer; 0: one frame at a time. Not meaningful in v1.
    pub send_window: u32,
}

impl Terms {
    /// What the two HELLOs come to (SPEC §3).
    pub(super) fn agree(config: &Config, peer: &Hello) -> Self {
        let features = config.hello().features.and(peer.features);
        let windowed = features.has(Features::WINDOWED) || features.has(Features::RELIABLE);
        Self {
            dialect: Dialect::S2,
            features,
            max_frame: config.max_frame.min(peer.max_frame),
            send_window: if windowed { peer.window } else { 0 },
        }
    }

    /// What there is to agree on with a v1 peer.
    pub(super) fn v1(config: &Config) -> Self {
        let payload = match config.role {
            Role::Host => config.v1.host_payload(),
            Role::Guest => config.v1.guest_payload(),
        };
        Self {
            dialect: Dialect::V1,
            features: Features::default(),
            max_frame: u16::try_from(payload).unwrap_or(u16::MAX),
            send_window: u32::MAX,
        }
    }
}
