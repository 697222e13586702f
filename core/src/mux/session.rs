//! One end of a multiplexed line: its parts, its time, its events, its beginning and its end.
//!
//! Owns the parts and passes facts between them: `reader` knows what bytes mean, `plan` what leaves,
//! `handshake` who the peer is, `streams` what is open; what may be asked of a stream is in `api`. Refuses to
//! know sockets, clocks and processes.

use std::io::IoSlice;
use std::time::Duration;

use super::bits::Pending;
use super::config::Config;
use super::control::Control;
use super::decoder::Dialect;
use super::error::ConfigError;
use super::event::{CloseReason, Counters, Event};
use super::handshake::Handshake;
use super::keepalive::{Keepalive, Silence};
use super::payload::Payload;
use super::plan::Plan;
use super::reader::FrameReader;
use super::streams::Streams;
use super::terms::Terms;
use super::wire::{GoAwayCode, StreamId};
use crate::time::Instant;

/// One end of a line that carries many streams. See the [module](super) for the loop around it.
#[derive(Debug)]
pub struct Session {
    pub(super) streams: Streams,
    pub(super) handshake: Handshake,
    pub(super) reader: FrameReader,
    pub(super) plan: Plan,
    pub(super) control: Control,
    pub(super) keepalive: Keepalive,
    pub(super) state: SessionState,
    /// A read is being worked through.
    pub(super) mid_read: bool,
    /// This side takes no new streams: GOAWAY is sent to whoever is or comes to be the peer.
    pub(super) go_away_sent: bool,
    /// The peer takes none.
    pub(super) go_away_received: bool,
    /// A dialect was found once: the next time it is a new start.
    pub(super) was_started: bool,
    pub(super) started: Option<Terms>,
    pub(super) restarted: bool,
    pub(super) peer_away: Option<(GoAwayCode, StreamId)>,
    pub(super) closed: Option<CloseReason>,
    pub(super) trim_at: Option<Instant>,
}

