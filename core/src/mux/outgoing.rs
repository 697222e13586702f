//! What leaves a session: planning, offering, and what becomes true when bytes are gone (SPEC §6).
//!
//! Every change of a stream ends in [`Session::refresh`], the one place that decides which lists it is in: a forgotten
//! wake-up cannot be written.

use std::io::IoSlice;

use super::config::Role;
use super::decoder::Dialect;
use super::event::CloseReason;
use super::incoming::Reply;
use super::output::{Kind, Planned, Source};
use super::receiver::ReceiverState;
use super::session::{Life, Session};
use super::streams::{Bits, CONTROL, NONE, READY};
use super::wire::{HEADER, MAX_ACK, Message, StreamId, Word, header};
use crate::time::Instant;

/// Words planned at a time: 3 KiB of them; there are more only while more streams than this are busy.
const PLAN_WORDS: usize = 256;

impl Session {
    /// Whether there is anything to send.
    #[must_use]
    pub fn has_output(&self) -> bool {
        if self.life == Life::Ended {
            return false;
        }
        self.output.partial.is_some()
            || self.hello_due
            || self.go_away_due.is_some()
            || !self.pongs.is_empty()
            || self.keepalive.ping_due
            || (self.terms.is_some()
                && self.life == Life::Open
                && (!self.replies.is_empty()
                    || self.streams.front(CONTROL).is_some()
                    || self.streams.front(READY).is_some()))
    }

    /// Offers what is to be sent next as borrowed runs; returns how many of `runs` were filled, 0 when there is nothing.
    ///
    /// Idempotent: nothing counts as sent before [`Session::handle_sent`], which is to be called before anything else
    /// is done with the session. A frame takes two runs or three; fewer than that and it goes in pieces. Offer few runs
    /// on a slow line, so that what comes up meanwhile is not behind a long plan. Work in proportion to `runs`.
    pub fn transmit<'a>(&'a mut self, runs: &mut [IoSlice<'a>]) -> usize {
        self.plan(runs.len());
        if self.life == Life::Ended {
            return 0;
        }
        let (pool, streams) = (&self.pool, &self.streams);
        self.output.fill(pool, streams, runs).0
    }

    /// `n` bytes of what the last [`Session::transmit`] offered were taken by the line.
    pub fn handle_sent(&mut self, n: usize, now: Instant) {
        if n == 0 {
            return;
        }
        if n > self.output.offered {
            return self.fail(CloseReason::Misuse, None);
        }
        self.note_activity(now);
        let mut n = n;
        let (head, payload, source) = self.output.handle_partial_sent(n);
        n -= head + payload as usize;
        if let Source::Stream(slot) = source {
            self.payload_sent(slot, payload, true, now);
        }
        let frames = std::mem::take(&mut self.output.frames);
        let mut head_from = 0;
        for frame in &frames {
            if n == 0 {
                break;
            }
            let head = n.min(frame.head as usize);
            let payload = (n - head).min(frame.payload as usize) as u32;
            n -= head + payload as usize;
            if head < frame.head as usize || payload < frame.payload {
                self.output.begin(frame, head_from, head, payload);
            }
            self.frame_sent(frame, payload, now);
            head_from += frame.head as usize;
        }
        self.output.frames = frames;
        self.output.clear(&mut self.streams);
        if self.life == Life::Ending && self.go_away_due.is_none() && self.output.partial.is_none() {
            self.life = Life::Ended;
        }
    }

    /// What was offered is no longer what would be.
    pub(super) fn forget_plan(&mut self) {
        if self.output.offered > 0 {
            self.output.clear(&mut self.streams);
        }
    }

    /// Decides what is to be sent next, for so many runs.
    fn plan(&mut self, max_runs: usize) {
        self.output.clear(&mut self.streams);
        if max_runs == 0 || self.life == Life::Ended {
            return;
        }
        self.plan_session();
        if let Some(terms) = self.terms
            && self.life == Life::Open
        {
            self.plan_replies(terms.dialect);
            self.plan_words(terms.dialect);
            self.plan_data(terms.dialect, terms.send_window, max_runs / 2 + 1);
        }
        let payload: usize = self.output.frames.iter().map(|frame| frame.payload as usize).sum();
        let begun = self.output.partial.as_ref().map_or(0, super::output::Partial::len);
        self.output.offered = begun + self.output.wire.len() + payload;
    }

