//! SL's frames: flags, escapes, a header of eight bytes, CRC-32C (SPEC §9).
//!
//! Owns the bytes between two flags while they arrive, at most one frame of them. Refuses to know sequence
//! and state: what passes the checksum is handed on, what does not is named and dropped.

use super::super::wire::HEADER as S2_HEADER;

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameType {
    /// Opens: nonce, largest payload, window.
    Syn,
    /// Answers SYN: the same, and the nonce it answers.
    SynAck,
    /// Carries bytes; numbered.
    Data,
    /// Carries an acknowledgement and nothing else.
    Ack,
    /// Everything from the acknowledged number on is to be sent again.
    Nak,
    /// A bitmap of frames held behind a gap.
    Sack,
    /// Asks for a sign of life.
    Ping,
    /// Gives it.
    Pong,
    /// The last numbered frame.
    Fin,
    /// Ends at once.
    Rst,
}

impl FrameType {
    const ALL: [Self; 10] = [
        Self::Syn,
        Self::SynAck,
        Self::Data,
        Self::Ack,
        Self::Nak,
        Self::Sack,
        Self::Ping,
        Self::Pong,
        Self::Fin,
        Self::Rst,
    ];

    const fn from_u8(byte: u8) -> Option<Self> {
        if byte & 0xf0 == VERSION && ((byte & 0x0f) as usize) < Self::ALL.len() {
            Some(Self::ALL[(byte & 0x0f) as usize])
        } else {
            None
        }
    }
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What it is for.
    pub kind: FrameType,
    /// Whether `ack` and `window` mean anything.
    pub has_ack: bool,
    /// The frame's number where it is numbered, else 0.
    pub seq: u16,
    /// The number expected next.
    pub ack: u16,
    /// How many frames from `ack` on the sender of this can store.
    pub window: u16,
}

/// A frame that passed its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Its header.
    pub header: Header,
    /// What is between header and checksum.
    pub payload: &'a [u8],
}

/// A frame that did not; dropped, counted, and nothing in it is acted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad {
    /// The checksum is wrong.
    Checksum,
    /// Shorter than header and checksum.
    Short,
    /// Longer than agreed.
    Long,
    /// `7d 7e`: the sender gave it up.
    Aborted,
    /// The checksum is right, the type is not known.
    Type,
}

/// The bytes a sender escapes, a bit for each. Receivers undo any escape, so the sets of two ends may differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EscapeSet([u64; 4]);

impl EscapeSet {
    /// `7e` and `7d`: for lines that carry every byte.
    #[must_use]
    pub const fn minimal() -> Self {
        let mut set = Self([0; 4]);
        set.add(FLAG);
        set.add(ESCAPE);
        set
    }

    const fn add(&mut self, byte: u8) {
        self.0[byte as usize / 64] |= 1 << (byte % 64);
    }

    /// Also XON and XOFF, with seven bits and eight, and `ff` for a telnet hop. The default.
    #[must_use]
    pub const fn serial() -> Self {
        Self::minimal().with(b"\x11\x13\x91\x93\xff")
    }

    /// Also what a cooked terminal line acts on.
    #[must_use]
    pub const fn cooked() -> Self {
        Self::serial().with(b"\x0d\x0a\x00\x03\x04\x1a\x1c")
    }

    /// With more bytes. What an escape turns a byte into must get through by itself: one that is in the set,
    /// too, is refused by leaving it out.
    #[must_use]
    pub const fn with(mut self, bytes: &[u8]) -> Self {
        let mut i = 0;
        while i < bytes.len() {
            if !self.has(bytes[i] ^ 0x20) {
                self.add(bytes[i]);
            }
            i += 1;
        }
        self
    }

    /// Whether a byte is escaped.
    #[must_use]
    pub const fn has(&self, byte: u8) -> bool {
        self.0[byte as usize / 64] >> (byte % 64) & 1 != 0
    }

    fn stuff(&self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut rest = bytes;
        while let Some(at) = rest.iter().position(|byte| self.has(*byte)) {
            out.extend_from_slice(&rest[..at]);
            out.extend_from_slice(&[ESCAPE, rest[at] ^ 0x20]);
            rest = &rest[at + 1..];
        }
        out.extend_from_slice(rest);
    }
}

/// Appends a frame and its closing flag; the opening one is the caller's, for it may be the last frame's
/// closing one. Work in proportion to the payload.
pub fn encode(header: &Header, payload: &[u8], escapes: &EscapeSet, out: &mut Vec<u8>) {
    encode_marked(header, false, payload, escapes, out);
}

