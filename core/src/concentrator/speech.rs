//! What a client speaks, telnet or raw: the table of telnet.md §8.
//!
//! **Owns** what a client has sent that cannot be told yet: a command that has begun, a doubled IAC and what
//! is behind it, the first words of a program that is at the wrong port. **Refuses to know** connections, the
//! options' states and the VM: it is fed bytes and time and says what is to be done with them. It need not
//! know what we have offered: we offer only options that telnet.md §1 names, and those are telnet either way.
//!
//! ```text
//!              IAC 240-249, a negotiation or a whole subnegotiation of a named option
//!   Undecided ───────────────────────────────────────────────────────────────────────▶ Telnet
//!     │    │                                                                              ▲
//!     │    │ 1 s, being read                                    the same                  │
//!     │    └─────────────────▶ Raw, for now ──────────────────────────────────────────────┘
//!     │                             │
//!     │ any other IAC, NUL not behind CR, not UTF-8, a gdb packet
//!     └─────────────────────────────┴────▶ Raw, for good
//! ```
//!
//! How the bytes are cut into reads changes nothing, and no byte is lost: what was held is delivered in the
//! form that was decided for.

use std::borrow::Cow;
use std::time::Duration;

use crate::telnet::wire_form::trailing_iacs;
use crate::telnet::{Command, IAC, Opt};
use crate::time::Instant;

use super::foreign::{FirstWords, Foreign, first_words};

/// What a client is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mode {
    /// It may be telnet: it is shown IAC doubled.
    Undecided,
    /// It speaks telnet.
    Telnet,
    /// It gets and gives nothing but the guest's bytes. `last`: nothing that it sends changes that.
    Raw {
        /// By evidence, not by silence.
        last: bool,
    },
}

impl Mode {
    /// Its bytes are the guest's, IAC not doubled.
    pub(super) fn is_raw(self) -> bool {
        matches!(self, Self::Raw { .. })
    }

    /// Nothing changes it any more.
    pub(super) fn is_final(self) -> bool {
        matches!(self, Self::Telnet | Self::Raw { last: true })
    }
}