    fn plan_session(&mut self) {
        let last = StreamId(self.unused.highest() | (self.config.own_bit() ^ StreamId::GUEST_BIT));
        let out = &mut self.output;
        let mut say = |kind, message: Message| {
            let from = out.wire.len();
            message.encode(&mut out.wire);
            out.push(kind, NONE, from);
        };
        if self.hello_due {
            say(Kind::Hello, Message::Hello(self.config.hello()));
        }
        if let Some(code) = self.go_away_due {
            // "None accepted" is stream 0, whoever would have opened it.
            let last = if last.number() == 0 { StreamId::SESSION } else { last };
            say(Kind::GoAway, Message::GoAway { code, last });
        }
        for token in &self.pongs {
            say(Kind::Pong, Message::Pong(*token));
        }
        if self.keepalive.ping_due {
            say(Kind::Ping, Message::Ping(self.keepalive.token));
        }
    }

    fn plan_replies(&mut self, dialect: Dialect) {
        for (id, reply) in self.replies.iter().take(PLAN_WORDS) {
            let word = match (dialect, reply) {
                (Dialect::V1, _) => HEADER as u32,
                (Dialect::S2, Reply::Ack(n)) => Word::Ack(*n).to_u32(),
                (Dialect::S2, Reply::Close) => Word::Close.to_u32(),
                (Dialect::S2, Reply::Reset | Reply::Goodbye) => Word::Reset.to_u32(),
            };
            self.output.word(Kind::Stray, NONE, *id, word);
        }
    }

    fn plan_words(&mut self, dialect: Dialect) {
        let mut at = self.streams.front(CONTROL);
        while let Some(slot) = at {
            at = self.streams.after(CONTROL, slot);
            if self.output.frames.len() > 2 * PLAN_WORDS {
                return;
            }
            let stream = &self.streams[slot];
            let out = &mut self.output;
            if dialect == Dialect::V1 {
                if stream.due.has(Bits::CLOSE) {
                    out.word(Kind::Close, slot, stream.id, HEADER as u32);
                }
                if stream.due.has(Bits::EXIT) {
                    let from = out.wire.len();
                    out.wire.extend_from_slice(&header(stream.id, HEADER as u32 + 1));
                    out.wire.push(stream.exit);
                    out.push(Kind::Exit, slot, from);
                }
                continue;
            }
            // In this order: a REQUEST speaks of what is acked before it, a CLOSE of what was rewound before it.
            if stream.ack > 0 {
                let n = stream.ack.min(MAX_ACK);
                out.word(Kind::Ack(n), slot, stream.id, Word::Ack(n).to_u32());
            }
            for (bit, kind, word) in [
                (Bits::REQUEST, Kind::Request, Word::Request),
                (Bits::REWIND, Kind::Rewind, Word::Rewind),
                (Bits::CLOSE, Kind::Close, Word::Close),
            ] {
                if stream.due.has(bit) {
                    out.word(kind, slot, stream.id, word.to_u32());
                }
            }
        }
    }

    /// One frame of each ready stream, then another, until the runs are used up.
    fn plan_data(&mut self, dialect: Dialect, window: u32, max_frames: usize) {
        let mut room = max_frames;
        let mut any = true;
        while std::mem::take(&mut any) {
            let mut at = self.streams.front(READY);
            while let Some(slot) = at {
                at = self.streams.after(READY, slot);
                if room == 0 {
                    return;
                }
                let planned = self.streams[slot].planned;
                let promised = self.output.promised(slot);
                let len = self.next_frame(slot, window, planned + promised);
                if len == 0 {
                    continue;
                }
                let stream = &mut self.streams[slot];
                if planned == 0 {
                    stream.plan_cursor = self.pool.advance(&stream.output, stream.cursor, promised);
                }
                let cursor = stream.plan_cursor;
                stream.plan_cursor = self.pool.advance(&stream.output, cursor, len);
                stream.planned += len;
                let word = match dialect {
                    Dialect::S2 => Word::Data(len).to_u32(),
                    Dialect::V1 => len + HEADER as u32,
                };
                self.output.wire.extend_from_slice(&header(stream.id, word));
                let head = HEADER as u32;
                self.output.frames.push(Planned { kind: Kind::Data, slot, head, cursor, payload: len });
                room -= 1;
                any = true;
            }
        }
    }

