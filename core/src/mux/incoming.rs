//! What bytes from the line mean to a session.
//!
//! Owns the rules of who may say what about which stream (SPEC §4, §5, §7, §8). Every branch ends in a changed machine,
//! a counted oddity or a [`Violation`]; none blocks, and none keeps more than its stream's buffer.

use super::config::Role;
use super::decoder::Dialect;
use super::error::Violation;
use super::event::{CloseReason, ResetReason};
use super::receiver::{Due, ReceiverState, Verdict};
use super::segments::Cursor;
use super::session::{REPLIES, Session};
use super::streams::{Bits, EVENTS};
use super::v1::Overflow;
use super::wire::{Features, GoAwayCode, HEADER, MAX_MESSAGE, Message, StreamId, Word};
use crate::time::Instant;

/// Where the payload that is arriving goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Incoming {
    /// Nowhere: there is no such stream, or there was one when its frame began.
    Nowhere,
    /// Nowhere, but it is to be acked when it ends: RESET was not agreed and the peer must not hang.
    Stray(StreamId, u32),
    /// To the session.
    Message,
    /// To a stream's buffer.
    Keep(u32),
    /// Nowhere: it did not fit and will come again.
    Discard(u32),
    /// Nowhere: nobody wants it; so many bytes are to be acked.
    Sink(u32, u32),
    /// v1: an exit code; the first byte, if it is the only one.
    Exit(u32, u32),
}

impl Incoming {
    /// The stream's slot, if one is meant.
    pub(super) const fn slot(self) -> Option<u32> {
        match self {
            Self::Keep(slot) | Self::Discard(slot) | Self::Sink(slot, _) | Self::Exit(slot, _) => Some(slot),
            Self::Nowhere | Self::Stray(..) | Self::Message => None,
        }
    }
}

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

impl Session {
    /// The peer broke the protocol in a way that costs the session.
    pub(super) fn violated(&mut self, violation: Violation) {
        self.counters.malformed += 1;
        self.fail(CloseReason::Violation(violation), Some(GoAwayCode::ProtocolError));
    }

    /// The peer broke the protocol on one stream: that stream where RESET was agreed, else the session.
    fn stream_violated(&mut self, id: StreamId, violation: Violation) {
        if !self.has(Features::RESET) {
            return self.violated(violation);
        }
        self.counters.malformed += 1;
        if let Some(slot) = self.live(id) {
            self.kill(slot, Some(ResetReason::Violation(violation)));
        }
        self.reply(id, Reply::Reset);
    }

    /// Queues an answer to a frame for no stream. Bounded by [`REPLIES`] while the owner keeps to the receive window;
    /// beyond twice that answers are dropped.
    pub(super) fn reply(&mut self, id: StreamId, reply: Reply) {
        if let (Some((last, Reply::Ack(before))), Reply::Ack(n)) = (self.replies.back_mut(), reply)
            && *last == id
            && let Some(sum) = before.checked_add(n).filter(|sum| *sum <= super::wire::MAX_ACK)
        {
            *before = sum;
        } else if self.replies.back() == Some(&(id, Reply::Reset)) && reply == Reply::Reset {
            // Once is enough.
        } else if self.replies.len() < 2 * REPLIES {
            self.replies.push_back((id, reply));
        }
    }

    /// Whether `id` is one of those the peer opens.
    const fn is_peers(&self, id: StreamId) -> bool {
        id.0 & StreamId::GUEST_BIT != self.config.own_bit()
    }

    /// The live stream `id`, or a new one where the peer may open it with this frame.
    fn accept(&mut self, id: StreamId) -> Option<u32> {
        if let Some(slot) = self.live(id) {
            return Some(slot);
        }
        // Not while an entry of that id waits for its last event to be polled: it is from before the peer started anew.
        if !self.is_peers(id) || id.number() == 0 || self.streams.find(id).is_some() {
            return None;
        }
        // Nothing is used up behind a GOAWAY, which says how far that went.
        if self.is_going_away() || !self.unused.take(id.number()) {
            return None;
        }
        if self.streams.len() >= self.config.max_streams as usize {
            return None;
        }
        let slot = self.streams.insert(id, self.terms.map_or(self.config.max_frame, |terms| terms.max_frame));
        self.streams[slot].spoken = true;
        self.streams[slot].events.set(Bits::OPENED);
        self.streams.link(EVENTS, slot);
        Some(slot)
    }

