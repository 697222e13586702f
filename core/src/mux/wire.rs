//! What is on the wire: 12-byte headers, the words in them, and the messages of stream 0.
//!
//! Owns the bit layout of S2 and of v1 (SPEC §1, §2, §7). Refuses to know what any of it means to a stream: a
//! codec cannot be in the wrong state.

use std::fmt;

/// Which end of the line this is. The host speaks first and opens streams with bit 63 clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The side outside the VM.
    Host,
    /// The side inside it.
    Guest,
}

/// A stream's number on the wire: 64 bits, never used twice in one session.
///
/// Bit 63 says who opened it (SPEC §1): clear for the host, set for the guest, so that neither side has to
/// ask.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

impl StreamId {
    /// Stream 0 carries the session's own messages and belongs to nobody.
    pub const SESSION: Self = Self(0);
    /// Set in the ids that the guest opened.
    pub const GUEST_BIT: u64 = 1 << 63;

    /// Whether the guest opened it.
    #[must_use]
    pub const fn is_guests(self) -> bool {
        self.0 & Self::GUEST_BIT != 0
    }

    /// The number without the bit that says who opened it.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0 & !Self::GUEST_BIT
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.is_guests() { "guest-" } else { "" }, self.number())
    }
}

/// The 32-bit word of an S2 header, decoded; every value has a place, so decoding cannot fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// `00…`, not zero: this many bytes of payload follow.
    Data(u32),
    /// `0x00000000`: opens the stream without a byte; nothing follows.
    Empty,
    /// `01…`: undefined; how much payload follows is unknown, so the session cannot go on.
    Undefined(u32),
    /// `10…`, not zero: the sender of this word consumed so many more bytes.
    Ack(u32),
    /// `0x80000000`: what follows starts again at the first unacked byte.
    Rewind,
    /// `0xc0000000`: the sender will send no more payload on this stream.
    Close,
    /// `0xc0000001`: payload was thrown away, send again from the first unacked byte.
    Request,
    /// `0xc0000002`: the stream is gone in both directions.
    Reset,
    /// `0xc0000003`: the window of the sender of this word is twice what it was, on this stream.
    Grow,
    /// `0xc0000004..`: reserved; no payload follows.
    Reserved(u32),
}

impl Word {
    /// Decodes any word.
    #[must_use]
    pub const fn from_u32(word: u32) -> Self {
        match word {
            0 => Self::Empty,
            0x0000_0001..=0x3fff_ffff => Self::Data(word),
            0x4000_0000..=0x7fff_ffff => Self::Undefined(word),
            0x8000_0000 => Self::Rewind,
            0x8000_0001..=0xbfff_ffff => Self::Ack(word & MAX_ACK),
            0xc000_0000 => Self::Close,
            0xc000_0001 => Self::Request,
            0xc000_0002 => Self::Reset,
            0xc000_0003 => Self::Grow,
            0xc000_0004.. => Self::Reserved(word),
        }
    }

    /// The 32 bits; lengths and increments are cut to their 30 bits.
    #[must_use]
    pub const fn to_u32(self) -> u32 {
        match self {
            Self::Data(n) => n & MAX_DATA,
            Self::Empty => 0,
            Self::Undefined(word) | Self::Reserved(word) => word,
            Self::Ack(n) => 0x8000_0000 | n & MAX_ACK,
            Self::Rewind => 0x8000_0000,
            Self::Close => 0xc000_0000,
            Self::Request => 0xc000_0001,
            Self::Reset => 0xc000_0002,
            Self::Grow => 0xc000_0003,
        }
    }
}

/// A header: the stream's number and a word, big endian.
#[must_use]
pub fn header(id: StreamId, word: u32) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[..8].copy_from_slice(&id.0.to_be_bytes());
    bytes[8..].copy_from_slice(&word.to_be_bytes());
    bytes
}

/// Splits a header into the stream's number and its word.
#[must_use]
pub fn split_header(bytes: &[u8; HEADER]) -> (StreamId, u32) {
    let (id, word) = bytes.split_at(8);
    let id = id.try_into().map_or(0, u64::from_be_bytes);
    let word = word.try_into().map_or(0, u32::from_be_bytes);
    (StreamId(id), word)
}

