//! What the peer's bytes and messages come to: who it is, when it begins anew, how a session ends.
//!
//! Owns the transitions between no peer, a peer, and the end; the machine that tells one peer from another is
//! in `handshake`. Refuses to know what frames do to streams (`reader`).

use super::config::Carrier;
use super::decoder::Dialect;
use super::error::Violation;
use super::event::{CloseReason, ResetReason};
use super::handshake::{Again, Found};
use super::reader::{Arrived, FrameReader};
use super::session::{Session, SessionState};
use super::streams::Streams;
use super::terms::Terms;
use super::wire::{Features, GoAwayCode, Hello, Message, Opening, Role, StreamId};
use crate::time::Instant;

impl Session {
    /// The next piece of payload that a stream is to have; `None` when `input` is used up or the session is
    /// over.
    pub(super) fn decode<'i>(&mut self, input: &mut &'i [u8], now: Instant) -> Option<(u32, &'i [u8])> {
        self.forget_plan();
        if self.state == SessionState::Open && !input.is_empty() {
            self.keepalive.handle_received(now);
            self.note_activity(now);
            self.streams.now = now;
            if !std::mem::replace(&mut self.mid_read, true) {
                self.look_for_restart(input, now);
            }
            while self.state == SessionState::Open && !input.is_empty() {
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
        match self.reader.decode(input, &mut self.streams, &mut self.control) {
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
        let mid_frame = !self.reader.at_boundary();
        if let Some(hello) = self.handshake.handle_stalled(input, mid_frame, now) {
            *input = &[];
            self.control.hello = true;
            self.forget_peer();
            self.settle(&hello.hello, now);
        }
    }

    /// Looks at bytes until the peer is known. Returns how many: where it is known then, all of them came
    /// before its first frame.
    pub(super) fn greet_only(&mut self, data: &[u8], now: Instant) -> usize {
        self.forget_plan();
        self.note_activity(now);
        let mut rest = data;
        while self.state == SessionState::Open && !self.handshake.is_settled() && !rest.is_empty() {
            self.greet(&mut rest, now);
        }
        data.len() - rest.len()
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
                self.start(Terms::v1(&self.streams.config), now);
                if self.streams.config.role == Role::Guest {
                    let (collected, have) = self.handshake.collected();
                    // A header: no payload can come of it.
                    let header = self.decode_frame(&mut &collected[..have], now);
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
        self.start(Terms::agree(config, peer), now);
        if peer.version == 0 {
            self.end(CloseReason::Version, Some(GoAwayCode::Version));
        } else if peer.max_frame == 0 {
            self.violated(Violation::EmptyFrames);
        } else if too_small {
            self.violated(Violation::SmallFrames);
        }
    }

    /// The dialect is known: streams begin to move.
    pub(super) fn start(&mut self, terms: Terms, now: Instant) {
        self.reader = FrameReader::new(terms.dialect);
        let messages = terms.features.has(Features::MESSAGES);
        self.keepalive.start(messages, now, self.streams.config.keepalive);
        if std::mem::replace(&mut self.was_started, true) {
            self.restarted = true;
        } else {
            self.started = Some(terms);
        }
        if self.go_away_sent {
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
        if std::mem::replace(&mut self.go_away_received, true) {
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

    /// The peer is another one, or gone, and nothing that it sent or was to be sent counts any more.
    pub(super) fn forget_peer(&mut self) {
        self.streams.stop(ResetReason::Restarted);
        self.streams.forget_terms();
        self.control.forget_peer();
        self.keepalive.stop();
        // Whoever comes has not received our GOAWAY, and has sent none.
        (self.go_away_received, self.peer_away) = (false, None);
        self.streams.is_going_away = self.go_away_sent;
    }

    /// The session is over; the peer is sent why, where that can be.
    pub(super) fn end(&mut self, reason: CloseReason, code: Option<GoAwayCode>) {
        if self.state != SessionState::Open {
            return;
        }
        self.forget_plan();
        let (messages, resets) = (self.streams.has(Features::MESSAGES), self.streams.has(Features::RESET));
        let last = self.streams.last_accepted();
        let sends_resets = reason == CloseReason::Local && !messages && resets;
        self.streams.close(sends_resets);
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
            self.reader = FrameReader::new(Dialect::S2);
            (self.go_away_received, self.peer_away) = (false, None);
            self.streams.is_going_away = self.go_away_sent;
        } else {
            self.state = if self.has_output() { SessionState::Ending } else { SessionState::Ended };
        }
    }
}
