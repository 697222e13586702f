//! A host that began anew in the middle of a frame, with nobody to say so (SPEC §3).
//!
//! Owns the evidence: after a pause nothing but a HELLO, where the rest of a frame was to come, and after
//! another pause the same again. Refuses to know what becomes of the session.

use std::time::Duration;

use super::wire::{HEADER, HELLO, Opening, Role, hello_start};
use crate::time::Instant;

/// A HELLO in the place of the rest of a frame, twice with a pause before each: its sender is not the one
/// that began the frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stall {
    /// When something came last.
    last: Instant,
    /// Bytes of a HELLO since the pause; `None`: something else came.
    have: Option<u8>,
    /// The nonce seen once, behind a pause and with nothing since.
    seen: Option<u32>,
    /// What came since the pause.
    bytes: [u8; HELLO],
}

impl Stall {
    /// Nothing seen since `now`.
    pub(super) const fn new(now: Instant) -> Self {
        Self { last: now, have: None, seen: None, bytes: [0; HELLO] }
    }

    /// As new, but for when something came last.
    pub(super) const fn restarted(&self) -> Self {
        Self::new(self.last)
    }

    /// A read, which begins in the middle of a frame or does not. `Some`: the HELLO that `data` ends with is
    /// the second one. Work in proportion to a HELLO at most.
    pub(super) fn handle_received(&mut self, data: &[u8], mid_frame: bool, now: Instant) -> Option<Opening> {
        let paused = now >= std::mem::replace(&mut self.last, now) + STALL;
        if paused && (mid_frame || self.seen.is_some()) {
            self.have = Some(0);
        }
        let have = usize::from(self.have?);
        let n = data.len().min(HELLO - have);
        self.bytes[have..have + n].copy_from_slice(&data[..n]);
        self.have = Some((have + n) as u8);
        let begins = self.bytes[..have + n].iter().zip(&hello_start()).all(|(a, b)| a == b);
        if !begins || n < data.len() {
            // Not HELLO alone.
            (self.have, self.seen) = (None, None);
            return None;
        }
        if have + n < HELLO {
            return None;
        }
        self.have = None;
        let hello = Opening::decode(&self.bytes[HEADER..]).filter(|hello| hello.sender == Role::Host)?;
        if self.seen.replace(hello.nonce) != Some(hello.nonce) {
            return None;
        }
        self.seen = None;
        Some(hello)
    }
}

/// Silence in the middle of a frame after which a HELLO in its place is looked at: less than the interval,
/// more than a line that works lets a frame wait.
const STALL: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::super::config::Config;
    use super::*;

    #[test]
    fn a_hello_twice_in_the_place_of_a_frame_is_a_host_that_began_anew() {
        let mut stall = Stall::new(Instant::ZERO);
        let hello =
            Opening { hello: Config::new(Role::Host).hello(), sender: Role::Host, nonce: 4, answers: 0 };
        let bytes = hello.encode();
        assert_eq!(stall.handle_received(b"half a frame", true, Instant::from_millis(0)), None);
        assert_eq!(stall.handle_received(&bytes, true, Instant::from_millis(400)), None, "no pause");
        assert_eq!(stall.handle_received(&bytes, true, Instant::from_millis(1400)), None, "once is payload");
        assert_eq!(stall.handle_received(&bytes[..20], false, Instant::from_millis(2400)), None);
        assert_eq!(stall.handle_received(&bytes[20..], true, Instant::from_millis(2401)), Some(hello));
        for between in [&b"x"[..], &[&bytes[..], b"x"].concat()] {
            stall.handle_received(&bytes, true, Instant::from_millis(10_000));
            stall.handle_received(between, true, Instant::from_millis(11_000));
            assert_eq!(
                stall.handle_received(&bytes, true, Instant::from_millis(12_000)),
                None,
                "something came between"
            );
            stall.handle_received(b"x", true, Instant::from_millis(12_001));
        }
    }
}
