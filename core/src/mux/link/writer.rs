//! What a link puts on the line: one encoded frame at a time, and what is due besides numbered frames.
//!
//! Owns the frame that is being sent, so that nothing waits behind more than one. Refuses to know why a frame
//! is due.

use super::config::LinkConfig;
use super::frame::{FLAG, FrameType, Header, encode_marked};

/// The frame being sent.
#[derive(Debug)]
pub(super) struct FrameWriter {
    bytes: Vec<u8>,
    at: usize,
    sending: Option<Sending>,
    /// Nothing was sent since the last frame's closing flag, so it may have decayed: lead with another.
    line_is_idle: bool,
}

/// What of a frame that has left its sender wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sending {
    /// A numbered frame.
    Numbered(u16),
    /// A question whether anybody is there.
    Idle,
    /// Anything else.
    Other,
}

impl FrameWriter {
    pub(super) const fn new() -> Self {
        Self { bytes: Vec::new(), at: 0, sending: None, line_is_idle: true }
    }

    /// What of the frame is still to go; empty: none is being sent.
    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    /// Starts a frame. Nothing may be left of the one before.
    pub(super) fn begin(
        &mut self,
        header: &Header,
        marked: bool,
        payload: &[u8],
        config: &LinkConfig,
        sending: Sending,
    ) {
        self.clear();
        if std::mem::take(&mut self.line_is_idle) {
            self.bytes.push(FLAG);
        }
        self.sending = Some(sending);
        encode_marked(header, marked, payload, &config.escapes, &mut self.bytes);
    }

    /// There is nothing to send.
    pub(super) fn handle_idle(&mut self) {
        self.clear();
        self.line_is_idle = true;
    }

    /// `n` bytes were taken by the line, at most the rest; what has left if that was all of it.
    pub(super) fn handle_sent(&mut self, n: usize) -> Option<Sending> {
        self.at = self.at.saturating_add(n).min(self.bytes.len());
        if self.at < self.bytes.len() {
            return None;
        }
        self.clear();
        self.sending.take()
    }

    /// What is being sent belongs to a link that is over: it goes, and nobody hears of it.
    pub(super) fn disown(&mut self) {
        self.sending = self.sending.map(|_| Sending::Other);
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.at = 0;
    }

    /// Bytes of heap held.
    pub(super) fn memory(&self) -> usize {
        self.bytes.capacity()
    }

    /// Gives back what is not needed.
    pub(super) fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
    }
}

/// Frames due besides numbered ones and acknowledgements.
#[derive(Debug, Default)]
pub(super) struct LinkControl {
    pub(super) syn: bool,
    pub(super) syn_ack: bool,
    pub(super) rst: Option<u16>,
    /// PING after silence.
    pub(super) idle: bool,
    /// PING for the sake of the window in its answer.
    pub(super) probe: bool,
    pub(super) pong: Option<u32>,
}

impl LinkControl {
    /// What goes ahead of everything.
    pub(super) const fn opening(&self) -> Option<FrameType> {
        match (self.rst, self.syn, self.syn_ack) {
            (Some(_), ..) => Some(FrameType::Rst),
            (_, true, _) => Some(FrameType::Syn),
            (.., true) => Some(FrameType::SynAck),
            _ => None,
        }
    }
}
