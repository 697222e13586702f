//! Who speaks what: HELLO and the detection of v1, in both roles (SPEC §3).
//!
//! Owns the bytes that are looked at before the dialect is known, and the terms that come out. Refuses to know streams.
//!
//! ```text
//!  host   CALLING ── HELLO ──────────────▶ S2      says HELLO at once and every second
//!            │ └──── v1's answer ────────▶ V1      skips anything else: an earlier session's leftovers
//!            └────── HELLO, version 0 ───▶ none
//!  guest  LISTENING ─ HELLO ─────────────▶ S2      silent until 12 bytes have come; answers with its own HELLO
//!            └─────── anything else ─────▶ V1      (those bytes are then read as v1)
//! ```

use std::time::Duration;

use super::config::{Config, Role, Start};
use super::decoder::Dialect;
use super::event::Terms;
use super::wire::{Features, HEADER, HELLO, HELLO_MAGIC, Hello, StreamId, header};
use crate::time::Instant;

/// How often a host repeats its HELLO: the guest may not be up yet, and 36 bytes a second cost nothing.
pub(super) const HELLO_INTERVAL: Duration = Duration::from_secs(1);

/// The handshake of one side.
#[derive(Clone, Debug)]
pub(super) struct Handshake {
    phase: HandshakePhase,
    /// HELLOs said and not answered yet: answers to the host's repetitions are no restart of the guest.
    owed: u32,
    /// Anything but HELLO came since the last HELLO: then the next one is a restart, not a repetition.
    conversed: bool,
    held: [u8; HELLO],
    have: u8,
}

/// Where a [`Handshake`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HandshakePhase {
    /// Host: waiting for an answer; the next HELLO is due at this time.
    Calling(Instant),
    /// Guest: waiting for the host's first bytes.
    Listening,
    /// Done.
    Settled,
}

/// What a byte string before the settlement came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The peer speaks S2 and said this.
    Hello(Hello),
    /// The peer speaks v1; the bytes of [`Handshake::held`] are the first of its frames (guest only).
    V1,
}

impl Handshake {
    /// At the start; `None` terms: they are to be found out.
    pub(super) fn new(config: &Config, now: Instant) -> (Self, Option<Terms>) {
        let phase = match (config.start, config.role) {
            (Start::Negotiate, Role::Host) => HandshakePhase::Calling(now),
            (Start::Negotiate, Role::Guest) => HandshakePhase::Listening,
            _ => HandshakePhase::Settled,
        };
        let terms = match config.start {
            Start::Negotiate => None,
            Start::S2(peer) => Some(agree(config, &peer)),
            Start::V1 => Some(v1_terms(config)),
        };
        (Self { phase, owed: 0, conversed: true, held: [0; HELLO], have: 0 }, terms)
    }

    /// Where it is.
    pub(super) const fn phase(&self) -> HandshakePhase {
        self.phase
    }

