//! One end of a multiplexed line: its parts, its time, its events, its beginning and its end.
//!
//! Owns the parts and passes facts between them: `input` says what bytes mean, `output` what leaves,
//! `handshake` who the peer is, `streams` what is open; what may be asked of a stream is in `api`. Refuses to
//! know sockets, clocks and processes.

use std::io::IoSlice;
use std::time::Duration;

use super::config::{Carrier, Config};
use super::control::Control;
use super::decoder::Dialect;
use super::error::{ConfigError, Violation};
use super::event::{CloseReason, Counters, Event, ResetReason, Terms};
use super::handshake::{Again, Found, Handshake, agree, v1_terms};
use super::input::{Arrived, Input};
use super::keepalive::{Keepalive, Silence};
use super::output::Output;
use super::payload::Payload;
use super::streams::Streams;
use super::table::Bits;
use super::wire::{Features, GoAwayCode, Hello, Message, Opening, Role, StreamId};
use crate::time::Instant;

/// How long a session must be silent before it gives spare memory back.
const TRIM_AFTER: Duration = Duration::from_secs(1);
/// Runs that [`Session::transmit_with`] offers: eight frames or more.
const RUNS: usize = 16;

/// One end of a line that carries many streams. See the [module](super) for the loop around it.
#[derive(Debug)]
pub struct Session {
    pub(super) streams: Streams,
    handshake: Handshake,
    input: Input,
    pub(super) output: Output,
    pub(super) control: Control,
    keepalive: Keepalive,
    pub(super) life: Life,
    /// A read is being worked through.
    mid_read: bool,
    /// This side takes no new streams: GOAWAY is said to whoever is or comes to be the peer.
    pub(super) away_said: bool,
    /// The peer takes none.
    away_heard: bool,
    /// A dialect was found once: the next time it is a new start.
    was_started: bool,
    started: Option<Terms>,
    restarted: bool,
    peer_away: Option<(GoAwayCode, StreamId)>,
    closed: Option<CloseReason>,
    trim_at: Option<Instant>,
}