/// What a peer says it understands; the flag byte of HELLO (SPEC §3).
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Features(pub u8);

impl Features {
    /// I send and understand REWIND, so more than one frame may be under way.
    pub const WINDOWED: Self = Self(0x01);
    /// I send and understand RESET.
    pub const RESET: Self = Self(0x02);
    /// I send and understand PING, PONG and GOAWAY.
    pub const MESSAGES: Self = Self(0x04);
    /// All three: what a session understands whatever it travels on.
    pub const ALL: Self = Self(0x07);
    /// What carries this loses nothing: I never ask for payload again, and my window holds without REWIND.
    pub const RELIABLE: Self = Self(0x08);
    /// I send and understand GROW.
    pub const GROWS: Self = Self(0x10);
    const KNOWN: u8 = 0x1f;

    /// Whether all of `other` is in it.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// What both have.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl fmt::Debug for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut any = false;
        for (feature, name) in [
            (Self::WINDOWED, "windowed"),
            (Self::RESET, "reset"),
            (Self::MESSAGES, "messages"),
            (Self::RELIABLE, "reliable"),
            (Self::GROWS, "grows"),
        ] {
            if self.has(feature) {
                write!(f, "{}{name}", if any { "+" } else { "" })?;
                any = true;
            }
        }
        let rest = self.0 & !Self::KNOWN;
        if rest != 0 || !any {
            write!(f, "{}{rest:#04x}", if any { "+" } else { "" })?;
        }
        Ok(())
    }
}

/// What a side speaks and takes: the terms of the opening message (SPEC §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The highest version the sender speaks.
    pub version: u8,
    /// What it understands.
    pub features: Features,
    /// The largest DATA payload it accepts.
    pub max_frame: u16,
    /// Bytes per stream it guarantees to buffer; 0: one frame at a time, please.
    pub window: u32,
}

/// The opening message: one frame to an S2 peer, two harmless ones to a v1 peer (SPEC §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The sender's terms.
    pub hello: Hello,
    /// Which end it is.
    pub sender: Role,
    /// Identifies this start of the sender: 31 bits, 0 for none.
    pub nonce: u32,
    /// The nonce of the opening that this one answers; 0: it answers none.
    pub answers: u32,
}

impl Hello {
    /// The whole frame, as a host sends it that gives no nonce.
    #[must_use]
    pub fn encode(&self) -> [u8; HELLO] {
        Opening { hello: *self, sender: Role::Host, nonce: 0, answers: 0 }.encode()
    }

    /// Reads the payload of a stream-0 frame; `None` where it is no HELLO. Later versions may append: longer
    /// is fine.
    #[must_use]
    pub fn decode(payload: &[u8]) -> Option<Self> {
        Opening::decode(payload).map(|opening| opening.hello)
    }
}

impl Opening {
    /// The whole frame.
    #[must_use]
    pub fn encode(&self) -> [u8; HELLO] {
        let mut bytes = [0; HELLO];
        bytes[..HEADER].copy_from_slice(&header(StreamId::SESSION, 24));
        bytes[12..16].copy_from_slice(HELLO_MAGIC);
        bytes[16] = self.hello.version;
        bytes[17] = self.hello.features.0;
        bytes[18..20].copy_from_slice(&self.hello.max_frame.to_be_bytes());
        bytes[20..24].copy_from_slice(&self.hello.window.to_be_bytes());
        bytes[24..].copy_from_slice(&header(self.trailer(), HEADER as u32));
        bytes
    }

    /// The stream that the empty v1 message at the end is for: role, nonce, and the nonce answered. A v1
    /// guest knows no such stream, and answers so in its name.
    #[must_use]
    pub fn trailer(&self) -> StreamId {
        let role = if self.sender == Role::Guest { StreamId::GUEST_BIT } else { 0 };
        StreamId(role | u64::from(self.nonce & NONCE) << 32 | u64::from(self.answers))
    }