/// As [`encode`], with the mark of the side whose nonce is the smaller one.
pub(super) fn encode_marked(
    header: &Header,
    marked: bool,
    payload: &[u8],
    escapes: &EscapeSet,
    out: &mut Vec<u8>,
) {
    let mut head = [0; HEADER];
    head[0] = VERSION | header.kind as u8;
    head[1] = if header.has_ack { HAS_ACK } else { 0 } | if marked { MARK } else { 0 };
    head[2..4].copy_from_slice(&header.seq.to_be_bytes());
    head[4..6].copy_from_slice(&header.ack.to_be_bytes());
    head[6..8].copy_from_slice(&header.window.to_be_bytes());
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&head), payload);
    escapes.stuff(&head, out);
    escapes.stuff(payload, out);
    escapes.stuff(&checksum.to_be_bytes(), out);
    out.push(FLAG);
}

/// Finds frames in bytes that may be cut anywhere, of a line that drops, corrupts or inserts some.
///
/// ```text
///   HUNT ── flag ──▶ FRAME ── flag ──▶ FRAME        the frame between is judged: good, or one of `Bad`
///                      │  ▲
///                      │  └── flag ──┐
///                      └── too long ─┴ SKIP          nothing is kept until the next flag
/// ```
#[derive(Clone, Debug)]
pub struct FrameDecoder {
    state: FrameState,
    escaped: bool,
    /// What is between the flags so far, unescaped.
    bytes: Vec<u8>,
    max_payload: usize,
    /// The last frame was handed out; its bytes go with the next call.
    stale: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FrameState {
    Hunt,
    Frame,
    Skip,
}

impl FrameDecoder {
    /// Before the first flag; what comes before it is not counted as anything.
    #[must_use]
    pub const fn new(max_payload: usize) -> Self {
        Self { state: FrameState::Hunt, escaped: false, bytes: Vec::new(), max_payload, stale: false }
    }

    /// The next frame, good or bad; `None` when `input` is used up. Holds one frame at most, nothing when
    /// idle.
    pub fn decode<'s>(&'s mut self, input: &mut &[u8]) -> Option<Result<Frame<'s>, Bad>> {
        self.decode_marked(input).map(|frame| frame.map(|(frame, _)| frame))
    }

    /// As [`Self::decode`], and whether the frame has the mark of the side whose nonce is the smaller one.
    pub(super) fn decode_marked<'s>(
        &'s mut self,
        input: &mut &[u8],
    ) -> Option<Result<(Frame<'s>, bool), Bad>> {
        if std::mem::take(&mut self.stale) {
            self.bytes.clear();
        }
        while !input.is_empty() {
            let run = memchr::memchr2(FLAG, ESCAPE, input).unwrap_or(input.len());
            let (mut plain, rest) = input.split_at(run);
            if self.escaped
                && let Some((first, others)) = plain.split_first()
            {
                self.escaped = false;
                self.keep(&[first ^ 0x20]);
                plain = others;
            }
            self.keep(plain);
            *input = rest;
            let Some((&special, rest)) = rest.split_first() else { break };
            *input = rest;
            if special == ESCAPE {
                // Two escapes in a row are what noise makes; the byte meant is anyone's guess, the checksum
                // decides.
                if self.escaped {
                    self.keep(&[ESCAPE ^ 0x20]);
                }
                self.escaped = !self.escaped;
                continue;
            }
            let aborted = std::mem::take(&mut self.escaped);
            let state = std::mem::replace(&mut self.state, FrameState::Frame);
            match state {
                FrameState::Hunt => self.bytes.clear(),
                FrameState::Skip => {
                    self.bytes.clear();
                    return Some(Err(Bad::Long));
                }
                FrameState::Frame if aborted => {
                    self.bytes.clear();
                    return Some(Err(Bad::Aborted));
                }
                FrameState::Frame if self.bytes.is_empty() => {}
                FrameState::Frame => {
                    self.stale = true;
                    return Some(judge(&self.bytes));
                }
            }
        }
        None
    }

    /// Bytes of heap held.
    pub(super) fn memory(&self) -> usize {
        self.bytes.capacity()
    }

    /// Gives back what is not needed.
    pub(super) fn shrink(&mut self) {
        if std::mem::take(&mut self.stale) {
            self.bytes.clear();
        }
        self.bytes.shrink_to_fit();
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.state != FrameState::Frame {
            return;
        }
        if self.bytes.len() + bytes.len() > HEADER + self.max_payload + CHECKSUM {
            self.state = FrameState::Skip;
            self.bytes.clear();
            return;
        }
        self.bytes.extend_from_slice(bytes);
    }
}

/// The most bytes that a frame of so much payload has on the line, each of them escaped, with its flags.
pub(in super::super) const fn longest_frame(max_payload: usize) -> usize {
    2 * (HEADER + max_payload + CHECKSUM) + 2
}

