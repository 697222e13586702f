//! The open streams of a session, with their bytes: how they come to be, what they have to say, how they end.
//!
//! Owns the table, the pool, the begun frame, and the counts over all of them. Every change of a stream ends in
//! [`Streams::refresh`], the one place that decides which lists it is in: a forgotten wake-up cannot be written. Refuses
//! to know the line: what bytes mean is in `input`, what leaves next is in `output`.

use std::collections::VecDeque;

use super::begun::Begun;
use super::config::{Config, Priority};
use super::control::READ;
use super::decoder::Dialect;
use super::error::{OpenError, StreamError, Violation};
use super::event::{Counters, Event, ResetReason, Terms};
use super::ids::Unused;
use super::receiver::{Due, Flow, ReceiverState};
use super::segments::{Cursor, Pool};
use super::table::{Bits, List, Table};
use super::v1::Overflow;
use super::wire::{Features, Role, StreamId};
use crate::time::Instant;

/// What all streams together may have unsent before each is held to one frame of it: as much as is read at a time. More
/// would only wait behind the line; less would leave it idle between two fills.
const LINE: u64 = READ as u64;
/// Heap of one pause of a v1 stream, in a queue up to twice as long as need be.
pub(super) const PAUSE: u64 = 2 * size_of::<(Instant, StreamId)>() as u64;

/// All streams of one side.
#[derive(Debug)]
pub(super) struct Streams {
    pub(super) config: Config,
    pub(super) table: Table,
    pub(super) pool: Pool,
    pub(super) begun: Begun,
    pub(super) counters: Counters,
    /// What was agreed on; `None`: nothing moves yet.
    terms: Option<Terms>,
    /// New streams are neither opened nor accepted.
    pub(super) is_going_away: bool,
    pub(super) unused: Unused,
    next_own: u64,
    /// Bytes in all outputs, and those of them that were not sent.
    pub(super) queued: u64,
    pub(super) unsent: u64,
    /// A write was short, or no credit was given, because of what all streams together hold.
    room_wanted: bool,
    /// Counts turns of the streams that always have something to send (see [`Self::handle_turn`]).
    round: u32,
    /// v1: streams whose stdin pauses, soonest first; the pause is the same for all.
    paused: VecDeque<(Instant, StreamId)>,
    /// v1: streams the line waits for.
    blocking: u32,
}

impl Streams {
    /// None open.
    pub(super) fn new(config: Config) -> Self {
        Self {
            table: Table::new(config.seed),
            pool: Pool::default(),
            begun: Begun::default(),
            counters: Counters::default(),
            terms: None,
            is_going_away: false,
            unused: Unused::new(config.peer_limit() as usize),
            next_own: config.first_id.max(1),
            queued: 0,
            unsent: 0,
            room_wanted: false,
            round: 0,
            paused: VecDeque::new(),
            blocking: 0,
            config,
        }
    }

    // What was agreed on.

    /// The terms; `None` before they are known.
    pub(super) const fn terms(&self) -> Option<Terms> {
        self.terms
    }

    /// Whether both sides understand `feature`.
    pub(super) fn has(&self, feature: Features) -> bool {
        self.terms.is_some_and(|terms| terms.features.has(feature))
    }

    /// Whether v1 is spoken.
    pub(super) fn is_v1(&self) -> bool {
        self.terms.is_some_and(|terms| terms.dialect == Dialect::V1)
    }

    /// What may be thrown away.
    pub(super) fn flow(&self) -> Flow {
        if self.has(Features::RELIABLE) {
            Flow::Reliable
        } else if self.has(Features::WINDOWED) || self.is_v1() {
            Flow::Windowed
        } else {
            Flow::Strict
        }
    }

    /// The dialect is known: streams begin to move. Work in proportion to those that are live.
    pub(super) fn start(&mut self, terms: Terms) {
        self.terms = Some(terms);
        let v1 = terms.dialect == Dialect::V1;
        if v1 || !terms.features.has(Features::RESET) {
            self.drop_resets();
        }
        let mut at = self.table.front(List::Live);
        while let Some(slot) = at {
            at = self.table.after(List::Live, slot);
            let stream = &mut self.table[slot];
            stream.sender.set_limit(terms.max_frame);
            // Of a stream's words each belongs to one of the dialects.
            stream.due.take(if v1 { Bits::OPEN } else { Bits::EXIT });
            if v1 && stream.id.is_guests() {
                self.kill(slot, Some(ResetReason::Dialect), false);
            } else {
                self.refresh(slot);
            }
        }
    }