    /// Whether a HELLO is due now; if so it counts as said and the next one is set.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> bool {
        match self.phase {
            HandshakePhase::Calling(due) if due <= now => {
                self.phase = HandshakePhase::Calling(now + HELLO_INTERVAL);
                self.owed = self.owed.saturating_add(1);
                true
            }
            _ => false,
        }
    }

    /// Looks at bytes that came before the settlement. Takes what it looked at off `input`; counts what it skipped.
    pub(super) fn handle_received(&mut self, input: &mut &[u8], skipped: &mut u64) -> Option<Found> {
        while let Some((&byte, rest)) = input.split_first() {
            *input = rest;
            self.held[usize::from(self.have)] = byte;
            self.have += 1;
            let found = match self.phase {
                HandshakePhase::Calling(_) => self.search(skipped),
                _ => self.listen(),
            };
            if found.is_some() {
                self.phase = HandshakePhase::Settled;
                self.owed = self.owed.saturating_sub(1);
                self.conversed = false;
                return found;
            }
        }
        None
    }

    /// The bytes a guest took for the start of v1 frames; they are to be decoded first.
    pub(super) fn held(&self) -> ([u8; HELLO], usize) {
        (self.held, self.have.into())
    }

    /// A HELLO after the settlement: whether the peer started anew, and whether it waits for an answer.
    pub(super) fn handle_hello(&mut self, role: Role) -> (bool, bool) {
        if self.owed > 0 {
            self.owed -= 1;
            return (false, false);
        }
        let restarted = self.conversed;
        self.conversed = false;
        if role == Role::Host {
            // A guest that speaks unasked has lost our HELLO; its answer to this one is owed, so this ends.
            self.owed = 1;
        }
        (restarted, true)
    }

    /// Anything but a HELLO came.
    pub(super) fn handle_conversation(&mut self) {
        self.conversed = true;
    }

    /// Host: the held bytes are kept at the longest suffix that may still become an answer.
    fn search(&mut self, skipped: &mut u64) -> Option<Found> {
        let hello_start = hello_start();
        let v1 = v1_answer();
        loop {
            let held = &self.held[..usize::from(self.have)];
            if held == v1 {
                return Some(Found::V1);
            }
            if held.len() == HELLO {
                // The trailer is there for v1 guests alone; what it holds is of no consequence.
                return Hello::decode(&held[HEADER..]).map(Found::Hello);
            }
            let viable = v1.starts_with(held) || held.iter().zip(&hello_start).all(|(a, b)| a == b);
            if viable {
                return None;
            }
            self.held.copy_within(1.., 0);
            self.have -= 1;
            *skipped += 1;
        }
    }

    /// Guest: everything from the first byte on is frames; 16 bytes tell HELLO from v1 at the latest.
    fn listen(&mut self) -> Option<Found> {
        let held = &self.held[..usize::from(self.have)];
        if held.len() < HEADER {
            return None;
        }
        if !held.iter().zip(&hello_start()).all(|(a, b)| a == b) {
            return Some(Found::V1);
        }
        if held.len() < HELLO { None } else { Hello::decode(&held[HEADER..]).map(Found::Hello) }
    }
}

/// What the two HELLOs come to (SPEC §3).
pub(super) fn agree(config: &Config, peer: &Hello) -> Terms {
    let features = config.features.and(peer.features);
    Terms {
        dialect: Dialect::S2,
        features,
        max_frame: config.max_frame.min(peer.max_frame),
        send_window: if features.has(Features::WINDOWED) { peer.window } else { 0 },
    }
}

/// What there is to agree on with a v1 peer.
pub(super) fn v1_terms(config: &Config) -> Terms {
    let payload = match config.role {
        Role::Host => config.v1.host_payload(),
        Role::Guest => config.v1.guest_payload(),
    };
    Terms {
        dialect: Dialect::V1,
        features: Features::default(),
        max_frame: u16::try_from(payload).unwrap_or(u16::MAX),
        send_window: u32::MAX,
    }
}

fn hello_start() -> [u8; 16] {
    let mut start = [0; 16];
    start[..HEADER].copy_from_slice(&header(StreamId::SESSION, 24));
    start[HEADER..].copy_from_slice(HELLO_MAGIC);
    start
}

