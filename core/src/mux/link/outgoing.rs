//! What a link puts on the line next.
//!
//! Owns at most one encoded frame, being sent. Order: openings and answers, then payload with the acknowledgement in it, a
//! bare acknowledgement only where nothing carries it. Refuses to know why a frame is due.

use std::io::IoSlice;

use super::connection::{Link, LinkState};
use super::frame::{FLAG, FrameType, Header, encode};
use super::receiver::Due;
use crate::time::Instant;

/// The frame being sent.
#[derive(Debug)]
pub(super) struct Outgoing {
    bytes: Vec<u8>,
    at: usize,
    /// Its number, if it has one.
    pub(super) seq: Option<u16>,
    /// Nothing was sent since the last frame's closing flag, so it may have decayed: lead with another.
    line_is_idle: bool,
}

impl Outgoing {
    pub(super) const fn new() -> Self {
        Self { bytes: Vec::new(), at: 0, seq: None, line_is_idle: true }
    }

    /// Whether all of it was taken.
    fn is_through(&self) -> bool {
        self.at == self.bytes.len()
    }
}

/// Frames due besides numbered ones and acknowledgements.
#[derive(Debug, Default)]
pub(super) struct Control {
    pub(super) syn: bool,
    pub(super) syn_ack: bool,
    pub(super) rst: Option<u16>,
    pub(super) ping: bool,
    pub(super) pong: Option<u32>,
}

impl Link {
    /// Whether there is anything to send.
    #[must_use]
    pub fn has_output(&self) -> bool {
        !self.outgoing.is_through() || self.next_kind().is_some()
    }

    /// Offers what is to be sent next: at most one frame, as one borrowed run, so that nothing waits behind more than one.
    /// Returns how many runs were filled: 1 or 0. Idempotent until [`Link::handle_sent`].
    pub fn transmit<'a>(&'a mut self, runs: &mut [IoSlice<'a>]) -> usize {
        if self.outgoing.is_through() {
            self.encode_next();
        }
        match runs.first_mut() {
            Some(run) if !self.outgoing.is_through() => {
                *run = IoSlice::new(&self.outgoing.bytes[self.outgoing.at..]);
                1
            }
            _ => 0,
        }
    }

    /// `n` bytes of what was offered were taken by the line; more than was offered counts as all of it.
    pub fn handle_sent(&mut self, n: usize, now: Instant) {
        if n == 0 || self.outgoing.is_through() {
            return;
        }
        self.outgoing.at = self.outgoing.at.saturating_add(n).min(self.outgoing.bytes.len());
        if self.outgoing.is_through() {
            if let Some(seq) = self.outgoing.seq.take() {
                self.sender.handle_sent(seq, now);
            }
            self.outgoing.bytes.clear();
            self.outgoing.at = 0;
        }
    }

    /// What goes next: openings and answers before payload, a bare acknowledgement only where nothing carries it.
    fn next_kind(&self) -> Option<FrameType> {
        let control = &self.control;
        if control.rst.is_some() {
            return Some(FrameType::Rst);
        }
        if control.syn {
            return Some(FrameType::Syn);
        }
        if control.syn_ack {
            return Some(FrameType::SynAck);
        }
        if !matches!(self.state, LinkState::Open | LinkState::Done) {
            return None;
        }
        if control.pong.is_some() {
            return Some(FrameType::Pong);
        }
        match self.receiver.due() {
            Due::Nak => return Some(FrameType::Nak),
            Due::Sack => return Some(FrameType::Sack),
            Due::Ack | Due::Nothing => {}
        }
        if self.state == LinkState::Open && self.sender.has_next() {
            return Some(FrameType::Data);
        }
        if control.ping {
            return Some(FrameType::Ping);
        }
        (self.receiver.due() == Due::Ack).then_some(FrameType::Ack)
    }

    fn encode_next(&mut self) {
        self.outgoing.bytes.clear();
        self.outgoing.at = 0;
        let Some(mut kind) = self.next_kind() else {
            self.outgoing.line_is_idle = true;
            return;
        };
        if std::mem::take(&mut self.outgoing.line_is_idle) {
            self.outgoing.bytes.push(FLAG);
        }
        let (max_payload, window) = (self.config.max_payload(), self.config.window());
        let mut opening = [0; 12];
        opening[..4].copy_from_slice(&self.config.nonce.to_be_bytes());
        opening[4..6].copy_from_slice(&max_payload.to_be_bytes());
        opening[6..8].copy_from_slice(&window.to_be_bytes());
        opening[8..].copy_from_slice(&self.peer_nonce.unwrap_or(0).to_be_bytes());
        let word;
        let mut seq = 0;
        let payload: &[u8] = match kind {
            FrameType::Rst => {
                word = (u32::from(self.control.rst.take().unwrap_or(0)) << 16).to_be_bytes();
                &word[..2]
            }
            FrameType::Syn => {
                self.control.syn = false;
                &opening[..8]
            }
            FrameType::SynAck => {
                self.control.syn_ack = false;
                &opening
            }
            FrameType::Pong => {
                word = self.control.pong.take().unwrap_or(0).to_be_bytes();
                &word
            }
            FrameType::Ping => {
                self.control.ping = false;
                word = self.token.to_be_bytes();
                &word
            }
            FrameType::Sack => {
                word = self.receiver.bitmap().to_be_bytes();
                &word
            }
            FrameType::Data => match self.sender.next() {
                Some(next) => {
                    seq = next.seq;
                    self.outgoing.seq = Some(seq);
                    if next.fin {
                        kind = FrameType::Fin;
                    }
                    next.payload
                }
                None => return,
            },
            FrameType::Ack | FrameType::Nak | FrameType::Fin => &[],
        };
        let has_ack = kind != FrameType::Syn;
        let header = Header {
            kind,
            has_ack,
            seq,
            ack: if matches!(kind, FrameType::Syn | FrameType::Rst) { 0 } else { self.receiver.expected() },
            window: if kind == FrameType::Rst { 0 } else { self.receiver.window() },
        };
        encode(&header, payload, &self.config.escapes, &mut self.outgoing.bytes);
        if self.wants_room && self.sender.room() > 0 {
            self.wants_room = false;
            self.events.writable = true;
        }
        self.counters.frames += 1;
        if !matches!(kind, FrameType::Syn | FrameType::SynAck | FrameType::Rst) {
            self.receiver.handle_told(match kind {
                FrameType::Nak => Due::Nak,
                FrameType::Sack => Due::Sack,
                _ => Due::Ack,
            });
        }
    }
}