/// How far a session is towards its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SessionState {
    /// Working.
    Open,
    /// A last GOAWAY, or a RESET of each stream, is to leave.
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
            handshake,
            reader: FrameReader::new(Dialect::S2),
            plan: Plan::new(),
            control: Control::new(config.peer_limit()),
            keepalive: Keepalive::new(),
            state: SessionState::Open,
            mid_read: false,
            go_away_sent: false,
            go_away_received: false,
            was_started: false,
            started: None,
            restarted: false,
            peer_away: None,
            closed: None,
            trim_at: None,
            streams: Streams::new(config),
        };
        if let Some(terms) = terms {
            session.start(terms, now);
        }
        session.handle_timeout(now);
        Ok(session)
    }

    // What happened.

    /// Bytes came from the line, cut anywhere; give at most [`Session::receive_window`] at a time. Each
    /// payload byte is copied once, into its stream's buffer. Work in proportion to `data`.
    pub fn handle_received(&mut self, data: &[u8], now: Instant) {
        let mut input = data;
        while let Some((slot, bytes)) = self.decode(&mut input, now) {
            self.streams.keep(slot, bytes);
        }
    }

    /// As [`Session::handle_received`], lending payload to the application on the way: works through `input`
    /// up to the next piece that may be used at once, and returns `None` when all of it is used up. To be
    /// called until then.
    ///
    /// Only the next bytes of a stream are offered: what arrives behind bytes that were kept is kept as well,
    /// and so is what arrives for a stream whose [`Event::Opened`] was not polled yet. At most one copy, of
    /// what nobody takes.
    ///
    /// ```
    /// # use vspc_core::{mux::{Config, Role, Session}, time::Instant};
    /// # let now = Instant::from_micros(0);
    /// # let mut session = Session::new(Config::new(Role::Host), now)?;
    /// # let (scratch, mut sink) = ([0; 64], Vec::new());
    /// let mut input = &scratch[..]; // what was read
    /// while let Some(mut payload) = session.poll_received(&mut input, now) {
    ///     sink.extend_from_slice(payload.bytes());
    ///     payload.consume(payload.bytes().len());
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn poll_received<'s, 'i>(
        &'s mut self,
        input: &mut &'i [u8],
        now: Instant,
    ) -> Option<Payload<'s, 'i>> {
        while let Some((slot, bytes)) = self.decode(input, now) {
            let stream = &self.streams.table[slot];
            if stream.unread.len() == 0 && !stream.events.has(Pending::OPENED) {
                return Some(Payload::new(&mut self.streams, slot, bytes));
            }
            self.streams.keep(slot, bytes);
        }
        None
    }

    /// A deadline may have passed. Work in proportion to the v1 streams whose pause ended.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.forget_plan();
        if self.state != SessionState::Open {
            return;
        }
        match self.handshake.handle_timeout(now) {
            Ok(due) => self.control.hello |= due,
            Err(reason) => return self.end(reason, None),
        }
        match self.keepalive.handle_timeout(now) {
            Silence::Short => {}
            Silence::Ask(token) => self.control.ping = Some(token),
            Silence::Dead => self.end(CloseReason::Silent, None),
        }
        self.streams.handle_timeout(now);
        if self.trim_at.is_some_and(|at| at <= now) {
            self.trim_at = None;
            self.trim();
        }
    }

    /// The line was closed and opened again by whoever carries it: nothing that was under way will arrive, in
    /// either direction, and the peer may be another one. Every stream is reset; with a new peer
    /// [`Event::Restarted`] follows. Call it wherever that can be known: in the middle of a frame a new peer
    /// is hard to make out otherwise.
    pub fn line_reopened(&mut self, now: Instant) {
        self.forget_plan();
        if self.state != SessionState::Open {
            return;
        }
        let terms = self.streams.terms();
        self.streams.begun.abandon();
        self.forget_peer();
        self.control.hello = false;
        self.control.go_away = None;
        self.reader = FrameReader::new(Dialect::S2);
        self.mid_read = false;
        self.handshake.begin(&self.streams.config, now);
        if self.handshake.is_settled()
            && let Some(terms) = terms
        {
            self.start(terms, now);
        }
        self.handle_timeout(now);
    }

    /// Guest on a line, as long as no host has spoken: says HELLO unasked. A host that was not told that the
    /// last guest on this line is gone begins anew by it (SPEC §3); others ignore it. Constant work.
    pub fn announce_itself(&mut self) {
        if self.handshake.is_listener() && !self.handshake.is_settled() {
            self.control.hello = true;
        }
    }

    /// v1: the API that a control channel has told of, where it was not known before. To be called while no
    /// stream is open. Constant work.
    pub const fn set_v1_api(&mut self, api: u32) {
        self.streams.config.v1.api = api;
    }

    // What to send.

    /// Whether there is anything to send.
    #[must_use]
    pub fn has_output(&self) -> bool {
        self.state != SessionState::Ended
            && (self.streams.begun.is_some()
                || self.control.has_message()
                || self.streams.terms().is_some() && (self.control.has_reply() || self.streams.has_output()))
    }

    /// Gives what is to be sent next to `take`, as borrowed runs for `writev`, and counts as sent as many
    /// bytes as `take` says that it took. Returns that number; 0 also where there was nothing to take. A
    /// frame that `take` took a part of leaves whole; the order of all else is decided anew in the next call,
    /// so a word or a keystroke that comes up meanwhile waits for one frame at most.
    ///
    /// Work in proportion to what is taken now, and to what was taken last.
    ///
    /// ```
    /// # use std::io::Write;
    /// # use vspc_core::{mux::{Config, Role, Session}, time::Instant};
    /// # let now = Instant::from_micros(0);
    /// # let mut session = Session::new(Config::new(Role::Host), now)?;
    /// # let mut socket = Vec::new();
    /// let mut outcome = Ok(0);
    /// session.transmit_with(now, |runs| {
    ///     outcome = socket.write_vectored(runs);
    ///     *outcome.as_ref().unwrap_or(&0)
    /// });
    /// assert_eq!(outcome?, 36);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn transmit_with(&mut self, now: Instant, take: impl FnOnce(&[IoSlice<'_>]) -> usize) -> usize {
        let mut runs = [IoSlice::new(&[]); RUNS];
        let filled = self.transmit(&mut runs);
        if filled == 0 {
            return 0;
        }
        let offered = runs[..filled].iter().map(|run| run.len()).sum();
        let n = take(&runs[..filled]);
        self.note_sent(n, offered, now);
        n
    }

    /// The first half of [`Session::transmit_with`], for whoever cannot write in a closure: offers what is to
    /// be sent next as borrowed runs, and returns how many of `runs` were filled, 0 when there is nothing. A
    /// frame takes two runs or three; with fewer it goes in pieces.
    ///
    /// Idempotent: nothing counts as sent before [`Session::handle_sent`], which is to be called before
    /// anything else is done with the session. Work in proportion to `runs`, and to what the line took last.
    pub fn transmit<'a>(&'a mut self, runs: &mut [IoSlice<'a>]) -> usize {
        if self.state == SessionState::Ended {
            return 0;
        }
        let hello = self.control.hello.then(|| self.handshake.own(&self.streams.config));
        self.plan.make(runs.len(), hello, &self.control, &mut self.streams);
        self.plan.fill(&self.streams, runs)
    }

    /// The second half: the line took `n` bytes of what the last [`Session::transmit`] offered. Work in
    /// proportion to `n`.
    pub fn handle_sent(&mut self, n: usize, now: Instant) {
        self.note_sent(n, self.plan.offered(), now);
    }

    // What to do.

    /// When [`Session::handle_timeout`] is to be called at the latest; `None`: not at all.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.trim_at.filter(|_| self.state == SessionState::Open).into_iter().chain(self.due()).min()
    }

    /// When there is more to do than to give memory back.
    pub(super) fn due(&self) -> Option<Instant> {
        if self.state != SessionState::Open {
            return None;
        }
        let (handshake, streams) = (self.handshake.poll_timeout(), self.streams.poll_timeout());
        [handshake, self.keepalive.due(), streams].into_iter().flatten().min()
    }

    /// The next event, oldest first. Constant work.
    pub fn poll_event(&mut self) -> Option<Event> {
        if let Some(terms) = self.started.take() {
            return Some(Event::Started(terms));
        }
        if self.restarted
            && let Some(terms) = self.streams.terms()
        {
            if let Some(reason) = self.closed.take() {
                return Some(Event::Closed(reason));
            }
            self.restarted = false;
            return Some(Event::Restarted(terms));
        }
        if let Some((code, last)) = self.peer_away.take() {
            return Some(Event::GoingAway { code, last });
        }
        self.streams.poll_event().or_else(|| self.closed.take().map(Event::Closed))
    }

    // What is known.

    /// What was agreed on; `None` before that, and while there is no peer.
    #[must_use]
    pub const fn terms(&self) -> Option<Terms> {
        self.streams.terms()
    }

    /// The dialect; `None` before it is known.
    #[must_use]
    pub fn dialect(&self) -> Option<Dialect> {
        self.terms().map(|terms| terms.dialect)
    }

    /// Whether the session is over for good and has nothing more to transmit. A guest on a line listens on
    /// after the end of a session, unless it ended it itself, and is not closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state == SessionState::Ended
    }

    /// How many bytes [`Session::handle_received`] is ready for; 0: do not read. 0 only while the peer does
    /// not read the answers to a read full of frames for no stream, and, in v1 that waits, while a stream's
    /// buffer is full.
    #[must_use]
    pub fn receive_window(&self) -> usize {
        if self.state != SessionState::Open || self.streams.is_blocked() {
            return 0;
        }
        self.control.receive_window()
    }

    /// Whether the line waits for a stream whose buffer is full (v1 that waits). One whose session is over
    /// waits for nobody.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.state == SessionState::Open && self.streams.is_blocked()
    }

    /// What was done so far.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.streams.counters
    }

    /// Open streams, those included whose last event was not polled or whose RESET has not left.
    #[must_use]
    pub fn stream_count(&self) -> usize {
        self.streams.table.len()
    }

    /// Bytes of heap held, all of them: what an application adds up against its budget. At most
    /// [`Config::memory_bound`].
    #[must_use]
    pub fn memory(&self) -> usize {
        self.streams.memory() + self.control.memory() + self.plan.memory()
    }

    /// Gives back at once what is not needed: spare segments, and the places of streams that are gone. Work
    /// in proportion to the table; a session that falls silent gives spare memory back by itself, but not the
    /// table.
    pub fn shrink(&mut self) {
        self.forget_plan();
        self.trim();
        let input = &mut self.reader;
        self.streams.compact(|from, to| input.handle_moved(from, to));
    }

    // Inside.

    /// The line took `n` of the `offered` bytes.
    fn note_sent(&mut self, n: usize, offered: usize, now: Instant) {
        if n == 0 {
            return;
        }
        if n > offered {
            return self.end(CloseReason::Misuse, None);
        }
        self.note_activity(now);
        let sent = self.plan.handle_sent(n, offered, &mut self.control, &mut self.streams, now);
        if sent.ping {
            self.keepalive.handle_sent(now);
        }
        if self.state == SessionState::Ending && !self.has_output() {
            self.state = SessionState::Ended;
        }
    }

    /// What was offered is no longer what would be.
    pub(super) fn forget_plan(&mut self) {
        if self.plan.offered() > 0 {
            self.plan.clear(&mut self.streams);
        }
    }

    fn trim(&mut self) {
        self.streams.trim();
        self.plan.trim();
        self.control.trim();
    }

    /// It has been silent for a while: what may be given back was.
    pub(super) const fn is_silent(&self) -> bool {
        self.trim_at.is_none()
    }

    /// Something may be given back once it has been silent for a while.
    pub(super) fn note_activity(&mut self, now: Instant) {
        self.trim_at = Some(now + TRIM_AFTER);
    }
}

/// How long a session must be silent before it gives spare memory back.
const TRIM_AFTER: Duration = Duration::from_secs(1);
/// Runs that [`Session::transmit_with`] offers. A frame takes two or three: at least 21 frames, of the
/// default size as much as is read at a time.
const RUNS: usize = 64;
