//! Logs whose bytes a guest's agent packs (APPLICATION §10).
//!
//! **Owns** how blocks become what a console shows, and how much of that at a time. Keeps nothing of a block
//! that has not come whole: it stays in the session's buffer, which has room for one, and does not count as
//! taken. **Refuses to know** how a block is packed.

use std::io::IoSlice;
use std::time::Duration;

use vspc_guest::{BLOCK_HEADER, MAX_BLOCK, Refusal, block_len, unpack};

use super::Concentrator;
use super::carried::Carried;
use super::event::CloseReason;
use super::guest::Guest;
use super::id::{ConnId, ConsoleId};
use super::timers::Timer;
use crate::mux::{Received, StreamId};
use crate::time::Instant;

impl Guest {
    /// Gives the next block of a packed stream on, unpacked. `false`: it has not come whole.
    ///
    /// # Errors
    ///
    /// What came is no block.
    pub(super) fn take_block(&mut self, id: StreamId, to: impl FnOnce(&[u8])) -> Result<bool, Refusal> {
        let session = self.trunk.session();
        let mut runs = [IoSlice::new(&[]); BLOCK_HEADER];
        let filled = session.received_runs(id, &mut runs);
        let mut first = runs[..filled].iter().flat_map(|run| run.iter().copied());
        let mut header = [0; BLOCK_HEADER];
        for place in &mut header {
            let Some(byte) = first.next() else { return Ok(false) };
            *place = byte;
        }
        let len = block_len(header)?;
        if session.received_len(id) < len {
            return Ok(false);
        }
        let mut block = vec![0; len];
        let _ = session.read(id, &mut block);
        if let Some(bytes) = unpack(&block, &mut [0; MAX_BLOCK]) {
            to(bytes?);
        }
        Ok(true)
    }
}

impl Concentrator {
    /// There is something to read on a packed stream: its console shows it. What few bytes unpack to can be
    /// two hundred times as much: of that a little is shown at a time.
    pub(super) fn read_packed_leg(&mut self, at: ConsoleId, id: StreamId, leg: ConnId) {
        let mut shown = 0;
        while !self.is_paused(leg) {
            let mut printed = Vec::new();
            let Some(guest) = self.consoles.guests.get_mut(at) else { return };
            if shown >= SHOWN_AT_ONCE {
                guest.is_behind = true;
                break;
            }
            match guest.take_block(id, |bytes| printed.extend_from_slice(bytes)) {
                Ok(true) => {
                    shown += printed.len();
                    self.receive_vm(leg, &printed, 0);
                }
                Ok(false) => {
                    if matches!(guest.trunk.session().received(id), Ok(Received::End)) {
                        let _ = guest.trunk.session().finish(id);
                        guest.is_over(id);
                        self.fx.doom(leg, CloseReason::PeerClosed);
                    }
                    break;
                }
                Err(_) => {
                    guest.reset(id);
                    self.fx.doom(leg, CloseReason::PeerClosed);
                    break;
                }
            }
        }
        self.fx.look_after_guest(at);
    }

    /// It is time for what was left of packed logs.
    pub(super) fn catch_up(&mut self, at: ConsoleId) {
        let Some(guest) = self.consoles.guests.get_mut(at) else { return };
        if std::mem::take(&mut guest.is_behind) {
            let packed = guest.streams().filter_map(|(id, carried)| match carried {
                Carried::Leg { conn, is_packed: true } => Some((id, *conn)),
                _ => None,
            });
            let packed: Vec<_> = packed.collect();
            packed.into_iter().for_each(|(id, leg)| self.read_packed_leg(at, id, leg));
        }
    }

    /// When it is time for that: what else happens meanwhile does not put it off.
    pub(super) fn next_blocks(&self, at: ConsoleId) -> Instant {
        let again = self.fx.now + UNPACK_AGAIN;
        self.fx.timers.deadline(Timer::Guest(at)).map_or(again, |due| due.min(again))
    }
}

/// Of what blocks unpack to, how much is shown in one piece.
const SHOWN_AT_ONCE: usize = 128 << 10;
/// After so long more of what a log's blocks unpack to is shown: 64 MB in a second, where a line that
/// somebody packs for carries a few.
const UNPACK_AGAIN: Duration = Duration::from_millis(2);
