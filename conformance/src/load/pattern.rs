//! The bytes that bulk runs carry, and the proof that every one of them arrived.
//!
//! A stream is a chain of *periods*. Each opens with a [`MARK`]-byte line that holds the period's number and
//! goes on with the same precomputed body. The body is not similar to itself at any small shift and its
//! length shares no factor with the usual buffer sizes, so a lost, doubled or moved block shows at its first
//! byte; the number tells whole periods apart, at the next mark. Checking is a few `memcmp` per read.
//!
//! Knows the doubling of 0xFF (a stream has a *guest* form and a *wire* form) and nothing else of telnet.

use std::fmt;

use crate::random::Random;

/// What a bulk stream is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(super) enum Content {
    /// Printable lines that end in CR LF.
    Text,
    /// Every byte value alike: one in 256 is doubled on the wire.
    Binary,
    /// Nothing but 0xFF, except a numbered line every 16 KiB: the wire carries twice the bytes.
    Ff,
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Binary => "binary",
            Self::Ff => "ff",
        })
    }
}

/// One stream in one form, guest or wire. Cheap to share: it is read only.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    body: Vec<u8>,
    guest_period: u64,
}

impl Pattern {
    /// The stream as the guest writes and reads it.
    #[must_use]
    pub(super) fn guest(content: Content) -> Self {
        let body = guest_body(content);
        Self { guest_period: PERIOD as u64, body }
    }

    /// The stream as telnet carries it: every 0xFF doubled.
    #[must_use]
    pub(super) fn wire(content: Content) -> Self {
        let guest = guest_body(content);
        let mut body = Vec::with_capacity(guest.len() * 2);
        for byte in guest {
            body.push(byte);
            if byte == 0xFF {
                body.push(byte);
            }
        }
        Self { guest_period: PERIOD as u64, body }
    }

    /// What follows the mark in every period.
    #[must_use]
    pub(super) fn body(&self) -> &[u8] {
        &self.body
    }

    /// Bytes of one period in this form.
    #[must_use]
    pub(super) fn period(&self) -> u64 {
        (MARK + self.body.len()) as u64
    }

    /// How many guest bytes `bytes` bytes of this form are, to the nearest whole byte.
    #[must_use]
    pub(super) fn guest_bytes(&self, bytes: u64) -> u64 {
        let periods = bytes / self.period();
        let rest = bytes % self.period();
        periods * self.guest_period + rest * self.guest_period / self.period()
    }

    /// The byte at `position` of the stream. For looking closely at a fault, not for the fast path.
    fn byte_at(&self, position: u64) -> u8 {
        let serial = position / self.period();
        let at = (position % self.period()) as usize;
        if at < MARK { mark(serial)[at] } else { self.body[at - MARK] }
    }
}

/// The line that opens period `serial`.
#[must_use]
pub(super) fn mark(serial: u64) -> [u8; MARK] {
    let mut line = *b"\n@000000000000\r\n";
    let mut rest = serial;
    for digit in line[2..14].iter_mut().rev() {
        *digit = b"0123456789abcdef"[(rest & 15) as usize];
        rest >>= 4;
    }
    line
}

/// Reads a mark back.
fn parse_mark(line: &[u8]) -> Option<u64> {
    let digits = line.strip_prefix(b"\n@")?.strip_suffix(b"\r\n")?;
    let mut serial = 0;
    for &digit in digits {
        serial = serial << 4
            | match digit {
                b'0'..=b'9' => u64::from(digit - b'0'),
                b'a'..=b'f' => u64::from(digit - b'a' + 10),
                _ => return None,
            };
    }
    Some(serial)
}

/// Something that is not as it was sent, located. Offsets and lengths are in the form that is checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Fault {
    /// The offset in the sent stream at which the received one left it.
    pub at: u64,
    /// Bytes received there that are not part of the stream.
    pub foreign: u64,
    /// The offset in the sent stream at which it went on.
    pub resumed: u64,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, foreign, resumed } = *self;
        match resumed.checked_sub(at) {
            Some(0) => write!(f, "{foreign} foreign bytes at {at}"),
            Some(lost) if lost == foreign => write!(f, "{lost} bytes changed at {at}"),
            Some(lost) if foreign == 0 => write!(f, "{lost} bytes lost at {at}"),
            Some(lost) => write!(f, "{lost} bytes lost at {at}, {foreign} foreign ones in their place"),
            None if foreign == 0 => write!(f, "went back {} bytes at {at}", at - resumed),
            None => write!(f, "went back {} bytes at {at} after {foreign} foreign ones", at - resumed),
        }
    }
}