fn v1_answer() -> [u8; 24] {
    let mut answer = [0; 24];
    answer[..HEADER].copy_from_slice(&header(StreamId::SESSION, 12));
    answer[HEADER..].copy_from_slice(&header(StreamId::SESSION, 12));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_micros(0);

    fn hear(handshake: &mut Handshake, bytes: &[u8]) -> (Option<Found>, usize, u64) {
        let (mut input, mut skipped) = (bytes, 0);
        let found = handshake.handle_received(&mut input, &mut skipped);
        (found, input.len(), skipped)
    }

    #[test]
    fn a_host_says_hello_every_second_until_answered() {
        let (mut host, terms) = Handshake::new(&Config::new(Role::Host), NOW);
        assert_eq!(terms, None);
        assert!(host.handle_timeout(NOW));
        assert!(!host.handle_timeout(Instant::from_micros(999_999)));
        assert!(host.handle_timeout(Instant::from_micros(1_000_000)));
        let hello = Config::new(Role::Guest).hello();
        assert_eq!(hear(&mut host, &hello.encode()), (Some(Found::Hello(hello)), 0, 0));
        assert!(!host.handle_timeout(Instant::from_micros(5_000_000)));
        assert_eq!(host.handle_hello(Role::Host), (false, false), "the answer to the repetition is owed");
        host.handle_conversation();
        assert_eq!(host.handle_hello(Role::Host), (true, true), "this one is not");
        assert_eq!(host.handle_hello(Role::Host), (false, false), "its answer is owed again");
    }

    #[test]
    fn a_host_finds_the_answer_behind_leftovers_wherever_they_were_cut() {
        let hello = Config::new(Role::Guest).hello();
        for (answer, want) in
            [(hello.encode().to_vec(), Found::Hello(hello)), (v1_answer().to_vec(), Found::V1)]
        {
            for leftovers in [
                &b""[..],
                b"\0",
                b"\0\0\0\0\0\0\0\0\0\0\0",
                b"half a fra\0\0\0\0\0",
                b"\0\0\0\0\0\0\0\0\0\0\0\x18MUX",
            ] {
                let (mut host, _) = Handshake::new(&Config::new(Role::Host), NOW);
                let mut bytes = leftovers.to_vec();
                bytes.extend_from_slice(&answer);
                bytes.push(0x55);
                let (mut skipped, mut found, mut left) = (0, None, 0);
                for (at, byte) in bytes.iter().enumerate() {
                    let heard = hear(&mut host, std::slice::from_ref(byte));
                    skipped += heard.2;
                    if heard.0.is_some() {
                        found = heard.0;
                        left = bytes.len() - at - 1;
                        break;
                    }
                }
                assert_eq!((found, left, skipped), (Some(want), 1, leftovers.len() as u64), "{leftovers:?}");
            }
        }
    }

    #[test]
    fn a_guest_is_silent_for_12_bytes_and_takes_anything_but_hello_for_v1() {
        let hello = Config::new(Role::Host).hello().encode();
        let (mut guest, _) = Handshake::new(&Config::new(Role::Guest), NOW);
        for byte in &hello[..35] {
            assert_eq!(hear(&mut guest, &[*byte]).0, None);
        }
        assert!(matches!(hear(&mut guest, &hello[35..]).0, Some(Found::Hello(_))));

        let (mut guest, _) = Handshake::new(&Config::new(Role::Guest), NOW);
        let frame = *b"\0\0\0\0\0\0\0\x01\0\0\0\x0fabc";
        assert_eq!(hear(&mut guest, &frame), (Some(Found::V1), 3, 0));
        let (held, have) = guest.held();
        assert_eq!(&held[..have], &frame[..12]);

        let (mut guest, _) = Handshake::new(&Config::new(Role::Guest), NOW);
        assert_eq!(hear(&mut guest, b"\0\0\0\0\0\0\0\0\0\0\0\x18MUX3").0, Some(Found::V1));
        assert_eq!(guest.held().1, 16);
    }

    #[test]
    fn a_host_that_repeats_itself_has_not_restarted_unless_it_has_spoken_since() {
        let (mut guest, _) = Handshake::new(&Config::new(Role::Guest), NOW);
        hear(&mut guest, &Config::new(Role::Host).hello().encode());
        assert_eq!(guest.handle_hello(Role::Guest), (false, true));
        guest.handle_conversation();
        assert_eq!(guest.handle_hello(Role::Guest), (true, true));
        assert_eq!(guest.handle_hello(Role::Guest), (false, true));
    }
}
