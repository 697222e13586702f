//! One end of a multiplexed line: its parts, its time, its events, its beginning and its end.
//!
//! Owns the machines and passes facts between them; bytes come in through `arrival`, `incoming` says what they mean,
//! `outgoing` what leaves, `owner` what may be asked. Refuses to know sockets, clocks and processes.

use std::collections::{BTreeSet, VecDeque};

use super::config::Config;
use super::decoder::{Decoder, Dialect};
use super::error::{ConfigError, StreamError};
use super::event::{CloseReason, Counters, Event, ResetReason, Terms};
use super::hello::{Handshake, HandshakePhase};
use super::ids::Unused;
use super::incoming::{Incoming, Reply};
use super::keepalive::Keepalive;
use super::output::Output;
use super::segments::{Cursor, Pool};
use super::streams::{Bits, CONTROL, EVENTS, READY, Streams};
use super::v1::Overflow;
use super::wire::{Features, GoAwayCode, MAX_MESSAGE, StreamId};
use crate::time::Instant;

/// Most bytes a session wants to be given at a time.
pub const READ: usize = 65536;
/// Replies to frames for no stream that may wait: one read full of such frames, at 12 bytes a frame. While that many
/// wait nothing is read, so a peer that asks and never listens stops itself.
pub const REPLIES: usize = READ / 12 + 1;
/// How long a session must be silent before it gives spare memory back.
const TRIM_AFTER: std::time::Duration = std::time::Duration::from_secs(1);

/// One end of a line that carries many streams. See the [module](super) for the loop around it.
#[derive(Debug)]
pub struct Session {
    pub(super) config: Config,
    pub(super) terms: Option<Terms>,
    pub(super) handshake: Handshake,
    pub(super) life: Life,
    pub(super) decoder: Decoder,
    pub(super) incoming: Incoming,
    pub(super) message: [u8; MAX_MESSAGE as usize],
    pub(super) message_len: usize,
    pub(super) streams: Streams,
    pub(super) pool: Pool,
    pub(super) unused: Unused,
    pub(super) next_own: u64,
    pub(super) output: Output,
    pub(super) replies: VecDeque<(StreamId, Reply)>,
    /// Streams closed without ever having been opened here; where RESET is not agreed a CLOSE must not be said twice.
    pub(super) strays_closed: BTreeSet<u64>,
    pub(super) pongs: VecDeque<u32>,
    pub(super) hello_due: bool,
    pub(super) go_away_due: Option<GoAwayCode>,
    /// This side takes no new streams: GOAWAY is said to whoever is or comes to be the peer.
    pub(super) away_said: bool,
    /// The peer takes none.
    pub(super) away_heard: bool,
    pub(super) keepalive: Keepalive,
    pub(super) started: Option<Terms>,
    pub(super) restarted: bool,
    pub(super) peer_away: Option<(GoAwayCode, StreamId)>,
    pub(super) closed: Option<CloseReason>,
    pub(super) counters: Counters,
    /// v1: streams whose stdin pauses, soonest first; the pause is the same for all.
    pub(super) paused: VecDeque<(Instant, StreamId)>,
    /// v1: streams the line waits for.
    pub(super) blocking: u32,
    pub(super) trim_at: Option<Instant>,
}

/// How far a session is towards its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// Working.
    Open,
    /// A last GOAWAY is to leave.
    Ending,
    /// Over.
    Ended,
}

impl Session {
    /// A session at its start; a host has a HELLO to send at once. Allocates nothing.
    pub fn new(config: Config, now: Instant) -> Result<Self, ConfigError> {
        config.check()?;
        let (handshake, terms) = Handshake::new(&config, now);
        let mut session = Self {
            terms: None,
            handshake,
            life: Life::Open,
            decoder: Decoder::new(Dialect::S2),
            incoming: Incoming::Nowhere,
            message: [0; MAX_MESSAGE as usize],
            message_len: 0,
            streams: Streams::new(config.seed),
            pool: Pool::default(),
            unused: Unused::new(config.max_streams as usize),
            next_own: config.first_id.max(1),
            output: Output::default(),
            replies: VecDeque::new(),
            strays_closed: BTreeSet::new(),
            pongs: VecDeque::new(),
            hello_due: false,
            go_away_due: None,
            away_said: false,
            away_heard: false,
            keepalive: Keepalive::new(),
            started: None,
            restarted: false,
            peer_away: None,
            closed: None,
            counters: Counters::default(),
            paused: VecDeque::new(),
            blocking: 0,
            trim_at: None,
            config,
        };
        if let Some(terms) = terms {
            session.start(terms, now);
        }
        session.handle_timeout(now);
        Ok(session)
    }

