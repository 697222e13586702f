//! Who speaks what, and to whom: HELLO and the detection of v1, in both roles (SPEC §3).
//!
//! Owns the bytes that are looked at before the dialect is known, the nonces, and the terms that come out.
//! Refuses to know streams.
//!
//! ```text
//!  host   CALLING ── HELLO of a guest that answers mine ──▶ SETTLED, S2      sends HELLO at once and every second
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
use super::event::{CloseReason, Counters};
use super::matcher::Matcher;
use super::stall::Stall;
use super::terms::Terms;
use super::wire::{
    HEADER, HELLO, HELLO_START, NONCE, Opening, Role, StreamId, V1_EMPTY, header, hello_start, split_header,
};
use crate::time::Instant;

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
    /// When a HELLO was sent last.
    hello_sent_at: Option<Instant>,
    /// A token bucket (GCRA): when the next restart would be due if they were evenly spaced; at most
    /// [`RESTARTS`] may run ahead of it.
    restarts: Instant,
    /// [`Start::S2Only`]: the end of waiting.
    deadline: Option<Instant>,
    /// While waiting: whether anything came.
    heard_anything: bool,
    /// And whether anything but echoes of this side's own HELLO did.
    heard_foreign: bool,
    hello: Matcher,
    v1: Matcher,
    /// A HELLO behind its first 16 bytes; or the first bytes a guest has received.
    collected: [u8; HELLO],
    have: u8,
    stall: Stall,
}

/// A host's [`Handshake`] once the peer is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settled {
    nonce: u32,
    peer: u32,
    conversed: bool,
    heard: (bool, bool),
    hello_sent_at: Option<Instant>,
    restarts: Instant,
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
    /// The peer speaks S2 and sent this.
    Hello(Opening),
    /// The peer speaks v1; the bytes of [`Handshake::collected`] are the first of its frames (guest only).
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
    /// The host did not receive the answer: send it again.
    Answer,
    /// The peer is another one, or the same anew, and this is its HELLO.
    Restarted,
    /// Another guest, or the same anew, which has received nothing of us yet: host only.
    Lost,
}

