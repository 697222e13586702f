//! Bytes from the line enter here, and payload leaves to its consumer: lent out of the input, or kept until asked for.
//!
//! Owns the only door for input. What a consumer takes as it arrives is never copied and holds no memory, so nothing
//! small can pin something big; what he leaves is copied once, into its stream's buffer. Refuses to know what frames
//! mean: that is in `incoming`.

use super::config::Role;
use super::decoder::{Dialect, Item};
use super::error::Violation;
use super::event::CloseReason;
use super::hello::{Found, agree, v1_terms};
use super::session::{Life, Session};
use super::streams::{Bits, EVENTS};
use super::wire::{GoAwayCode, Hello, StreamId};
use crate::time::Instant;

/// Payload that has just arrived, next in its stream. What is not consumed when this is dropped is kept: it counts
/// against the stream's window, and [`Session::received`] has it.
#[derive(Debug)]
pub struct Arrival<'s, 'i> {
    session: &'s mut Session,
    slot: u32,
    bytes: &'i [u8],
}

impl<'i> Arrival<'_, 'i> {
    /// The stream.
    #[must_use]
    pub fn id(&self) -> StreamId {
        self.session.streams[self.slot].id
    }

    /// What was not consumed yet, borrowed from the input.
    #[must_use]
    pub const fn bytes(&self) -> &'i [u8] {
        self.bytes
    }

    /// The first `n` bytes were used; `n` beyond their number counts as all of them.
    pub fn consume(&mut self, n: usize) {
        let n = n.min(self.bytes.len());
        self.bytes = &self.bytes[n..];
        self.session.counters.received += n as u64;
        self.session.consumed(self.slot, n as u32);
    }
}

impl Drop for Arrival<'_, '_> {
    fn drop(&mut self) {
        if !self.bytes.is_empty() {
            self.session.keep(self.slot, self.bytes);
        }
    }
}

impl Session {
    /// Bytes came from the line, cut anywhere; give at most [`Session::receive_window`] at a time. Each payload byte is
    /// copied once, into its stream's buffer. Work in proportion to `data`.
    pub fn handle_received(&mut self, data: &[u8], now: Instant) {
        let mut input = data;
        while let Some((slot, bytes)) = self.decode(&mut input, now) {
            self.keep(slot, bytes);
        }
    }

    /// As [`Session::handle_received`], offering payload to its consumer on the way: works through `input` up to the next
    /// piece that may be used at once, and returns `None` when all of it is used up. To be called until then.
    ///
    /// Only the next bytes of a stream are offered: what arrives behind bytes that were kept is kept as well, and so is
    /// what arrives for a stream whose [`Event::Opened`](super::Event::Opened) was not polled yet. At most one copy, of
    /// what nobody takes.
    ///
    /// ```
    /// # use vspc_core::{mux::{Config, Role, Session}, time::Instant};
    /// # let now = Instant::from_micros(0);
    /// # let mut session = Session::new(Config::new(Role::Host), now)?;
    /// # let (scratch, mut sink) = ([0; 64], Vec::new());
    /// let mut input = &scratch[..]; // what was read
    /// while let Some(mut arrival) = session.receive(&mut input, now) {
    ///     sink.extend_from_slice(arrival.bytes());
    ///     arrival.consume(arrival.bytes().len());
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn receive<'s, 'i>(&'s mut self, input: &mut &'i [u8], now: Instant) -> Option<Arrival<'s, 'i>> {
        while let Some((slot, bytes)) = self.decode(input, now) {
            let stream = &self.streams[slot];
            if stream.input.len() == 0 && !stream.events.has(Bits::OPENED) {
                return Some(Arrival { session: self, slot, bytes });
            }
            self.keep(slot, bytes);
        }
        None
    }

    /// The next piece of payload that a stream is to have; `None` when `input` is used up or the session is over.
    fn decode<'i>(&mut self, input: &mut &'i [u8], now: Instant) -> Option<(u32, &'i [u8])> {
        self.forget_plan();
        if self.life == Life::Open && !input.is_empty() {
            self.keepalive.handle_received(now, self.config.keepalive);
            self.note_activity(now);
            if self.terms.is_none() {
                self.greet(input, now);
            }
            if self.terms.is_some()
                && let Some(piece) = self.decode_frames(input, now)
            {
                return Some(piece);
            }
        }
        *input = &[];
        None
    }

    fn decode_frames<'i>(&mut self, input: &mut &'i [u8], now: Instant) -> Option<(u32, &'i [u8])> {
        while self.life == Life::Open
            && let Some(item) = self.decoder.decode(input)
        {
            match item {
                Item::Payload { bytes, last } => {
                    if let Some(slot) = self.payload(bytes, last, now) {
                        return Some((slot, bytes));
                    }
                }
                Item::Data { id, len } => {
                    self.incoming = match self.dialect() {
                        Some(Dialect::V1) => self.begin_v1(id, len),
                        _ => self.begin(id, len),
                    }
                }
                Item::Word { id, word } => {
                    self.handshake.handle_conversation();
                    self.word(id, word);
                }
                Item::Bare { id, length } => self.bare(id, length),
            }
        }
        None
    }

    /// Looks at bytes that came before the dialect is known.
    fn greet(&mut self, input: &mut &[u8], now: Instant) {
        match self.handshake.handle_received(input, &mut self.counters.skipped) {
            None => {}
            Some(Found::Hello(hello)) => {
                self.hello_due |= self.config.role == Role::Guest;
                self.settle(&hello, now);
            }
            Some(Found::V1) => {
                self.hello_due = false;
                self.start(v1_terms(&self.config), now);
                if self.config.role == Role::Guest {
                    let (held, have) = self.handshake.held();
                    let mut held = &held[..have];
                    while let Some((slot, bytes)) = self.decode_frames(&mut held, now) {
                        self.keep(slot, bytes);
                    }
                }
            }
        }
    }

    /// Two HELLOs are known.
    pub(super) fn settle(&mut self, peer: &Hello, now: Instant) {
        self.start(agree(&self.config, peer), now);
        if peer.version == 0 {
            self.fail(CloseReason::Version, Some(GoAwayCode::Version));
        } else if peer.max_frame == 0 {
            self.violated(Violation::EmptyFrames);
        }
    }

    /// Copies payload into its stream's buffer.
    fn keep(&mut self, slot: u32, bytes: &[u8]) {
        let stream = &mut self.streams[slot];
        self.counters.received += bytes.len() as u64;
        self.pool.append(&mut stream.input, bytes);
        stream.events.set(Bits::READABLE);
        self.streams.link(EVENTS, slot);
        self.update_blocking(slot);
    }

    /// A consumer used `n` bytes of a stream's that the receiver holds.
    pub(super) fn consumed(&mut self, slot: u32, n: u32) {
        let window = if self.config.window == 0 { u32::MAX } else { self.config.window };
        let threshold = self.config.receive_buffer.min(window).div_ceil(2);
        let due = self.streams[slot].receiver.handle_consumed(n, threshold);
        self.apply(slot, due);
    }
}
