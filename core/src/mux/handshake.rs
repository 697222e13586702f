//! Who speaks what, and to whom: HELLO and the detection of v1, in both roles (SPEC §3).
//!
//! Owns the bytes that are looked at before the dialect is known, the nonces, and the terms that come out.
//! Refuses to know streams.
//!
//! ```text
//!  host   CALLING ── HELLO of a guest that answers mine ──▶ SETTLED, S2      says HELLO at once and every second
//!            │ └──── v1's answer to mine ─────────────────▶ SETTLED, V1      (on a reliable carrier once), and skips
//!            └────── anything else: skipped                                  anything else: an earlier session's
//!  guest  LISTENING ─ HELLO of a host ────────────────────▶ SETTLED, S2      silent until 12 bytes have come
//!            ├─────── v1 for a stream that was attached ──▶ SETTLED, V1      (those bytes are then read as v1)
//!            └─────── anything else ──────────────────────▶ HUNTING
//!         HUNTING ─── HELLO of a host ────────────────────▶ SETTLED, S2      asks for it with a HELLO of its own, at
//!            └─────── anything else: skipped                                 most once a second
//! ```

use std::hash::Hasher;
use std::time::Duration;

use siphasher::sip::SipHasher13;

use super::config::{Carrier, Config, Start};
use super::decoder::Dialect;
use super::event::{CloseReason, Counters, Terms};
use super::matcher::Matcher;
use super::wire::{
    Features, HEADER, HELLO, HELLO_MAGIC, Hello, NONCE, Opening, Role, StreamId, V1_EMPTY, header,
    split_header,
};
use crate::time::Instant;

/// How often a host repeats its HELLO, how often a guest answers one that is repeated, and how often, after
/// the first few, a peer that starts anew is believed: it may not be up yet, and 36 bytes a second cost
/// nothing.
const HELLO_INTERVAL: Duration = Duration::from_secs(1);
/// New starts in a row that are believed at once: a host that crashes at its start a few times is not kept
/// waiting.
const RESTARTS: u32 = 4;
/// Silence in the middle of a frame after which a HELLO in its place is looked at: less than the interval,
/// more than a line that works lets a frame wait.
const STALL: Duration = Duration::from_millis(500);

/// The handshake of one side.
#[derive(Clone, Debug)]
pub(super) struct Handshake {
    role: Role,
    start: Start,
    carrier: Carrier,
    /// The longest v1 message that may come.
    v1_longest: u32,
    phase: HandshakePhase,
    /// Of this start of this side; a HELLO that answers another one is not for us.
    nonce: u32,
    /// Of the peer settled with.
    peer: u32,
    /// Anything but HELLO came since the last HELLO: then the next one is a restart even with the same nonce.
    conversed: bool,
    /// When HELLO was said last.
    said: Option<Instant>,
    /// How far in the future the next restart is allowed, were they evenly spaced.
    restarts: Instant,
    /// [`Start::S2Only`]: the end of waiting.
    deadline: Option<Instant>,
    /// What came while waiting: anything, anything but echoes.
    heard: (bool, bool),
    hello: Matcher,
    v1: Matcher,
    /// A HELLO behind its first 16 bytes; or the first bytes a guest has heard.
    held: [u8; HELLO],
    have: u8,
    stall: Stall,
}

/// Where a [`Handshake`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HandshakePhase {
    /// Host: waiting for an answer; the next HELLO is due at this time, if ever.
    Calling(Option<Instant>),
    /// Guest: waiting for the host's first bytes.
    Listening,
    /// Guest: out of step, looking for a HELLO.
    Hunting,
    /// Done.
    Settled,
}

/// What a byte string before the settlement came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The peer speaks S2 and said this.
    Hello(Opening),
    /// The peer speaks v1; the bytes of [`Handshake::held`] are the first of its frames (guest only).
    V1,
    /// A guest is out of step and asks for a HELLO.
    Foreign,
    /// The peer speaks something else, and only S2 will do.
    NotS2,
}

/// What a HELLO after the settlement means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// Nothing: an echo, a late answer, too many of them.
    Ignored,
    /// The host did not hear the answer: say it again.
    Answer,
    /// The peer is another one, or the same anew, and this is its HELLO.
    Restarted,
    /// Another guest, or the same anew, which has not heard us yet: host only.
    Lost,
}

