//! What goes on the line next, in which order, and what of it has left (SPEC §6).
//!
//! Owns the plan: the frames that the last `transmit` offered. A plan binds nobody until its bytes are reported as sent;
//! then every frame of which one byte has left must leave whole, and what it says becomes true. The rest of the plan is
//! forgotten and made anew from the state of that moment, so a word or a keystroke that turns up while the line is busy
//! waits for one frame, not for a plan.
//!
//! Order: the frame that has begun, the session's messages, words of streams, then payload, one frame per stream in turn.

use std::io::IoSlice;

use super::segments::{Cursor, Pool, Queue};
use super::streams::{NONE, Streams};
use super::wire::{HELLO, StreamId, header};

/// What a planned frame makes true when it leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
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
    /// REQUEST.
    Request,
    /// REWIND.
    Rewind,
    /// CLOSE, or v1's end of file.
    Close,
    /// v1's exit code.
    Exit,
    /// Payload.
    Data,
}

/// One frame of the plan.
#[derive(Clone, Copy, Debug)]
pub(super) struct Planned {
    pub kind: Kind,
    /// The stream, or `NONE` for the session's own frames.
    pub slot: u32,
    /// Bytes of header (or of a whole message) in `Output::wire`.
    pub head: u32,
    /// Payload: where it begins in the stream's output, and how much.
    pub cursor: Cursor,
    pub payload: u32,
}

/// A frame that has begun to leave: whatever happens, the rest of it follows.
#[derive(Clone, Debug)]
pub(super) struct Partial {
    head: [u8; HELLO],
    head_at: u8,
    head_len: u8,
    /// Payload still to go.
    pub left: u32,
    pub source: Source,
}

impl Partial {
    /// Bytes still to go.
    pub(super) fn len(&self) -> usize {
        usize::from(self.head_len - self.head_at) + self.left as usize
    }
}

/// Where the rest of a begun frame's payload is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    /// At the stream's own cursor: it counts as sent as it goes.
    Stream(u32),
    /// Here in the stream's output: a REQUEST came in the middle, it will be sent again and counts for nothing.
    Rewound(u32, Cursor),
    /// In `Output::orphan`: the stream is gone, its promise is not.
    Orphan,
}

/// The plan, and the frame that has begun.
#[derive(Debug, Default)]
pub(super) struct Output {
    /// Headers and messages of the planned frames, in order.
    pub wire: Vec<u8>,
    pub frames: Vec<Planned>,
    pub partial: Option<Partial>,
    orphan: Vec<u8>,
    /// Bytes the last `transmit` offered.
    pub offered: usize,
}

impl Output {
    /// Forgets the plan, not the begun frame. Keeps small capacities only, so that an idle session is small.
    pub(super) fn clear(&mut self, streams: &mut Streams) {
        for frame in &self.frames {
            if frame.kind == Kind::Data {
                streams[frame.slot].planned = 0;
            }
        }
        self.frames.clear();
        self.wire.clear();
        self.offered = 0;
    }

    /// Gives memory back when the session has fallen silent.
    pub(super) fn trim(&mut self) {
        if self.frames.is_empty() && self.partial.is_none() {
            *self = Self::default();
        }
    }

    /// Payload of the begun frame that still counts against this stream.
    pub(super) fn promised(&self, slot: u32) -> u32 {
        match &self.partial {
            Some(Partial { left, source: Source::Stream(at), .. }) if *at == slot => *left,
            _ => 0,
        }
    }

    /// Adds a frame whose header or message was appended to `wire` at `from`.
    pub(super) fn push(&mut self, kind: Kind, slot: u32, from: usize) {
        let head = (self.wire.len() - from) as u32;
        self.frames.push(Planned { kind, slot, head, cursor: Cursor::FRONT, payload: 0 });
    }

    /// Adds a bare header.
    pub(super) fn word(&mut self, kind: Kind, slot: u32, id: StreamId, word: u32) {
        let from = self.wire.len();
        self.wire.extend_from_slice(&header(id, word));
        self.push(kind, slot, from);
    }

    /// The stream goes back to its first unacked byte; the begun frame stays where it is.
    pub(super) fn handle_rewound(&mut self, slot: u32, cursor: Cursor) {
        if let Some(partial) = &mut self.partial
            && matches!(partial.source, Source::Stream(at) if at == slot)
        {
            partial.source = Source::Rewound(slot, cursor);
        }
    }