    /// Reads the payload of a stream-0 frame; `None` where it is no HELLO. Later versions may append: longer
    /// is fine.
    #[must_use]
    pub fn decode(payload: &[u8]) -> Option<Self> {
        let rest = payload.strip_prefix(HELLO_MAGIC)?;
        let (&[version, features, m0, m1, w0, w1, w2, w3], rest) = rest.split_first_chunk::<8>()?;
        let trailer = rest.first_chunk::<8>().map_or(0, |trailer| u64::from_be_bytes(*trailer));
        let hello = Hello {
            version,
            features: Features(features),
            max_frame: u16::from_be_bytes([m0, m1]),
            window: u32::from_be_bytes([w0, w1, w2, w3]),
        };
        Some(Self {
            hello,
            sender: if trailer & StreamId::GUEST_BIT == 0 { Role::Host } else { Role::Guest },
            nonce: (trailer >> 32) as u32 & NONCE,
            answers: trailer as u32,
        })
    }
}

/// What a GOAWAY means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GoAwayCode {
    /// Nothing is wrong: no new streams, please.
    Normal,
    /// The other side broke the protocol.
    ProtocolError,
    /// The sender broke.
    InternalError,
    /// No common version.
    Version,
    /// The sender ends the session; nothing is wrong.
    Done,
    /// Any other: below 256 one that this version does not know, from there on the applications' own.
    Other(u16),
}

impl GoAwayCode {
    /// The code on the wire.
    #[must_use]
    pub const fn to_u16(self) -> u16 {
        match self {
            Self::Normal => 0,
            Self::ProtocolError => 1,
            Self::InternalError => 2,
            Self::Version => 3,
            Self::Done => 4,
            Self::Other(code) => code,
        }
    }

    /// Any code on the wire.
    #[must_use]
    pub const fn from_u16(code: u16) -> Self {
        match code {
            0 => Self::Normal,
            1 => Self::ProtocolError,
            2 => Self::InternalError,
            3 => Self::Version,
            4 => Self::Done,
            other => Self::Other(other),
        }
    }
}

/// A message of stream 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// The opening message.
    Hello(Opening),
    /// Answer with the same token.
    Ping(u32),
    /// The answer.
    Pong(u32),
    /// No new streams, or (any code but [`GoAwayCode::Normal`]) the end of the session.
    GoAway {
        /// Why.
        code: GoAwayCode,
        /// The highest stream of the receiver of this message that its sender accepted.
        last: StreamId,
    },
    /// Twelve bytes that only a v1 guest answers to a HELLO: an empty message for the trailer's stream (SPEC
    /// §3).
    V1Answer(StreamId),
    /// A type this version does not know, or a known one cut short: ignored.
    Unknown(u8),
}

impl Message {
    /// Reads the payload of a stream-0 frame; cannot fail.
    #[must_use]
    pub fn decode(payload: &[u8]) -> Self {
        let Some((&kind, rest)) = payload.split_first() else { return Self::Unknown(0) };
        if let Ok(head) = <&[u8; HEADER]>::try_from(payload)
            && let (id, V1_EMPTY) = split_header(head)
        {
            return Self::V1Answer(id);
        }
        let token = || rest.first_chunk::<4>().map(|token| u32::from_be_bytes(*token));
        let decoded = match kind {
            0x4d => Opening::decode(payload).map(Self::Hello),
            PING => token().map(Self::Ping),
            PONG => token().map(Self::Pong),
            GO_AWAY => rest.first_chunk::<10>().map(|&[c0, c1, ref last @ ..]| Self::GoAway {
                code: GoAwayCode::from_u16(u16::from_be_bytes([c0, c1])),
                last: StreamId(u64::from_be_bytes(*last)),
            }),
            _ => None,
        };
        decoded.unwrap_or(Self::Unknown(kind))
    }

    /// Appends the whole frame, header included; at most 36 bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; HEADER]);
        match self {
            Self::Hello(opening) => {
                out.truncate(start);
                out.extend_from_slice(&opening.encode());
                return;
            }
            Self::Ping(token) => {
                out.push(PING);
                out.extend_from_slice(&token.to_be_bytes());
            }
            Self::Pong(token) => {
                out.push(PONG);
                out.extend_from_slice(&token.to_be_bytes());
            }
            Self::GoAway { code, last } => {
                out.push(GO_AWAY);
                out.extend_from_slice(&code.to_u16().to_be_bytes());
                out.extend_from_slice(&last.0.to_be_bytes());
            }
            Self::V1Answer(id) => out.extend_from_slice(&header(*id, V1_EMPTY)),
            Self::Unknown(kind) => out.push(*kind),
        }
        let len = u32::try_from(out.len() - start - HEADER).unwrap_or(0);
        out[start..start + HEADER].copy_from_slice(&header(StreamId::SESSION, len));
    }
}

