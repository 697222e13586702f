//! What an owner may ask of a session: opening, writing, reading, closing.
//!
//! Owns the answers to a caller that is wrong ([`OpenError`], [`StreamError`]); a stream that has died and whose last
//! event was not polled yet is not wrong, only deaf. Refuses to know what is on the line.

use super::config::Role;
use super::decoder::Dialect;
use super::error::{OpenError, StreamError};
use super::event::{CloseReason, ResetReason};
use super::incoming::Reply;
use super::receiver::ReceiverState;
use super::segments::Cursor;
use super::session::{Life, Session};
use super::streams::Bits;
use super::wire::{Features, GoAwayCode, StreamId};

/// What there is to read on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received<'a> {
    /// The oldest bytes not consumed, in one piece; there may be more behind them.
    Bytes(&'a [u8]),
    /// Nothing yet.
    Pending,
    /// Nothing more: the peer closed its half and every byte was consumed.
    End,
}

impl Session {
    /// Opens a stream of this side's. The peer learns of it with the first byte, or with [`Session::finish`].
    pub fn open(&mut self) -> Result<StreamId, OpenError> {
        if self.config.role == Role::Guest && self.dialect() == Some(Dialect::V1) {
            return Err(OpenError::Dialect);
        }
        self.may_open()?;
        let id = StreamId(self.config.own_bit() | self.next_own);
        self.next_own += 1;
        self.streams.insert(id, self.terms.map_or(self.config.max_frame, |terms| terms.max_frame));
        Ok(id)
    }

    /// Makes a stream whose id was agreed on elsewhere (v1's control channel announces them so) usable on this side.
    pub fn attach(&mut self, id: StreamId) -> Result<(), OpenError> {
        self.may_open()?;
        if id.number() == 0 || self.streams.find(id).is_some() {
            return Err(OpenError::Used);
        }
        if id.0 & StreamId::GUEST_BIT == self.config.own_bit() {
            if id.number() < self.next_own {
                return Err(OpenError::Used);
            }
            self.next_own = id.number() + 1;
        } else if !self.unused.take(id.number()) {
            return Err(OpenError::Used);
        }
        let slot = self.streams.insert(id, self.terms.map_or(self.config.max_frame, |terms| terms.max_frame));
        self.streams[slot].spoken = true;
        Ok(())
    }

    fn may_open(&self) -> Result<(), OpenError> {
        if self.is_going_away() || self.life != Life::Open || self.next_own >= StreamId::GUEST_BIT - 1 {
            return Err(OpenError::GoingAway);
        }
        if self.streams.len() >= self.config.max_streams as usize {
            return Err(OpenError::TooMany);
        }
        Ok(())
    }

    /// How many bytes a write to the stream would take now.
    #[must_use]
    pub fn send_window(&self, id: StreamId) -> usize {
        match self.streams.peek(id) {
            Some(stream) if !stream.dead && !stream.sender.is_finished() => {
                self.config.send_buffer.saturating_sub(stream.sender.held()) as usize
            }
            _ => 0,
        }
    }

    /// Copies what fits of `data` towards the peer; returns how much that was. After a short write
    /// [`Event::Writable`](super::Event::Writable) tells when there is room.
    pub fn write(&mut self, id: StreamId, data: &[u8]) -> Result<usize, StreamError> {
        let slot = self.live(id).ok_or(StreamError::Unknown)?;
        let stream = &mut self.streams[slot];
        if stream.sender.is_finished() {
            return Err(StreamError::Finished);
        }
        let room = self.config.send_buffer.saturating_sub(stream.sender.held()) as usize;
        let taken = &data[..data.len().min(room)];
        stream.wants_room |= taken.len() < data.len();
        self.pool.append(&mut stream.output, taken);
        stream.sender.handle_written(taken.len() as u32);
        self.refresh(slot);
        Ok(taken.len())
    }

    /// Closes this side's half: what was written still arrives, then the peer reads the end.
    pub fn finish(&mut self, id: StreamId) -> Result<(), StreamError> {
        let Some(slot) = self.known(id)? else { return Ok(()) };
        self.streams[slot].sender.handle_finish();
        self.refresh(slot);
        Ok(())
    }

    /// v1 guest, API 4242 or lower: closes this side's half, then says how the process ended. Else as
    /// [`Session::finish`], the code is lost.
    pub fn exit(&mut self, id: StreamId, code: u8) -> Result<(), StreamError> {
        let Some(slot) = self.known(id)? else { return Ok(()) };
        if self.config.role == Role::Guest && self.config.v1.has_exit_codes() {
            self.streams[slot].exit = code;
            self.streams[slot].due.set(Bits::EXIT);
        }
        self.finish(id)
    }