    /// S2: a payload begins.
    pub(super) fn begin(&mut self, id: StreamId, len: u32) -> Incoming {
        if id == StreamId::SESSION {
            if len > MAX_MESSAGE {
                self.violated(Violation::MessageTooLong);
                return Incoming::Nowhere;
            }
            self.message_len = 0;
            return Incoming::Message;
        }
        self.handshake.handle_conversation();
        if self.terms.is_some_and(|terms| len > terms.max_frame.into()) {
            self.stream_violated(id, Violation::FrameTooLong);
            return Incoming::Nowhere;
        }
        let Some(slot) = self.accept(id) else {
            self.counters.stray += 1;
            if self.has(Features::RESET) {
                self.reply(id, Reply::Reset);
                return Incoming::Nowhere;
            }
            return Incoming::Stray(id, len);
        };
        let windowed = self.has(Features::WINDOWED);
        match self.streams[slot].receiver.handle_data(len, self.config.receive_buffer, windowed) {
            Ok(Verdict::Keep) => Incoming::Keep(slot),
            Ok(Verdict::Discard) => Incoming::Discard(slot),
            Ok(Verdict::Sink) => Incoming::Sink(slot, len),
            Err(violation) => {
                self.stream_violated(id, violation);
                Incoming::Nowhere
            }
        }
    }

    /// A piece of a payload; `Some`: it is for the stream in this slot, which holds a place for it.
    pub(super) fn payload(&mut self, bytes: &[u8], last: bool, now: Instant) -> Option<u32> {
        let mut whose = None;
        match self.incoming {
            Incoming::Keep(slot) if self.streams[slot].receiver.is_sink() => {
                // The consumer went while the frame was arriving.
                self.counters.discarded += bytes.len() as u64;
                self.consumed(slot, bytes.len() as u32);
            }
            Incoming::Keep(slot) => whose = Some(slot),
            Incoming::Message => {
                let room = &mut self.message[self.message_len..];
                let n = bytes.len().min(room.len());
                room[..n].copy_from_slice(&bytes[..n]);
                self.message_len += n;
            }
            Incoming::Exit(slot, len) => {
                // SPEC §8: the code is the byte of a message of exactly one, else 255.
                self.streams[slot].exit = if len == 1 { bytes[0] } else { u8::MAX };
            }
            _ => self.counters.discarded += bytes.len() as u64,
        }
        if last {
            let incoming = std::mem::replace(&mut self.incoming, Incoming::Nowhere);
            self.payload_ended(incoming, now);
        }
        whose
    }

    fn payload_ended(&mut self, incoming: Incoming, now: Instant) {
        match incoming {
            Incoming::Nowhere | Incoming::Keep(_) => {}
            Incoming::Stray(id, len) => {
                self.reply(id, Reply::Ack(len));
                self.close_stray(id);
            }
            Incoming::Message => self.message(now),
            Incoming::Discard(slot) => {
                let due = self.streams[slot].receiver.handle_discarded();
                self.apply(slot, due);
            }
            Incoming::Sink(slot, len) => {
                let due = self.streams[slot].receiver.handle_sunk(len);
                self.apply(slot, due);
            }
            Incoming::Exit(slot, _) => {
                self.streams[slot].exited = true;
                self.streams[slot].events.set(Bits::EXITED);
                self.streams.link(EVENTS, slot);
                self.refresh(slot);
            }
        }
    }

