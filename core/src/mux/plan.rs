//! What goes on the line next, in which order, and what of it has left (SPEC §6).
//!
//! Owns the plan: the frames that the last `transmit` offered. A plan binds nobody until its bytes are
//! reported as sent; then every frame of which one byte has left must leave whole, and what it says becomes
//! true. The rest of the plan is forgotten and made anew from the state of that moment, so a word or a
//! keystroke that turns up while the line is busy waits for one frame, not for a plan. A plan is not longer
//! than twice what the line took last, so that a line which takes a few bytes at a time does not cost a long
//! plan for each.
//!
//! Order: the frame that has begun, the session's messages, words of streams, then payload: high priority
//! before low, in each who had no turn in this round before who had one, one frame per stream in turn.

use std::io::IoSlice;

use super::begun::Source;
use super::bits::Words;
use super::config::Priority;
use super::control::{Control, Reply};
use super::decoder::Dialect;
use super::segments::Cursor;
use super::stream::List;
use super::streams::Streams;
use super::table::NONE;
use super::wire::{HEADER, MAX_ACK, Message, Opening, StreamId, Word, header};
use crate::time::Instant;

/// What a planned frame makes true when it leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The opening message.
    Hello,
    /// The closing one.
    GoAway,
    /// The oldest unanswered PING.
    Pong,
    /// A question.
    Ping,
    /// The oldest reply to a frame for no stream.
    Stray,
    /// ACK of so many bytes on the stream in this slot.
    Ack(u32),
    /// A word that is due.
    Word(Words),
    /// Payload.
    Data,
}

/// One frame of the plan.
#[derive(Clone, Copy, Debug)]
struct Planned {
    kind: Kind,
    /// The stream, or `NONE` for the session's own frames.
    slot: u32,
    /// Bytes of header (or of a whole message) in `Plan::wire`.
    head: u32,
    /// Payload: where it begins in the stream's output, and how much.
    cursor: Cursor,
    payload: u32,
}

/// The plan.
#[derive(Debug)]
pub(super) struct Plan {
    /// Headers and messages of the planned frames, in order.
    wire: Vec<u8>,
    frames: Vec<Planned>,
    /// Bytes of the begun frame, which go first.
    begun: usize,
    /// Payload in the plan.
    payload: usize,
    /// How much to plan: twice what the line took last.
    appetite: usize,
}

/// What has left, besides what streams have noted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sent {
    /// A PING.
    pub ping: bool,
}

impl Plan {
    /// Nothing planned.
    pub(super) const fn new() -> Self {
        Self { wire: Vec::new(), frames: Vec::new(), begun: 0, payload: 0, appetite: usize::MAX }
    }

    /// Forgets the plan, not the begun frame.
    pub(super) fn clear(&mut self, streams: &mut Streams) {
        for frame in &self.frames {
            if frame.kind == Kind::Data {
                streams.table[frame.slot].planned = 0;
            }
        }
        self.frames.clear();
        self.wire.clear();
        (self.begun, self.payload) = (0, 0);
    }

    /// Bytes that the last plan offers.
    pub(super) const fn offered(&self) -> usize {
        self.begun + self.wire.len() + self.payload
    }

    /// Gives memory back when the session has fallen silent.
    pub(super) fn trim(&mut self) {
        if self.frames.is_empty() {
            (self.wire, self.frames) = (Vec::new(), Vec::new());
        }
    }

    /// Bytes of heap held.
    pub(super) fn memory(&self) -> usize {
        self.wire.capacity() + self.frames.capacity() * size_of::<Planned>()
    }

    /// Decides what is to be sent next. Work in proportion to it, and at most to twice what the line took
    /// last.
    pub(super) fn make(
        &mut self,
        max_runs: usize,
        hello: Option<Opening>,
        control: &Control,
        streams: &mut Streams,
    ) {
        self.clear(streams);
        if max_runs == 0 {
            return;
        }
        self.begun = streams.begun.len();
        if self.is_full() {
            return;
        }
        self.plan_messages(hello, control);
        if let Some(terms) = streams.terms() {
            self.plan_replies(terms.dialect, control);
            self.plan_words(terms.dialect, streams);
            let mut room = (max_runs / 2 + 1).min(PLAN_FRAMES);
            for priority in Priority::ALL {
                self.plan_data(terms.dialect, priority, &mut room, streams);
            }
        }
    }

    /// Whether enough is planned.
    fn is_full(&self) -> bool {
        self.offered() >= self.appetite.max(PLAN_LEAST)
    }

    fn plan_messages(&mut self, hello: Option<Opening>, control: &Control) {
        let mut queue = |kind, message: Message| {
            let from = self.wire.len();
            message.encode(&mut self.wire);
            self.push(kind, NONE, from);
        };
        if let Some(hello) = hello {
            queue(Kind::Hello, Message::Hello(hello));
        }
        if let Some((code, last)) = control.go_away {
            queue(Kind::GoAway, Message::GoAway { code, last });
        }
        for token in control.pongs() {
            queue(Kind::Pong, Message::Pong(token));
        }
        if let Some(token) = control.ping {
            queue(Kind::Ping, Message::Ping(token));
        }
    }