    /// What there is to read: borrowed, nothing is copied. The peer may send more only once it is consumed.
    pub fn received(&self, id: StreamId) -> Result<Received<'_>, StreamError> {
        let stream = self.streams.peek(id).ok_or(StreamError::Unknown)?;
        if stream.input.len() > 0 {
            return Ok(Received::Bytes(self.pool.front(&stream.input, Cursor::FRONT)));
        }
        match stream.receiver.state() {
            ReceiverState::Done => Ok(Received::End),
            _ if stream.dead => Err(StreamError::Unknown),
            _ => Ok(Received::Pending),
        }
    }

    /// Bytes that wait to be read.
    #[must_use]
    pub fn received_len(&self, id: StreamId) -> usize {
        self.streams.peek(id).map_or(0, |stream| stream.input.len() as usize)
    }

    /// The first `n` bytes of what there is to read were used; `n` beyond that counts as all of it.
    pub fn consume(&mut self, id: StreamId, n: usize) -> Result<(), StreamError> {
        let Some(slot) = self.known(id)? else { return Ok(()) };
        let stream = &mut self.streams[slot];
        let n = u32::try_from(n).unwrap_or(u32::MAX).min(stream.input.len());
        self.pool.release(&mut stream.input, n, None);
        self.consumed(slot, n);
        Ok(())
    }

    /// Copies what fits into `buf` and consumes it; 0 with nothing to read. [`Session::received`] tells the end apart.
    pub fn read(&mut self, id: StreamId, buf: &mut [u8]) -> Result<usize, StreamError> {
        let stream = self.streams.peek(id).ok_or(StreamError::Unknown)?;
        let (mut filled, mut cursor) = (0, Cursor::FRONT);
        while filled < buf.len() && filled < stream.input.len() as usize {
            let run = self.pool.front(&stream.input, cursor);
            let n = run.len().min(buf.len() - filled);
            buf[filled..filled + n].copy_from_slice(&run[..n]);
            filled += n;
            cursor = self.pool.advance(&stream.input, cursor, n as u32);
        }
        if filled == 0 {
            return self.received(id).map(|_| 0);
        }
        // Once for all of it: one acknowledgement, one look at the lists.
        self.consume(id, filled)?;
        Ok(filled)
    }

    /// Nobody wants this stream's input any more: what comes is dropped, and acked so that the peer can go on.
    pub fn stop_reading(&mut self, id: StreamId) -> Result<(), StreamError> {
        let Some(slot) = self.known(id)? else { return Ok(()) };
        let stream = &mut self.streams[slot];
        let arrived = stream.input.len();
        self.counters.discarded += u64::from(arrived);
        self.pool.clear(&mut stream.input);
        let due = stream.receiver.handle_sink(arrived);
        self.apply(slot, due);
        Ok(())
    }

    /// Ends the stream in both directions at once and drops its buffers. Where RESET was not agreed: input is dropped
    /// from now on and the output finishes. In v1, or before the dialect is known, it is simply forgotten.
    pub fn reset(&mut self, id: StreamId) -> Result<(), StreamError> {
        let Some(slot) = self.known(id)? else { return Ok(()) };
        match self.terms {
            Some(terms) if terms.dialect == Dialect::S2 && !terms.features.has(Features::RESET) => {
                self.streams[slot].sender.handle_finish();
                self.stop_reading(id)?;
            }
            terms => {
                self.forget_plan();
                // Of a stream that was never spoken of there is nothing to tell.
                if terms.is_some_and(|terms| terms.dialect == Dialect::S2) && self.streams[slot].spoken {
                    self.reply(id, Reply::Reset);
                }
                self.kill(slot, Some(ResetReason::Local));
            }
        }
        Ok(())
    }

    /// Takes no new streams and says so; the open ones go on. To be followed by [`Session::close`].
    pub fn go_away(&mut self) {
        if self.life == Life::Open && !self.away_said {
            self.away_said = true;
            self.go_away_due = self.has(Features::MESSAGES).then_some(GoAwayCode::Normal);
        }
    }

    /// Ends the session: every stream is reset; a GOAWAY may remain to be transmitted.
    pub fn close(&mut self) {
        self.fail(CloseReason::Local, Some(GoAwayCode::Normal));
    }
}