    /// RESET was not agreed: a stream that is not open here is closed in this direction, once.
    fn close_stray(&mut self, id: StreamId) {
        if self.strays_closed.len() < self.config.max_streams as usize && self.strays_closed.insert(id.0) {
            self.reply(id, Reply::Close);
        }
    }

    /// What a receiving half wants said.
    pub(super) fn apply(&mut self, slot: u32, due: Due) {
        if self.dialect() == Some(Dialect::S2) {
            let stream = &mut self.streams[slot];
            stream.ack = stream.ack.saturating_add(due.ack);
            if due.request {
                stream.due.set(Bits::REQUEST);
            }
        }
        self.update_blocking(slot);
        self.refresh(slot);
    }

    /// S2: a word without payload.
    pub(super) fn word(&mut self, id: StreamId, word: Word) {
        match word {
            Word::Empty | Word::Data(_) => {
                self.counters.malformed += 1;
                return;
            }
            Word::Undefined(_) => return self.violated(Violation::UndefinedWord),
            _ if id == StreamId::SESSION => return self.violated(Violation::WordOnSession),
            Word::Reserved(_) => return self.stream_violated(id, Violation::ReservedWord),
            Word::Reset if !self.has(Features::RESET) => return self.violated(Violation::ReservedWord),
            _ => {}
        }
        // CLOSE may be the first word of a stream: one without a byte.
        let found = if word == Word::Close { self.accept(id) } else { self.live(id) };
        let Some(slot) = found else {
            self.counters.stray += 1;
            if word == Word::Close && self.is_peers(id) {
                // Whoever opened it with this word and is refused would wait for ever.
                if self.has(Features::RESET) {
                    self.reply(id, Reply::Reset);
                } else {
                    self.close_stray(id);
                }
            }
            return;
        };
        let windowed = self.has(Features::WINDOWED);
        let max_frame = self.terms.map_or(self.config.max_frame, |terms| terms.max_frame);
        let stream = &mut self.streams[slot];
        let verdict = match word {
            Word::Ack(n) => {
                let verdict = stream.sender.handle_ack(n, max_frame);
                if verdict.is_ok() {
                    self.pool.release(&mut stream.output, n, Some(&mut stream.cursor));
                    self.offer_room(slot);
                }
                verdict
            }
            Word::Rewind => {
                if windowed {
                    stream.receiver.handle_rewind();
                }
                Ok(())
            }
            Word::Request => {
                let promised = self.output.promised(slot);
                self.counters.repeated += u64::from(stream.sender.flight());
                stream.sender.handle_request(promised > 0);
                self.output.handle_rewound(slot, stream.cursor);
                stream.cursor = Cursor::FRONT;
                if windowed {
                    stream.due.set(Bits::REWIND);
                }
                Ok(())
            }
            Word::Close => {
                let verdict = stream.receiver.handle_close();
                stream.events.set(Bits::READABLE);
                self.streams.link(EVENTS, slot);
                verdict
            }
            Word::Reset => {
                self.kill(slot, Some(ResetReason::Remote));
                return;
            }
            Word::Empty | Word::Data(_) | Word::Undefined(_) | Word::Reserved(_) => Ok(()),
        };
        match verdict {
            Ok(()) => self.refresh(slot),
            Err(violation) => self.stream_violated(id, violation),
        }
    }

    /// The app's short write may go on.
    pub(super) fn offer_room(&mut self, slot: u32) {
        let stream = &mut self.streams[slot];
        // Half the buffer at least: a writer woken for a few bytes writes a few bytes.
        if stream.wants_room && stream.sender.held() <= self.config.send_buffer / 2 && !stream.dead {
            stream.wants_room = false;
            stream.events.set(Bits::WRITABLE);
            self.streams.link(EVENTS, slot);
        }
    }