    fn plan_replies(&mut self, dialect: Dialect, control: &Control) {
        for (id, reply) in control.replies().take(PLAN_WORDS) {
            if self.is_full() {
                return;
            }
            let word = match (dialect, reply) {
                (Dialect::V1, _) => HEADER as u32,
                (Dialect::S2, Reply::Ack(n)) => Word::Ack(n).to_u32(),
                (Dialect::S2, Reply::Close) => Word::Close.to_u32(),
                (Dialect::S2, Reply::Reset | Reply::Goodbye) => Word::Reset.to_u32(),
            };
            self.word(Kind::Stray, NONE, id, word);
        }
    }

    fn plan_words(&mut self, dialect: Dialect, streams: &Streams) {
        let mut at = streams.table.front(List::Words);
        while let Some(slot) = at {
            at = streams.table.after(List::Words, slot);
            if self.frames.len() > 2 * PLAN_WORDS || self.is_full() {
                return;
            }
            let stream = &streams.table[slot];
            if dialect == Dialect::V1 {
                if stream.due.has(Words::CLOSE) {
                    self.word(Kind::Word(Words::CLOSE), slot, stream.id, HEADER as u32);
                }
                if stream.due.has(Words::EXIT) {
                    let from = self.wire.len();
                    self.wire.extend_from_slice(&header(stream.id, HEADER as u32 + 1));
                    self.wire.push(stream.exit);
                    self.push(Kind::Word(Words::EXIT), slot, from);
                }
                continue;
            }
            // In this order: a REQUEST speaks of what is acked before it, a CLOSE of what was rewound before
            // it.
            if stream.ack > 0 {
                let n = stream.ack.min(MAX_ACK);
                self.word(Kind::Ack(n), slot, stream.id, Word::Ack(n).to_u32());
            }
            for (bit, word) in [
                (Words::OPEN, Word::Empty),
                (Words::REQUEST, Word::Request),
                (Words::REWIND, Word::Rewind),
                (Words::GROW, Word::Grow),
                (Words::CLOSE, Word::Close),
                (Words::RESET, Word::Reset),
            ] {
                if stream.due.has(bit) {
                    self.word(Kind::Word(bit), slot, stream.id, word.to_u32());
                }
            }
        }
    }

    /// One frame of each stream that has something to send, then another, until the runs are used up.
    fn plan_data(&mut self, dialect: Dialect, priority: Priority, room: &mut usize, streams: &mut Streams) {
        let mut any = true;
        while std::mem::take(&mut any) {
            for list in [List::Fresh(priority), List::Turn(priority)] {
                let mut at = streams.table.front(list);
                while let Some(slot) = at {
                    at = streams.table.after(list, slot);
                    if *room == 0 || (self.is_full() && !self.frames.is_empty()) {
                        return;
                    }
                    let planned = streams.table[slot].planned;
                    let promised = streams.begun.promised(slot);
                    let len = streams.next_frame(slot, planned + promised);
                    if len == 0 {
                        continue;
                    }
                    let stream = &mut streams.table[slot];
                    if planned == 0 {
                        stream.plan_cursor = streams.pool.advance(&stream.unacked, stream.cursor, promised);
                    }
                    let cursor = stream.plan_cursor;
                    stream.plan_cursor = streams.pool.advance(&stream.unacked, cursor, len);
                    stream.planned += len;
                    let word = match dialect {
                        Dialect::S2 => Word::Data(len).to_u32(),
                        Dialect::V1 => len + HEADER as u32,
                    };
                    self.wire.extend_from_slice(&header(stream.id, word));
                    let head = HEADER as u32;
                    self.frames.push(Planned { kind: Kind::Data, slot, head, cursor, payload: len });
                    self.payload += len as usize;
                    *room -= 1;
                    any = true;
                }
            }
        }
    }

    /// Adds a frame whose header or message was appended to `wire` at `from`.
    fn push(&mut self, kind: Kind, slot: u32, from: usize) {
        let head = (self.wire.len() - from) as u32;
        self.frames.push(Planned { kind, slot, head, cursor: Cursor::FRONT, payload: 0 });
    }

    /// Adds a bare header.
    fn word(&mut self, kind: Kind, slot: u32, id: StreamId, word: u32) {
        let from = self.wire.len();
        self.wire.extend_from_slice(&header(id, word));
        self.push(kind, slot, from);
    }

