//! One direction of a TCP connection: segments in any order in, one stream of bytes out (RFC 9293 §3.4).
//!
//! The whole capture is there to look at, so nobody has to guess how long to wait for a missing segment: a
//! byte that appears in any later frame fills its gap, and what appears in none is a hole. What comes
//! after a gap that was filled late is due only then, as for the real receiver; what comes after a hole is
//! due when it was captured.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use super::ip::Segment;

/// One direction of a connection, in order.
#[derive(Debug)]
pub(crate) struct Stream {
    /// All bytes that were captured, in order.
    pub bytes: Vec<u8>,
    /// Where they came from, in order: the ranges and holes of the stream.
    pub parts: Vec<Part>,
    /// Whether its beginning was captured.
    pub start: Start,
    /// How it ended, if that was captured.
    pub end: Option<End>,
    /// Frames whose bytes differ from those of an earlier frame for the same place.
    pub conflicts: Vec<u64>,
    /// Frames with sequence numbers far from this stream's.
    pub strays: Vec<u64>,
}

/// A piece of a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    /// Bytes of one frame.
    Bytes {
        /// Where in [`Stream::bytes`] they are.
        range: Range<usize>,
        /// The frame that carried them first.
        frame: u64,
        /// The frame with which everything before them was there too.
        due: u64,
        /// The time of that frame.
        time: Duration,
        /// The place of the first of them in the stream, holes counted.
        offset: i64,
        /// The place in the other direction before which their sender had everything.
        knows: i64,
    },
    /// Bytes that are in no frame.
    Hole {
        /// How many.
        length: u64,
        /// The place of the first of them in the stream.
        offset: i64,
        /// The frame whose bytes come before them.
        after: Option<u64>,
        /// The frame whose bytes come after them.
        before: Option<u64>,
        /// A frame that held them, cut by the capture's snap length.
        clipped: Option<u64>,
    },
}

/// Whether the beginning of a stream is in the capture.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Start {
    /// Its SYN was seen.
    Syn,
    /// The capture began, or lost the SYN, when the connection was up already.
    Middle,
}

/// The end of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct End {
    /// FIN or RST.
    pub how: How,
    /// The frame that carried it.
    pub frame: u64,
    /// The frame with which everything before it was there too.
    pub due: u64,
    /// The time of that frame.
    pub time: Duration,
    /// The place in the other direction before which its sender had everything.
    pub knows: i64,
}

/// How a stream ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum How {
    /// In order.
    Fin,
    /// By a reset.
    Rst,
}

/// When a segment came, and how much of the other direction it confirms ([`i64::MIN`]: not known).
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub(super) frame: u64,
    pub(super) time: Duration,
    pub(super) knows: i64,
}

/// Collects one direction's segments.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    /// The sequence number of offset 0.
    origin: Option<u32>,
    /// Offset 0 is the first byte after this SYN.
    pub(super) syn: Option<u32>,
    /// The highest offset seen, which later sequence numbers are relative to.
    highest: i64,
    /// Captured payload, in order of arrival.
    store: Vec<u8>,
    /// By offset; they do not overlap.
    pieces: BTreeMap<i64, Piece>,
    /// Parts of segments that the capture cut off: by start, their end and frame.
    clipped: BTreeMap<i64, (i64, u64)>,
    fin: Option<(i64, Arrival)>,
    rst: Option<Arrival>,
    /// The highest offset that the other side has confirmed.
    confirmed: i64,
    first_time: Duration,
    last_time: Duration,
    conflicts: Vec<u64>,
    strays: Vec<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Piece {
    at: usize,
    length: usize,
    frame: u64,
    time: Duration,
    /// How much of the other direction its sender had received.
    knows: i64,
}

impl Assembler {
    /// Where `seq` lies, if this stream has begun.
    fn offset(&self, seq: u32) -> Option<i64> {
        let expected = self.origin?.wrapping_add(self.highest as u32);
        Some(self.highest + i64::from(seq.wrapping_sub(expected).cast_signed()))
    }

    /// Whether `seq` is within `range` of where this stream is. True if it has not begun.
    pub(super) fn near(&self, seq: u32, range: i64) -> bool {
        self.offset(seq).is_none_or(|offset| (offset - self.highest).abs() <= range)
    }

    /// Whether a FIN or RST was seen.
    pub(super) fn ended(&self) -> bool {
        self.fin.is_some() || self.rst.is_some()
    }

    /// Whether nothing was seen of it, not even its SYN.
    pub(super) fn is_unknown(&self) -> bool {
        self.origin.is_none()
    }