    /// The peer is gone, or another one: every stream ends, and its numbers begin again. Work in proportion to the
    /// streams that are live, or have a RESET to say.
    pub(super) fn stop(&mut self, reason: ResetReason) {
        while let Some(slot) = self.table.front(List::Live) {
            self.kill(slot, Some(reason), false);
        }
        self.drop_resets();
        self.unused = Unused::new(self.config.peer_limit() as usize);
        self.paused = VecDeque::new();
    }

    /// Nothing moves until the next start.
    pub(super) fn forget_terms(&mut self) {
        self.terms = None;
    }

    /// The session ends: every stream does; `tell`: the peer is to be told by a RESET of each.
    pub(super) fn close(&mut self, tell: bool) {
        if !tell {
            return self.stop(ResetReason::SessionClosed);
        }
        while let Some(slot) = self.table.front(List::Live) {
            self.kill(slot, Some(ResetReason::SessionClosed), true);
        }
    }

    /// The peer goes away, and accepted this side's streams up to `last`: those above it are gone.
    pub(super) fn refuse_above(&mut self, last: StreamId) {
        let mut at = self.table.front(List::Live);
        while let Some(slot) = at {
            at = self.table.after(List::Live, slot);
            let id = self.table[slot].id;
            if !self.is_peers(id) && id.number() > last.number() {
                self.kill(slot, Some(ResetReason::Refused), false);
            }
        }
    }

    /// Whether a stream has a word or payload to send.
    pub(super) fn has_output(&self) -> bool {
        let sends = |priority| {
            self.table.front(List::Fresh(priority)).is_some()
                || self.table.front(List::Turn(priority)).is_some()
        };
        self.table.front(List::Words).is_some() || Priority::ALL.into_iter().any(sends)
    }

    /// Of dead streams the peer is told nothing more.
    fn drop_resets(&mut self) {
        let mut at = self.table.front(List::Words);
        while let Some(slot) = at {
            at = self.table.after(List::Words, slot);
            if self.table[slot].dead {
                self.table[slot].due.take(Bits::RESET);
                self.table.unlink(List::Words, slot);
                self.remove_if_through(slot);
            }
        }
    }

    // Opening.

    /// Opens a stream of this side's.
    pub(super) fn open(&mut self) -> Result<StreamId, OpenError> {
        if self.config.role == Role::Guest && self.is_v1() {
            return Err(OpenError::Dialect);
        }
        self.may_open(true)?;
        let id = StreamId(self.config.own_bit() | self.next_own);
        self.next_own += 1;
        self.insert(id);
        Ok(id)
    }

    /// Makes a stream whose id was agreed on elsewhere usable.
    pub(super) fn attach(&mut self, id: StreamId) -> Result<(), OpenError> {
        let own = !self.is_peers(id);
        self.may_open(own)?;
        if id.number() == 0 || self.table.find(id).is_some() {
            return Err(OpenError::Used);
        }
        if own {
            if id.number() < self.next_own {
                return Err(OpenError::Used);
            }
            self.next_own = id.number() + 1;
        } else if !self.unused.take(id.number()) {
            return Err(OpenError::Used);
        }
        self.insert(id);
        Ok(())
    }

    /// The live stream `id`, or a new one where the peer may open it with this frame.
    pub(super) fn accept(&mut self, id: StreamId) -> Option<u32> {
        if let Some(slot) = self.table.find(id) {
            // Not while an entry of that id waits for its last event to be polled: it is from before the peer started
            // anew.
            return (!self.table[slot].dead).then_some(slot);
        }
        // Nothing is used up behind a GOAWAY, which says how far that went.
        if !self.is_peers(id) || id.number() == 0 || self.is_going_away || !self.unused.take(id.number()) {
            return None;
        }
        if self.table.count(id.is_guests()) >= self.config.peer_limit() {
            return None;
        }
        let slot = self.insert(id);
        self.table[slot].events.set(Bits::OPENED);
        self.table.link(List::Events, slot);
        Some(slot)
    }

    /// The highest stream of the peer's that was accepted; that of the session for none.
    pub(super) fn last_accepted(&self) -> StreamId {
        match self.unused.highest() {
            0 => StreamId::SESSION,
            number => StreamId(number | (self.config.own_bit() ^ StreamId::GUEST_BIT)),
        }
    }