/// Checks a received stream against the pattern, in any pieces.
#[derive(Debug)]
pub(super) struct Verifier<'p> {
    pattern: &'p Pattern,
    serial: u64,
    mark: [u8; MARK],
    /// Offset in the current period of the next byte that is due.
    at: usize,
    /// Bytes since the last fault, while the place in the stream is unknown.
    hunt: Option<Vec<u8>>,
    furthest: u64,
    matched: u64,
    totals: Totals,
    faults: Vec<Fault>,
}

/// What a stream suffered, in bytes of the form that is checked.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Totals {
    /// Sent and not received (a byte that came late counts in both this and `repeated`).
    pub lost: u64,
    /// Received again, or later than what follows it.
    pub repeated: u64,
    /// Received and never sent.
    pub foreign: u64,
    /// How many separate faults these make.
    pub faults: u64,
}

impl std::iter::Sum for Totals {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            lost: sum.lost + one.lost,
            repeated: sum.repeated + one.repeated,
            foreign: sum.foreign + one.foreign,
            faults: sum.faults + one.faults,
        })
    }
}

impl Totals {
    /// Nothing lost, repeated, moved or added.
    #[must_use]
    pub(super) fn clean(&self) -> bool {
        *self == Self::default()
    }
}

impl<'p> Verifier<'p> {
    /// A check that expects the stream from its first byte.
    #[must_use]
    pub(super) fn new(pattern: &'p Pattern) -> Self {
        Self {
            pattern,
            serial: 0,
            mark: mark(0),
            at: 0,
            hunt: None,
            furthest: 0,
            matched: 0,
            totals: Totals::default(),
            faults: Vec::new(),
        }
    }

    /// Takes the next received bytes. Costs one comparison per byte, in blocks.
    pub(super) fn feed(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            if self.hunt.is_some() {
                data = self.look(data);
                continue;
            }
            let due =
                if self.at < MARK { &self.mark[self.at..] } else { &self.pattern.body[self.at - MARK..] };
            let n = due.len().min(data.len());
            if due[..n] == data[..n] {
                self.advance(n);
                data = &data[n..];
            } else {
                let same = due.iter().zip(data).take_while(|(a, b)| a == b).count();
                self.advance(same);
                data = &data[same..];
                self.hunt = Some(Vec::new());
            }
        }
    }

    /// The offset in the sent stream up to which this one has come, in order or not.
    #[must_use]
    pub(super) fn position(&self) -> u64 {
        self.serial * self.pattern.period() + self.at as u64
    }

    /// Bytes that were received as sent.
    #[must_use]
    pub(super) fn matched(&self) -> u64 {
        self.matched
    }

    /// Ends the check of a stream of which `sent` bytes were sent, and says what is wrong with it.
    pub(super) fn finish(&mut self, sent: u64) -> Totals {
        if let Some(hunt) = self.hunt.take() {
            // No mark came after the fault: the end of the stream is the other place that is known.
            let back = self.matches_before(&hunt, sent);
            let foreign = hunt.len() as u64 - back;
            self.matched += back;
            self.record(Fault { at: self.position(), foreign, resumed: sent - back });
            self.jump(sent);
        } else if self.position() < sent {
            self.record(Fault { at: self.position(), foreign: 0, resumed: sent });
            self.jump(sent);
        }
        self.totals
    }

    /// The first faults, at most [`KEPT_FAULTS`] of them.
    #[must_use]
    pub(super) fn faults(&self) -> &[Fault] {
        &self.faults
    }

    fn advance(&mut self, n: usize) {
        self.at += n;
        self.matched += n as u64;
        if self.at == MARK + self.pattern.body.len() {
            self.at = 0;
            self.serial += 1;
            self.mark = mark(self.serial);
        }
    }

    fn jump(&mut self, position: u64) {
        self.furthest = self.furthest.max(self.position());
        self.serial = position / self.pattern.period();
        self.at = (position % self.pattern.period()) as usize;
        self.mark = mark(self.serial);
    }

    /// Collects bytes until a mark says where in the stream they belong; returns what is behind it.
    fn look<'d>(&mut self, data: &'d [u8]) -> &'d [u8] {
        let Some(mut hunt) = self.hunt.take() else { return data };
        let searched = hunt.len().saturating_sub(MARK - 1);
        let had = hunt.len();
        let taken = data.len().min(MAX_HUNT.saturating_sub(had));
        hunt.extend_from_slice(&data[..taken]);
        let found = memchr::memchr_iter(b'\n', &hunt[searched..])
            .map(|i| i + searched)
            .find_map(|i| Some((i, parse_mark(hunt.get(i..i + MARK)?)?)));
        if let Some((i, serial)) = found {
            let start = serial * self.pattern.period();
            let back = self.matches_before(&hunt[..i], start);
            self.record(Fault { at: self.position(), foreign: i as u64 - back, resumed: start - back });
            self.matched += back;
            self.jump(start);
            self.advance(MARK);
            &data[(i + MARK) - had..]
        } else if hunt.len() >= MAX_HUNT {
            // Far more than a period without a mark: noise. Count it and begin again.
            let noise = hunt.len() - (MARK - 1);
            self.totals.foreign += noise as u64;
            hunt.drain(..noise);
            self.hunt = Some(hunt);
            &data[taken..]
        } else {
            self.hunt = Some(hunt);
            &data[taken..]
        }
    }

    /// How many of the last bytes of `hunt` are those that the stream has before `position`.
    fn matches_before(&self, hunt: &[u8], position: u64) -> u64 {
        let mut back = 0;
        for &byte in hunt.iter().rev() {
            if back == position || self.pattern.byte_at(position - back - 1) != byte {
                break;
            }
            back += 1;
        }
        back
    }

    fn record(&mut self, fault: Fault) {
        self.totals.faults += 1;
        self.totals.foreign += fault.foreign;
        self.totals.lost += fault.resumed.saturating_sub(fault.at);
        self.totals.repeated += fault.at.saturating_sub(fault.resumed);
        if self.faults.len() < KEPT_FAULTS {
            self.faults.push(fault);
        }
    }
}

