//! S2 over SL: moves bytes between a session and the link under it.
//!
//! Owns nothing. The link holds one frame's worth ahead of the line, so the session's order (words first,
//! streams in turn) decides what goes next up to the last moment.

use super::super::Session;
use super::Link;
use crate::time::Instant;

/// Moves what can be moved, both ways: to be called after anything happened to either and before the link's
/// `transmit`. After [`LinkEvent::Restarted`](super::LinkEvent::Restarted) call
/// [`Session::line_reopened`] before this is called again: bytes of the old line are lost.
pub fn carry(session: &mut Session, link: &mut Link, now: Instant) {
    loop {
        let n = link.received().len().min(session.receive_window());
        if n == 0 {
            break;
        }
        session.handle_received(&link.received()[..n], now);
        link.consume(n);
    }
    while link.send_window() > 0 {
        let taken = session.transmit_with(now, |runs| {
            let mut taken = 0;
            for run in runs {
                let n = link.write(&run[..run.len().min(link.send_window())]);
                taken += n;
                if n < run.len() {
                    break;
                }
            }
            taken
        });
        if taken == 0 {
            return;
        }
    }
}