/// How a HELLO starts, whoever sends it.
pub(super) fn hello_start() -> [u8; HELLO_START] {
    let mut start = [0; HELLO_START];
    start[..HEADER].copy_from_slice(&header(StreamId::SESSION, 24));
    start[HEADER..].copy_from_slice(HELLO_MAGIC);
    start
}

/// The largest payload a DATA word can announce.
pub const MAX_DATA: u32 = 0x3fff_ffff;
/// The largest increment an ACK word can carry.
pub const MAX_ACK: u32 = 0x3fff_ffff;
/// Bytes of a header, in both dialects.
pub const HEADER: usize = 12;
/// Bytes of a HELLO, header included.
pub const HELLO: usize = 36;
/// The version this module speaks.
pub const VERSION: u8 = 2;
/// The bits of a nonce.
pub const NONCE: u32 = 0x7fff_ffff;
/// Largest payload of a stream-0 message (SPEC §7); a longer one is a protocol error, so 64 bytes is all it
/// can cost.
pub const MAX_MESSAGE: u32 = 64;
/// How a HELLO's payload starts.
pub const HELLO_MAGIC: &[u8; 4] = b"MUX2";
/// Bytes of a HELLO that are always the same: header and magic.
pub(super) const HELLO_START: usize = HEADER + HELLO_MAGIC.len();
/// v1's length of a message without payload.
pub(super) const V1_EMPTY: u32 = HEADER as u32;
const PING: u8 = 0x02;
const PONG: u8 = 0x03;
const GO_AWAY: u8 = 0x04;

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;

    quickcheck! {
        fn every_word_round_trips(word: u32) -> bool {
            Word::from_u32(word).to_u32() == word
        }

        fn every_header_round_trips(id: u64, word: u32) -> bool {
            split_header(&header(StreamId(id), word)) == (StreamId(id), word)
        }

        fn every_message_round_trips(kind: u8, a: u32, b: u64, c: u16) -> bool {
            let message = match kind % 5 {
                0 => Message::Ping(a),
                1 => Message::Pong(a),
                2 => Message::GoAway { code: GoAwayCode::from_u16(c), last: StreamId(b) },
                3 => Message::V1Answer(StreamId(b)),
                _ => Message::Hello(Opening {
                    hello: Hello { version: kind, features: Features(c as u8), max_frame: c, window: a },
                    sender: if kind < 128 { Role::Host } else { Role::Guest },
                    nonce: a & NONCE,
                    answers: b as u32,
                }),
            };
            let mut bytes = Vec::new();
            message.encode(&mut bytes);
            let (id, word) = split_header(bytes.first_chunk().unwrap());
            let is_framed = id == StreamId::SESSION && word as usize == bytes.len() - HEADER;
            is_framed && Message::decode(&bytes[HEADER..]) == message
        }

        fn decoding_any_payload_never_panics(payload: Vec<u8>) -> bool {
            let _ = Message::decode(&payload);
            true
        }
    }

    #[test]
    fn word_boundaries_are_where_the_table_says() {
        for (word, want) in [
            (0, Word::Empty),
            (1, Word::Data(1)),
            (0x3fff_ffff, Word::Data(0x3fff_ffff)),
            (0x4000_0000, Word::Undefined(0x4000_0000)),
            (0x7fff_ffff, Word::Undefined(0x7fff_ffff)),
            (0x8000_0000, Word::Rewind),
            (0x8000_0001, Word::Ack(1)),
            (0xbfff_ffff, Word::Ack(0x3fff_ffff)),
            (0xc000_0000, Word::Close),
            (0xc000_0001, Word::Request),
            (0xc000_0002, Word::Reset),
            (0xc000_0003, Word::Grow),
            (0xc000_0004, Word::Reserved(0xc000_0004)),
            (0xffff_ffff, Word::Reserved(0xffff_ffff)),
        ] {
            assert_eq!(Word::from_u32(word), want);
        }
    }
}