fn judge(bytes: &[u8]) -> Result<(Frame<'_>, bool), Bad> {
    let Some((&[kind, flags, s0, s1, a0, a1, w0, w1], rest)) = bytes.split_first_chunk::<HEADER>() else {
        return Err(Bad::Short);
    };
    let Some((payload, checksum)) = rest.split_last_chunk::<CHECKSUM>() else { return Err(Bad::Short) };
    if crc32c::crc32c(&bytes[..bytes.len() - CHECKSUM]) != u32::from_be_bytes(*checksum) {
        return Err(Bad::Checksum);
    }
    let kind = FrameType::from_u8(kind).ok_or(Bad::Type)?;
    let header = Header {
        kind,
        has_ack: flags & HAS_ACK != 0,
        seq: u16::from_be_bytes([s0, s1]),
        ack: u16::from_be_bytes([a0, a1]),
        window: u16::from_be_bytes([w0, w1]),
    };
    Ok((Frame { header, payload }, flags & MARK != 0))
}

/// Begins and ends frames.
pub const FLAG: u8 = 0x7e;
/// Bit 5 of the next byte is inverted.
pub const ESCAPE: u8 = 0x7d;
/// Bytes of a header.
pub const HEADER: usize = 8;
/// Bytes of the checksum.
pub const CHECKSUM: usize = 4;
/// Flag: `ack` and `window` mean something.
const HAS_ACK: u8 = 0x01;
/// Flag: the sender's nonce is the smaller one. Nothing in SYN, SYNACK and RST.
const MARK: u8 = 0x02;
/// The version nibble of every type: chosen so that no header byte of a quiet link needs an escape.
const VERSION: u8 = 0x40;
const _: () = assert!(HEADER + CHECKSUM == S2_HEADER, "SL adds to a frame what S2 adds to one");

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;

    fn decode_all(bytes: &[u8], cuts: &[usize]) -> Vec<Result<(Header, Vec<u8>), Bad>> {
        let mut decoder = FrameDecoder::new(600);
        let (mut found, mut from) = (Vec::new(), 0);
        for &cut in cuts.iter().chain([&bytes.len()]) {
            let mut input = &bytes[from..cut];
            from = cut;
            while let Some(frame) = decoder.decode(&mut input) {
                found.push(frame.map(|frame| (frame.header, frame.payload.to_vec())));
            }
        }
        found
    }

    quickcheck! {
        fn every_frame_round_trips_with_every_set(
            kind: u8,
            has_ack: bool,
            seq: u16,
            payload: Vec<u8>,
            set: u8
        ) -> bool {
            let kind = FrameType::ALL[usize::from(kind) % 10];
            let (ack, window) = (seq.wrapping_mul(3), seq ^ 0x7e7d);
            let header = Header { kind, has_ack, seq, ack, window };
            let sets = [EscapeSet::minimal(), EscapeSet::serial(), EscapeSet::cooked()];
            let set = &sets[usize::from(set) % 3];
            let mut bytes = vec![FLAG];
            encode(&header, &payload, set, &mut bytes);
            let inside = &bytes[1..bytes.len() - 1];
            let clean = inside.iter().all(|byte| *byte == ESCAPE || !set.has(*byte));
            clean && decode_all(&bytes, &[]) == [Ok((header, payload))]
        }

        fn any_split_decodes_alike(noise: Vec<u8>, payload: Vec<u8>, a: usize, b: usize) -> bool {
            let header = Header { kind: FrameType::Data, has_ack: true, seq: 1, ack: 2, window: 3 };
            let mut bytes = noise.clone();
            bytes.push(FLAG);
            encode(&header, &payload, &EscapeSet::serial(), &mut bytes);
            bytes.extend(noise);
            encode(&header, &payload, &EscapeSet::serial(), &mut bytes);
            let (a, b) = (a % (bytes.len() + 1), b % (bytes.len() + 1));
            let single: Vec<usize> = (0..bytes.len()).collect();
            let whole = decode_all(&bytes, &[]);
            whole == decode_all(&bytes, &[a.min(b), a.max(b)]) && whole == decode_all(&bytes, &single)
        }

        fn after_any_noise_the_second_frame_gets_through(noise: Vec<u8>) -> bool {
            let header = Header { kind: FrameType::Data, has_ack: true, seq: 1, ack: 2, window: 3 };
            let mut bytes = noise;
            encode(&header, b"first", &EscapeSet::serial(), &mut bytes);
            encode(&header, b"second", &EscapeSet::serial(), &mut bytes);
            decode_all(&bytes, &[]).last() == Some(&Ok((header, b"second".to_vec())))
        }
    }

    #[test]
    fn a_flood_without_flags_is_not_kept() {
        let mut decoder = FrameDecoder::new(100);
        let mut input = &[&[FLAG], &[b'x'; 100_000][..]].concat()[..];
        assert_eq!(decoder.decode(&mut input), None);
        assert!(decoder.bytes.capacity() <= 256);
        let mut input = &[FLAG][..];
        assert_eq!(decoder.decode(&mut input), Some(Err(Bad::Long)));
    }
}