    /// The time of its last segment.
    pub(super) fn last_time(&self) -> Duration {
        self.last_time
    }

    /// Whether a SYN with this number can be the beginning of what was seen so far.
    pub(super) fn fits_syn(&self, seq: u32, time: Duration) -> bool {
        match (self.syn, self.origin) {
            (Some(known), _) => known == seq,
            (None, None) => true,
            (None, Some(_)) => {
                let late = time.saturating_sub(self.first_time) > DISORDER;
                !late && self.offset(seq.wrapping_add(1)).is_some_and(|o| (-DISORDER_BYTES..=0).contains(&o))
            }
        }
    }

    /// Takes this direction's SYN; everything seen so far fits it. By how much that shifted the stream.
    pub(super) fn take_syn(&mut self, seq: u32, time: Duration) -> i64 {
        if self.syn.is_some() {
            return 0;
        }
        self.syn = Some(seq);
        let first = seq.wrapping_add(1);
        let shift = self.offset(first);
        match shift {
            None => self.begin(first, time),
            Some(shift) => self.rebase(shift),
        }
        shift.unwrap_or(0)
    }

    /// The other direction was shifted.
    pub(super) fn shift_acks(&mut self, shift: i64) {
        let ends = self
            .fin
            .iter_mut()
            .map(|(_, at)| &mut at.knows)
            .chain(self.rst.iter_mut().map(|at| &mut at.knows));
        for knows in self.pieces.values_mut().map(|piece| &mut piece.knows).chain(ends) {
            *knows = knows.saturating_sub(shift);
        }
    }

    fn begin(&mut self, seq: u32, time: Duration) {
        self.origin = Some(seq);
        self.first_time = time;
    }

    /// Makes what is offset `shift` now offset 0.
    fn rebase(&mut self, shift: i64) {
        self.origin = self.origin.map(|origin| origin.wrapping_add(shift as u32));
        self.highest -= shift;
        self.confirmed -= shift;
        self.pieces = std::mem::take(&mut self.pieces).into_iter().map(|(at, p)| (at - shift, p)).collect();
        let clipped = std::mem::take(&mut self.clipped).into_iter();
        self.clipped = clipped.map(|(start, (end, frame))| (start - shift, (end - shift, frame))).collect();
        if let Some((at, _)) = &mut self.fin {
            *at -= shift;
        }
    }

    /// The other side has confirmed everything before `ack`: the offset that this means.
    pub(super) fn take_ack(&mut self, ack: u32) -> Option<i64> {
        let offset = self.offset(ack).filter(|offset| (offset - self.highest).abs() <= WINDOW)?;
        self.confirmed = self.confirmed.max(offset);
        Some(offset)
    }

    /// Takes a segment's payload and FIN or RST. `knows`: how much of the other direction it confirms. At
    /// most `limit` bytes of payload are kept.
    pub(super) fn take(&mut self, segment: &Segment<'_>, at: Arrival, limit: usize) {
        let Arrival { frame, time, .. } = at;
        let seq = if segment.syn { segment.seq.wrapping_add(1) } else { segment.seq };
        if self.origin.is_none() {
            if segment.rst || segment.length == 0 && !segment.fin {
                return;
            }
            self.begin(seq, time);
        }
        let Some(start) = self.offset(seq) else { return };
        if (start - self.highest).abs() > WINDOW {
            self.strays.push(frame);
            return;
        }
        self.last_time = time;
        let end = start + segment.length as i64;
        if segment.length > 0 {
            // Without a SYN the first segment seen need not be the first; but what comes much later is a
            // repetition of what was sent before the capture began.
            let early = self.syn.is_none() && time.saturating_sub(self.first_time) <= DISORDER;
            let floor = if early { -DISORDER_BYTES } else { self.floor() };
            self.insert(start.max(floor), start, segment, at, limit);
            self.highest = self.highest.max(end);
            if self.rst.is_some() {
                // It talks on, so that reset was not its own or was not believed.
                self.rst = None;
            }
        }
        if segment.fin && self.fin.is_none() {
            self.fin = Some((end, at));
            self.highest = self.highest.max(end);
        }
        if segment.rst && self.rst.is_none() {
            self.rst = Some(at);
        }
    }

    /// Nothing before this offset belongs to the stream.
    fn floor(&self) -> i64 {
        match self.syn {
            Some(_) => 0,
            None => self.pieces.keys().next().copied().unwrap_or(0).min(0),
        }
    }