/// One thing to be done with what a client has sent. They come in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Act<'a> {
    /// Give the guest these bytes.
    Guest(&'a [u8]),
    /// Give the guest these bytes, in which IAC is doubled.
    Wire(&'a [u8]),
    /// It is telnet.
    Telnet,
    /// Read these bytes as telnet.
    Decode(&'a [u8]),
    /// It is raw.
    Raw {
        /// For good.
        last: bool,
    },
    /// It is no client: what it has sent is for nobody.
    Foreign(Foreign),
}

/// A client of which it is not known for good what it speaks. About 150 bytes, and what it holds: at most
/// [`HELD_MOST`] of data, as much of a command, and a request line.
#[derive(Debug)]
pub(super) struct Speech {
    mode: Mode,
    /// When silence makes it raw.
    decide_at: Instant,
    /// The first words of what may be no client. Empty: it is one, or has said nothing.
    opening: Vec<u8>,
    /// Until when they are held.
    opening_until: Instant,
    /// Its first bytes may still be those of another protocol.
    may_be_foreign: bool,
    /// While undecided: a doubled IAC, and what came behind it.
    data: Vec<u8>,
    /// A command that has begun.
    command: Vec<u8>,
    /// When it did.
    command_since: Instant,
    text: Text,
}

impl Speech {
    /// A client that has said nothing.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            mode: Mode::Undecided,
            decide_at: now + DECIDE_AFTER,
            opening: Vec::new(),
            opening_until: now,
            may_be_foreign: true,
            data: Vec::new(),
            command: Vec::new(),
            command_since: now,
            text: Text::default(),
        }
    }

    /// What it is as far as is known.
    pub(super) fn mode(&self) -> Mode {
        self.mode
    }

    /// It has sent something. Costs one pass over the bytes.
    pub(super) fn receive(&mut self, bytes: &[u8], now: Instant, act: &mut dyn FnMut(Act<'_>)) {
        if !self.may_be_foreign {
            return self.judge(bytes, now, act);
        }
        let seen = if self.opening.is_empty() {
            self.opening_until = now + HELD_LIMIT;
            Cow::Borrowed(bytes)
        } else {
            self.opening.extend_from_slice(bytes);
            Cow::Owned(std::mem::take(&mut self.opening))
        };
        match first_words(&seen) {
            FirstWords::Begun => self.opening = seen.into_owned(),
            FirstWords::Of(foreign) => {
                self.mode = Mode::Raw { last: true };
                act(Act::Foreign(foreign));
            }
            FirstWords::Other => {
                self.may_be_foreign = false;
                self.judge(&seen, now, act);
            }
        }
    }

    /// When [`elapsed`](Self::elapsed) is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let opening = (!self.opening.is_empty()).then_some(self.opening_until);
        let silence = (self.mode == Mode::Undecided).then_some(self.decide_at);
        [opening, silence, self.command_until()].into_iter().flatten().min()
    }

    /// Time has passed.
    pub(super) fn elapsed(&mut self, now: Instant, act: &mut dyn FnMut(Act<'_>)) {
        if !self.opening.is_empty() && now >= self.opening_until {
            self.give_up_opening(now, act);
        }
        if self.mode == Mode::Undecided && now >= self.decide_at {
            self.assume_raw(act);
        }
        if self.command_until().is_some_and(|until| now >= until) {
            self.decide_raw(&[], act);
        }
    }

    /// It was not being read until now: what would decide may be in its socket.
    pub(super) fn postpone(&mut self, now: Instant) {
        self.decide_at = now + DECIDE_AFTER;
        self.opening_until = now + HELD_LIMIT;
        self.command_since = now;
    }

    /// It will send no more.
    pub(super) fn end(&mut self, now: Instant, act: &mut dyn FnMut(Act<'_>)) {
        self.give_up_opening(now, act);
        if !self.mode.is_final() {
            self.decide_raw(&[], act);
        }
    }

    /// A command that is begun in the time for answers has all of that time.
    fn command_until(&self) -> Option<Instant> {
        let is_waiting = self.mode == Mode::Raw { last: false } && !self.command.is_empty();
        is_waiting.then(|| self.decide_at.max(self.command_since + HELD_LIMIT))
    }

    fn give_up_opening(&mut self, now: Instant, act: &mut dyn FnMut(Act<'_>)) {
        self.may_be_foreign = false;
        let opening = std::mem::take(&mut self.opening);
        self.judge(&opening, now, act);
    }

    /// Passes on what decides nothing, up to the first byte that does.
    fn judge(&mut self, bytes: &[u8], now: Instant, act: &mut dyn FnMut(Act<'_>)) {
        let (mut passed, mut at) = (0, 0);
        while at < bytes.len() {
            if self.command.is_empty() {
                at += self.text.skip(&bytes[at..]);
                let Some(&byte) = bytes.get(at) else { break };
                if byte == IAC {
                    self.pass(&bytes[passed..at], act);
                    self.command.push(IAC);
                    self.command_since = now;
                } else if self.text.shows_raw(byte) {
                    self.pass(&bytes[passed..at], act);
                    return self.decide_raw(&bytes[at..], act);
                } else {
                    at += 1;
                    continue;
                }
            } else {
                self.command.push(bytes[at]);
                match Verdict::of(&self.command) {
                    Verdict::Unfinished => {}
                    Verdict::Pair => {
                        self.command.clear();
                        self.pass_pair(act);
                        if self.text.pair_shows_raw() {
                            return self.decide_raw(&bytes[at + 1..], act);
                        }
                    }
                    Verdict::Telnet => return self.decide_telnet(&bytes[at + 1..], act),
                    Verdict::Raw => return self.decide_raw(&bytes[at + 1..], act),
                }
            }
            at += 1;
            passed = at;
        }
        self.pass(&bytes[passed..], act);
    }

    /// Data without an IAC: the same in both forms.
    fn pass(&mut self, bytes: &[u8], act: &mut dyn FnMut(Act<'_>)) {
        if self.data.is_empty() {
            give(bytes, act);
        } else {
            self.hold(bytes, act);
        }
    }

    /// A doubled IAC: two bytes, unless it turns out to be telnet.
    fn pass_pair(&mut self, act: &mut dyn FnMut(Act<'_>)) {
        match self.mode {
            Mode::Undecided => self.hold(&PAIR, act),
            Mode::Telnet | Mode::Raw { .. } => act(Act::Guest(&PAIR)),
        }
    }

    fn hold(&mut self, bytes: &[u8], act: &mut dyn FnMut(Act<'_>)) {
        self.data.extend_from_slice(bytes);
        // A telnet program answers before it sends so much.
        if self.data.len() > HELD_MOST {
            self.assume_raw(act);
        }
    }

    /// A command that has begun stays held.
    fn assume_raw(&mut self, act: &mut dyn FnMut(Act<'_>)) {
        self.mode = Mode::Raw { last: false };
        self.may_be_foreign &= !self.opening.is_empty();
        act(Act::Raw { last: false });
        give(&std::mem::take(&mut self.data), act);
    }

    fn decide_raw(&mut self, rest: &[u8], act: &mut dyn FnMut(Act<'_>)) {
        self.mode = Mode::Raw { last: true };
        act(Act::Raw { last: true });
        give(&std::mem::take(&mut self.data), act);
        give(&std::mem::take(&mut self.command), act);
        give(rest, act);
    }

    fn decide_telnet(&mut self, rest: &[u8], act: &mut dyn FnMut(Act<'_>)) {
        self.mode = Mode::Telnet;
        act(Act::Telnet);
        let data = std::mem::take(&mut self.data);
        if !data.is_empty() {
            act(Act::Wire(&data));
        }
        act(Act::Decode(&std::mem::take(&mut self.command)));
        if !rest.is_empty() {
            act(Act::Decode(rest));
        }
    }
}

fn give(bytes: &[u8], act: &mut dyn FnMut(Act<'_>)) {
    if !bytes.is_empty() {
        act(Act::Guest(bytes));
    }
}

/// What the bytes from an IAC on are, once all but the last of them were [`Unfinished`](Self::Unfinished).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    Unfinished,
    /// A doubled IAC.
    Pair,
    Telnet,
    Raw,
}

impl Verdict {
    fn of(command: &[u8]) -> Self {
        match command[1..] {
            [IAC] => Self::Pair,
            [0..=239, ..] => Self::Raw,
            [240..=249, ..] => Self::Telnet,
            [] | [_] => Self::Unfinished,
            [_, opt, ..] if !NAMED.contains(&Opt(opt)) => Self::Raw,
            [SB, _, ref body @ ..] => Self::of_body(body),
            [_, _, ..] => Self::Telnet,
        }
    }

    fn of_body(body: &[u8]) -> Self {
        let Some((&last, before)) = body.split_last() else { return Self::Unfinished };
        match last {
            _ if body.len() > HELD_MOST => Self::Raw,
            _ if trailing_iacs(before).is_multiple_of(2) => Self::Unfinished,
            SE => Self::Telnet,
            IAC => Self::Unfinished,
            _ => Self::Raw,
        }
    }
}

/// What is known of the data so far, IACs apart.
#[derive(Debug, Default)]
struct Text {
    previous: u8,
    utf8: Utf8,
    packet: Packet,
}

impl Text {
    /// How many bytes at the front surely show nothing. For bulk: 32 at a time.
    fn skip(&mut self, bytes: &[u8]) -> usize {
        if self.utf8 != Utf8::default() || self.packet != Packet::None {
            return 0;
        }
        let blocks = bytes.chunks_exact(32).take_while(|block| {
            // Without a branch per byte: the compiler makes vectors of it.
            block.iter().fold(true, |all, &byte| all & is_plain(byte))
        });
        let skipped = 32 * blocks.count();
        let skipped = skipped + bytes[skipped..].iter().take_while(|&&byte| is_plain(byte)).count();
        if let Some(&last) = bytes[..skipped].last() {
            self.previous = last;
        }
        skipped
    }

    /// Takes the next byte, which is no IAC. Whether it shows that this is no telnet.
    fn shows_raw(&mut self, byte: u8) -> bool {
        let previous = std::mem::replace(&mut self.previous, byte);
        let is_packet = self.packet.take(byte);
        match byte {
            0 if previous != b'\r' => true,
            b'$' if previous == b'+' => true,
            _ => is_packet || !self.utf8.take(byte),
        }
    }

    /// Takes a doubled IAC, which a raw program means as two bytes.
    fn pair_shows_raw(&mut self) -> bool {
        self.previous = IAC;
        self.utf8 = Utf8::default();
        self.packet.take(IAC) | self.packet.take(IAC)
    }
}

/// It ends no UTF-8 sequence, no CR NUL and no packet, and begins none.
fn is_plain(byte: u8) -> bool {
    (byte != 0) & (byte < 0x80) & (byte != b'$') & (byte != b'+')
}

/// Where in a UTF-8 sequence the data stands (RFC 3629 §4).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Utf8 {
    /// Bytes to come.
    left: u8,
    /// What the next of them may be.
    low: u8,
    high: u8,
}

impl Utf8 {
    /// Whether the next byte belongs there.
    fn take(&mut self, byte: u8) -> bool {
        let (left, low, high) = match (self.left, byte) {
            (0, 0..=0x7f) => (0, 0, 0),
            (0, 0xc2..=0xdf) => (1, 0x80, 0xbf),
            (0, 0xe0) => (2, 0xa0, 0xbf),
            (0, 0xed) => (2, 0x80, 0x9f),
            (0, 0xe1..=0xef) => (2, 0x80, 0xbf),
            (0, 0xf0) => (3, 0x90, 0xbf),
            (0, 0xf1..=0xf3) => (3, 0x80, 0xbf),
            (0, 0xf4) => (3, 0x80, 0x8f),
            (0, _) => return false,
            (1, _) if (self.low..=self.high).contains(&byte) => (0, 0, 0),
            (left, _) if (self.low..=self.high).contains(&byte) => (left - 1, 0x80, 0xbf),
            _ => return false,
        };
        *self = Self { left, low, high };
        true
    }
}

/// Where in a packet of gdb's the data stands: `$`, anything, `#`, two digits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Packet {
    #[default]
    None,
    Body {
        sum: u8,
        len: u16,
    },
    FirstDigit {
        sum: u8,
    },
    SecondDigit {
        sum: u8,
        first: u8,
    },
}

impl Packet {
    /// Whether this byte ends a packet with the right checksum.
    fn take(&mut self, byte: u8) -> bool {
        let digit = char::from(byte).to_digit(16).map(|digit| digit as u8);
        *self = match (*self, byte, digit) {
            (Self::SecondDigit { sum, first }, _, Some(second)) if sum == first << 4 | second => return true,
            (_, b'$', _) => Self::Body { sum: 0, len: 0 },
            (Self::Body { sum, .. }, b'#', _) => Self::FirstDigit { sum },
            (Self::Body { sum, len }, ..) if len < PACKET_MOST => {
                Self::Body { sum: sum.wrapping_add(byte), len: len + 1 }
            }
            (Self::FirstDigit { sum }, _, Some(first)) => Self::SecondDigit { sum, first },
            _ => Self::None,
        };
        false
    }
}

/// The options that telnet.md §1 names.
const NAMED: [Opt; 19] = [
    Opt::BINARY,
    Opt::ECHO,
    Opt::SGA,
    Opt::STATUS,
    Opt::TIMING_MARK,
    Opt::TTYPE,
    Opt::NAWS,
    Opt::TSPEED,
    Opt::LFLOW,
    Opt::LINEMODE,
    Opt::XDISPLOC,
    Opt::OLD_ENVIRON,
    Opt::AUTHENTICATION,
    Opt::ENCRYPT,
    Opt::NEW_ENVIRON,
    Opt::COM_PORT,
    Opt::START_TLS,
    Opt(232),
    Opt(233),
];

const SB: u8 = Command::SB.0;
const SE: u8 = Command::SE.0;
const PAIR: [u8; 2] = [IAC, IAC];

/// A client that has shown nothing by then is raw for now: a telnet program answers in a round trip.
const DECIDE_AFTER: Duration = Duration::from_secs(1);

/// How long the beginning of something is held back from a VM: a person does not notice it, and what a
/// program sends in one go arrives in less.
const HELD_LIMIT: Duration = Duration::from_millis(100);

/// How many bytes of data, or of a subnegotiation, are held at most. Beyond, data is taken for raw as after a
/// second of silence, and a subnegotiation for none: the longest in use are some hundred bytes.
const HELD_MOST: usize = 2048;

/// The longest packet of gdb's.
const PACKET_MOST: u16 = 16 << 10;

#[cfg(test)]
#[path = "speech_tests.rs"]
mod tests;