/// A HELLO in the place of the rest of a frame, twice with a pause before each: its sender is not the one
/// that began the frame.
#[derive(Clone, Copy, Debug)]
struct Stall {
    /// When something came last.
    last: Instant,
    /// Bytes of a HELLO since the pause; `None`: something else came.
    have: Option<u8>,
    /// The nonce seen once, behind a pause and with nothing since.
    seen: Option<u32>,
    held: [u8; HELLO],
}

impl Stall {
    const fn new(now: Instant) -> Self {
        Self { last: now, have: None, seen: None, held: [0; HELLO] }
    }
}

impl Handshake {
    /// At the start; with the terms where they need not be found out.
    pub(super) fn new(config: &Config, now: Instant) -> (Self, Option<Terms>) {
        let terms = match config.start {
            Start::Negotiate | Start::S2Only { .. } => None,
            Start::S2(peer) => Some(agree(config, &peer)),
            Start::V1 => Some(v1_terms(config)),
        };
        let v1_longest = match config.role {
            Role::Host => 0,
            Role::Guest => config.v1.guest_receive,
        };
        let mut handshake = Self {
            role: config.role,
            start: config.start,
            carrier: config.carrier,
            v1_longest,
            phase: HandshakePhase::Settled,
            nonce: 0,
            peer: 0,
            conversed: false,
            said: None,
            restarts: Instant::ZERO,
            deadline: None,
            heard: (false, false),
            hello: Matcher::new(&hello_start()),
            v1: Matcher::new(&[]),
            held: [0; HELLO],
            have: 0,
            stall: Stall::new(now),
        };
        handshake.begin(config, now);
        (handshake, terms)
    }

    /// From the beginning, on a line that is new or was reopened. No-op where there is nothing to find out.
    pub(super) fn begin(&mut self, config: &Config, now: Instant) {
        self.nonce = match config.nonce & NONCE {
            0 => nonce(config, now),
            nonce => nonce,
        };
        self.v1 = Matcher::new(&v1_answer(self.own(config).trailer()));
        self.hello.reset();
        self.have = 0;
        self.peer = 0;
        self.stall = Stall::new(now);
        self.heard = (false, false);
        self.wait(now);
        self.phase = match (self.start, self.role) {
            (Start::S2(_) | Start::V1, _) => HandshakePhase::Settled,
            (_, Role::Host) => HandshakePhase::Calling(Some(now)),
            (_, Role::Guest) => HandshakePhase::Listening,
        };
    }

    /// [`Start::S2Only`]: the wait begins.
    fn wait(&mut self, now: Instant) {
        self.deadline = match self.start {
            Start::S2Only { within } if !within.is_zero() => Some(now + within),
            _ => None,
        };
    }

    /// Whether a HELLO may come, or come again, on this line.
    pub(super) const fn is_listener(&self) -> bool {
        matches!(self.role, Role::Guest)
            && matches!(self.carrier, Carrier::Line)
            && matches!(self.start, Start::Negotiate | Start::S2Only { .. })
    }

    /// Guest: the session with a host is over, or the framing is lost; the next HELLO begins another.
    pub(super) fn hunt(&mut self) {
        self.phase = HandshakePhase::Hunting;
        self.hello.reset();
        self.have = 0;
        self.stall = Stall::new(self.stall.last);
    }

    /// Host: the guest has to be found again. HELLO no more than once a second.
    pub(super) fn call(&mut self, now: Instant) {
        let due = self.said.map_or(now, |said| (said + HELLO_INTERVAL).max(now));
        self.phase = HandshakePhase::Calling(Some(due));
        self.hello.reset();
        self.v1.reset();
        self.have = 0;
        self.wait(now);
    }

    /// Where it is.
    #[cfg(test)]
    pub(super) const fn phase(&self) -> HandshakePhase {
        self.phase
    }

    /// Whether the peer is known.
    pub(super) const fn is_settled(&self) -> bool {
        matches!(self.phase, HandshakePhase::Settled)
    }

    /// This side's HELLO, to be said now.
    pub(super) fn own(&self, config: &Config) -> Opening {
        let answers = if self.is_settled() && self.role == Role::Guest { self.peer } else { 0 };
        Opening { hello: config.hello(), sender: self.role, nonce: self.nonce, answers }
    }