/// How far a session is towards its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
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
            input: Input::new(Dialect::S2),
            output: Output::new(),
            control: Control::new(config.peer_limit()),
            keepalive: Keepalive::new(),
            life: Life::Open,
            mid_read: false,
            away_said: false,
            away_heard: false,
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

    /// As [`Session::handle_received`], offering payload to its consumer on the way: works through `input` up
    /// to the next piece that may be used at once, and returns `None` when all of it is used up. To be called
    /// until then.
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
            if stream.input.len() == 0 && !stream.events.has(Bits::OPENED) {
                return Some(Payload::new(&mut self.streams, slot, bytes));
            }
            self.streams.keep(slot, bytes);
        }
        None
    }

    /// A deadline may have passed. Work in proportion to the v1 streams whose pause ended.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.forget_plan();
        if self.life != Life::Open {
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
    /// [`Event::Restarted`] follows. To be told wherever it can be known: in the middle of a frame a new peer
    /// is hard to make out otherwise.
    pub fn line_reopened(&mut self, now: Instant) {
        self.forget_plan();
        if self.life != Life::Open {
            return;
        }
        let terms = self.streams.terms();
        self.streams.begun.abandon();
        self.forget_peer();
        self.control.hello = false;
        self.control.go_away = None;
        self.input = Input::new(Dialect::S2);
        self.mid_read = false;
        self.handshake.begin(&self.streams.config, now);
        if self.handshake.is_settled()
            && let Some(terms) = terms
        {
            self.start(terms, now);
        }
        self.handle_timeout(now);
    }

    // What to send.

    /// Whether there is anything to send.
    #[must_use]
    pub fn has_output(&self) -> bool {
        self.life != Life::Ended
            && (self.streams.begun.is_some()
                || self.control.has_message()
                || self.streams.terms().is_some() && (self.control.has_reply() || self.streams.has_output()))
    }

    /// Offers what is to be sent next as borrowed runs; returns how many of `runs` were filled, 0 when there
    /// is nothing.
    ///
    /// Idempotent: nothing counts as sent before [`Session::handle_sent`], which is to be called before
    /// anything else is done with the session; [`Session::transmit_with`] is both in one. A frame takes two
    /// runs or three; fewer than that and it goes in pieces. Offer few runs on a slow line, so that what
    /// comes up meanwhile is not behind a long plan. Work in proportion to `runs`, and to what the line took
    /// last.
    pub fn transmit<'a>(&'a mut self, runs: &mut [IoSlice<'a>]) -> usize {
        if self.life == Life::Ended {
            return 0;
        }
        let own = self.handshake.own(&self.streams.config);
        self.output.plan(runs.len(), &own, &self.control, &mut self.streams);
        self.output.fill(&self.streams, runs)
    }

    /// `n` bytes of what the last [`Session::transmit`] offered were taken by the line. Work in proportion to
    /// `n`.
    pub fn handle_sent(&mut self, n: usize, now: Instant) {
        if n == 0 {
            return;
        }
        if n > self.output.offered() {
            return self.end(CloseReason::Misuse, None);
        }
        self.note_activity(now);
        let sent = self.output.handle_sent(n, &mut self.control, &mut self.streams, now);
        if sent.ping {
            self.keepalive.handle_sent(now);
        }
        if self.life == Life::Ending && !self.has_output() {
            self.life = Life::Ended;
        }
    }

    /// Gives what is to be sent next to `take`, as borrowed runs for `writev`, and counts as sent as many
    /// bytes as it says it took. Returns that number; 0 also where there was nothing to take.
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
        let n = take(&runs[..filled]);
        self.handle_sent(n, now);
        n
    }

    // What to do.

    /// When [`Session::handle_timeout`] is to be called at the latest; `None`: not at all.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.life != Life::Open {
            return None;
        }
        let (handshake, streams) = (self.handshake.poll_timeout(), self.streams.poll_timeout());
        [handshake, self.keepalive.due(), streams, self.trim_at].into_iter().flatten().min()
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
    /// after the end of a session, unless it said so itself, and is not closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.life == Life::Ended
    }

    /// How many bytes [`Session::handle_received`] is ready for; 0: do not read. 0 only while the peer does
    /// not read the answers to a read full of frames for no stream, and, in v1 that waits, while a stream's
    /// buffer is full.
    #[must_use]
    pub fn receive_window(&self) -> usize {
        if self.life != Life::Open || self.streams.is_blocked() {
            return 0;
        }
        self.control.receive_window()
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

    /// Bytes of heap held, all of them: what an owner adds up against its budget. At most
    /// [`Config::memory_bound`].
    #[must_use]
    pub fn memory(&self) -> usize {
        self.streams.memory() + self.control.memory() + self.output.memory()
    }

    /// Gives back at once what is not needed: spare segments, and the places of streams that are gone. Work
    /// in proportion to the table; a session that falls silent gives spare memory back by itself, but not the
    /// table.
    pub fn shrink(&mut self) {
        self.forget_plan();
        self.trim();
        let input = &mut self.input;
        self.streams.compact(|from, to| input.handle_moved(from, to));
    }

    // Inside.

    /// The next piece of payload that a stream is to have; `None` when `input` is used up or the session is
    /// over.
    fn decode<'i>(&mut self, input: &mut &'i [u8], now: Instant) -> Option<(u32, &'i [u8])> {
        self.forget_plan();
        if self.life == Life::Open && !input.is_empty() {
            self.keepalive.handle_received(now);
            self.note_activity(now);
            if !std::mem::replace(&mut self.mid_read, true) {
                self.look_for_restart(input, now);
            }
            while self.life == Life::Open && !input.is_empty() {
                if !self.handshake.is_settled() {
                    self.greet(input, now);
                } else if let Some(piece) = self.decode_frame(input, now) {
                    return Some(piece);
                }
            }
        }
        self.mid_read = false;
        *input = &[];
        None
    }

    fn decode_frame<'i>(&mut self, input: &mut &'i [u8], now: Instant) -> Option<(u32, &'i [u8])> {
        match self.input.decode(input, &mut self.streams, &mut self.control) {
            Ok(Some(Arrived::Payload(slot, bytes))) => return Some((slot, bytes)),
            Ok(Some(Arrived::Message(message))) => self.handle_message(message, now),
            Ok(Some(Arrived::Frame)) => self.handshake.handle_conversation(),
            Ok(Some(Arrived::Nothing) | None) => {}
            Err(violation) => self.violated(violation),
        }
        None
    }

    /// A host may have begun anew in the middle of a frame.
    fn look_for_restart(&mut self, input: &mut &[u8], now: Instant) {
        if !self.handshake.is_listener() || !self.handshake.is_settled() || self.streams.is_v1() {
            return;
        }
        let mid_frame = !self.input.at_boundary();
        if let Some(hello) = self.handshake.handle_stalled(input, mid_frame, now) {
            *input = &[];
            self.control.hello = true;
            self.forget_peer();
            self.settle(&hello.hello, now);
        }
    }

    /// Looks at bytes that came before the peer is known.
    fn greet(&mut self, input: &mut &[u8], now: Instant) {
        let Streams { counters, table, .. } = &mut self.streams;
        let attached = |id| table.peek(id).is_some();
        match self.handshake.handle_received(input, attached, counters, now) {
            None => {}
            Some(Found::Hello(hello)) => {
                self.control.hello |= self.streams.config.role == Role::Guest;
                self.settle(&hello.hello, now);
            }
            Some(Found::V1) => {
                self.control.hello = false;
                self.start(v1_terms(&self.streams.config), now);
                if self.streams.config.role == Role::Guest {
                    let (held, have) = self.handshake.held();
                    // A header: no payload can come of it.
                    let header = self.decode_frame(&mut &held[..have], now);
                    debug_assert_eq!(header, None);
                }
            }
            Some(Found::Foreign) => self.control.hello = true,
            Some(Found::NotS2) => self.end(CloseReason::NotS2, None),
        }
    }

    /// Two HELLOs are known.
    fn settle(&mut self, peer: &Hello, now: Instant) {
        let config = &self.streams.config;
        let too_small = peer.max_frame < config.min_frame.min(config.max_frame)
            || (1..config.min_window.min(config.window)).contains(&peer.window);
        self.start(agree(config, peer), now);
        if peer.version == 0 {
            self.end(CloseReason::Version, Some(GoAwayCode::Version));
        } else if peer.max_frame == 0 {
            self.violated(Violation::EmptyFrames);
        } else if too_small {
            self.violated(Violation::SmallFrames);
        }
    }

    /// The dialect is known: streams begin to move.
    fn start(&mut self, terms: Terms, now: Instant) {
        self.input = Input::new(terms.dialect);
        let messages = terms.features.has(Features::MESSAGES);
        self.keepalive.start(messages, now, self.streams.config.keepalive);
        if std::mem::replace(&mut self.was_started, true) {
            self.restarted = true;
        } else {
            self.started = Some(terms);
        }
        if self.away_said {
            self.control.go_away = messages.then(|| (GoAwayCode::Normal, self.streams.last_accepted()));
        }
        self.streams.start(terms);
    }

    /// A message of stream 0.
    fn handle_message(&mut self, message: Message, now: Instant) {
        match message {
            Message::Hello(peer) => return self.handle_hello(&peer, now),
            Message::GoAway { code, last } => self.handle_go_away(code, last),
            Message::Ping(token) if self.streams.has(Features::MESSAGES) => self.control.handle_ping(token),
            Message::Pong(_) if self.streams.has(Features::MESSAGES) => {}
            Message::Ping(_) | Message::Pong(_) | Message::Unknown(_) => self.streams.counters.malformed += 1,
            // A v1 guest's answer to a HELLO that was repeated before the first answer came.
            Message::V1Answer(_) => {}
        }
        self.handshake.handle_conversation();
    }

    /// HELLO where the peer is known already.
    fn handle_hello(&mut self, peer: &Opening, now: Instant) {
        if self.streams.config.carrier == Carrier::Reliable {
            return self.violated(Violation::SecondHello);
        }
        match self.handshake.handle_hello(peer, now) {
            Again::Ignored => {
                self.streams.counters.echoes += u64::from(peer.sender == self.streams.config.role);
            }
            Again::Answer => self.control.hello = true,
            Again::Restarted => {
                self.control.hello = self.streams.config.role == Role::Guest;
                self.forget_peer();
                self.settle(&peer.hello, now);
            }
            Again::Lost => {
                self.forget_peer();
                self.handle_timeout(now);
            }
        }
    }

    fn handle_go_away(&mut self, code: GoAwayCode, last: StreamId) {
        if !self.streams.has(Features::MESSAGES) {
            self.streams.counters.malformed += 1;
            return;
        }
        if code != GoAwayCode::Normal {
            return self.end(CloseReason::Remote(code), None);
        }
        if std::mem::replace(&mut self.away_heard, true) {
            // What was accepted stays accepted; nothing was opened since.
            return;
        }
        self.streams.is_going_away = true;
        self.peer_away = Some((code, last));
        self.streams.refuse_above(last);
    }

    /// The peer broke the protocol in a way that costs the session.
    fn violated(&mut self, violation: Violation) {
        self.streams.counters.malformed += 1;
        self.end(CloseReason::Violation(violation), Some(GoAwayCode::ProtocolError));
    }

    /// The peer is another one, or gone, and nothing that it said or was to be told counts any more.
    fn forget_peer(&mut self) {
        self.streams.stop(ResetReason::Restarted);
        self.streams.forget_terms();
        self.control.forget_peer();
        self.keepalive.stop();
        // Whoever comes has not heard of our GOAWAY, and has said none.
        (self.away_heard, self.peer_away) = (false, None);
        self.streams.is_going_away = self.away_said;
    }

    /// The session is over; the peer is told where it can be.
    pub(super) fn end(&mut self, reason: CloseReason, code: Option<GoAwayCode>) {
        if self.life != Life::Open {
            return;
        }
        self.forget_plan();
        let (messages, resets) = (self.streams.has(Features::MESSAGES), self.streams.has(Features::RESET));
        let last = self.streams.last_accepted();
        let told_by_resets = reason == CloseReason::Local && !messages && resets;
        self.streams.close(told_by_resets);
        self.control.forget_peer();
        self.control.hello = false;
        self.control.go_away = code.filter(|_| messages).map(|code| (code, last));
        self.keepalive.stop();
        self.closed = Some(reason);
        let peers_doing = matches!(
            reason,
            CloseReason::Remote(_) | CloseReason::Violation(_) | CloseReason::Version | CloseReason::Silent
        );
        if peers_doing && self.handshake.is_listener() {
            // The line goes on, and the next HELLO on it begins another session.
            self.handshake.hunt();
            self.streams.forget_terms();
            self.input = Input::new(Dialect::S2);
            (self.away_heard, self.peer_away) = (false, None);
            self.streams.is_going_away = self.away_said;
        } else {
            self.life = if self.has_output() { Life::Ending } else { Life::Ended };
        }
    }

    /// What was offered is no longer what would be.
    pub(super) fn forget_plan(&mut self) {
        if self.output.offered() > 0 {
            self.output.clear(&mut self.streams);
        }
    }

    fn trim(&mut self) {
        self.streams.trim();
        self.output.trim();
        self.control.trim();
    }

    /// Something may be given back once it has been silent for a while.
    fn note_activity(&mut self, now: Instant) {
        self.trim_at = Some(now + TRIM_AFTER);
    }
}
