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

/// What tells this start of the agent from others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chance {
    pub(crate) nonces: [u32; 2],
    pub(crate) seed: [u64; 2],
}

impl Wire {
    /// A guest that waits for a host; with SL at this speed, if any.
    pub(crate) fn new(sl: Option<u32>, chance: Chance, now: Instant) -> Self {
        let window = if sl.is_some() { SLOW_WINDOW } else { WINDOW };
        let config = Config {
            nonce: chance.nonces[0],
            seed: chance.seed,
            // Frames of a lossy line are slow ones: a keystroke waits for one of them.
            max_frame: sl.map_or(16384, pace::max_frame),
            window,
            receive_buffer: window,
            send_buffer: 2 * window,
            max_peer_streams: PEER_STREAMS,
            max_own_streams: OWN_STREAMS,
            ..Config::new(Role::Guest)
        };
        // A test makes one of each.
        let session = Session::new(config, now).expect("sizes that can work");
        let link = sl.map(|bits_per_second| {
            let mut link = Link::new(pace::link_config(chance.nonces[1], bits_per_second));
            link.open(now);
            link
        });
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

/// Bytes that the host may send on a stream before they were taken, and half of what is kept of what a stream
/// says until the host has taken it: as much as a socket carries at a time, or a copy's or a paste's on a
/// serial port. What a process had printed before it was stopped comes first; a line about a fact fits.
const WINDOW: u32 = 256 * 1024;
const SLOW_WINDOW: u32 = 16 * 1024;
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
        for sl in [None, Some(9600)] {
            let wire = Wire::new(sl, chance, Instant::ZERO);
            assert!(wire.session.memory() < 1 << 20);
        }
    }
}
