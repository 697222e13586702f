//! The open streams of a session, with their bytes: how they come to be, what they have to send, how they
//! end.
//!
//! Owns the table, the pool, the begun frame, and the counts over all of them. Every change of a stream ends
//! in [`Streams::refresh`], the one place that decides which lists it is in: a forgotten wake-up cannot be
//! written. Refuses to know the line: what bytes mean is in `input`, what leaves next is in `output`.

use std::collections::VecDeque;

use super::begun::Begun;
use super::bits::{Pending, Words};
use super::config::{Config, Priority};
use super::decoder::Dialect;
use super::error::{OpenError, StreamError, Violation};
use super::event::{Counters, Event, ResetReason};
use super::growth::Grown;
use super::ids::Unused;
use super::receiver::{Flow, ReceiverState};
use super::segments::{Cursor, Pool};
use super::stream::List;
use super::table::Table;
use super::terms::Terms;
use super::wire::{Features, Role, StreamId};
use crate::time::Instant;

/// All streams of one side.
#[derive(Debug)]
pub(super) struct Streams {
    pub(super) config: Config,
    pub(super) table: Table,
    pub(super) pool: Pool,
    pub(super) begun: Begun,
    pub(super) grown: Grown,
    /// When something came last.
    pub(super) now: Instant,
    pub(super) counters: Counters,
    /// What was agreed on; `None`: nothing moves yet.
    pub(super) terms: Option<Terms>,
    /// New streams are neither opened nor accepted.
    pub(super) is_going_away: bool,
    pub(super) unused: Unused,
    pub(super) next_own: u64,
    /// Bytes in all outputs, and those of them that were not sent.
    pub(super) queued: u64,
    pub(super) unsent: u64,
    /// A write was short, or no credit was given, because of what all streams together hold.
    pub(super) room_wanted: bool,
    /// Counts turns of the streams that always have something to send (see [`Self::handle_turn`]).
    pub(super) round: u32,
    /// v1: streams whose stdin pauses, soonest first; the pause is the same for all.
    pub(super) paused: VecDeque<(Instant, StreamId)>,
    /// v1: streams the line waits for.
    pub(super) blocking: u32,
}

impl Streams {
    /// None open.
    pub(super) fn new(config: Config) -> Self {
        Self {
            table: Table::new(config.seed),
            pool: Pool::default(),
            begun: Begun::default(),
            grown: Grown::default(),
            now: Instant::ZERO,
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
            stream.due.take(if v1 { Words::OPEN } else { Words::EXIT });
            if v1 && stream.id.is_guests() {
                self.kill(slot, Some(ResetReason::Dialect), false);
            } else {
                self.refresh(slot);
            }
        }
    }

    /// The peer is gone, or another one: every stream ends, and its numbers begin again. Work in proportion
    /// to the streams that are live, or have a RESET to send.
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

