//! What `set` lines mean.

use std::time::Duration;

use vspc_core::mux::link::{EscapeSet, LinkConfig, Repeat};
use vspc_core::mux::{Carrier, Config, Features, Role, Start};

/// `set` for a session: role, dialect (negotiate, v1, or s2 and how many milliseconds to wait for it),
/// carrier (line, reliable), nonce and features (hex), max-frame, window, receive-buffer, max-streams,
/// max-peer-streams, keepalive (milliseconds), api.
pub(super) fn session_setting(config: &mut Config, key: &str, value: &str) -> Option<()> {
    match (key, value) {
        ("role", "host") => config.role = Role::Host,
        ("role", "guest") => config.role = Role::Guest,
        ("dialect", "negotiate") => config.start = Start::Negotiate,
        ("dialect", "v1") => config.start = Start::V1,
        ("carrier", "line") => config.carrier = Carrier::Line,
        ("carrier", "reliable") => config.carrier = Carrier::Reliable,
        ("nonce", _) => config.nonce = u32::from_str_radix(value, 16).ok()?,
        ("keepalive", _) => config.keepalive = Duration::from_millis(value.parse().ok()?),
        ("max-peer-streams", _) => config.max_peer_streams = value.parse().ok()?,
        ("dialect", _) => {
            let within = Duration::from_millis(value.strip_prefix("s2 ")?.parse().ok()?);
            config.start = Start::S2Only { within };
        }
        ("features", _) => config.features = Features(u8::from_str_radix(value, 16).ok()?),
        ("max-frame", _) => config.max_frame = value.parse().ok()?,
        ("window", _) => config.window = value.parse().ok()?,
        ("receive-buffer", _) => config.receive_buffer = value.parse().ok()?,
        ("max-streams", _) => config.max_streams = value.parse().ok()?,
        ("api", _) => config.v1.api = value.parse().ok()?,
        _ => return None,
    }
    Some(())
}

/// `set` for a link: nonce (hex), repeat (go-back-n, selective), max-payload, window, escapes (minimal,
/// serial, cooked), idle (milliseconds), max-timeouts.
pub(super) fn link_setting(config: &mut LinkConfig, key: &str, value: &str) -> Option<()> {
    match (key, value) {
        ("nonce", _) => config.nonce = u32::from_str_radix(value, 16).ok()?,
        ("repeat", "go-back-n") => config.repeat = Repeat::GoBackN,
        ("repeat", "selective") => config.repeat = Repeat::Selective,
        ("max-payload", _) => config.max_payload = value.parse().ok()?,
        ("window", _) => config.window = value.parse().ok()?,
        ("idle", _) => config.idle = Duration::from_millis(value.parse().ok()?),
        ("max-timeouts", _) => config.max_timeouts = value.parse().ok()?,
        ("escapes", "minimal") => config.escapes = EscapeSet::minimal(),
        ("escapes", "serial") => config.escapes = EscapeSet::serial(),
        ("escapes", "cooked") => config.escapes = EscapeSet::cooked(),
        _ => return None,
    }
    Some(())
}