    /// Whether `id` is one of those the peer opens.
    pub(super) const fn is_peers(&self, id: StreamId) -> bool {
        id.0 & StreamId::GUEST_BIT != self.config.own_bit()
    }

    fn may_open(&self, own: bool) -> Result<(), OpenError> {
        if self.is_going_away || self.next_own >= StreamId::GUEST_BIT - 1 {
            return Err(OpenError::GoingAway);
        }
        let guests = (self.config.role == Role::Guest) == own;
        let limit = if own { self.config.own_limit() } else { self.config.peer_limit() };
        if self.table.count(guests) >= limit {
            return Err(OpenError::TooMany);
        }
        Ok(())
    }

    fn insert(&mut self, id: StreamId) -> u32 {
        let max_frame = self.terms.map_or(self.config.max_frame, |terms| terms.max_frame);
        self.table.insert(id, max_frame, self.round.wrapping_sub(1))
    }

    /// The entry of a stream that is alive.
    pub(super) fn live(&mut self, id: StreamId) -> Option<u32> {
        self.table.find(id).filter(|slot| !self.table[*slot].dead)
    }

    /// The entry of a stream that the owner may know: `None` inside for one whose end was not polled yet, with which
    /// nothing can be done and nothing is wrong.
    pub(super) fn known(&mut self, id: StreamId) -> Result<Option<u32>, StreamError> {
        let slot = self.table.find(id).ok_or(StreamError::Unknown)?;
        let stream = &self.table[slot];
        match stream.dead {
            false => Ok(Some(slot)),
            true if stream.events.has(Bits::DEAD) => Ok(None),
            true => Err(StreamError::Unknown),
        }
    }

    /// The entry of a stream that the owner asks about, without remembering it.
    pub(super) fn peek(&self, id: StreamId) -> Option<u32> {
        self.table.peek(id).filter(|slot| {
            let stream = &self.table[*slot];
            !stream.dead || stream.events.has(Bits::DEAD)
        })
    }

    // Ending.

    /// Takes a stream out of the game; the entry stays until its last event is polled and, where the peer is to be told,
    /// its RESET has left.
    pub(super) fn kill(&mut self, slot: u32, reason: Option<ResetReason>, tell: bool) {
        let stream = &mut self.table[slot];
        if stream.dead {
            return;
        }
        stream.dead = true;
        stream.reset = reason;
        stream.ack = 0;
        stream.due = Bits::default();
        if std::mem::take(&mut stream.blocks) {
            self.blocking -= 1;
        }
        self.queued -= u64::from(stream.output.len());
        self.unsent -= u64::from(stream.sender.unsent());
        self.begun.handle_orphaned(slot, &self.pool, &stream.output, stream.cursor);
        self.pool.clear(&mut stream.output);
        stream.cursor = Cursor::FRONT;
        self.pool.clear(&mut stream.input);
        stream.events.take(Bits::WRITABLE);
        stream.events.take(Bits::CREDIT);
        stream.events.set(Bits::DEAD);
        self.table.unlink_sends(slot);
        self.table.unlink(List::Live, slot);
        self.table.link(List::Events, slot);
        if tell {
            self.table[slot].due.set(Bits::RESET);
            self.table.link(List::Words, slot);
        } else {
            self.table.unlink(List::Words, slot);
        }
        self.offer_session_room();
    }

    /// The peer broke the protocol on one stream: that stream is reset where RESET was agreed, else `Err`. `Ok(false)`:
    /// there is no such stream, and the caller is to say RESET in no stream's name.
    pub(super) fn violated(&mut self, id: StreamId, violation: Violation) -> Result<bool, Violation> {
        if !self.has(Features::RESET) {
            return Err(violation);
        }
        self.counters.malformed += 1;
        let slot = self.live(id);
        if let Some(slot) = slot {
            self.kill(slot, Some(ResetReason::Violation(violation)), true);
        }
        Ok(slot.is_some())
    }

    /// A dead stream's RESET left, or its last event was polled.
    pub(super) fn remove_if_through(&mut self, slot: u32) {
        let stream = &self.table[slot];
        if stream.dead && stream.events.is_empty() && !stream.due.has(Bits::RESET) {
            self.table.remove(slot);
        }
    }