    /// A message of stream 0 is complete.
    fn message(&mut self, now: Instant) {
        let message = Message::decode(&self.message[..self.message_len]);
        match message {
            Message::Hello(peer) => {
                let (restarted, answer) = self.handshake.handle_hello(self.config.role);
                self.hello_due |= answer;
                if restarted {
                    for slot in self.streams.slots() {
                        self.kill(slot, Some(ResetReason::Restarted));
                    }
                    self.replies.clear();
                    self.pongs.clear();
                    self.strays_closed.clear();
                    self.unused = super::ids::Unused::new(self.config.max_streams as usize);
                    // The one that went away is gone; whoever is there now has not heard of ours.
                    (self.away_heard, self.peer_away) = (false, None);
                    self.restarted = true;
                    self.settle(&peer, now);
                }
                return;
            }
            Message::GoAway { code, last } => self.gone_away(code, last),
            Message::Ping(token) if self.has(Features::MESSAGES) => {
                if self.pongs.len() == MAX_PONGS {
                    self.pongs.pop_front();
                }
                self.pongs.push_back(token);
            }
            Message::Pong(_) if self.has(Features::MESSAGES) => {}
            Message::Ping(_) | Message::Pong(_) | Message::Unknown(_) => self.counters.malformed += 1,
            // A v1 guest's answer to a HELLO that was repeated before the first answer came.
            Message::V1Answer => {}
        }
        self.handshake.handle_conversation();
    }

    fn gone_away(&mut self, code: GoAwayCode, last: StreamId) {
        if !self.has(Features::MESSAGES) {
            self.counters.malformed += 1;
            return;
        }
        if code != GoAwayCode::Normal {
            return self.fail(CloseReason::Remote(code), None);
        }
        if std::mem::replace(&mut self.away_heard, true) {
            // What was accepted stays accepted; nothing was opened since.
            return;
        }
        self.peer_away = Some((code, last));
        let own = self.config.own_bit();
        for slot in self.streams.slots() {
            let id = self.streams[slot].id;
            if id.0 & StreamId::GUEST_BIT == own && id.number() > last.number() {
                self.kill(slot, Some(ResetReason::Refused));
            }
        }
    }

    /// v1: a payload begins.
    pub(super) fn begin_v1(&mut self, id: StreamId, len: u32) -> Incoming {
        let Some(slot) = self.live(id) else {
            self.counters.stray += 1;
            if self.config.role == Role::Guest {
                self.reply(id, Reply::Goodbye);
            }
            return Incoming::Nowhere;
        };
        let full = self.config.receive_buffer;
        let stream = &mut self.streams[slot];
        if matches!(stream.receiver.state(), ReceiverState::Fin | ReceiverState::Done) {
            self.counters.stray += 1;
            // SPEC §8: the host takes a message behind the end of a stream for the exit code, up to API 4242.
            let is_exit = self.config.role == Role::Host && self.config.v1.has_exit_codes();
            return if is_exit { Incoming::Exit(slot, len) } else { Incoming::Nowhere };
        }
        let room = match self.config.v1.overflow {
            Overflow::Wait => u32::MAX,
            Overflow::Discard => full,
        };
        match stream.receiver.handle_data(len, room, true) {
            Ok(Verdict::Keep) => Incoming::Keep(slot),
            _ => {
                // Lost: v1 has no word to ask again, so the half stays open.
                stream.receiver.handle_discarded();
                stream.receiver.handle_lost();
                Incoming::Nowhere
            }
        }
    }

    /// v1: a header without payload.
    pub(super) fn bare(&mut self, id: StreamId, length: u32) {
        if (length as usize) < HEADER {
            self.counters.malformed += 1;
            if self.config.role == Role::Guest {
                return;
            }
        }
        let Some(slot) = self.live(id) else {
            self.counters.stray += 1;
            if self.config.role == Role::Guest {
                self.reply(id, Reply::Goodbye);
            }
            return;
        };
        let stream = &mut self.streams[slot];
        if stream.receiver.handle_close().is_ok() {
            stream.events.set(Bits::READABLE);
            self.streams.link(EVENTS, slot);
        }
        self.refresh(slot);
    }
}

/// PINGs whose answers may wait; a peer that asks faster than it reads loses the oldest.
const MAX_PONGS: usize = 4;