    /// Stores what is new in the payload that lies at `start`, from offset `from` on.
    fn insert(&mut self, from: i64, start: i64, segment: &Segment<'_>, arrival: Arrival, limit: usize) {
        let Arrival { frame, time, knows } = arrival;
        let end = start + segment.payload.len() as i64;
        let cut = start + segment.length as i64;
        if cut > end {
            self.clipped.insert(end, (cut, frame));
        }
        // A probe of an idle connection (RFC 9293 §3.8.4) may put any byte in place of the last one.
        let probe = segment.length == 1 && cut == self.highest;
        let mut at = from;
        while at < end {
            // The piece that covers `at`, or else the next one after it.
            let covering = self.pieces.range(..=at).next_back().map(|(o, p)| (*o, *p));
            if let Some((offset, piece)) = covering.filter(|(o, p)| o + p.length as i64 > at) {
                let stop = end.min(offset + piece.length as i64);
                let old = &self.store[piece.at + (at - offset) as usize..][..(stop - at) as usize];
                if !probe && old != &segment.payload[(at - start) as usize..(stop - start) as usize] {
                    self.conflicts.push(frame);
                }
                at = stop;
                continue;
            }
            let stop = self.pieces.range(at..).next().map_or(end, |(offset, _)| end.min(*offset));
            let fresh = &segment.payload[(at - start) as usize..(stop - start) as usize];
            let kept = fresh.len().min(limit.saturating_sub(self.store.len()));
            if kept > 0 {
                let piece = Piece { at: self.store.len(), length: kept, frame, time, knows };
                self.store.extend_from_slice(&fresh[..kept]);
                self.pieces.insert(at, piece);
            }
            if kept < fresh.len() {
                return;
            }
            at = stop;
        }
    }

    /// Puts everything in order.
    pub(super) fn finish(mut self) -> Stream {
        self.conflicts.dedup();
        let last = self.fin.map_or(i64::MAX, |(at, _)| at);
        let mut stream = Stream {
            bytes: Vec::with_capacity(self.store.len()),
            parts: Vec::with_capacity(self.pieces.len()),
            start: if self.syn.is_some() { Start::Syn } else { Start::Middle },
            end: None,
            conflicts: std::mem::take(&mut self.conflicts),
            strays: std::mem::take(&mut self.strays),
        };
        let mut at = self.floor();
        let (mut due, mut now, mut after) = (0, Duration::ZERO, None);
        for (offset, piece) in &self.pieces {
            let length = (last - offset).clamp(0, piece.length as i64) as usize;
            if length == 0 {
                continue;
            }
            if *offset > at {
                stream.parts.push(self.hole(at..*offset, after, Some(piece.frame)));
            }
            (due, now) = (due.max(piece.frame), now.max(piece.time));
            let from = stream.bytes.len();
            stream.bytes.extend_from_slice(&self.store[piece.at..piece.at + length]);
            let range = from..stream.bytes.len();
            let (frame, time, knows) = (piece.frame, now, piece.knows);
            stream.parts.push(Part::Bytes { range, frame, due, time, offset: *offset, knows });
            at = offset + length as i64;
            after = Some(piece.frame);
        }
        // What is missing at the end is known from a later sequence number or the other side's word.
        let reach = match self.fin {
            Some((at, _)) => at,
            None => self.clipped.values().map(|(end, _)| *end).max().unwrap_or(at).max(self.confirmed),
        };
        if reach > at && self.origin.is_some() {
            stream.parts.push(self.hole(at..reach, after, self.fin.map(|(_, at)| at.frame)));
        }
        let end = |how, at: Arrival| {
            let (frame, knows) = (at.frame, at.knows);
            Some(End { how, frame, due: due.max(frame), time: now.max(at.time), knows })
        };
        stream.end = match (self.fin, self.rst) {
            (Some((_, at)), _) => end(How::Fin, at),
            (None, Some(at)) => end(How::Rst, at),
            (None, None) => None,
        };
        stream
    }

    fn hole(&self, range: Range<i64>, after: Option<u64>, before: Option<u64>) -> Part {
        let clipped = self.clipped.range(..range.end).next_back();
        let clipped = clipped.filter(|(_, (end, _))| *end > range.start).map(|(_, (_, frame))| *frame);
        let (length, offset) = ((range.end - range.start).unsigned_abs(), range.start);
        Part::Hole { length, offset, after, before, clipped }
    }
}

/// The largest window TCP has (RFC 7323 §2.3): what lies further away is not of this stream.
const WINDOW: i64 = 1 << 30;

/// How far back in a stream without SYN a segment may reach for what was first seen of it.
const DISORDER_BYTES: i64 = 1 << 20;

/// For how long after the first segment such disorder is believed.
const DISORDER: Duration = Duration::from_secs(3);