    /// The stream goes away; keeps what its begun frame still needs: at most one frame.
    pub(super) fn handle_orphaned(&mut self, slot: u32, pool: &Pool, output: &Queue, at: Cursor) {
        let Some(partial) = &mut self.partial else { return };
        let mut cursor = match partial.source {
            Source::Stream(owner) if owner == slot => at,
            Source::Rewound(owner, cursor) if owner == slot => cursor,
            _ => return,
        };
        partial.source = Source::Orphan;
        self.orphan.clear();
        let mut left = partial.left as usize;
        while left > 0 {
            let run = pool.front(output, cursor);
            if run.is_empty() {
                // Cannot be: a begun frame's bytes are held until they are acked. Keep the framing whatever happens.
                self.orphan.resize(self.orphan.len() + left, 0);
                break;
            }
            let run = &run[..run.len().min(left)];
            self.orphan.extend_from_slice(run);
            cursor = pool.advance(output, cursor, run.len() as u32);
            left -= run.len();
        }
    }

    /// Fills `runs` with the begun frame and the plan; returns how many were filled. Borrowed, nothing is copied.
    pub(super) fn fill<'a>(
        &'a self,
        pool: &'a Pool,
        streams: &'a Streams,
        runs: &mut [IoSlice<'a>],
    ) -> (usize, usize) {
        let mut filler = Filler { runs, used: 0, bytes: 0 };
        if let Some(partial) = &self.partial {
            filler.push(&partial.head[partial.head_at.into()..partial.head_len.into()]);
            let left = partial.left;
            let whole = match partial.source {
                Source::Stream(slot) => {
                    filler.payload(pool, &streams[slot].output, streams[slot].cursor, left)
                }
                Source::Rewound(slot, cursor) => filler.payload(pool, &streams[slot].output, cursor, left),
                Source::Orphan => filler.push(&self.orphan[self.orphan.len() - left as usize..]),
            };
            if !whole {
                return (filler.used, filler.bytes);
            }
        }
        let (mut from, mut to) = (0, 0);
        for frame in &self.frames {
            to += frame.head as usize;
            if frame.payload > 0 {
                if !filler.push(&self.wire[from..to])
                    || !filler.payload(pool, &streams[frame.slot].output, frame.cursor, frame.payload)
                {
                    return (filler.used, filler.bytes);
                }
                from = to;
            }
        }
        filler.push(&self.wire[from..to]);
        (filler.used, filler.bytes)
    }

    /// The begun frame loses `n` of its bytes at most; returns how many header and payload bytes went, and whose the
    /// payload was. Forgets it when it is through.
    pub(super) fn handle_partial_sent(&mut self, n: usize) -> (usize, u32, Source) {
        let Some(partial) = &mut self.partial else { return (0, 0, Source::Orphan) };
        let head = n.min(usize::from(partial.head_len - partial.head_at));
        partial.head_at += head as u8;
        let payload = (n - head).min(partial.left as usize) as u32;
        partial.left -= payload;
        let source = partial.source;
        let done = partial.head_at == partial.head_len && partial.left == 0;
        if done {
            self.partial = None;
            self.orphan = Vec::new();
        }
        (head, payload, source)
    }

    /// A planned frame has begun but not ended.
    pub(super) fn begin(&mut self, frame: &Planned, head_from: usize, head_sent: usize, payload_sent: u32) {
        let mut head = [0; HELLO];
        let len = (frame.head as usize).min(HELLO);
        head[..len].copy_from_slice(&self.wire[head_from..head_from + len]);
        self.partial = Some(Partial {
            head,
            head_at: head_sent as u8,
            head_len: len as u8,
            left: frame.payload - payload_sent,
            source: if frame.slot == NONE || frame.payload == 0 {
                Source::Orphan
            } else {
                Source::Stream(frame.slot)
            },
        });
    }
}

/// Fills runs in order, and never leaves a hole.
struct Filler<'r, 'a> {
    runs: &'r mut [IoSlice<'a>],
    used: usize,
    bytes: usize,
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
        self.bytes += bytes.len();
        true
    }

    fn payload(&mut self, pool: &'a Pool, queue: &'a Queue, mut cursor: Cursor, mut left: u32) -> bool {
        while left > 0 {
            let run = pool.front(queue, cursor);
            let run = &run[..run.len().min(left as usize)];
            if run.is_empty() || !self.push(run) {
                return false;
            }
            cursor = pool.advance(queue, cursor, run.len() as u32);
            left -= run.len() as u32;
        }
        true
    }
}
