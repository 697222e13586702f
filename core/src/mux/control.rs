//! What the session itself has to send: HELLO, GOAWAY, PING and PONG, and answers to frames for no stream.
//!
//! Owns these until they have left, and their bounds. Refuses to know why they are due, and what the streams
//! have to send.

use std::collections::{BTreeSet, VecDeque};

use super::wire::{GoAwayCode, MAX_ACK, StreamId};

/// The answer to a frame for no stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// S2: ACK, so that the sender does not wait for ever.
    Ack(u32),
    /// S2: CLOSE.
    Close,
    /// S2: RESET.
    Reset,
    /// v1: an empty message.
    Goodbye,
}

/// What waits to be sent, in no stream's name.
#[derive(Debug)]
pub(super) struct Control {
    /// HELLO is due.
    pub hello: bool,
    /// GOAWAY is due, with the highest stream of the peer's that was accepted.
    pub go_away: Option<(GoAwayCode, StreamId)>,
    /// PING is due, with this token.
    pub ping: Option<u32>,
    pongs: VecDeque<u32>,
    replies: VecDeque<(StreamId, Reply)>,
    /// Streams closed without ever having been opened here; where RESET is not agreed a CLOSE must not be
    /// sent twice.
    closed_strays: BTreeSet<u64>,
    max_closed_strays: usize,
}

impl Control {
    /// Nothing to send.
    pub(super) fn new(max_peer_streams: u32) -> Self {
        Self {
            hello: false,
            go_away: None,
            ping: None,
            pongs: VecDeque::new(),
            replies: VecDeque::new(),
            closed_strays: BTreeSet::new(),
            max_closed_strays: max_peer_streams.max(LEAST_STRAYS) as usize,
        }
    }

    /// Whether a message of stream 0 is due.
    pub(super) fn has_message(&self) -> bool {
        self.hello || self.go_away.is_some() || self.ping.is_some() || !self.pongs.is_empty()
    }

    /// Whether there is nothing to send, nor anything to be remembered.
    pub(super) fn is_empty(&self) -> bool {
        !self.has_message() && !self.has_reply() && self.closed_strays.is_empty()
    }

    /// Whether a reply is due.
    pub(super) fn has_reply(&self) -> bool {
        !self.replies.is_empty()
    }

    /// Tokens of PINGs to be answered, oldest first.
    pub(super) fn pongs(&self) -> impl Iterator<Item = u32> + '_ {
        self.pongs.iter().copied()
    }

    /// Replies, oldest first.
    pub(super) fn replies(&self) -> impl Iterator<Item = (StreamId, Reply)> + '_ {
        self.replies.iter().copied()
    }

    /// How many bytes of input may still ask for replies.
    pub(super) fn receive_window(&self) -> usize {
        (REPLIES.saturating_sub(self.replies.len()) * 12).min(READ)
    }

    /// The peer asks for a sign of life.
    pub(super) fn handle_ping(&mut self, token: u32) {
        if self.pongs.len() == MAX_PONGS {
            self.pongs.pop_front();
        }
        self.pongs.push_back(token);
    }

    /// The oldest PONG left.
    pub(super) fn handle_pong_sent(&mut self) {
        self.pongs.pop_front();
    }

    /// The oldest reply left.
    pub(super) fn handle_reply_sent(&mut self) {
        self.replies.pop_front();
    }

    /// Queues an answer to a frame for no stream. Bounded by [`REPLIES`] while the application keeps to the
    /// receive window; beyond twice that answers are dropped.
    pub(super) fn reply(&mut self, id: StreamId, reply: Reply) {
        if let (Some((last, Reply::Ack(before))), Reply::Ack(n)) = (self.replies.back_mut(), reply)
            && *last == id
            && let Some(sum) = before.checked_add(n).filter(|sum| *sum <= MAX_ACK)
        {
            *before = sum;
        } else if self.replies.back() == Some(&(id, Reply::Reset)) && reply == Reply::Reset {
            // Once is enough.
        } else if self.replies.len() < 2 * REPLIES {
            self.replies.push_back((id, reply));
        }
    }

    /// RESET was not agreed: a stream that is not open here is closed in this direction, once.
    pub(super) fn close_stray(&mut self, id: StreamId) {
        if self.closed_strays.len() < self.max_closed_strays && self.closed_strays.insert(id.0) {
            self.reply(id, Reply::Close);
        }
    }

    /// The peer is another one, or none: what was to be sent to the last one is void.
    pub(super) fn forget_peer(&mut self) {
        self.pongs = VecDeque::new();
        self.replies = VecDeque::new();
        self.closed_strays = BTreeSet::new();
        self.ping = None;
    }

    /// Bytes of heap held.
    pub(super) fn memory(&self) -> usize {
        self.pongs.capacity() * size_of::<u32>()
            + self.replies.capacity() * size_of::<(StreamId, Reply)>()
            + self.closed_strays.len() * STRAY
    }

    /// Gives spare memory back.
    pub(super) fn trim(&mut self) {
        self.replies.shrink_to_fit();
        self.pongs.shrink_to_fit();
    }
}

/// The most heap that a [`Control`] holds. A queue's capacity is at most twice what was ever in it.
pub(super) const fn bound(max_peer_streams: u32) -> u64 {
    (4 * REPLIES * size_of::<(StreamId, Reply)>() + 4 * MAX_PONGS * size_of::<u32>()) as u64
        + (max_peer_streams as u64 + LEAST_STRAYS as u64) * STRAY as u64
        + 1024
}

/// Most bytes a session wants to be given at a time.
pub const READ: usize = 65536;
/// Replies to frames for no stream that may wait: one read full of such frames, at 12 bytes a frame. While
/// that many wait nothing is read, so a peer that asks and never listens stops itself.
pub const REPLIES: usize = READ / 12 + 1;
/// PINGs whose answers may wait; a peer that asks faster than it reads loses the oldest.
const MAX_PONGS: usize = 4;
/// Heap of one entry of a set of ids: a B-tree's nodes are at least five elevenths full.
const STRAY: usize = 3 * size_of::<u64>() + 16;
/// How many closed strays are remembered at least, also where the peer may open no stream: a few hundred
/// bytes.
const LEAST_STRAYS: u32 = 64;
