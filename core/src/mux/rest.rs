//! A session on whose line nothing is under way, in a few bytes a stream.
//!
//! Owns what is kept of it, and when that is all there is to keep: whoever uses it again finds the session
//! that fell silent, but for whose turn it was. A line with an agent behind it is silent nearly always, and a
//! session is a kilobyte and a half. Refuses to know what the line is.

use std::sync::Arc;

use super::bits::{Pending, Words};
use super::config::{Config, Priority};
use super::control::Control;
use super::decoder::Dialect;
use super::error::ConfigError;
use super::event::Counters;
use super::handshake::{Handshake, Settled};
use super::ids::Unused;
use super::keepalive::Keepalive;
use super::plan::Plan;
use super::reader::FrameReader;
use super::receiver::{Receiver, ReceiverAtRest};
use super::sender::{Sender, SenderAtRest};
use super::session::{Session, SessionState};
use super::stream::{List, Stream};
use super::streams::Streams;
use super::terms::Terms;
use super::wire::StreamId;
use crate::time::Instant;

/// The session of a host, or what is kept of it while it rests.
#[derive(Debug)]
pub(super) struct Held {
    /// Shared by many lines: but for nonce and seed.
    config: Arc<Config>,
    /// Of the present session.
    nonce: u32,
    seed: [u64; 2],
    state: State,
}

#[derive(Debug)]
enum State {
    Awake(Box<Session>),
    Resting(Box<Resting>),
}

impl Held {
    /// A session at its start, with this nonce and this seed instead of the configuration's.
    pub(super) fn new(
        config: Arc<Config>,
        nonce: u32,
        seed: [u64; 2],
        now: Instant,
    ) -> Result<Self, ConfigError> {
        let own = Config { nonce, seed, ..(*config).clone() };
        let state = State::Awake(Box::new(Session::new(own, now)?));
        Ok(Self { config, nonce, seed, state })
    }

    /// Another one in its place, which has this nonce.
    pub(super) fn begin_anew(&mut self, nonce: u32, now: Instant) {
        self.nonce = nonce;
        if let Ok(session) = Session::new(self.own_config(), now) {
            self.state = State::Awake(Box::new(session));
        }
    }

    fn own_config(&self) -> Config {
        Config { nonce: self.nonce, seed: self.seed, ..(*self.config).clone() }
    }

    /// The nonce of its configuration.
    pub(super) const fn nonce(&self) -> u32 {
        self.nonce
    }

    /// The session, woken if it rests.
    pub(super) fn wake(&mut self) -> &mut Session {
        if let State::Resting(_) = &self.state {
            let config = self.own_config();
            if let State::Resting(kept) = &mut self.state {
                let session = kept.wake(config);
                self.state = State::Awake(Box::new(session));
            }
        }
        match &mut self.state {
            State::Awake(session) => session,
            State::Resting(_) => unreachable!("it was woken"),
        }
    }

    /// The session, unless it rests: then nothing is due, nothing is to be sent and nothing to be told.
    pub(super) fn awake(&self) -> Option<&Session> {
        match &self.state {
            State::Awake(session) => Some(session),
            State::Resting(_) => None,
        }
    }

    /// The same, to do something with.
    pub(super) fn awake_mut(&mut self) -> Option<&mut Session> {
        match &mut self.state {
            State::Awake(session) => Some(session),
            State::Resting(_) => None,
        }
    }

    /// It rests from now on, if it can. Work in proportion to its streams.
    pub(super) fn rest(&mut self) {
        if let Some(kept) = self.awake_mut().and_then(Resting::of) {
            self.state = State::Resting(Box::new(kept));
        }
    }

    /// Bytes of heap held.
    pub(super) fn memory(&self) -> usize {
        match &self.state {
            State::Awake(session) => size_of::<Session>() + session.memory(),
            State::Resting(kept) => size_of::<Resting>() + kept.memory(),
        }
    }
}

/// A session of which nothing is under way, whose peer is known.
#[derive(Debug)]
struct Resting {
    handshake: Settled,
    terms: Terms,
    counters: Counters,
    unused: Unused,
    next_own: u64,
    /// In the order in which they came.
    streams: Box<[StreamAtRest]>,
}

/// A stream of which nothing is under way.
#[derive(Clone, Copy, Debug)]
struct StreamAtRest {
    id: StreamId,
    sender: SenderAtRest,
    receiver: ReceiverAtRest,
    priority: Priority,
    /// How many times this side's window has doubled, and [`KEEPS_WINDOW`].
    grown: u8,
    /// Of which events the application waits for one.
    wants: Pending,
}

