//! The frame that has begun to leave: whatever happens to its stream, the rest of it follows.
//!
//! Owns its header and the promise of its payload; the bytes lie in the stream's output, or here once the
//! stream is gone (at most one frame). Refuses to know why the frame was sent and what is planned behind it.

use super::segments::{Cursor, Pool, Queue};
use super::table::Table;
use super::wire::HELLO;

/// Where the rest of a begun frame's payload is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    /// At the stream's own cursor: it counts as sent as it goes.
    Stream(u32),
    /// Here in the stream's output: a REQUEST came in the middle, it will be sent again and counts for
    /// nothing.
    Rewound(u32, Cursor),
    /// Kept here: the stream is gone, its promise is not.
    Orphan,
}

/// At most one frame.
#[derive(Debug, Default)]
pub(super) struct Begun {
    frame: Option<Partial>,
    orphan: Vec<u8>,
}

#[derive(Clone, Debug)]
struct Partial {
    head: [u8; HELLO],
    head_at: u8,
    head_len: u8,
    /// Payload still to go.
    left: u32,
    source: Source,
}

impl Begun {
    /// Whether a frame has begun.
    pub(super) const fn is_some(&self) -> bool {
        self.frame.is_some()
    }

    /// Bytes still to go.
    pub(super) fn len(&self) -> usize {
        self.frame
            .as_ref()
            .map_or(0, |frame| usize::from(frame.head_len - frame.head_at) + frame.left as usize)
    }

    /// Payload that still counts against the stream in `slot`.
    pub(super) fn promised(&self, slot: u32) -> u32 {
        match &self.frame {
            Some(Partial { left, source: Source::Stream(at), .. }) if *at == slot => *left,
            _ => 0,
        }
    }

    /// A frame has begun: `sent` bytes of its `head` (a header, or a message) have left, and all but `left`
    /// bytes of the payload, which is that of the stream in `slot`, if it has one.
    pub(super) fn begin(&mut self, head: &[u8], sent: usize, left: u32, slot: Option<u32>) {
        let mut copy = [0; HELLO];
        let len = head.len().min(HELLO);
        copy[..len].copy_from_slice(&head[..len]);
        let source = slot.map_or(Source::Orphan, Source::Stream);
        self.frame = Some(Partial { head: copy, head_at: sent as u8, head_len: len as u8, left, source });
    }

    /// At most `n` bytes of it left: how many of header and payload, and where the payload came from. Forgets
    /// it when it is through.
    pub(super) fn handle_sent(&mut self, n: usize) -> (usize, u32, Source) {
        let Some(frame) = &mut self.frame else { return (0, 0, Source::Orphan) };
        let head = n.min(usize::from(frame.head_len - frame.head_at));
        frame.head_at += head as u8;
        let payload = (n - head).min(frame.left as usize) as u32;
        frame.left -= payload;
        let source = frame.source;
        if frame.head_at == frame.head_len && frame.left == 0 {
            *self = Self::default();
        }
        (head, payload, source)
    }

    /// Payload that does not count as sent left: the place it comes from moves on.
    pub(super) fn advance(&mut self, slot: u32, cursor: Cursor) {
        if let Some(frame) = &mut self.frame
            && let Source::Rewound(at, place) = &mut frame.source
            && *at == slot
        {
            *place = cursor;
        }
    }

    /// The stream in `slot`, whose next byte was at `cursor`, goes back to its first unacked byte.
    pub(super) fn handle_rewound(&mut self, slot: u32, cursor: Cursor) {
        if let Some(frame) = &mut self.frame
            && matches!(frame.source, Source::Stream(at) if at == slot)
        {
            frame.source = Source::Rewound(slot, cursor);
        }
    }

    /// The stream in `slot` goes away with its `unacked` bytes; keeps what is still needed of it.
    pub(super) fn handle_orphaned(&mut self, slot: u32, pool: &Pool, unacked: &Queue, from: Cursor) {
        let Some(frame) = &mut self.frame else { return };
        let mut cursor = match frame.source {
            Source::Stream(at) if at == slot => from,
            Source::Rewound(at, cursor) if at == slot => cursor,
            _ => return,
        };
        frame.source = Source::Orphan;
        self.orphan.clear();
        let mut left = frame.left as usize;
        while left > 0 {
            let run = pool.front(unacked, cursor);
            if run.is_empty() {
                // Cannot be: a begun frame's bytes are held until they are gone. Keep the framing whatever
                // happens.
                self.orphan.resize(self.orphan.len() + left, 0);
                break;
            }
            let run = &run[..run.len().min(left)];
            self.orphan.extend_from_slice(run);
            cursor = pool.advance(unacked, cursor, run.len() as u32);
            left -= run.len();
        }
    }

    /// The entry that was in `from` is in `to` now.
    pub(super) fn handle_moved(&mut self, from: u32, to: u32) {
        if let Some(frame) = &mut self.frame {
            match &mut frame.source {
                Source::Stream(slot) | Source::Rewound(slot, _) if *slot == from => *slot = to,
                Source::Stream(_) | Source::Rewound(..) | Source::Orphan => {}
            }
        }
    }

    /// The pool's segments have the places now that `places` says.
    pub(super) fn handle_segments_moved(&mut self, places: &[u32]) {
        if let Some(Partial { source: Source::Rewound(_, cursor), .. }) = &mut self.frame {
            cursor.handle_moved(places);
        }
    }

    /// Gives its runs to `push` in order, until that returns false; returns whether all of it went.
    pub(super) fn runs<'a>(
        &'a self,
        pool: &'a Pool,
        table: &'a Table,
        mut push: impl FnMut(&'a [u8]) -> bool,
    ) -> bool {
        let Some(frame) = &self.frame else { return true };
        let head = &frame.head[frame.head_at.into()..frame.head_len.into()];
        if !head.is_empty() && !push(head) {
            return false;
        }
        match frame.source {
            Source::Stream(slot) => pool.runs(&table[slot].unacked, table[slot].cursor, frame.left, push),
            Source::Rewound(slot, cursor) => pool.runs(&table[slot].unacked, cursor, frame.left, push),
            Source::Orphan => {
                let rest = &self.orphan[self.orphan.len() - (frame.left as usize).min(self.orphan.len())..];
                rest.is_empty() || push(rest)
            }
        }
    }

    /// The line is another one: what has begun will not be finished.
    pub(super) fn abandon(&mut self) {
        *self = Self::default();
    }

    /// Bytes of heap held.
    pub(super) fn memory(&self) -> usize {
        self.orphan.capacity()
    }
}