    /// When [`Self::handle_timeout`] is to be called.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let call = match self.phase {
            HandshakePhase::Calling(due) => due,
            _ => None,
        };
        let deadline = if self.is_settled() { None } else { self.deadline };
        [call, deadline].into_iter().flatten().min()
    }

    /// Whether a HELLO is due now; if so it counts as said and the next one is set. `Err`: the wait is over.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Result<bool, CloseReason> {
        if !self.is_settled() && self.deadline.is_some_and(|deadline| deadline <= now) {
            self.deadline = None;
            return Err(match self.heard {
                (false, _) => CloseReason::NoHello,
                (true, false) => CloseReason::Echo,
                (true, true) => CloseReason::NotS2,
            });
        }
        match self.phase {
            HandshakePhase::Calling(Some(due)) if due <= now => {
                let next = (self.carrier == Carrier::Line).then_some(now + HELLO_INTERVAL);
                self.phase = HandshakePhase::Calling(next);
                self.said = Some(now);
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Looks at bytes that came before the settlement. Takes what it looked at off `input`; counts what it
    /// skipped, and HELLOs that were for somebody else. `attached`: whether a stream is known that v1 may
    /// begin with.
    pub(super) fn handle_received(
        &mut self,
        input: &mut &[u8],
        attached: impl Fn(StreamId) -> bool,
        counters: &mut Counters,
        now: Instant,
    ) -> Option<Found> {
        while let Some((&byte, rest)) = input.split_first() {
            *input = rest;
            self.heard.0 = true;
            let found = match self.phase {
                HandshakePhase::Listening => self.listen(byte, &attached, counters, now),
                _ => self.search(byte, counters, now),
            };
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// The bytes a guest took for the start of v1 frames; they are to be decoded first.
    pub(super) fn held(&self) -> ([u8; HELLO], usize) {
        (self.held, self.have.into())
    }

    /// Guest: the first 12 bytes tell v1 from all else.
    fn listen(
        &mut self,
        byte: u8,
        attached: &impl Fn(StreamId) -> bool,
        counters: &mut Counters,
        now: Instant,
    ) -> Option<Found> {
        self.held[usize::from(self.have)] = byte;
        self.have += 1;
        let held = &self.held[..self.have.into()];
        if held.iter().zip(&hello_start()).all(|(a, b)| a == b) {
            if held.len() < HELLO {
                return None;
            }
            self.have = 0;
            return Opening::decode(&self.held[HEADER..]).and_then(|hello| self.judge(&hello, counters, now));
        }
        if self.carrier == Carrier::Reliable && self.start != Start::Negotiate {
            return Some(Found::NotS2);
        }
        let head = held.first_chunk::<HEADER>()?;
        let (id, length) = split_header(head);
        if self.start == Start::Negotiate && (V1_EMPTY..=self.v1_longest).contains(&length) && attached(id) {
            self.phase = HandshakePhase::Settled;
            return Some(Found::V1);
        }
        if self.carrier == Carrier::Reliable {
            return Some(Found::NotS2);
        }
        // A HELLO may have begun among them, though not ended.
        let (held, have) = (self.held, usize::from(self.have));
        self.hunt();
        self.heard.1 = true;
        counters.skipped += have as u64;
        for byte in &held[..have] {
            self.find_hello(*byte);
        }
        self.may_say(now).then_some(Found::Foreign)
    }

    /// Host, and guest out of step: what is no answer, or no HELLO, is skipped.
    fn search(&mut self, byte: u8, counters: &mut Counters, now: Instant) -> Option<Found> {
        let is_calling = matches!(self.phase, HandshakePhase::Calling(_));
        counters.skipped += 1;
        if is_calling && self.v1.push(byte) {
            counters.skipped = counters.skipped.saturating_sub(V1_ANSWER as u64);
            if self.start != Start::Negotiate {
                return Some(Found::NotS2);
            }
            self.phase = HandshakePhase::Settled;
            return Some(Found::V1);
        }
        if let Some(held) = self.find_hello(byte) {
            if let Some(found) =
                Opening::decode(&held[HEADER..]).and_then(|hello| self.judge(&hello, counters, now))
            {
                counters.skipped = counters.skipped.saturating_sub(HELLO as u64);
                return Some(found);
            }
            // Another one may have begun inside, though not ended.
            for byte in &held[1..] {
                self.find_hello(*byte);
            }
            return None;
        }
        if self.have > 0 || self.hello.have() > 0 {
            return None;
        }
        self.heard.1 = true;
        if is_calling {
            let strict = self.carrier == Carrier::Reliable && self.start != Start::Negotiate;
            return strict.then_some(Found::NotS2);
        }
        // A guest out of step asks for a HELLO while bytes of others keep coming.
        self.may_say(now).then_some(Found::Foreign)
    }

    /// One byte more; all of a HELLO once it is whole.
    fn find_hello(&mut self, byte: u8) -> Option<[u8; HELLO]> {
        if self.have == 0 {
            if self.hello.push(byte) {
                self.held[..HELLO_START].copy_from_slice(&hello_start());
                self.have = HELLO_START as u8;
            }
            return None;
        }
        self.held[usize::from(self.have)] = byte;
        self.have += 1;
        if usize::from(self.have) < HELLO {
            return None;
        }
        self.have = 0;
        Some(self.held)
    }

    /// Whether a HELLO is for this side; if so it is settled.
    fn judge(&mut self, hello: &Opening, counters: &mut Counters, now: Instant) -> Option<Found> {
        let answers = match self.role {
            Role::Host => hello.sender == Role::Guest && hello.answers == self.nonce,
            Role::Guest => hello.sender == Role::Host,
        };
        if !answers {
            counters.echoes += 1;
            return None;
        }
        self.settle(hello, now);
        Some(Found::Hello(*hello))
    }

    fn settle(&mut self, hello: &Opening, now: Instant) {
        self.phase = HandshakePhase::Settled;
        self.peer = hello.nonce;
        self.conversed = false;
        self.deadline = None;
        if self.role == Role::Guest {
            self.said = Some(now);
        }
    }

    /// A guest out of step: whether it may ask for a HELLO now; if so it counts as said.
    pub(super) fn may_say(&mut self, now: Instant) -> bool {
        let may = self.said.is_none_or(|said| now >= said + HELLO_INTERVAL);
        if may {
            self.said = Some(now);
        }
        may
    }

    /// A HELLO after the settlement.
    pub(super) fn handle_hello(&mut self, hello: &Opening, now: Instant) -> Again {
        if hello.sender == self.role {
            return Again::Ignored;
        }
        let answered = self.role == Role::Host && hello.answers == self.nonce;
        if hello.nonce == self.peer && answered {
            // To a repetition, too late.
            return Again::Ignored;
        }
        if hello.nonce == self.peer && !self.conversed && self.role == Role::Guest {
            return if self.may_say(now) { Again::Answer } else { Again::Ignored };
        }
        if !self.may_restart(now) {
            return Again::Ignored;
        }
        if self.role == Role::Host && !answered {
            self.call(now);
            return Again::Lost;
        }
        self.settle(hello, now);
        Again::Restarted
    }

    /// Anything but a HELLO came.
    pub(super) fn handle_conversation(&mut self) {
        self.conversed = true;
    }

    fn may_restart(&mut self, now: Instant) -> bool {
        let earliest = self.restarts.max(now);
        if earliest > now + HELLO_INTERVAL * (RESTARTS - 1) {
            return false;
        }
        self.restarts = earliest + HELLO_INTERVAL;
        true
    }

    /// Guest on a line, settled: looks whether what comes is a host that began anew where the last one left a
    /// frame unfinished (SPEC §3). `Some`: its HELLO, which is settled with; `data` ends with it.
    pub(super) fn handle_stalled(&mut self, data: &[u8], mid_frame: bool, now: Instant) -> Option<Opening> {
        let stall = &mut self.stall;
        let paused = now >= std::mem::replace(&mut stall.last, now) + STALL;
        if paused && (mid_frame || stall.seen.is_some()) {
            stall.have = Some(0);
        }
        let have = usize::from(stall.have?);
        let n = data.len().min(HELLO - have);
        stall.held[have..have + n].copy_from_slice(&data[..n]);
        stall.have = Some((have + n) as u8);
        let begins = stall.held[..have + n].iter().zip(&hello_start()).all(|(a, b)| a == b);
        if !begins || n < data.len() {
            // Not HELLO alone.
            (stall.have, stall.seen) = (None, None);
            return None;
        }
        if have + n < HELLO {
            return None;
        }
        stall.have = None;
        let hello = Opening::decode(&stall.held[HEADER..]).filter(|hello| hello.sender == Role::Host)?;
        if stall.seen.replace(hello.nonce) != Some(hello.nonce) {
            return None;
        }
        stall.seen = None;
        self.settle(&hello, now);
        Some(hello)
    }
}

/// What the two HELLOs come to (SPEC §3).
pub(super) fn agree(config: &Config, peer: &Hello) -> Terms {
    let features = config.hello().features.and(peer.features);
    let windowed = features.has(Features::WINDOWED) || features.has(Features::RELIABLE);
    Terms {
        dialect: Dialect::S2,
        features,
        max_frame: config.max_frame.min(peer.max_frame),
        send_window: if windowed { peer.window } else { 0 },
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

/// A number that differs from the last start's where seed or time do. Never 0.
fn nonce(config: &Config, now: Instant) -> u32 {
    let mut hasher = SipHasher13::new_with_keys(config.seed[0], config.seed[1]);
    hasher.write_u64(now.as_micros());
    hasher.write_u8(u8::from(config.role == Role::Guest));
    (hasher.finish() as u32 & NONCE).max(1)
}

const HELLO_START: usize = HEADER + HELLO_MAGIC.len();

fn hello_start() -> [u8; HELLO_START] {
    let mut start = [0; HELLO_START];
    start[..HEADER].copy_from_slice(&header(StreamId::SESSION, 24));
    start[HEADER..].copy_from_slice(HELLO_MAGIC);
    start
}

const V1_ANSWER: usize = 2 * HEADER;

/// What a v1 guest says to a HELLO: twice that it knows no such stream.
fn v1_answer(trailer: StreamId) -> [u8; V1_ANSWER] {
    let mut answer = [0; V1_ANSWER];
    answer[..HEADER].copy_from_slice(&header(StreamId::SESSION, V1_EMPTY));
    answer[HEADER..].copy_from_slice(&header(trailer, V1_EMPTY));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_micros(0);

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn handshake(role: Role) -> Handshake {
        Handshake::new(&Config::new(role), NOW).0
    }

    fn opening(role: Role, nonce: u32) -> Opening {
        Opening { hello: Config::new(role).hello(), sender: role, nonce, answers: 0 }
    }

    /// What is found, how much is left, how much was skipped.
    fn hear(handshake: &mut Handshake, bytes: &[u8]) -> (Option<Found>, usize, u64) {
        let (mut input, mut counters) = (bytes, Counters::default());
        let found = handshake.handle_received(&mut input, |id| id == StreamId(1), &mut counters, NOW);
        (found, input.len(), counters.skipped)
    }

    fn answer(host: &Handshake, nonce: u32) -> Opening {
        Opening { answers: host.nonce, ..opening(Role::Guest, nonce) }
    }

    #[test]
    fn a_host_says_hello_every_second_until_answered() {
        let mut host = handshake(Role::Host);
        assert_eq!(host.handle_timeout(NOW), Ok(true));
        assert_eq!(host.handle_timeout(at(999)), Ok(false));
        assert_eq!(host.handle_timeout(at(1000)), Ok(true));
        let hello = answer(&host, 7);
        assert_eq!(hear(&mut host, &hello.encode()), (Some(Found::Hello(hello)), 0, 0));
        assert_eq!((host.handle_timeout(at(5000)), host.poll_timeout()), (Ok(false), None));
        assert_eq!(host.handle_hello(&hello, NOW), Again::Ignored, "the answer to the repetition");
        host.handle_conversation();
        assert_eq!(host.handle_hello(&hello, NOW), Again::Ignored);
    }

    #[test]
    fn a_host_calls_again_when_the_guest_is_another_one() {
        let mut host = handshake(Role::Host);
        host.handle_timeout(NOW).unwrap();
        let first = answer(&host, 7);
        hear(&mut host, &first.encode());
        assert_eq!(host.handle_hello(&answer(&host, 8), at(200)), Again::Restarted, "it heard a repetition");
        assert!(host.is_settled());
        for asking in [opening(Role::Guest, 8), Opening { answers: 1, ..opening(Role::Guest, 9) }] {
            assert_eq!(host.handle_hello(&asking, at(300)), Again::Lost);
            assert_eq!(host.phase(), HandshakePhase::Calling(Some(at(1000))), "once a second");
            let again = answer(&host, 9);
            hear(&mut host, &again.encode());
        }
    }

    #[test]
    fn a_host_takes_no_hello_that_does_not_answer_its_own() {
        let mut host = handshake(Role::Host);
        let mine = host.own(&Config::new(Role::Host));
        for hello in [
            mine,
            opening(Role::Host, 7),
            opening(Role::Guest, 7),
            Opening { answers: mine.nonce ^ 1, ..opening(Role::Guest, 7) },
            Opening { answers: mine.nonce, ..opening(Role::Host, 7) },
        ] {
            assert_eq!(hear(&mut host, &hello.encode()).0, None, "{hello:?}");
        }
        assert!(!host.is_settled());
        assert_eq!(hear(&mut host, &[header(StreamId(0), 12), header(StreamId(0), 12)].concat()).0, None);
    }

    #[test]
    fn a_host_finds_the_answer_behind_leftovers_wherever_they_were_cut() {
        let host = handshake(Role::Host);
        let hello = answer(&host, 7);
        let v1 = v1_answer(host.own(&Config::new(Role::Host)).trailer());
        for (answer, want) in [(hello.encode().to_vec(), Found::Hello(hello)), (v1.to_vec(), Found::V1)] {
            for leftovers in [
                &b""[..],
                b"\0",
                b"\0\0\0\0\0\0\0\0\0\0\0",
                b"half a fra\0\0\0\0\0",
                b"\0\0\0\0\0\0\0\0\0\0\0\x18MUX",
                b"\0\0\0\0\0\0\0\0\0\0\0\x18MUX2",
            ] {
                let mut host = host.clone();
                let bytes = [leftovers, &answer, b"U"].concat();
                let (mut counters, mut found, mut fed) = (Counters::default(), None, 0);
                while found.is_none() {
                    let mut input = &bytes[fed..=fed];
                    found = host.handle_received(&mut input, |_| false, &mut counters, NOW);
                    fed += 1;
                }
                assert_eq!(found, Some(want), "{leftovers:?}");
                assert_eq!(
                    (bytes.len() - fed, counters.skipped),
                    (1, leftovers.len() as u64),
                    "{leftovers:?}"
                );
            }
        }
    }

    #[test]
    fn a_guest_is_silent_for_12_bytes_and_takes_v1_only_for_a_stream_it_knows() {
        let hello = opening(Role::Host, 3);
        let mut guest = handshake(Role::Guest);
        for byte in &hello.encode()[..35] {
            assert_eq!(hear(&mut guest, &[*byte]).0, None);
        }
        assert_eq!(hear(&mut guest, &hello.encode()[35..]).0, Some(Found::Hello(hello)));
        assert_eq!(guest.own(&Config::new(Role::Guest)).answers, 3);

        let mut guest = handshake(Role::Guest);
        assert_eq!(hear(&mut guest, b"\0\0\0\0\0\0\0\x01\0\0\0\x0fabc"), (Some(Found::V1), 3, 0));
        let (held, have) = guest.held();
        assert_eq!(&held[..have], b"\0\0\0\0\0\0\0\x01\0\0\0\x0f");

        for foreign in [
            &b"\0\0\0\0\0\0\0\x02\0\0\0\x0fabc"[..],
            b"\0\0\0\0\0\0\0\x01\0\0\0\x0babc",
            b"\0\0\0\0\0\0\0\x01\0\0\x10\x01abc",
            b"\0\0\0\0\0\0\0\x01\x80\0\0\x03",
            b"GET / HTTP/1.1\r\n\r\n",
        ] {
            let mut guest = handshake(Role::Guest);
            assert_eq!(hear(&mut guest, foreign).0, Some(Found::Foreign), "{foreign:?}");
            assert_eq!(guest.phase(), HandshakePhase::Hunting);
            assert_eq!(hear(&mut guest, foreign).0, None, "asks once a second");
            assert_eq!(guest.own(&Config::new(Role::Guest)).answers, 0);
            assert_eq!(hear(&mut guest, &hello.encode()).0, Some(Found::Hello(hello)));
        }
    }

    #[test]
    fn only_s2_ends_at_the_first_foreign_byte_of_a_connection_and_at_its_time() {
        let start = Start::S2Only { within: Duration::from_secs(5) };
        let made = |role, carrier| Handshake::new(&Config { start, carrier, ..Config::new(role) }, NOW).0;
        for role in [Role::Host, Role::Guest] {
            assert_eq!(hear(&mut made(role, Carrier::Reliable), b"G").0, Some(Found::NotS2));
            let mut silent = made(role, Carrier::Reliable);
            let _ = silent.handle_timeout(NOW);
            assert_eq!(silent.poll_timeout(), Some(at(5000)));
            assert_eq!(silent.handle_timeout(at(5000)), Err(CloseReason::NoHello));
            let mut noisy = made(role, Carrier::Line);
            assert_ne!(hear(&mut noisy, b"login: and some more").0, Some(Found::NotS2));
            assert_eq!(noisy.handle_timeout(at(5000)), Err(CloseReason::NotS2));
        }
        let mut looped = made(Role::Host, Carrier::Line);
        let echo = looped.own(&Config::new(Role::Host)).encode();
        hear(&mut looped, &echo);
        assert_eq!(looped.handle_timeout(at(5000)), Err(CloseReason::Echo));
    }

    #[test]
    fn a_host_that_repeats_itself_has_not_restarted_unless_it_has_spoken_since_or_has_another_nonce() {
        let mut guest = handshake(Role::Guest);
        let hello = opening(Role::Host, 3);
        hear(&mut guest, &hello.encode());
        assert_eq!(guest.handle_hello(&hello, at(10)), Again::Ignored, "answered less than a second ago");
        assert_eq!(guest.handle_hello(&hello, at(1000)), Again::Answer);
        guest.handle_conversation();
        assert_eq!(guest.handle_hello(&hello, at(2000)), Again::Restarted);
        assert_eq!(guest.handle_hello(&hello, at(3000)), Again::Answer);
        assert_eq!(guest.handle_hello(&opening(Role::Host, 4), at(3000)), Again::Restarted);
        assert_eq!(guest.handle_hello(&opening(Role::Guest, 5), at(4000)), Again::Ignored, "an echo");
    }

    #[test]
    fn restarts_are_believed_a_few_times_at_once_and_then_once_a_second() {
        let mut guest = handshake(Role::Guest);
        let mut restarts = |millis, count: u32| {
            (0..count)
                .filter(|i| {
                    let hello = opening(Role::Host, 2 + i % 2);
                    guest.handle_conversation();
                    guest.handle_hello(&hello, at(millis)) == Again::Restarted
                })
                .count()
        };
        assert_eq!(restarts(0, 1000), RESTARTS as usize);
        assert_eq!((restarts(999, 100), restarts(1000, 100), restarts(3000, 100)), (0, 1, 2));
    }

    #[test]
    fn a_hello_twice_in_the_place_of_a_frame_is_a_host_that_began_anew() {
        let mut guest = handshake(Role::Guest);
        hear(&mut guest, &opening(Role::Host, 3).encode());
        let hello = opening(Role::Host, 4);
        let bytes = hello.encode();
        assert_eq!(guest.handle_stalled(b"half a frame", true, at(0)), None);
        assert_eq!(guest.handle_stalled(&bytes, true, at(400)), None, "no pause");
        assert_eq!(guest.handle_stalled(&bytes, true, at(1400)), None, "once is payload");
        assert_eq!(guest.handle_stalled(&bytes[..20], false, at(2400)), None);
        assert_eq!(guest.handle_stalled(&bytes[20..], true, at(2401)), Some(hello));
        for between in [&b"x"[..], &[&bytes[..], b"x"].concat()] {
            guest.handle_stalled(&bytes, true, at(10_000));
            guest.handle_stalled(between, true, at(11_000));
            assert_eq!(guest.handle_stalled(&bytes, true, at(12_000)), None, "something came between");
            guest.handle_stalled(b"x", true, at(12_001));
        }
    }
}
