//! S2 on the line: a session, and SL under it where the line may lose bytes.
//!
//! Owns what becomes of the session when the line goes away. Refuses to know descriptors and streams.

use std::io::IoSlice;

use vspc_core::mux::link::{Link, LinkClosed, LinkEvent, carry};
use vspc_core::mux::{Config, Role, Session};
use vspc_core::time::Instant;

use crate::pace;

/// A session and what is under it.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) session: Session,
    link: Option<Link>,
    /// The line has begun anew, and nobody was told of it yet.
    is_anew: bool,
}

/// What a line is like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Line {
    /// A socket or a virtio port.
    Fast,
    /// A serial port that loses nothing.
    Slow,
    /// One that may, of so many bits a second; 0: as its system has it.
    Sl(u32),
}

/// What tells this start of the agent from others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chance {
    pub(crate) nonces: [u32; 2],
    pub(crate) seed: [u64; 2],
}

impl Wire {
    /// A guest that waits for a host on such a line.
    pub(crate) fn new(line: Line, chance: Chance, now: Instant) -> Self {
        // A test makes one of each.
        let session = Session::new(config(line, chance), now).expect("sizes that can work");
        let link = match line {
            Line::Fast | Line::Slow => None,
            Line::Sl(bits_per_second) => {
                let mut link = Link::new(pace::link_config(chance.nonces[1], bits_per_second));
                link.open(now);
                Some(link)
            }
        };
        Self { session, link, is_anew: false }
    }

    /// How many bytes may be read from the line.
    pub(crate) fn receive_window(&self) -> usize {
        if self.link.is_some() { usize::MAX } else { self.session.receive_window() }
    }

    /// Bytes came.
    pub(crate) fn handle_received(&mut self, data: &[u8], now: Instant) {
        match &mut self.link {
            None => self.session.handle_received(data, now),
            Some(link) => {
                link.handle_received(data, now);
                self.handle_link(now);
            }
        }
    }

    /// The line was lost and has come back.
    pub(crate) fn handle_reopened(&mut self, now: Instant) {
        // SL finds out by itself whether its peer is the same, and then loses nothing.
        if self.link.is_none() {
            self.session.line_reopened(now);
            self.is_anew = true;
        }
    }

    /// A port was opened. Its host may not know that, and wait for the last agent, which has crashed.
    pub(crate) fn handle_opened(&mut self) {
        // SL finds out by itself.
        if self.link.is_none() {
            self.session.announce_itself();
        }
    }

    /// Whether whoever was at the other end may be gone since the last call. The session's events do not tell
    /// before the next host says something.
    pub(crate) const fn take_anew(&mut self) -> bool {
        std::mem::replace(&mut self.is_anew, false)
    }

    /// A deadline may have passed.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.session.handle_timeout(now);
        if let Some(link) = &mut self.link {
            link.handle_timeout(now);
            self.handle_link(now);
        }
    }

    /// When [`Wire::handle_timeout`] is to be called.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let link = self.link.as_ref().and_then(Link::poll_timeout);
        [self.session.poll_timeout(), link].into_iter().flatten().min()
    }

    /// Gives what goes next to `take`; how much of it was taken.
    pub(crate) fn transmit_with(
        &mut self,
        now: Instant,
        take: impl FnOnce(&[IoSlice<'_>]) -> usize,
    ) -> usize {
        let Some(link) = &mut self.link else { return self.session.transmit_with(now, take) };
        carry(&mut self.session, link, now);
        link.transmit_with(now, |frame| take(&[IoSlice::new(frame)]))
    }

    fn handle_link(&mut self, now: Instant) {
        let Some(link) = &mut self.link else { return };
        while let Some(event) = link.poll_event() {
            match event {
                LinkEvent::Restarted => {
                    log::info!("the host has begun anew");
                    self.session.line_reopened(now);
                    self.is_anew = true;
                }
                LinkEvent::Ended => link.finish(),
                LinkEvent::Closed(why) => {
                    log::info!("the host is gone: {why:?}");
                    carry(&mut self.session, link, now);
                    self.session.line_reopened(now);
                    self.is_anew = true;
                    let rest = link.received().len();
                    link.consume(rest);
                    // After a good end the host is the one to begin again.
                    if why != LinkClosed::Done {
                        link.open(now);
                    }
                }
                _ => {}
            }
        }
        carry(&mut self.session, link, now);
    }
}

fn config(line: Line, chance: Chance) -> Config {
    let (max_frame, window, send_buffer, growth) = match line {
        Line::Fast => (16 << 10, WINDOW, SEND_BUFFER, GROWTH),
        // A keystroke waits for one frame.
        Line::Slow => (4 << 10, SLOW_WINDOW, SLOW_SEND_BUFFER, 0),
        Line::Sl(bits_per_second) => (pace::max_frame(bits_per_second), SLOW_WINDOW, SLOW_SEND_BUFFER, 0),
    };
    Config {
        nonce: chance.nonces[0],
        seed: chance.seed,
        max_frame,
        window,
        receive_buffer: window,
        send_buffer,
        most_window: MOST_WINDOW,
        growth,
        max_peer_streams: PEER_STREAMS,
        max_own_streams: OWN_STREAMS,
        ..Config::new(Role::Guest)
    }
}

/// Bytes that the host may send on a stream before they were taken, and what is kept of a stream's own until
/// the host has taken it, in which a line about a fact fits. For a socket it is as much as that carries at a
/// time. For a serial port it is little: it goes before what a process says when it was stopped.
const WINDOW: u32 = 64 << 10;
const SEND_BUFFER: u32 = 128 << 10;
/// What the first grows to for a copy that is written as fast as it comes, and the other for one that is
/// taken so; and by how much those of all streams together.
const MOST_WINDOW: u32 = 512 << 10;
const GROWTH: u64 = 2 << 20;
const SLOW_WINDOW: u32 = 16 << 10;
const SLOW_SEND_BUFFER: u32 = 32 << 10;
/// Streams that the host may open: some for each process, copy and connection.
const PEER_STREAMS: u32 = 256;
/// Streams that are announced, of which connections to listeners are most.
const OWN_STREAMS: u32 = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wire_of_each_kind_can_work_and_is_bounded() {
        let chance = Chance { nonces: [1, 2], seed: [3, 4] };
        // As agent.md says it.
        for (line, most) in [(Line::Fast, 90), (Line::Slow, 30), (Line::Sl(9600), 30)] {
            let bound = config(line, chance).memory_bound() / 1_000_000;
            assert!(bound < most, "{line:?}: {bound} MB");
            assert!(Wire::new(line, chance, Instant::ZERO).session.memory() < 1 << 20);
        }
    }
}