    // What happened.

    /// A deadline may have passed. Work in proportion to the v1 streams whose pause ended.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.forget_plan();
        if self.life != Life::Open {
            return;
        }
        if self.handshake.handle_timeout(now) {
            self.hello_due = true;
        }
        match self.keepalive.handle_timeout(now, self.config.keepalive) {
            Some(true) => {}
            Some(false) => self.fail(CloseReason::Silent, None),
            None => {}
        }
        while let Some(&(due, id)) = self.paused.front() {
            if due > now {
                break;
            }
            self.paused.pop_front();
            if let Some(slot) = self.streams.find(id) {
                self.streams[slot].pace.handle_timeout();
                self.refresh(slot);
            }
        }
        if self.trim_at.is_some_and(|at| at <= now) {
            self.trim_at = None;
            self.pool.trim();
            self.output.trim();
            self.replies.shrink_to_fit();
            self.pongs.shrink_to_fit();
            self.paused.shrink_to_fit();
        }
    }

    /// When [`Session::handle_timeout`] is to be called at the latest; `None`: not at all.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.life != Life::Open {
            return None;
        }
        let calling = match self.handshake.phase() {
            HandshakePhase::Calling(due) => Some(due),
            _ => None,
        };
        let paused = self.paused.front().map(|(due, _)| *due);
        [calling, self.keepalive.due(), paused, self.trim_at].into_iter().flatten().min()
    }

    /// The next event, oldest first. Constant work.
    pub fn poll_event(&mut self) -> Option<Event> {
        if let Some(terms) = self.started.take() {
            return Some(Event::Started(terms));
        }
        if std::mem::take(&mut self.restarted)
            && let Some(terms) = self.terms
        {
            return Some(Event::Restarted(terms));
        }
        if let Some((code, last)) = self.peer_away.take() {
            return Some(Event::GoingAway { code, last });
        }
        let Some(slot) = self.streams.front(EVENTS) else { return self.closed.take().map(Event::Closed) };
        let stream = &mut self.streams[slot];
        let id = stream.id;
        let event = if stream.events.take(Bits::OPENED) {
            Event::Opened(id)
        } else if stream.events.take(Bits::READABLE) {
            Event::Readable(id)
        } else if stream.events.take(Bits::WRITABLE) {
            Event::Writable(id)
        } else if stream.events.take(Bits::EXITED) {
            Event::Exited(id, stream.exit)
        } else {
            stream.events.take(Bits::DEAD);
            let event = stream.reset.map_or(Event::Retired(id), |reason| Event::Reset(id, reason));
            self.forget_plan();
            self.streams.remove(slot);
            return Some(event);
        };
        if self.streams[slot].events.is_empty() {
            self.streams.unlink(EVENTS, slot);
        }
        Some(event)
    }

    // What is known.

    /// What was agreed on; `None` before that.
    #[must_use]
    pub const fn terms(&self) -> Option<Terms> {
        self.terms
    }

    /// The dialect; `None` before it is known.
    #[must_use]
    pub fn dialect(&self) -> Option<Dialect> {
        self.terms.map(|terms| terms.dialect)
    }

    /// Whether the session is over and has nothing more to transmit.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.life == Life::Ended
    }

    /// How many bytes [`Session::handle_received`] is ready for; 0: do not read. 0 only while the peer does not read
    /// the answers to a read full of frames for no stream, and, in v1 that waits, while a stream's buffer is full.
    #[must_use]
    pub fn receive_window(&self) -> usize {
        if self.life != Life::Open || self.blocking > 0 {
            return 0;
        }
        (REPLIES.saturating_sub(self.replies.len()) * 12).min(READ)
    }

    /// What was done so far.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Open streams.
    #[must_use]
    pub fn stream_count(&self) -> usize {
        self.streams.len()
    }

    /// Bytes of heap held for streams and their payload: what an owner adds up against its budget.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.pool.memory() + self.streams.memory()
    }

    /// The entry of a stream that is alive.
    pub(super) fn live(&mut self, id: StreamId) -> Option<u32> {
        self.streams.find(id).filter(|slot| !self.streams[*slot].dead)
    }

    /// The entry of a stream that the owner may know: `None` inside for one whose end it has not polled yet, with which
    /// nothing can be done and nothing is wrong.
    pub(super) fn known(&mut self, id: StreamId) -> Result<Option<u32>, StreamError> {
        let slot = self.streams.find(id).ok_or(StreamError::Unknown)?;
        Ok((!self.streams[slot].dead).then_some(slot))
    }

    /// Whether no new streams are taken or may be opened.
    pub(super) const fn is_going_away(&self) -> bool {
        self.away_said || self.away_heard
    }

    pub(super) fn has(&self, feature: Features) -> bool {
        self.terms.is_some_and(|terms| terms.features.has(feature))
    }

    /// The dialect is known: streams begin to move.
    pub(super) fn start(&mut self, terms: Terms, now: Instant) {
        let first = self.terms.is_none();
        self.terms = Some(terms);
        self.decoder = Decoder::new(terms.dialect);
        self.keepalive.start(terms.features.has(Features::MESSAGES), now, self.config.keepalive);
        if first {
            self.started = Some(terms);
        }
        if self.away_said {
            self.go_away_due = self.has(Features::MESSAGES).then_some(GoAwayCode::Normal);
        }
        for slot in self.streams.slots() {
            let stream = &mut self.streams[slot];
            stream.sender.set_limit(terms.max_frame);
            if terms.dialect == Dialect::V1 && stream.id.is_guests() {
                self.kill(slot, Some(ResetReason::Dialect));
            } else {
                self.refresh(slot);
            }
        }
    }

    /// The session is over; the peer is told where it can be.
    pub(super) fn fail(&mut self, reason: CloseReason, code: Option<GoAwayCode>) {
        if self.life != Life::Open {
            return;
        }
        self.forget_plan();
        for slot in self.streams.slots() {
            if !self.streams[slot].dead {
                self.kill(slot, Some(ResetReason::SessionClosed));
            }
        }
        self.closed = Some(reason);
        self.replies = VecDeque::new();
        self.pongs = VecDeque::new();
        self.paused = VecDeque::new();
        self.strays_closed = BTreeSet::new();
        self.hello_due = false;
        self.go_away_due = code.filter(|_| self.has(Features::MESSAGES));
        self.life = if self.go_away_due.is_some() { Life::Ending } else { Life::Ended };
    }

    /// Takes a stream out of the game; the entry stays until its last event is polled.
    pub(super) fn kill(&mut self, slot: u32, reason: Option<ResetReason>) {
        let stream = &mut self.streams[slot];
        if stream.dead {
            return;
        }
        stream.dead = true;
        stream.reset = reason;
        stream.due = Bits::default();
        stream.ack = 0;
        if std::mem::take(&mut stream.blocks) {
            self.blocking -= 1;
        }
        self.output.handle_orphaned(slot, &self.pool, &stream.output, stream.cursor);
        self.pool.clear(&mut stream.output);
        stream.cursor = Cursor::FRONT;
        self.pool.clear(&mut stream.input);
        stream.events.take(Bits::WRITABLE);
        stream.events.set(Bits::DEAD);
        self.streams.unlink(READY, slot);
        self.streams.unlink(CONTROL, slot);
        self.streams.link(EVENTS, slot);
        if self.incoming.slot() == Some(slot) {
            self.incoming = Incoming::Nowhere;
        }
    }

    /// v1: the line waits for this stream, or no longer.
    pub(super) fn update_blocking(&mut self, slot: u32) {
        let waits = self.dialect() == Some(Dialect::V1) && self.config.v1.overflow == Overflow::Wait;
        let stream = &mut self.streams[slot];
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

    /// Something may be given back once it has been silent for a while.
    pub(super) fn note_activity(&mut self, now: Instant) {
        self.trim_at = Some(now + TRIM_AFTER);
    }
}