    // Events and time.

    /// The next event of any stream.
    pub(super) fn poll_event(&mut self) -> Option<Event> {
        let slot = self.table.front(List::Events)?;
        let stream = &mut self.table[slot];
        let id = stream.id;
        let event = if stream.events.take(Bits::OPENED) {
            Event::Opened(id)
        } else if stream.events.take(Bits::READABLE) {
            Event::Readable(id)
        } else if stream.events.take(Bits::WRITABLE) {
            Event::Writable(id)
        } else if stream.events.take(Bits::CREDIT) {
            Event::Credit(id)
        } else if stream.events.take(Bits::EXITED) {
            Event::Exited(id, stream.exit)
        } else {
            stream.events.take(Bits::DEAD);
            stream.reset.map_or(Event::Retired(id), |reason| Event::Reset(id, reason))
        };
        if stream.events.is_empty() {
            self.table.unlink(List::Events, slot);
            self.remove_if_through(slot);
        }
        Some(event)
    }

    /// Adds an event of a stream.
    pub(super) fn announce(&mut self, slot: u32, event: Bits) {
        self.table[slot].events.set(event);
        self.table.link(List::Events, slot);
    }

    /// v1: when the next pause ends.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.paused.front().map(|(due, _)| *due)
    }

    /// v1: pauses may have ended. Work in proportion to those that did.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(due, id)) = self.paused.front() {
            if due > now {
                break;
            }
            self.paused.pop_front();
            if let Some(slot) = self.live(id) {
                self.table[slot].pace.handle_timeout();
                self.refresh(slot);
            }
        }
    }

    // What leaves, and what comes of it.

    /// The owner wrote `data`, for which there is room.
    pub(super) fn append(&mut self, slot: u32, data: &[u8]) {
        let stream = &mut self.table[slot];
        self.pool.append(&mut stream.output, data);
        stream.sender.handle_written(data.len() as u32);
        self.queued += data.len() as u64;
        self.unsent += data.len() as u64;
        self.refresh(slot);
    }

    /// How long the stream's next frame may be, with so many bytes ahead of it.
    pub(super) fn next_frame(&self, slot: u32, ahead: u32) -> u32 {
        let Some(terms) = self.terms else { return 0 };
        let stream = &self.table[slot];
        let len = stream.sender.next_frame(terms.send_window, ahead);
        if terms.dialect == Dialect::V1 && self.config.role == Role::Host {
            return len.min(stream.pace.room(&self.config.v1).saturating_sub(ahead));
        }
        len
    }

    /// The stream has had a turn: it waits for the others. A round ends when a busy stream comes up again. In each round
    /// whoever can say all it has in one frame goes once ahead of the busy ones, so that a keystroke does not wait for a
    /// frame of every busy stream, and no busy stream for more than one of each.
    pub(super) fn handle_turn(&mut self, slot: u32) {
        if matches!(self.table.sends_in(slot), Some(List::Turn(_))) && self.table[slot].served == self.round {
            self.round = self.round.wrapping_add(1);
        }
        self.table[slot].served = self.round;
        self.table.unlink_sends(slot);
    }

    /// `n` bytes of payload of the stream left; `continued`: they belong to a frame that had begun before.
    pub(super) fn handle_payload_sent(&mut self, slot: u32, n: u32, continued: bool, now: Instant) {
        self.counters.sent += u64::from(n);
        let (v1, reliable) = (self.is_v1(), self.flow() == Flow::Reliable);
        let stream = &mut self.table[slot];
        if stream.dead {
            return;
        }
        stream.sender.handle_sent(n);
        self.unsent -= u64::from(n);
        stream.cursor = self.pool.advance(&stream.output, stream.cursor, n);
        if v1 || reliable {
            // Nothing is ever asked for again, so nothing need be kept.
            self.pool.release(&mut stream.output, n, Some(&mut stream.cursor));
            self.queued -= u64::from(n);
            if v1 {
                // And nothing is ever acked.
                let _ = stream.sender.handle_ack(n.min(stream.sender.flight()), stream.sender.limit());
                if self.config.role == Role::Host
                    && n > 0
                    && let Some(due) = stream.pace.handle_sent(n, continued, &self.config.v1, now)
                {
                    self.paused.push_back((due, stream.id));
                }
            }
            self.offer_room(slot);
        }
        self.refresh(slot);
    }

    /// ACK came.
    pub(super) fn handle_ack(&mut self, slot: u32, n: u32) -> Result<(), Violation> {
        let (reliable, max_frame) =
            (self.flow() == Flow::Reliable, self.terms.map_or(0, |terms| terms.max_frame));
        let stream = &mut self.table[slot];
        stream.sender.handle_ack(n, max_frame)?;
        if !reliable {
            self.pool.release(&mut stream.output, n, Some(&mut stream.cursor));
            self.queued -= u64::from(n);
            self.offer_room(slot);
        }
        Ok(())
    }

    /// REQUEST came.
    pub(super) fn handle_request(&mut self, slot: u32) -> Result<(), Violation> {
        let flow = self.flow();
        if flow == Flow::Reliable {
            return Err(Violation::Repetition);
        }
        let promised = self.begun.promised(slot);
        let stream = &mut self.table[slot];
        self.counters.repeated += u64::from(stream.sender.flight());
        self.unsent += u64::from(stream.sender.flight());
        stream.sender.handle_request(promised > 0);
        self.begun.handle_rewound(slot, stream.cursor);
        stream.cursor = Cursor::FRONT;
        if flow == Flow::Windowed {
            stream.due.set(Bits::REWIND);
        }
        Ok(())
    }

    // What comes.

    /// Copies payload into its stream's buffer.
    pub(super) fn keep(&mut self, slot: u32, bytes: &[u8]) {
        let stream = &mut self.table[slot];
        self.counters.received += bytes.len() as u64;
        self.pool.append(&mut stream.input, bytes);
        self.announce(slot, Bits::READABLE);
        self.update_blocking(slot);
    }

    /// A consumer used `n` bytes of a stream's that the receiver holds.
    pub(super) fn consumed(&mut self, slot: u32, n: u32) {
        let window = if self.config.window == 0 { u32::MAX } else { self.config.window };
        let threshold = self.config.receive_buffer.min(window).div_ceil(2);
        let due = self.table[slot].receiver.handle_consumed(n, threshold);
        self.apply(slot, due);
    }

    /// What a receiving half wants said.
    pub(super) fn apply(&mut self, slot: u32, due: Due) {
        if !self.is_v1() {
            let stream = &mut self.table[slot];
            stream.ack = stream.ack.saturating_add(due.ack);
            if due.request {
                stream.due.set(Bits::REQUEST);
            }
        }
        self.update_blocking(slot);
        self.refresh(slot);
    }

    /// v1: the line waits for this stream, or no longer.
    fn update_blocking(&mut self, slot: u32) {
        let waits = self.is_v1() && self.config.v1.overflow == Overflow::Wait;
        let stream = &mut self.table[slot];
        let blocks = waits && stream.input.len() >= self.config.receive_buffer;
        if blocks != stream.blocks {
            stream.blocks = blocks;
            if blocks {
                self.blocking += 1;
            } else {
                self.blocking -= 1;
            }
        }
    }

    /// v1: whether the line waits for a stream.
    pub(super) const fn is_blocked(&self) -> bool {
        self.blocking > 0
    }

    // Room.

    /// How many bytes a write to the stream would take now.
    pub(super) fn room(&self, slot: u32) -> u32 {
        let stream = &self.table[slot];
        if stream.dead || stream.sender.is_finished() {
            return 0;
        }
        let own = self.config.send_buffer.saturating_sub(stream.output.len());
        let all = self.config.session_send_buffer.saturating_sub(self.queued);
        u32::try_from(all).unwrap_or(u32::MAX).min(own)
    }

    /// How many bytes written to the stream now could leave at once.
    pub(super) fn credit(&self, slot: u32) -> u32 {
        let Some(terms) = self.terms else { return 0 };
        let stream = &self.table[slot];
        let unsent = stream.sender.unsent();
        let mut credit = stream.sender.credit(terms.send_window).min(self.room(slot));
        if terms.dialect == Dialect::V1 && self.config.role == Role::Host {
            credit = credit.min(stream.pace.room(&self.config.v1).saturating_sub(unsent));
        }
        // What others have unsent is ahead of it on the line: one frame is enough to take part.
        let line = u32::try_from(LINE.saturating_sub(self.unsent)).unwrap_or(u32::MAX);
        credit.min(line.max(u32::from(terms.max_frame).saturating_sub(unsent)))
    }

    /// The owner wants more room than there is.
    pub(super) fn want_room(&mut self, slot: u32) {
        self.table[slot].wants_room = true;
        self.room_wanted |= self.is_full();
    }

    /// The owner wants to know when something could leave.
    pub(super) fn want_credit(&mut self, slot: u32) {
        self.table[slot].wants_credit = true;
        self.offer_credit(slot);
    }

    /// Whether all streams together hold what they may.
    fn is_full(&self) -> bool {
        self.queued >= self.config.session_send_buffer
    }

    /// The owner's short write may go on.
    fn offer_room(&mut self, slot: u32) {
        let stream = &self.table[slot];
        // Half the buffer at least: a writer woken for a few bytes writes a few bytes.
        if stream.wants_room && stream.output.len() <= self.config.send_buffer / 2 {
            if self.is_full() {
                self.room_wanted = true;
            } else {
                self.table[slot].wants_room = false;
                self.announce(slot, Bits::WRITABLE);
            }
        }
        self.offer_session_room();
    }

    fn offer_credit(&mut self, slot: u32) {
        if !self.table[slot].wants_credit {
            return;
        }
        if self.credit(slot) > 0 {
            self.table[slot].wants_credit = false;
            self.announce(slot, Bits::CREDIT);
        } else {
            self.room_wanted |= self.is_full();
        }
    }

    /// Once half of what all streams together may hold is free again whoever waits for it is told: visits every live
    /// stream, at most once for so many bytes.
    fn offer_session_room(&mut self) {
        if !self.room_wanted || self.queued > self.config.session_send_buffer / 2 {
            return;
        }
        self.room_wanted = false;
        let mut at = self.table.front(List::Live);
        while let Some(slot) = at {
            at = self.table.after(List::Live, slot);
            self.offer_credit(slot);
            let stream = &self.table[slot];
            if stream.wants_room && stream.output.len() <= self.config.send_buffer / 2 {
                self.table[slot].wants_room = false;
                self.announce(slot, Bits::WRITABLE);
            }
        }
    }

    // Lists.

    /// Puts a stream into the lists it belongs in, and retires it when it is through. Constant work.
    pub(super) fn refresh(&mut self, slot: u32) {
        let Some(terms) = self.terms else { return };
        let v1 = terms.dialect == Dialect::V1;
        let stream = &mut self.table[slot];
        if stream.dead {
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
            return self.kill(slot, None, false);
        }
        let mut due = stream.due;
        if !due.has(Bits::CLOSE) && !stream.sender.is_closed() {
            // The exit code follows the end of the output.
            due.take(Bits::EXIT);
        }
        if stream.ack > 0 || !due.is_empty() {
            self.table.link(List::Words, slot);
        } else {
            self.table.unlink(List::Words, slot);
        }
        if self.next_frame(slot, self.begun.promised(slot)) > 0 {
            let stream = &self.table[slot];
            // Ahead of the others once in a round, if it is through with one frame.
            let is_short = stream.sender.unsent() <= stream.sender.limit().into();
            let list = if is_short && stream.served != self.round { List::Fresh } else { List::Turn };
            self.table.link(list(stream.priority), slot);
        } else {
            self.table.unlink_sends(slot);
        }
        self.offer_credit(slot);
    }

    // Memory.

    /// Bytes of heap held.
    pub(super) fn memory(&self) -> usize {
        self.pool.memory()
            + self.table.memory()
            + self.begun.memory()
            + self.unused.memory()
            + self.paused.capacity() * size_of::<(Instant, StreamId)>()
    }

    /// Gives spare memory back.
    pub(super) fn trim(&mut self) {
        self.pool.trim();
        self.paused.shrink_to_fit();
    }

    /// Gives back what table and pool do not need; `moved(from, to)` is told of every entry that has another place now.
    /// Work in proportion to both.
    pub(super) fn compact(&mut self, mut moved: impl FnMut(u32, u32)) {
        let begun = &mut self.begun;
        self.table.compact(|from, to| {
            begun.handle_moved(from, to);
            moved(from, to);
        });
        let places = self.pool.compact();
        begun.handle_segments_moved(&places);
        for stream in self.table.iter_mut() {
            stream.output.handle_moved(&places);
            stream.input.handle_moved(&places);
            stream.cursor.handle_moved(&places);
        }
    }
}