impl Resting {
    /// What is kept of a session, which is not to be used any more. `None`: there is more to it.
    fn of(session: &mut Session) -> Option<Self> {
        let Session { streams, handshake, reader, control, .. } = &*session;
        let is_quiet = session.state == SessionState::Open
            && session.due().is_none()
            && !session.has_output()
            && !(session.mid_read || session.go_away_sent || session.go_away_received)
            && !(session.started.is_some() || session.restarted || session.closed.is_some())
            && session.peer_away.is_none()
            && reader.at_boundary()
            && control.is_empty()
            && streams.table.front(List::Events).is_none()
            && !(streams.is_going_away || streams.room_wanted);
        let terms = streams.terms().filter(|terms| is_quiet && terms.dialect == Dialect::S2)?;
        let handshake = handshake.at_rest()?;
        let mut kept = Vec::with_capacity(streams.table.len());
        let mut at = streams.table.front(List::Live);
        while let Some(slot) = at {
            at = streams.table.after(List::Live, slot);
            kept.push(StreamAtRest::of(&streams.table[slot])?);
        }
        if kept.len() < streams.table.len() {
            return None;
        }
        let peers = session.streams.config.peer_limit() as usize;
        let streams = &mut session.streams;
        Some(Self {
            handshake,
            terms,
            counters: streams.counters,
            unused: std::mem::replace(&mut streams.unused, Unused::new(peers)),
            next_own: streams.next_own,
            streams: kept.into(),
        })
    }

    /// The session that this is of, which had this configuration. What is here is not to be used any more.
    fn wake(&mut self, config: Config) -> Session {
        let peers = config.peer_limit();
        let handshake = Handshake::resumed(&config, self.handshake);
        let mut streams = Streams::new(config);
        streams.terms = Some(self.terms);
        streams.counters = self.counters;
        streams.unused = std::mem::replace(&mut self.unused, Unused::new(peers as usize));
        streams.next_own = self.next_own;
        for kept in &self.streams {
            let slot = streams.table.insert(kept.id, self.terms.max_frame, streams.round.wrapping_sub(1));
            let stream = &mut streams.table[slot];
            stream.sender = Sender::resumed(kept.sender);
            stream.receiver = Receiver::resumed(kept.receiver);
            stream.priority = kept.priority;
            stream.wants_room = kept.wants.has(Pending::WRITABLE);
            stream.wants_credit = kept.wants.has(Pending::CREDIT);
            stream.grown = kept.grown & !KEEPS_WINDOW;
            stream.keeps_window = kept.grown & KEEPS_WINDOW != 0;
            streams.resume_growth(slot);
        }
        Session {
            streams,
            handshake,
            reader: FrameReader::new(Dialect::S2),
            plan: Plan::new(),
            control: Control::new(peers),
            keepalive: Keepalive::new(),
            state: SessionState::Open,
            mid_read: false,
            go_away_sent: false,
            go_away_received: false,
            was_started: true,
            started: None,
            restarted: false,
            peer_away: None,
            closed: None,
            // At once, unless something comes or goes: then a while after that.
            trim_at: Some(Instant::ZERO),
        }
    }

    fn memory(&self) -> usize {
        self.unused.memory() + self.streams.len() * size_of::<StreamAtRest>()
    }
}

impl StreamAtRest {
    fn of(stream: &Stream) -> Option<Self> {
        let is_quiet = !stream.dead
            && stream.unacked.len() == 0
            && stream.unread.len() == 0
            && stream.ack == 0
            && stream.due == Words::default()
            && stream.events == Pending::default()
            && stream.planned == 0;
        let mut wants = Pending::default();
        for (is_wanted, event) in
            [(stream.wants_room, Pending::WRITABLE), (stream.wants_credit, Pending::CREDIT)]
        {
            if is_wanted {
                wants.set(event);
            }
        }
        Some(Self {
            id: stream.id,
            sender: stream.sender.at_rest().filter(|_| is_quiet)?,
            receiver: stream.receiver.at_rest()?,
            priority: stream.priority,
            grown: stream.grown | if stream.keeps_window { KEEPS_WINDOW } else { 0 },
            wants,
        })
    }
}

/// A window doubles 30 times at most: the highest bit is free.
const KEEPS_WINDOW: u8 = 0x80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_at_rest_is_two_dozen_bytes() {
        assert!(size_of::<StreamAtRest>() <= 24, "{}", size_of::<StreamAtRest>());
        assert!(size_of::<Resting>() <= 168, "{}", size_of::<Resting>());
    }
}