impl Handshake {
    /// At the start; with the terms where they need not be found out.
    pub(super) fn new(config: &Config, now: Instant) -> (Self, Option<Terms>) {
        let terms = match config.start {
            Start::Negotiate | Start::S2Only { .. } => None,
            Start::S2(peer) => Some(Terms::agree(config, &peer)),
            Start::V1 => Some(Terms::v1(config)),
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
            hello_sent_at: None,
            restarts: Instant::ZERO,
            deadline: None,
            heard_anything: false,
            heard_foreign: false,
            hello: Matcher::new(&hello_start()),
            v1: Matcher::new(&[]),
            collected: [0; HELLO],
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
        self.expect_v1(config);
        self.hello.reset();
        self.have = 0;
        self.peer = 0;
        self.stall = Stall::new(now);
        (self.heard_anything, self.heard_foreign) = (false, false);
        self.wait(now);
        self.phase = match (self.start, self.role) {
            (Start::S2(_) | Start::V1, _) => HandshakePhase::Settled,
            (_, Role::Host) => HandshakePhase::Calling(Some(now)),
            (_, Role::Guest) => HandshakePhase::Listening,
        };
    }

    fn expect_v1(&mut self, config: &Config) {
        self.v1 = Matcher::new(&v1_answer(self.own(config).trailer()));
    }

    /// Host: what is kept of it once the peer is known. `None`: it is not, or this side is a guest.
    pub(super) fn at_rest(&self) -> Option<Settled> {
        let is_host = self.role == Role::Host;
        (is_host && self.is_settled()).then_some(Settled {
            nonce: self.nonce,
            peer: self.peer,
            conversed: self.conversed,
            heard: (self.heard_anything, self.heard_foreign),
            hello_sent_at: self.hello_sent_at,
            restarts: self.restarts,
        })
    }

    /// As it was.
    pub(super) fn resumed(config: &Config, kept: Settled) -> Self {
        let (mut handshake, _) = Self::new(config, Instant::ZERO);
        handshake.phase = HandshakePhase::Settled;
        handshake.deadline = None;
        handshake.nonce = kept.nonce;
        handshake.expect_v1(config);
        handshake.peer = kept.peer;
        handshake.conversed = kept.conversed;
        (handshake.heard_anything, handshake.heard_foreign) = kept.heard;
        handshake.hello_sent_at = kept.hello_sent_at;
        handshake.restarts = kept.restarts;
        handshake
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
        self.stall = self.stall.restarted();
    }

    /// Host: the guest has to be found again. HELLO no more than once a second.
    pub(super) fn call(&mut self, now: Instant) {
        let due = self.hello_sent_at.map_or(now, |at| (at + HELLO_INTERVAL).max(now));
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

    /// This side's HELLO, to be sent now.
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

    /// Whether a HELLO is due now; if so it counts as sent and the next one is set. `Err`: the wait is over.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Result<bool, CloseReason> {
        if !self.is_settled() && self.deadline.is_some_and(|deadline| deadline <= now) {
            self.deadline = None;
            return Err(match (self.heard_anything, self.heard_foreign) {
                (false, _) => CloseReason::NoHello,
                (true, false) => CloseReason::Echo,
                (true, true) => CloseReason::NotS2,
            });
        }
        match self.phase {
            HandshakePhase::Calling(Some(due)) if due <= now => {
                let next = (self.carrier == Carrier::Line).then_some(now + HELLO_INTERVAL);
                self.phase = HandshakePhase::Calling(next);
                self.hello_sent_at = Some(now);
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
            self.heard_anything = true;
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
    pub(super) fn collected(&self) -> ([u8; HELLO], usize) {
        (self.collected, self.have.into())
    }

    /// Guest: the first 12 bytes tell v1 from all else.
    fn listen(
        &mut self,
        byte: u8,
        attached: &impl Fn(StreamId) -> bool,
        counters: &mut Counters,
        now: Instant,
    ) -> Option<Found> {
        self.collected[usize::from(self.have)] = byte;
        self.have += 1;
        let collected = &self.collected[..self.have.into()];
        if collected.iter().zip(&hello_start()).all(|(a, b)| a == b) {
            if collected.len() < HELLO {
                return None;
            }
            self.have = 0;
            return Opening::decode(&self.collected[HEADER..])
                .and_then(|hello| self.judge(&hello, counters, now));
        }
        if self.carrier == Carrier::Reliable && self.start != Start::Negotiate {
            return Some(Found::NotS2);
        }
        let head = collected.first_chunk::<HEADER>()?;
        let (id, length) = split_header(head);
        if self.start == Start::Negotiate && (V1_EMPTY..=self.v1_longest).contains(&length) && attached(id) {
            self.phase = HandshakePhase::Settled;
            return Some(Found::V1);
        }
        if self.carrier == Carrier::Reliable {
            return Some(Found::NotS2);
        }
        // A HELLO may have begun among them, though not ended.
        let (collected, have) = (self.collected, usize::from(self.have));
        self.hunt();
        self.heard_foreign = true;
        counters.skipped += have as u64;
        for byte in &collected[..have] {
            self.find_hello(*byte);
        }
        self.claim_hello(now).then_some(Found::Foreign)
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
        if let Some(bytes) = self.find_hello(byte) {
            if let Some(found) =
                Opening::decode(&bytes[HEADER..]).and_then(|hello| self.judge(&hello, counters, now))
            {
                counters.skipped = counters.skipped.saturating_sub(HELLO as u64);
                return Some(found);
            }
            // Another one may have begun inside, though not ended.
            for byte in &bytes[1..] {
                self.find_hello(*byte);
            }
            return None;
        }
        if self.have > 0 || self.hello.have() > 0 {
            return None;
        }
        self.heard_foreign = true;
        if is_calling {
            let strict = self.carrier == Carrier::Reliable && self.start != Start::Negotiate;
            return strict.then_some(Found::NotS2);
        }
        // A guest out of step asks for a HELLO while bytes of others keep coming.
        self.claim_hello(now).then_some(Found::Foreign)
    }

    /// One byte more; all of a HELLO once it is whole.
    fn find_hello(&mut self, byte: u8) -> Option<[u8; HELLO]> {
        if self.have == 0 {
            if self.hello.push(byte) {
                self.collected[..HELLO_START].copy_from_slice(&hello_start());
                self.have = HELLO_START as u8;
            }
            return None;
        }
        self.collected[usize::from(self.have)] = byte;
        self.have += 1;
        if usize::from(self.have) < HELLO {
            return None;
        }
        self.have = 0;
        Some(self.collected)
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
            self.hello_sent_at = Some(now);
        }
    }

    /// Whether a HELLO may be sent now, one a second; if so it counts as sent.
    pub(super) fn claim_hello(&mut self, now: Instant) -> bool {
        let may = self.hello_sent_at.is_none_or(|at| now >= at + HELLO_INTERVAL);
        if may {
            self.hello_sent_at = Some(now);
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
            return if self.claim_hello(now) { Again::Answer } else { Again::Ignored };
        }
        if !self.claim_restart(now) {
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

    fn claim_restart(&mut self, now: Instant) -> bool {
        let earliest = self.restarts.max(now);
        if earliest > now + HELLO_INTERVAL * (RESTARTS - 1) {
            return false;
        }
        self.restarts = earliest + HELLO_INTERVAL;
        true
    }

    /// Guest on a line, settled: looks whether what comes is a host that began anew where the last one left a
    /// frame unfinished ([`Stall`]). `Some`: its HELLO, which is settled with; `data` ends with it.
    pub(super) fn handle_stalled(&mut self, data: &[u8], mid_frame: bool, now: Instant) -> Option<Opening> {
        let hello = self.stall.handle_received(data, mid_frame, now)?;
        self.settle(&hello, now);
        Some(hello)
    }
}

/// A number that differs from the last start's where seed or time do. Never 0.
fn nonce(config: &Config, now: Instant) -> u32 {
    let mut hasher = SipHasher13::new_with_keys(config.seed[0], config.seed[1]);
    hasher.write_u64(now.as_micros());
    hasher.write_u8(u8::from(config.role == Role::Guest));
    (hasher.finish() as u32 & NONCE).max(1)
}

/// What a v1 guest answers to a HELLO: twice that it knows no such stream.
fn v1_answer(trailer: StreamId) -> [u8; V1_ANSWER] {
    let mut answer = [0; V1_ANSWER];
    answer[..HEADER].copy_from_slice(&header(StreamId::SESSION, V1_EMPTY));
    answer[HEADER..].copy_from_slice(&header(trailer, V1_EMPTY));
    answer
}

/// How often a host repeats its HELLO, how often a guest answers one that is repeated, and how often, after
/// the first few, a peer that starts anew is believed: it may not be up yet, and 36 bytes a second cost
/// nothing.
const HELLO_INTERVAL: Duration = Duration::from_secs(1);
/// New starts in a row that are believed at once: a host that crashes at its start a few times is not kept
/// waiting.
const RESTARTS: u32 = 4;
/// Bytes of a v1 guest's answer to a HELLO.
const V1_ANSWER: usize = 2 * HEADER;

#[cfg(test)]
#[path = "handshake_tests.rs"]
mod tests;