    /// Fills `runs` with the begun frame and the plan; returns how many were filled. Borrowed, nothing is
    /// copied.
    pub(super) fn fill<'a>(&'a self, streams: &'a Streams, runs: &mut [IoSlice<'a>]) -> usize {
        let (pool, table) = (&streams.pool, &streams.table);
        let mut filler = Filler { runs, used: 0 };
        if !streams.begun.runs(pool, table, |run| filler.push(run)) {
            return filler.used;
        }
        let (mut from, mut to) = (0, 0);
        for frame in &self.frames {
            to += frame.head as usize;
            if frame.payload > 0 {
                let output = &table[frame.slot].unacked;
                if !filler.push(&self.wire[from..to])
                    || !pool.runs(output, frame.cursor, frame.payload, |run| filler.push(run))
                {
                    return filler.used;
                }
                from = to;
            }
        }
        filler.push(&self.wire[from..to]);
        filler.used
    }

    /// The line took `n` of the `offered` bytes that [`Self::fill`] has filled runs with.
    pub(super) fn handle_sent(
        &mut self,
        n: usize,
        offered: usize,
        control: &mut Control,
        streams: &mut Streams,
        now: Instant,
    ) -> Sent {
        let mut sent = Sent::default();
        self.appetite = if n == offered { self.appetite.max(n).saturating_mul(2) } else { 2 * n };
        let mut n = n;
        let (head, payload, source) = streams.begun.handle_sent(n);
        n -= head + payload as usize;
        match source {
            Source::Stream(slot) => streams.handle_payload_sent(slot, payload, true, now),
            Source::Rewound(slot, cursor) => {
                let cursor = streams.pool.advance(&streams.table[slot].unacked, cursor, payload);
                streams.begun.advance(slot, cursor);
            }
            Source::Orphan => {}
        }
        let frames = std::mem::take(&mut self.frames);
        let mut head_from = 0;
        for frame in &frames {
            if n == 0 {
                break;
            }
            let head = n.min(frame.head as usize);
            let payload = (n - head).min(frame.payload as usize) as u32;
            n -= head + payload as usize;
            if head < frame.head as usize || payload < frame.payload {
                let bytes = &self.wire[head_from..head_from + frame.head as usize];
                let slot = (frame.payload > 0).then_some(frame.slot);
                streams.begun.begin(bytes, head, frame.payload - payload, slot);
            }
            handle_frame_sent(frame, payload, control, streams, &mut sent, now);
            head_from += frame.head as usize;
        }
        self.frames = frames;
        self.clear(streams);
        sent
    }
}

/// The first byte of a planned frame has left, and `payload` bytes of its payload.
fn handle_frame_sent(
    frame: &Planned,
    payload: u32,
    control: &mut Control,
    streams: &mut Streams,
    sent: &mut Sent,
    now: Instant,
) {
    let slot = frame.slot;
    match frame.kind {
        Kind::Hello => control.hello = false,
        Kind::GoAway => control.go_away = None,
        Kind::Pong => control.handle_pong_sent(),
        Kind::Ping => {
            control.ping = None;
            sent.ping = true;
        }
        Kind::Stray => control.handle_reply_sent(),
        Kind::Ack(n) => {
            let stream = &mut streams.table[slot];
            stream.ack = stream.ack.saturating_sub(n);
            streams.refresh(slot);
        }
        Kind::Word(Words::RESET) => {
            streams.table[slot].due.take(Words::RESET);
            streams.table.unlink(List::Words, slot);
            streams.remove_if_through(slot);
        }
        Kind::Word(bit) => {
            let stream = &mut streams.table[slot];
            stream.due.take(bit);
            if bit == Words::CLOSE {
                stream.sender.handle_close_sent();
            }
            // A frame of the stream announces it, too.
            stream.due.take(Words::OPEN);
            streams.refresh(slot);
        }
        Kind::Data => {
            streams.table[slot].due.take(Words::OPEN);
            // To the end of the queue: whoever has been served waits for the others.
            streams.handle_turn(slot);
            streams.handle_payload_sent(slot, payload, false, now);
        }
    }
}

/// Fills runs in order, and never leaves a hole.
struct Filler<'r, 'a> {
    runs: &'r mut [IoSlice<'a>],
    used: usize,
}

impl<'a> Filler<'_, 'a> {
    /// False where there was no run left: nothing may follow.
    fn push(&mut self, bytes: &'a [u8]) -> bool {
        if bytes.is_empty() {
            return true;
        }
        let Some(run) = self.runs.get_mut(self.used) else { return false };
        *run = IoSlice::new(bytes);
        self.used += 1;
        true
    }
}

/// The most heap that a [`Plan`] holds, and a begun frame with it: frames and headers up to the longest
/// plan, in vectors up to twice as long as need be.
pub(super) const fn bound(max_frame: u16) -> u64 {
    let frames = (3 * PLAN_WORDS + PLAN_FRAMES + 64) as u64;
    2 * frames * (size_of::<Planned>() + HEADER + 1) as u64 + 2 * max_frame as u64
}

/// Words planned at a time: 3 KiB of them; there are more only while more streams than this are busy.
const PLAN_WORDS: usize = 256;
/// Frames of payload planned at a time, however many runs are offered.
const PLAN_FRAMES: usize = 512;
/// The least that is planned, where there is as much: a few words, or a frame.
const PLAN_LEAST: usize = 64;
