//! One end of a link: opening, closing, signs of life, which frame is next, and the routing between the
//! halves (SPEC §10).
//!
//! Owns the state and its timers. Refuses to know what the bytes are.
//!
//! ```text
//!            open: SYN, again after 1 s, 2, 4, 8, 8 …
//!   CLOSED ───────────────────────────────▶ SYN_SENT
//!     │                                      │ SYNACK with my nonce: ACK
//!     │ SYN: SYNACK, again after 1 s, 2 …    │ SYN: SYNACK (both opened at once)
//!     ▼                                      ▼
//!   SYN_RECEIVED ── any frame with an ack ─▶ OPEN ── both FINs acked ──────────────────────▶ DONE
//!                                            │ ▲ │
//!         SYN, new nonce: reset, SYNACK ─────┘ │ └─ RST; where set: time-outs, PINGs lost ─▶ CLOSED
//!         SYN, same nonce: SYNACK ─────────────┘
//!
//!   state         what else may come
//!   any           SYN or SYNACK with my own nonce, a frame with my own mark: an echo, ignored
//!   CLOSED        SYNACK, RST: ignored; any other frame: RST 1 (the peer believes in a link that is gone)
//!   CLOSED, DONE  SYN: a new start, once the last one's bytes were read and its end was polled; till then ignored
//!   SYN_SENT      anything but SYN, SYNACK: ignored
//!   DONE          FIN or DATA again: ACK (the last one was lost)
//! ```

use std::io::IoSlice;
use std::time::Duration;

use super::config::LinkConfig;
use super::event::{LinkClosed, LinkCounters, LinkEvent, LinkEvents};
use super::frame::{Bad, Frame, FrameDecoder, FrameType, Header};
use super::receiver::{LinkDue, LinkReceiver};
use super::sender::LinkSender;
use super::writer::{FrameWriter, LinkControl, Sending};
use crate::time::Instant;

/// One end of a line that drops, corrupts or inserts bytes; carries one byte stream each way. See the
/// [module](super) for the loop around it.
#[derive(Debug)]
pub struct Link {
    pub(super) config: LinkConfig,
    pub(super) state: LinkState,
    pub(super) decoder: FrameDecoder,
    pub(super) sender: LinkSender,
    pub(super) receiver: LinkReceiver,
    pub(super) peer_nonce: Option<u32>,
    /// A frame with a mark has come, so that one without is no frame of the peer's.
    pub(super) peer_marks: bool,
    pub(super) control: LinkControl,
    pub(super) syn_at: Option<Instant>,
    pub(super) syn_interval: Duration,
    /// The end of the silence, or of the wait for an answer to a PING that has left.
    pub(super) idle_at: Option<Instant>,
    pub(super) pings: u8,
    /// Of the last PING.
    token: u32,
    pub(super) writer: FrameWriter,
    /// A write was short.
    wants_room: bool,
    pub(super) events: LinkEvents,
    pub(super) counters: LinkCounters,
}

/// Where a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// Not open; answers SYN.
    Closed,
    /// SYN sent.
    SynSent,
    /// SYN received, SYNACK sent.
    SynReceived,
    /// Carries bytes.
    Open,
    /// Both directions ended in good order.
    Done,
}

impl Link {
    /// A closed link that answers a peer's SYN. Allocates nothing.
    #[must_use]
    pub fn new(config: LinkConfig) -> Self {
        Self {
            decoder: FrameDecoder::new(usize::from(config.max_payload()).max(SYN_ACK)),
            state: LinkState::Closed,
            sender: LinkSender::new(&config),
            receiver: LinkReceiver::new(&config),
            config,
            peer_nonce: None,
            peer_marks: false,
            control: LinkControl::default(),
            syn_at: None,
            syn_interval: SYN_INTERVAL.0,
            idle_at: None,
            pings: 0,
            token: 0,
            writer: FrameWriter::new(),
            wants_room: false,
            events: LinkEvents::default(),
            counters: LinkCounters::default(),
        }
    }

    /// Begins to open: sends SYN until it is answered. What was not read of the link before is dropped. No-op
    /// unless closed.
    pub fn open(&mut self, now: Instant) {
        if self.state == LinkState::Closed {
            self.receiver = LinkReceiver::new(&self.config);
            self.state = LinkState::SynSent;
            self.control.syn = true;
            self.syn_interval = SYN_INTERVAL.0;
            self.syn_at = Some(now + self.syn_interval);
        }
    }

