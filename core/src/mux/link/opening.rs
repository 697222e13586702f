//! How a link begins, begins again and ends: SYN, SYNACK, RST (SPEC §10).
//!
//! Owns the rules of whose SYN counts and what is lost with it; the diagram is in `connection`. Refuses to
//! know what travels on the open link.

use super::connection::{Link, LinkState, SYN_INTERVAL};
use super::event::{LinkClosed, LinkEvent, LinkEvents};
use super::receiver::LinkReceiver;
use super::sender::LinkSender;
use super::writer::LinkControl;
use crate::time::Instant;

impl Link {
    pub(super) fn handle_syn(&mut self, payload: &[u8], now: Instant) {
        let Some((nonce, max_payload, window, _)) = opening(payload) else {
            self.counters.malformed += 1;
            return;
        };
        if nonce == self.config.nonce {
            self.counters.echoes += 1;
            return;
        }
        let again = self.peer_nonce == Some(nonce);
        match self.state {
            LinkState::Closed | LinkState::Done => {
                if again && self.state == LinkState::Done {
                    return;
                }
                if self.events.has_closed() || !self.receiver.received().is_empty() {
                    // What was acknowledged is not taken back: the peer asks again in a second.
                    return;
                }
                if self.state == LinkState::Done {
                    self.start_over();
                }
                self.state = LinkState::SynReceived;
                self.syn_interval = SYN_INTERVAL.0;
                self.syn_at = Some(now + self.syn_interval);
            }
            LinkState::SynSent => self.become_open(LinkEvent::Opened, now),
            LinkState::SynReceived => {}
            LinkState::Open if again => {}
            LinkState::Open => {
                self.start_over();
                self.become_open(LinkEvent::Restarted, now);
            }
        }
        if !again {
            (self.peer_nonce, self.peer_marks) = (Some(nonce), false);
            self.sender.set_limits(max_payload, window);
        }
        self.control.syn_ack = true;
    }

    pub(super) fn handle_syn_ack(&mut self, payload: &[u8], now: Instant) {
        let Some((nonce, max_payload, window, Some(echo))) = opening(payload) else {
            self.counters.malformed += 1;
            return;
        };
        if echo != self.config.nonce {
            return;
        }
        if nonce == self.config.nonce {
            self.counters.echoes += 1;
            return;
        }
        match self.state {
            LinkState::SynSent => {
                (self.peer_nonce, self.peer_marks) = (Some(nonce), false);
                self.sender.set_limits(max_payload, window);
                self.become_open(LinkEvent::Opened, now);
                self.receiver.ask_ack();
            }
            // It has not received our answer, or answers a SYN that was sent twice.
            LinkState::Open if self.peer_nonce == Some(nonce) => self.receiver.ask_ack(),
            _ => {}
        }
    }

    pub(super) fn become_open(&mut self, event: LinkEvent, now: Instant) {
        self.state = LinkState::Open;
        self.control.syn = false;
        self.syn_at = None;
        self.idle_at = self.after_silence(now);
        self.pings = 0;
        self.events.opened = Some(event);
        self.events.writable = true;
    }

    /// Both halves from the beginning; what was not delivered is lost.
    pub(super) fn start_over(&mut self) {
        self.counters = self.counters();
        self.sender = LinkSender::new(&self.config);
        self.receiver = LinkReceiver::new(&self.config);
        self.control = LinkControl::default();
        self.events = LinkEvents::default();
        self.peer_nonce = None;
        self.peer_marks = false;
        self.writer.disown();
        self.syn_at = None;
    }

    pub(super) fn close(&mut self, why: LinkClosed) {
        let mut receiver = std::mem::replace(&mut self.receiver, LinkReceiver::new(&self.config));
        self.start_over();
        receiver.start_over(&self.config);
        self.events.readable = !receiver.received().is_empty();
        self.receiver = receiver;
        self.state = LinkState::Closed;
        self.idle_at = None;
        self.events.closed = Some(why);
    }
}

/// SYN's and SYNACK's payload: nonce, largest payload, window, and the echoed nonce where there is one.
fn opening(payload: &[u8]) -> Option<(u32, u16, u16, Option<u32>)> {
    let (&[n0, n1, n2, n3, p0, p1, w0, w1], rest) = payload.split_first_chunk::<8>()?;
    let (max_payload, window) = (u16::from_be_bytes([p0, p1]), u16::from_be_bytes([w0, w1]));
    let echo = rest.first_chunk::<4>().map(|echo| u32::from_be_bytes(*echo));
    (max_payload > 0 && window > 0).then_some((
        u32::from_be_bytes([n0, n1, n2, n3]),
        max_payload,
        window,
        echo,
    ))
}