fn guest_body(content: Content) -> Vec<u8> {
    let mut random = Random::new(0x5EED);
    let len = PERIOD - MARK;
    match content {
        Content::Text => (0..len)
            .map(|i| match i % 78 {
                76 => b'\r',
                77 => b'\n',
                // No '@': nothing in the body may look like a mark.
                _ => b'A' + (random.next() % 26) as u8 + if random.next() & 1 == 0 { 0 } else { 32 },
            })
            .collect(),
        Content::Binary => {
            let mut body: Vec<u8> = (0..len).map(|_| (random.next() >> 24) as u8).collect();
            // A text byte at the end keeps a doubled 0xFF from touching the next mark.
            body[len - 1] = b'.';
            body
        }
        Content::Ff => vec![0xFF; len],
    }
}

/// Bytes of the numbered line that opens each period. It holds no 0xFF, so both forms are alike.
pub(super) const MARK: usize = 16;
/// Guest bytes of a period. Prime, so that no block of a usual buffer size maps a period onto itself, and
/// small enough that a whole period stays in the processor's fast caches.
pub(super) const PERIOD: usize = 16381;
/// Faults that are kept to be shown; the rest is only counted.
pub(super) const KEPT_FAULTS: usize = 16;
/// How much is looked at for the next mark before it is called noise: two periods of the longer form.
const MAX_HUNT: usize = 4 * PERIOD;

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(pattern: &Pattern, periods: u64) -> Vec<u8> {
        let mut out = Vec::new();
        for serial in 0..periods {
            out.extend_from_slice(&mark(serial));
            out.extend_from_slice(pattern.body());
        }
        out
    }

    fn check(pattern: &Pattern, received: &[u8], sent: u64, cut: usize) -> (Totals, Vec<Fault>) {
        let mut verifier = Verifier::new(pattern);
        for piece in received.chunks(cut) {
            verifier.feed(piece);
        }
        let totals = verifier.finish(sent);
        (totals, verifier.faults().to_vec())
    }

    fn all() -> impl Iterator<Item = Pattern> {
        [Content::Text, Content::Binary, Content::Ff]
            .into_iter()
            .flat_map(|content| [Pattern::guest(content), Pattern::wire(content)])
    }

    #[test]
    fn an_intact_stream_is_clean_however_it_is_cut() {
        for pattern in all() {
            let sent = stream(&pattern, 4);
            for cut in [1, 7, 1448, 4096, 65536] {
                let (totals, faults) = check(&pattern, &sent, sent.len() as u64, cut);
                assert!(totals.clean(), "{totals:?} {faults:?}");
            }
        }
    }

    #[test]
    fn loss_is_found_located_and_counted() {
        for pattern in [Pattern::guest(Content::Text), Pattern::wire(Content::Binary)] {
            let sent = stream(&pattern, 6);
            let length = sent.len() as u64;
            for (at, n) in [(40_000, 1), (40_000, 4096), (17, 1), (16_381, 65_536), (20_000, 16_381)] {
                let mut received = sent.clone();
                received.drain(at..at + n);
                let (totals, faults) = check(&pattern, &received, length, 1448);
                assert_eq!((totals.lost, totals.repeated, totals.foreign), (n as u64, 0, 0));
                // A byte that happens to equal its successor may be blamed on the neighbour, whole periods
                // on the next mark.
                let exact = if (n as u64).is_multiple_of(pattern.period()) { pattern.period() } else { 4 };
                assert!(faults[0].at.abs_diff(at as u64) < exact, "{} not at {at}", faults[0]);
            }
        }
    }

    #[test]
    fn a_lost_tail_is_found() {
        for pattern in all() {
            let sent = stream(&pattern, 2);
            let (totals, _) = check(&pattern, &sent[..sent.len() - 100], sent.len() as u64, 1000);
            assert_eq!(totals.lost, 100);
        }
    }

    #[test]
    fn whole_periods_are_told_apart() {
        for pattern in all() {
            let sent = stream(&pattern, 6);
            let p = pattern.period() as usize;
            let mut lost = sent.clone();
            lost.drain(2 * p..3 * p);
            assert_eq!(check(&pattern, &lost, sent.len() as u64, 4096).0.lost, p as u64);
            let mut doubled = sent.clone();
            let again = sent[2 * p..3 * p].to_vec();
            doubled.splice(3 * p..3 * p, again);
            let (totals, _) = check(&pattern, &doubled, sent.len() as u64, 4096);
            assert_eq!((totals.lost, totals.repeated), (0, p as u64));
        }
    }

    #[test]
    fn doubled_bytes_are_found() {
        let pattern = Pattern::guest(Content::Text);
        let sent = stream(&pattern, 4);
        let mut received = sent.clone();
        let again = sent[20_000..24_096].to_vec();
        received.splice(24_096..24_096, again);
        let (totals, faults) = check(&pattern, &received, sent.len() as u64, 1448);
        assert_eq!((totals.lost, totals.repeated, totals.foreign), (0, 4096, 0), "{faults:?}");
    }

    #[test]
    fn swapped_blocks_are_found() {
        let pattern = Pattern::wire(Content::Binary);
        let sent = stream(&pattern, 6);
        let mut received = sent.clone();
        received[40_000..50_000].rotate_left(5_000);
        let (totals, _) = check(&pattern, &received, sent.len() as u64, 1448);
        assert!(totals.lost > 0 && !totals.clean());
    }

    #[test]
    fn a_changed_byte_is_found_and_located() {
        let pattern = Pattern::guest(Content::Binary);
        let sent = stream(&pattern, 3);
        let mut received = sent.clone();
        received[20_001] ^= 0x40;
        let (totals, faults) = check(&pattern, &received, sent.len() as u64, 512);
        assert_eq!(faults, [Fault { at: 20_001, foreign: 1, resumed: 20_002 }]);
        assert_eq!((totals.lost, totals.foreign), (1, 1));
    }

    #[test]
    fn a_line_in_place_of_lost_bytes_is_told_from_the_stream() {
        let pattern = Pattern::wire(Content::Text);
        let sent = stream(&pattern, 8);
        let mut received = sent.clone();
        let notice = b"\r\n[70000 bytes missed]\r\n";
        received.splice(20_000..90_000, notice.iter().copied());
        let (totals, _) = check(&pattern, &received, sent.len() as u64, 1448);
        assert_eq!(totals.lost - totals.foreign, 70_000 - notice.len() as u64);
        assert!(totals.foreign.abs_diff(notice.len() as u64) <= 2);
    }

    #[test]
    fn pure_noise_is_bounded_and_reported() {
        let pattern = Pattern::guest(Content::Text);
        let mut verifier = Verifier::new(&pattern);
        for _ in 0..100 {
            verifier.feed(&[b'x'; 10_000]);
        }
        assert!(verifier.hunt.as_ref().is_some_and(|hunt| hunt.len() <= MAX_HUNT));
        let totals = verifier.finish(5_000);
        assert!(totals.foreign >= 990_000 && totals.lost == 5_000);
    }

    #[test]
    fn guest_bytes_of_wire_bytes() {
        let pattern = Pattern::wire(Content::Ff);
        assert_eq!(pattern.guest_bytes(pattern.period() * 3), PERIOD as u64 * 3);
    }
}