    /// The session ends: every stream does; `send_reset`: the peer is sent a RESET of each.
    pub(super) fn close(&mut self, send_reset: bool) {
        if !send_reset {
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

    /// Nothing more is sent for dead streams.
    fn drop_resets(&mut self) {
        let mut at = self.table.front(List::Words);
        while let Some(slot) = at {
            at = self.table.after(List::Words, slot);
            if self.table[slot].dead {
                self.table[slot].due.take(Words::RESET);
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
            // Not while an entry of that id waits for its last event to be polled: it is from before the peer
            // started anew.
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
        self.table[slot].events.set(Pending::OPENED);
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

    /// The entry of a stream that the application may know: `None` inside for one whose end was not polled
    /// yet, with which nothing can be done and nothing is wrong.
    pub(super) fn known(&mut self, id: StreamId) -> Result<Option<u32>, StreamError> {
        let slot = self.table.find(id).ok_or(StreamError::Unknown)?;
        let stream = &self.table[slot];
        match stream.dead {
            false => Ok(Some(slot)),
            true if stream.events.has(Pending::DEAD) => Ok(None),
            true => Err(StreamError::Unknown),
        }
    }

    /// The entry of a stream that the application asks about, without remembering it.
    pub(super) fn peek(&self, id: StreamId) -> Option<u32> {
        self.table.peek(id).filter(|slot| {
            let stream = &self.table[*slot];
            !stream.dead || stream.events.has(Pending::DEAD)
        })
    }

    // Ending.

    /// Ends a stream; the entry stays until its last event is polled and, where the peer is to be sent one,
    /// its RESET has left.
    pub(super) fn kill(&mut self, slot: u32, reason: Option<ResetReason>, send_reset: bool) {
        let stream = &mut self.table[slot];
        if stream.dead {
            return;
        }
        stream.dead = true;
        stream.reset = reason;
        stream.ack = 0;
        stream.due = Words::default();
        if std::mem::take(&mut stream.blocks) {
            self.blocking -= 1;
        }
        self.queued -= u64::from(stream.unacked.len());
        self.unsent -= u64::from(stream.sender.unsent());
        self.begun.handle_orphaned(slot, &self.pool, &stream.unacked, stream.cursor);
        self.pool.clear(&mut stream.unacked);
        stream.cursor = Cursor::FRONT;
        self.pool.clear(&mut stream.unread);
        stream.events.take(Pending::WRITABLE);
        stream.events.take(Pending::CREDIT);
        stream.events.set(Pending::DEAD);
        self.forget_growth(slot);
        self.table.unlink_sends(slot);
        self.table.unlink(List::Live, slot);
        self.table.link(List::Events, slot);
        if send_reset {
            self.table[slot].due.set(Words::RESET);
            self.table.link(List::Words, slot);
        } else {
            self.table.unlink(List::Words, slot);
        }
        self.offer_session_room();
    }

    /// The peer broke the protocol on one stream: that stream is reset where RESET was agreed, else `Err`.
    /// `Ok(false)`: there is no such stream, and RESET is to be sent in no stream's name.
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
        if stream.dead && stream.events.is_empty() && !stream.due.has(Words::RESET) {
            self.table.remove(slot);
        }
    }

    // Events and time.

    /// The next event of any stream.
    pub(super) fn poll_event(&mut self) -> Option<Event> {
        let slot = self.table.front(List::Events)?;
        let stream = &mut self.table[slot];
        let id = stream.id;
        let event = if stream.events.take(Pending::OPENED) {
            Event::Opened(id)
        } else if stream.events.take(Pending::READABLE) {
            Event::Readable(id)
        } else if stream.events.take(Pending::WRITABLE) {
            Event::Writable(id)
        } else if stream.events.take(Pending::CREDIT) {
            Event::Credit(id)
        } else if stream.events.take(Pending::EXITED) {
            Event::Exited(id, stream.exit)
        } else {
            stream.events.take(Pending::DEAD);
            stream.reset.map_or(Event::Retired(id), |reason| Event::Reset(id, reason))
        };
        if stream.events.is_empty() {
            self.table.unlink(List::Events, slot);
            self.remove_if_through(slot);
        }
        Some(event)
    }

    /// Adds an event of a stream.
    pub(super) fn announce(&mut self, slot: u32, event: Pending) {
        self.table[slot].events.set(event);
        self.table.link(List::Events, slot);
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
            stream.due.set(Words::CLOSE);
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
        if !due.has(Words::CLOSE) && !stream.sender.is_closed() {
            // The exit code follows the end of the output.
            due.take(Words::EXIT);
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

    /// Gives back what table and pool do not need; `moved(from, to)` is called for every entry that has
    /// another place now. Work in proportion to both.
    pub(super) fn compact(&mut self, mut moved: impl FnMut(u32, u32)) {
        let begun = &mut self.begun;
        self.table.compact(|from, to| {
            begun.handle_moved(from, to);
            moved(from, to);
        });
        let places = self.pool.compact();
        begun.handle_segments_moved(&places);
        for stream in self.table.iter_mut() {
            stream.unacked.handle_moved(&places);
            stream.unread.handle_moved(&places);
            stream.cursor.handle_moved(&places);
        }
    }
}

/// Heap of one pause of a v1 stream, in a queue up to twice as long as need be.
pub(super) const PAUSE: u64 = 2 * size_of::<(Instant, StreamId)>() as u64;
