//! What an application may ask of a session: opening, writing, reading, closing.
//!
//! Owns the answers to a caller that is wrong ([`OpenError`], [`StreamError`]); a stream that has died and
//! whose last event was not polled yet is no error: calls on it do nothing. Refuses to know what is on the
//! line.

use std::io::IoSlice;

use super::bits::Words;
use super::config::Priority;
use super::decoder::Dialect;
use super::error::{OpenError, StreamError};
use super::event::{CloseReason, ResetReason};
use super::receiver::ReceiverState;
use super::segments::Cursor;
use super::session::{Session, SessionState};
use super::wire::{Features, GoAwayCode, Role, StreamId};

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
    // Opening, each in constant work.

    /// Opens a stream of this side's. The peer learns of it with the first byte, or with [`Session::finish`].
    pub fn open(&mut self) -> Result<StreamId, OpenError> {
        self.may_open()?;
        self.streams.open()
    }

    /// Opens a stream of this side's and announces it to the peer at once, for a stream whose peer is to
    /// speak first. In v1, which has no word for it, as [`Session::open`].
    pub fn open_announced(&mut self) -> Result<StreamId, OpenError> {
        let id = self.open()?;
        if !self.streams.is_v1()
            && let Some(slot) = self.streams.live(id)
        {
            self.streams.table[slot].due.set(Words::OPEN);
            self.streams.refresh(slot);
        }
        Ok(id)
    }

    /// Makes a stream whose id was agreed on elsewhere (v1's control channel announces them so) usable on
    /// this side.
    pub fn attach(&mut self, id: StreamId) -> Result<(), OpenError> {
        self.may_open()?;
        self.streams.attach(id)
    }

    fn may_open(&self) -> Result<(), OpenError> {
        if self.state == SessionState::Open { Ok(()) } else { Err(OpenError::GoingAway) }
    }

    // Writing.

    /// Whose payload goes first, of the streams of this side of the line; the peer's priorities are its own.
    pub fn set_priority(&mut self, id: StreamId, priority: Priority) -> Result<(), StreamError> {
        let Some(slot) = self.streams.known(id)? else { return Ok(()) };
        self.forget_plan();
        self.streams.table.unlink_sends(slot);
        self.streams.table[slot].priority = priority;
        self.streams.refresh(slot);
        Ok(())
    }

    /// The stream's windows stay as they are, however much it carries: for one that lives as long as the
    /// session, and would keep from the others what all may grow by. What has grown stays.
    pub fn keep_window(&mut self, id: StreamId) -> Result<(), StreamError> {
        let Some(slot) = self.streams.known(id)? else { return Ok(()) };
        self.streams.table[slot].keeps_window = true;
        Ok(())
    }

    /// How many bytes a write to the stream would take now.
    #[must_use]
    pub fn send_window(&self, id: StreamId) -> usize {
        self.streams.peek(id).map_or(0, |slot| self.streams.room(slot) as usize)
    }

    /// How many bytes of what was written to the stream the peer has not taken, as far as is known here.
    /// `None`: the stream is gone, and what became of its bytes is not known any more.
    #[must_use]
    pub fn under_way(&self, id: StreamId) -> Option<usize> {
        let stream = &self.streams.table[self.streams.peek(id)?];
        (!stream.dead).then(|| stream.unacked.len() as usize)
    }

    /// How many bytes written to the stream now could leave at once: what the peer has room for, less what
    /// was written before, and no more than a frame while other streams have as much to send as the line
    /// takes at a time. A producer that keeps to it copies nothing before it can be taken.
    #[must_use]
    pub fn credit(&self, id: StreamId) -> usize {
        self.streams.peek(id).map_or(0, |slot| self.streams.credit(slot) as usize)
    }

    /// Asks for [`Event::Credit`](super::Event::Credit) as soon as [`Session::credit`] is not 0; at once if
    /// it is not.
    pub fn want_credit(&mut self, id: StreamId) -> Result<(), StreamError> {
        let Some(slot) = self.streams.known(id)? else { return Ok(()) };
        self.streams.want_credit(slot);
        Ok(())
    }

    /// Copies what fits of `data` towards the peer; returns how much that was. After a short write
    /// [`Event::Writable`](super::Event::Writable) tells when there is room. Work in proportion to what fits.
    pub fn write(&mut self, id: StreamId, data: &[u8]) -> Result<usize, StreamError> {
        let slot = self.streams.live(id).ok_or(StreamError::Unknown)?;
        if self.streams.table[slot].sender.is_finished() {
            return Err(StreamError::Finished);
        }
        let n = data.len().min(self.streams.room(slot) as usize);
        if n < data.len() {
            self.streams.want_room(slot);
        }
        self.streams.append(slot, &data[..n]);
        Ok(n)
    }

    /// Closes this side's half: what was written still arrives, then the peer reads the end. Constant work.
    pub fn finish(&mut self, id: StreamId) -> Result<(), StreamError> {
        let Some(slot) = self.streams.known(id)? else { return Ok(()) };
        self.streams.table[slot].sender.handle_finish();
        self.streams.refresh(slot);
        Ok(())
    }

    /// v1 guest, API 4242 or lower: closes this side's half, then sends how the process ended. Else as
    /// [`Session::finish`], the code is lost. Constant work.
    pub fn exit(&mut self, id: StreamId, code: u8) -> Result<(), StreamError> {
        let Some(slot) = self.streams.known(id)? else { return Ok(()) };
        let config = &self.streams.config;
        // Before the dialect is known it may become v1.
        let may_be_v1 = self.dialect() != Some(Dialect::S2);
        if may_be_v1 && config.role == Role::Guest && config.v1.has_exit_codes() {
            self.streams.table[slot].exit = code;
            self.streams.table[slot].due.set(Words::EXIT);
        }
        self.finish(id)
    }

    // Reading.

    /// What there is to read: borrowed, nothing is copied. The peer may send more only once it is consumed.
    /// Constant work.
    pub fn received(&self, id: StreamId) -> Result<Received<'_>, StreamError> {
        let slot = self.streams.peek(id).ok_or(StreamError::Unknown)?;
        let stream = &self.streams.table[slot];
        if stream.unread.len() > 0 {
            return Ok(Received::Bytes(self.streams.pool.front(&stream.unread, Cursor::FRONT)));
        }
        match stream.receiver.state() {
            ReceiverState::Done => Ok(Received::End),
            _ if stream.dead => Err(StreamError::Unknown),
            _ => Ok(Received::Pending),
        }
    }

    /// Whether the peer has closed its half: behind what waits to be read comes nothing more. Constant work.
    #[must_use]
    pub fn has_all(&self, id: StreamId) -> bool {
        let state = self.streams.peek(id).map(|slot| self.streams.table[slot].receiver.state());
        matches!(state, Some(ReceiverState::Fin | ReceiverState::Done))
    }

    /// The beginning of what there is to read as borrowed runs, for `writev`; returns how many of `runs` were
    /// filled, 0 with nothing to read. Work in proportion to `runs`.
    pub fn received_runs<'a>(&'a self, id: StreamId, runs: &mut [IoSlice<'a>]) -> usize {
        let Some(slot) = self.streams.peek(id) else { return 0 };
        let input = &self.streams.table[slot].unread;
        let mut filled = 0;
        self.streams.pool.runs(input, Cursor::FRONT, input.len(), |run| {
            if let Some(place) = runs.get_mut(filled) {
                *place = IoSlice::new(run);
                filled += 1;
            }
            filled < runs.len()
        });
        filled
    }

    /// Bytes that wait to be read.
    #[must_use]
    pub fn received_len(&self, id: StreamId) -> usize {
        self.streams.peek(id).map_or(0, |slot| self.streams.table[slot].unread.len() as usize)
    }

    /// The first `n` bytes of what there is to read were used; `n` beyond that counts as all of it. Constant
    /// work, and one step for each segment of 4 KiB that is freed.
    pub fn consume(&mut self, id: StreamId, n: usize) -> Result<(), StreamError> {
        let Some(slot) = self.streams.known(id)? else { return Ok(()) };
        let stream = &mut self.streams.table[slot];
        let n = u32::try_from(n).unwrap_or(u32::MAX).min(stream.unread.len());
        self.streams.pool.release(&mut stream.unread, n, None);
        self.streams.consumed(slot, n);
        Ok(())
    }

    /// What is left of the stream is used only once more has come: what was consumed is acked now, however
    /// little it is. Else a peer that keeps what was not acked may have no room for what is waited for.
    /// Constant work.
    pub fn acknowledge(&mut self, id: StreamId) -> Result<(), StreamError> {
        let Some(slot) = self.streams.known(id)? else { return Ok(()) };
        let due = self.streams.table[slot].receiver.handle_waiting();
        self.streams.apply(slot, due);
        Ok(())
    }

    /// Gives the beginning of what there is to read to `give`, in pieces as they lie there, and consumes it:
    /// up to `most` bytes, and of more than 128 KiB not all at once. Returns how many; 0 with nothing to
    /// read. Constant work beside what `give` does.
    pub fn take_runs(&mut self, id: StreamId, most: usize, mut give: impl FnMut(&[u8])) -> usize {
        let mut runs = [IoSlice::new(&[]); RUNS];
        let filled = self.received_runs(id, &mut runs);
        let mut taken = 0;
        for run in &runs[..filled] {
            let n = run.len().min(most - taken);
            give(&run[..n]);
            taken += n;
            if taken == most {
                break;
            }
        }
        // Once for all of it: one acknowledgement, one look at the lists.
        let _ = self.consume(id, taken);
        taken
    }

    /// Copies what fits into `buf` and consumes it; 0 with nothing to read. [`Session::received`] tells the
    /// end apart. Work in proportion to what is copied.
    pub fn read(&mut self, id: StreamId, buf: &mut [u8]) -> Result<usize, StreamError> {
        let slot = self.streams.peek(id).ok_or(StreamError::Unknown)?;
        let (input, pool) = (&self.streams.table[slot].unread, &self.streams.pool);
        let len = input.len().min(u32::try_from(buf.len()).unwrap_or(u32::MAX));
        let mut filled = 0;
        pool.runs(input, Cursor::FRONT, len, |run| {
            buf[filled..filled + run.len()].copy_from_slice(run);
            filled += run.len();
            true
        });
        if filled == 0 {
            return self.received(id).map(|_| 0);
        }
        // Once for all of it: one acknowledgement, one look at the lists.
        self.consume(id, filled)?;
        Ok(filled)
    }

    /// Nobody wants this stream's input any more: what comes is dropped, and acked so that the peer can go
    /// on. One step for each segment of 4 KiB that waited.
    pub fn stop_reading(&mut self, id: StreamId) -> Result<(), StreamError> {
        let Some(slot) = self.streams.known(id)? else { return Ok(()) };
        let stream = &mut self.streams.table[slot];
        let arrived = stream.unread.len();
        self.streams.counters.discarded += u64::from(arrived);
        self.streams.pool.clear(&mut stream.unread);
        let due = stream.receiver.handle_sink(arrived);
        self.streams.apply(slot, due);
        Ok(())
    }

    // Ending.

    /// Ends the stream in both directions at once and drops its buffers; the peer is sent a RESET, also of a
    /// stream that carried nothing yet, for it may have been announced elsewhere. Where RESET was not agreed:
    /// input is dropped from now on and the output finishes. In v1 it is simply forgotten.
    /// One step for each segment of 4 KiB that is freed, and the copy of a begun frame at most.
    pub fn reset(&mut self, id: StreamId) -> Result<(), StreamError> {
        let Some(slot) = self.streams.known(id)? else { return Ok(()) };
        if self.dialect() == Some(Dialect::S2) && !self.streams.has(Features::RESET) {
            self.streams.table[slot].sender.handle_finish();
            return self.stop_reading(id);
        }
        self.forget_plan();
        let send_reset = !self.streams.is_v1();
        self.streams.kill(slot, Some(ResetReason::Local), send_reset);
        Ok(())
    }

    /// Takes no new streams and sends a GOAWAY; the open ones go on. To be followed by [`Session::close`].
    /// Constant work.
    pub fn go_away(&mut self) {
        if self.state == SessionState::Open && !self.go_away_sent {
            self.go_away_sent = true;
            self.streams.is_going_away = true;
            let last = self.streams.last_accepted();
            self.control.go_away = self.streams.has(Features::MESSAGES).then_some((GoAwayCode::Normal, last));
        }
    }

    /// Ends the session in good order: every stream is reset on both sides. A last message, or a RESET of
    /// each stream, may remain to be transmitted. Work in proportion to the live streams and what they hold.
    pub fn close(&mut self) {
        self.close_with(GoAwayCode::Done);
    }

    /// As [`Session::close`], telling the peer why. Codes from 256 on are the applications' own;
    /// [`GoAwayCode::Normal`], which ends nothing, counts as [`GoAwayCode::Done`]. The same work.
    pub fn close_with(&mut self, code: GoAwayCode) {
        let code = if code == GoAwayCode::Normal { GoAwayCode::Done } else { code };
        self.end(CloseReason::Local, Some(code));
    }
}

/// Pieces that are given on at once.
const RUNS: usize = 32;
