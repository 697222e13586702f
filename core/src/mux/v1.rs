//! What is different when the other side is hyperstart or runv (SPEC §8).
//!
//! v1 acknowledges nothing, so nothing can be asked for again; three sizes inside the guest decide what may
//! be sent:
//!
//! | where in the guest | size | one byte more |
//! |---|---|---|
//! | receive buffer, one whole message | 4096 (vsock 65536) | the guest's init ends, the VM dies |
//! | a process' stdin buffer | 512 | the excess is dropped without a word |
//! | message length below 12 | – | the guest's init ends, the VM dies |
//!
//! Owns those sizes and the pace of stdin: a burst of at most 512 bytes, then a pause in which the guest's
//! event loop hands them to the process. A process that does not read loses input whatever one does; v1 has
//! no word for it.

use std::time::Duration;

use super::error::ConfigError;
use super::wire::HEADER;
use crate::time::Instant;

/// v1's sizes, paces and choices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct V1Config {
    /// The API version agreed elsewhere: up to 4242 exit codes come on the stream channel, above they do not.
    pub api: u32,
    /// Host to guest: the guest's receive buffer, header included: 4096, 65536 over vsock.
    pub guest_receive: u32,
    /// Guest to host: the longest message, header included: 10240, what hyperstart's own buffer holds.
    pub guest_transmit: u32,
    /// Host to guest: the process' stdin buffer, and so the longest burst: 512.
    pub stdin_burst: u16,
    /// Host to guest: the pause after a burst: 10 ms, thousands of turns of the guest's event loop.
    pub stdin_pause: Duration,
    /// What to do when the application reads a stream too slowly; v1 has no word to slow the sender down.
    pub overflow: Overflow,
}

/// What to do with v1 input that finds its stream's buffer full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// Stop reading the line until there is room: nothing is lost, every stream waits.
    Wait,
    /// Drop and count it: no stream waits for another.
    Discard,
}

impl V1Config {
    /// API 4244 over virtio-serial.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            api: 4244,
            guest_receive: 4096,
            guest_transmit: 10240,
            stdin_burst: 512,
            stdin_pause: Duration::from_millis(10),
            overflow: Overflow::Wait,
        }
    }

    /// Whether exit codes come on the stream channel.
    #[must_use]
    pub const fn has_exit_codes(&self) -> bool {
        self.api <= 4242
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let header = HEADER as u32;
        if self.guest_receive <= header || self.guest_transmit <= header || self.stdin_burst == 0 {
            return Err(ConfigError::V1);
        }
        Ok(())
    }

    /// Longest payload of one message towards the guest. Never more than a burst.
    pub(super) fn host_payload(&self) -> u32 {
        (self.guest_receive - HEADER as u32).min(self.stdin_burst.into())
    }

    /// Longest payload of one message towards the host.
    pub(super) fn guest_payload(&self) -> u32 {
        self.guest_transmit - HEADER as u32
    }
}

impl Default for V1Config {
    fn default() -> Self {
        Self::new()
    }
}

/// The pace of one process' stdin.
///
/// ```text
///   sent < burst ──── the burst is used up ────▶ paused until now + pause ──── handle_timeout ────▶ sent = 0
///        ▲  └── nothing sent for a pause: sent = 0
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    last: Instant,
    sent: u16,
    paused: bool,
}

impl Pace {
    /// Payload bytes that may be sent now.
    pub(super) fn room(&self, config: &V1Config) -> u32 {
        if self.paused { 0 } else { u32::from(config.stdin_burst.saturating_sub(self.sent)) }
    }

    /// `n` bytes left; `Some`: no more until then. `continued`: they end a message that had begun before, of
    /// which the guest has handed nothing on, however long ago that was.
    pub(super) fn handle_sent(
        &mut self,
        n: u32,
        continued: bool,
        config: &V1Config,
        now: Instant,
    ) -> Option<Instant> {
        if !continued && now >= self.last + config.stdin_pause {
            self.sent = 0;
        }
        self.last = now;
        self.sent = self.sent.saturating_add(u16::try_from(n).unwrap_or(u16::MAX));
        self.paused = self.sent >= config.stdin_burst;
        self.paused.then(|| now + config.stdin_pause)
    }

    /// The pause is over.
    pub(super) fn handle_timeout(&mut self) {
        self.paused = false;
        self.sent = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_window_of_one_pause_sees_more_than_two_bursts_and_no_burst_exceeds_the_buffer() {
        let config = V1Config::new();
        let mut pace = Pace::default();
        let mut now = Instant::from_micros(1_000_000);
        let mut in_burst = 0;
        for _ in 0..1000 {
            let n = pace.room(&config).min(100);
            assert!(n > 0);
            in_burst += n;
            assert!(in_burst <= 512);
            if let Some(until) = pace.handle_sent(n, false, &config, now) {
                assert_eq!(pace.room(&config), 0);
                now = until;
                pace.handle_timeout();
                in_burst = 0;
            }
        }
    }

    #[test]
    fn a_typist_is_never_paused() {
        let config = V1Config::new();
        let mut pace = Pace::default();
        for key in 1..2000u64 {
            assert!(pace.room(&config) > 0);
            assert_eq!(pace.handle_sent(1, false, &config, Instant::from_micros(key * 50_000)), None);
        }
    }
}