    /// How long the stream's next frame may be, with so many bytes ahead of it.
    fn next_frame(&self, slot: u32, window: u32, ahead: u32) -> u32 {
        let stream = &self.streams[slot];
        let len = stream.sender.next_frame(window, ahead);
        if self.dialect() == Some(Dialect::V1) && self.config.role == Role::Host {
            return len.min(stream.pace.room(&self.config.v1).saturating_sub(ahead));
        }
        len
    }

    /// The first byte of a planned frame has left, and `payload` bytes of its payload.
    fn frame_sent(&mut self, frame: &Planned, payload: u32, now: Instant) {
        let slot = frame.slot;
        if slot != NONE {
            self.streams[slot].spoken = true;
        }
        match frame.kind {
            Kind::Hello => self.hello_due = false,
            Kind::GoAway => self.go_away_due = None,
            Kind::Pong => drop(self.pongs.pop_front()),
            Kind::Ping => self.keepalive.ping_due = false,
            Kind::Stray => drop(self.replies.pop_front()),
            Kind::Ack(n) => self.streams[slot].ack = self.streams[slot].ack.saturating_sub(n),
            Kind::Request => drop(self.streams[slot].due.take(Bits::REQUEST)),
            Kind::Rewind => drop(self.streams[slot].due.take(Bits::REWIND)),
            Kind::Exit => drop(self.streams[slot].due.take(Bits::EXIT)),
            Kind::Close => {
                self.streams[slot].due.take(Bits::CLOSE);
                self.streams[slot].sender.handle_close_sent();
            }
            Kind::Data => {
                // To the end of the queue: whoever has been served waits for the others.
                self.streams.unlink(READY, slot);
                return self.payload_sent(slot, payload, false, now);
            }
        }
        if slot != NONE {
            self.refresh(slot);
        }
    }

    fn payload_sent(&mut self, slot: u32, n: u32, continued: bool, now: Instant) {
        self.counters.sent += u64::from(n);
        let stream = &mut self.streams[slot];
        if !stream.dead {
            stream.sender.handle_sent(n);
            stream.cursor = self.pool.advance(&stream.output, stream.cursor, n);
            if self.terms.is_some_and(|terms| terms.dialect == Dialect::V1) {
                // Nothing is ever acked, so nothing need be kept.
                let _ = stream.sender.handle_ack(n.min(stream.sender.flight()), stream.sender.limit());
                self.pool.release(&mut stream.output, n, Some(&mut stream.cursor));
                if self.config.role == Role::Host
                    && n > 0
                    && let Some(due) = stream.pace.handle_sent(n, continued, &self.config.v1, now)
                {
                    self.paused.push_back((due, stream.id));
                }
                self.offer_room(slot);
            }
        }
        self.refresh(slot);
    }

    /// Puts a stream into the lists it belongs in, and retires it when it is through. Constant work.
    pub(super) fn refresh(&mut self, slot: u32) {
        let Some(terms) = self.terms else { return };
        let v1 = terms.dialect == Dialect::V1;
        let stream = &mut self.streams[slot];
        if stream.dead || self.life != Life::Open {
            return;
        }
        if stream.sender.close_due() {
            stream.due.set(Bits::CLOSE);
        }
        let through = match (v1, self.config.role) {
            (false, _) => {
                stream.sender.is_closed()
                    && stream.receiver.state() == ReceiverState::Done
                    && stream.ack == 0
                    && stream.due.is_empty()
            }
            (true, Role::Host) => {
                stream.receiver.state() == ReceiverState::Done
                    && (stream.exited || !self.config.v1.has_exit_codes())
            }
            (true, Role::Guest) => stream.sender.is_closed() && stream.due.is_empty(),
        };
        if through {
            return self.kill(slot, None);
        }
        let mut due = stream.due;
        if !due.has(Bits::CLOSE) && !stream.sender.is_closed() {
            // The exit code follows the end of the output.
            due.take(Bits::EXIT);
        }
        if stream.ack > 0 || !due.is_empty() {
            self.streams.link(CONTROL, slot);
        } else {
            self.streams.unlink(CONTROL, slot);
        }
        if self.next_frame(slot, terms.send_window, self.output.promised(slot)) > 0 {
            self.streams.link(READY, slot);
        } else {
            self.streams.unlink(READY, slot);
        }
    }
}