    /// Bytes came from the line, cut anywhere, damaged in any way. Work in proportion to `data`.
    pub fn handle_received(&mut self, data: &[u8], now: Instant) {
        let mut input = data;
        let mut decoder = std::mem::replace(&mut self.decoder, FrameDecoder::new(0));
        while let Some(frame) = decoder.decode_marked(&mut input) {
            match frame {
                Ok((frame, marked)) => self.handle_frame(&frame, marked, now),
                Err(bad) => {
                    match bad {
                        Bad::Checksum => self.counters.bad_checksum += 1,
                        Bad::Short => self.counters.short += 1,
                        Bad::Long => self.counters.long += 1,
                        Bad::Aborted => self.counters.aborted += 1,
                        Bad::Type => self.counters.malformed += 1,
                    }
                    self.receiver.handle_bad();
                }
            }
        }
        self.decoder = decoder;
    }

    /// A deadline may have passed. Work in proportion to the frames under way.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.syn_at.is_some_and(|at| at <= now) {
            self.control.syn = self.state == LinkState::SynSent;
            self.control.syn_ack = self.state == LinkState::SynReceived;
            self.syn_interval = (self.syn_interval * 2).min(SYN_INTERVAL.1);
            self.syn_at = Some(now + self.syn_interval);
        }
        if self.state == LinkState::Open {
            if self.sender.handle_timeout(now) {
                return self.close(LinkClosed::TimedOut);
            }
            self.control.probe |= self.sender.take_probe();
            if self.idle_at.is_some_and(|at| at <= now) {
                if self.pings == MAX_PINGS {
                    return self.close(LinkClosed::Silent);
                }
                // The time for the answer runs from when it has left.
                self.control.idle = true;
                self.idle_at = None;
            }
        }
        self.receiver.handle_timeout(now);
    }

    /// When [`Link::handle_timeout`] is to be called at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let open = self.state == LinkState::Open;
        let sender = self.sender.timer().filter(|_| open);
        let idle = self.idle_at.filter(|_| open);
        [self.syn_at, sender, idle, self.receiver.timer()].into_iter().flatten().min()
    }

    /// The next event. Constant work.
    pub fn poll_event(&mut self) -> Option<LinkEvent> {
        self.events.poll()
    }

    /// How many bytes a write would take now: what is missing to one full frame that lies ready.
    #[must_use]
    pub fn send_window(&self) -> usize {
        if matches!(self.state, LinkState::Done) { 0 } else { self.sender.room() }
    }

    /// Copies what fits, at most a frame; returns how much that was.
    pub fn write(&mut self, data: &[u8]) -> usize {
        let n = data.len().min(self.send_window());
        self.wants_room |= n < data.len();
        self.sender.write(&data[..n])
    }

    /// Ends this direction behind what was written. Constant work.
    pub fn finish(&mut self) {
        self.sender.finish();
    }

    /// Sends RST with a code and forgets everything but what was delivered. Work in proportion to the frames
    /// under way.
    pub fn reset(&mut self, code: u16) {
        if !matches!(self.state, LinkState::Closed | LinkState::Done) {
            self.close(LinkClosed::Local);
            self.control.rst = Some(code);
        }
    }

    /// Whether there is anything to send.
    #[must_use]
    pub fn has_output(&self) -> bool {
        !self.writer.rest().is_empty() || self.next_kind().is_some()
    }

    /// Gives what is to be sent next to `take`: at most one frame, as one borrowed run, so that nothing waits
    /// behind more than one. Counts as sent as many bytes as `take` says that it took; more than there were
    /// counts as all of them. Returns that number; 0 also where there was nothing to take. Work in proportion
    /// to the frame.
    pub fn transmit_with(&mut self, now: Instant, take: impl FnOnce(&[u8]) -> usize) -> usize {
        let mut runs = [IoSlice::new(&[])];
        if self.transmit(&mut runs) == 0 {
            return 0;
        }
        let n = take(&runs[0]);
        self.handle_sent(n, now);
        n
    }

    /// The first half of [`Link::transmit_with`], for whoever cannot write in a closure: how many of `runs`
    /// were filled, 1 or 0. Idempotent until [`Link::handle_sent`].
    pub fn transmit<'a>(&'a mut self, runs: &mut [IoSlice<'a>]) -> usize {
        if self.writer.rest().is_empty() {
            self.encode_next();
        }
        match runs.first_mut() {
            Some(run) if !self.writer.rest().is_empty() => {
                *run = IoSlice::new(self.writer.rest());
                1
            }
            _ => 0,
        }
    }

    /// The second half: the line took `n` bytes of what was offered; more than that counts as all of it.
    /// Constant work.
    pub fn handle_sent(&mut self, n: usize, now: Instant) {
        if n == 0 || self.writer.rest().is_empty() {
            return;
        }
        match self.writer.handle_sent(n) {
            Some(Sending::Numbered(seq)) => self.sender.handle_sent(seq, now),
            Some(Sending::Idle) => {
                self.pings += 1;
                self.idle_at = self.after_silence(now);
            }
            Some(Sending::Other) | None => {}
        }
    }

    /// Delivered bytes that were not consumed, in order, borrowed.
    #[must_use]
    pub fn received(&self) -> &[u8] {
        self.receiver.received()
    }

    /// The first `n` of them were used. Constant work; what is delivered next moves at most as many bytes as
    /// were consumed.
    pub fn consume(&mut self, n: usize) {
        self.receiver.consume(n);
    }

    /// Whether the peer has ended its direction and everything was consumed.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.receiver.is_ended()
    }

    /// Where it is.
    #[must_use]
    pub const fn state(&self) -> LinkState {
        self.state
    }

    /// Bytes of heap held.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.decoder.memory() + self.writer.memory() + self.sender.memory() + self.receiver.memory()
    }

    /// Gives back at once what is not needed. Work in proportion to what is under way.
    pub fn shrink(&mut self) {
        self.decoder.shrink();
        self.writer.shrink();
        self.sender.shrink();
        self.receiver.shrink();
    }

    /// What was done so far.
    #[must_use]
    pub fn counters(&self) -> LinkCounters {
        LinkCounters {
            repeated: self.counters.repeated + self.sender.repeated,
            duplicates: self.counters.duplicates + self.receiver.duplicates,
            ..self.counters
        }
    }

    fn handle_frame(&mut self, frame: &Frame<'_>, marked: bool, now: Instant) {
        let Header { kind, has_ack, seq, ack, window } = frame.header;
        match kind {
            FrameType::Syn => return self.handle_syn(frame.payload, now),
            FrameType::SynAck => return self.handle_syn_ack(frame.payload, now),
            FrameType::Rst => {
                let code = frame.payload.first_chunk::<2>().map_or(0, |code| u16::from_be_bytes(*code));
                // Nobody answers SYN with RST: in SYN_SENT it is meant for the link before.
                if !matches!(self.state, LinkState::Closed | LinkState::SynSent | LinkState::Done) {
                    self.close(LinkClosed::Reset(code));
                }
                return;
            }
            _ => {}
        }
        if self.is_echo(marked) {
            self.counters.echoes += 1;
            return;
        }
        match self.state {
            LinkState::Closed => {
                // Not in answer to noise: it passed the checksum.
                self.control.rst = Some(NO_LINK);
                return;
            }
            LinkState::SynSent => return,
            LinkState::SynReceived if has_ack => self.become_open(LinkEvent::Opened, now),
            LinkState::SynReceived => return,
            LinkState::Open | LinkState::Done => {}
        }
        self.idle_at = self.after_silence(now);
        self.control.idle = false;
        self.pings = 0;
        if has_ack {
            match kind {
                FrameType::Nak => self.sender.handle_nak(ack, window, now),
                FrameType::Sack => {
                    let bitmap =
                        frame.payload.first_chunk::<4>().map_or(0, |bitmap| u32::from_be_bytes(*bitmap));
                    self.sender.handle_sack(ack, window, bitmap, now);
                }
                _ => self.sender.handle_ack(ack, window, now),
            }
        }
        let token = || frame.payload.first_chunk::<4>().map_or(0, |token| u32::from_be_bytes(*token));
        match kind {
            FrameType::Data if frame.payload.len() > usize::from(self.config.max_payload()) => {
                self.counters.malformed += 1;
            }
            FrameType::Data | FrameType::Fin => {
                let fin = kind == FrameType::Fin;
                let news = self.receiver.handle_frame(seq, if fin { &[] } else { frame.payload }, fin, now);
                self.events.readable |= news && !self.receiver.received().is_empty();
                self.events.ended |= news && self.receiver.has_fin();
            }
            FrameType::Ping => self.control.pong = Some(token()),
            _ => {}
        }
        if self.state == LinkState::Open && self.sender.is_done() && self.receiver.has_fin() {
            self.state = LinkState::Done;
            self.idle_at = None;
            self.events.closed = Some(LinkClosed::Done);
        }
    }

    /// Whether this side marks its frames: its nonce is the smaller one.
    fn is_marking(&self) -> bool {
        self.peer_nonce.is_some_and(|peer| self.config.nonce < peer)
    }

    /// Whether a frame is one of this side's own that came back: a terminal that echoes, a loop. On the side
    /// that marks nothing that is known as soon as a frame with a mark has come; a peer of an older kind
    /// marks nothing.
    fn is_echo(&mut self, marked: bool) -> bool {
        if self.is_marking() {
            return marked;
        }
        self.peer_marks |= marked && self.peer_nonce.is_some();
        self.peer_marks && !marked
    }

    /// When silence that begins now is long enough to be asked about.
    pub(super) fn after_silence(&self, now: Instant) -> Option<Instant> {
        (!self.config.idle.is_zero()).then(|| now + self.config.idle)
    }

    /// What goes next: openings and answers before payload, a bare acknowledgement only where nothing carries
    /// it.
    fn next_kind(&self) -> Option<FrameType> {
        let control = &self.control;
        if let Some(opening) = control.opening() {
            return Some(opening);
        }
        if !matches!(self.state, LinkState::Open | LinkState::Done) {
            return None;
        }
        if control.pong.is_some() {
            return Some(FrameType::Pong);
        }
        match self.receiver.due() {
            LinkDue::Nak => return Some(FrameType::Nak),
            LinkDue::Sack => return Some(FrameType::Sack),
            LinkDue::Ack | LinkDue::Nothing => {}
        }
        if self.state == LinkState::Open && self.sender.has_next() {
            return Some(FrameType::Data);
        }
        if control.idle || control.probe {
            return Some(FrameType::Ping);
        }
        (self.receiver.due() == LinkDue::Ack).then_some(FrameType::Ack)
    }

    fn encode_next(&mut self) {
        let Some(mut kind) = self.next_kind() else {
            return self.writer.handle_idle();
        };
        let is_opening = matches!(kind, FrameType::Syn | FrameType::SynAck | FrameType::Rst);
        let marked = self.is_marking() && !is_opening;
        let mut opening = [0; SYN_ACK];
        opening[..4].copy_from_slice(&self.config.nonce.to_be_bytes());
        opening[4..6].copy_from_slice(&self.config.max_payload().to_be_bytes());
        opening[6..8].copy_from_slice(&self.config.window().to_be_bytes());
        opening[8..].copy_from_slice(&self.peer_nonce.unwrap_or(0).to_be_bytes());
        let word;
        let mut sending = Sending::Other;
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
                if std::mem::take(&mut self.control.idle) {
                    sending = Sending::Idle;
                }
                self.control.probe = false;
                self.token = self.token.wrapping_add(1);
                word = self.token.to_be_bytes();
                &word
            }
            FrameType::Sack => {
                word = self.receiver.bitmap().to_be_bytes();
                &word
            }
            FrameType::Data => match self.sender.next() {
                Some(next) => {
                    sending = Sending::Numbered(next.seq);
                    if next.fin {
                        kind = FrameType::Fin;
                    }
                    next.payload
                }
                None => return,
            },
            FrameType::Ack | FrameType::Nak | FrameType::Fin => &[],
        };
        let header = Header {
            kind,
            has_ack: kind != FrameType::Syn,
            seq: if let Sending::Numbered(seq) = sending { seq } else { 0 },
            ack: if matches!(kind, FrameType::Syn | FrameType::Rst) { 0 } else { self.receiver.expected() },
            window: if kind == FrameType::Rst { 0 } else { self.receiver.window() },
        };
        self.writer.begin(&header, marked, payload, &self.config, sending);
        if self.wants_room && self.sender.room() > 0 {
            self.wants_room = false;
            self.events.writable = true;
        }
        self.counters.frames += 1;
        if !is_opening {
            self.receiver.handle_ack_queued(match kind {
                FrameType::Nak => LinkDue::Nak,
                FrameType::Sack => LinkDue::Sack,
                _ => LinkDue::Ack,
            });
        }
    }
}

/// First and longest wait for an answer to SYN.
pub(super) const SYN_INTERVAL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(8));
/// PINGs that may go unanswered.
const MAX_PINGS: u8 = 3;
/// Payload of a SYNACK, the longest besides DATA: let through however short DATA is to be.
const SYN_ACK: usize = 12;
/// RST: there is no such link.
const NO_LINK: u16 = 1;
