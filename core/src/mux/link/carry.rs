//! S2 over SL: moves bytes between a session and the link under it.
//!
//! Owns nothing. The link holds one frame's worth ahead of the line, so the session's order (words first, streams in
//! turn) decides what goes next up to the last moment.

use std::io::IoSlice;

use super::super::Session;
use super::Link;
use crate::time::Instant;

/// Moves what can be moved, both ways: to be called after anything happened to either and before the link's `transmit`.
/// After [`LinkEvent::Restarted`](super::LinkEvent::Restarted) the session is to be made anew: its bytes are lost.
pub fn carry(session: &mut Session, link: &mut Link, now: Instant) {
    loop {
        let n = link.received().len().min(session.receive_window());
        if n == 0 {
            break;
        }
        session.handle_received(&link.received()[..n], now);
        link.consume(n);
    }
    loop {
        let room = link.send_window();
        if room == 0 {
            return;
        }
        let mut runs = [IoSlice::new(&[]); 8];
        let filled = session.transmit(&mut runs);
        let mut taken = 0;
        for run in &runs[..filled] {
            let n = link.write(&run[..run.len().min(room - taken)]);
            taken += n;
            if n < run.len() {
                break;
            }
        }
        if taken == 0 {
            return;
        }
        session.handle_sent(taken, now);
    }
}
