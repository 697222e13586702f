//! Logs whose bytes a guest's agent packs (APPLICATION §10).
//!
//! **Owns** how blocks become what a console shows, and how much of that at a time, for all logs of a guest
//! together. Keeps nothing of a block that has not come whole: it stays in the session's buffer, which has
//! room for one, and does not count as taken. **Refuses to know** how a block is packed.

use std::io::IoSlice;
use std::time::Duration;

use vspc_guest::{BLOCK_HEADER, MAX_BLOCK, Refusal, block_len, unpack};

use super::Concentrator;
use super::carried::Carried;
use super::event::{CloseReason, Fault};
use super::guest::Guest;
use super::id::{ConnId, ConsoleId};
use crate::mux::{Received, StreamId};
use crate::time::Instant;

/// What was unpacked of a guest's logs. A guest that has none of late costs nothing.
#[derive(Debug)]
pub(super) struct Unpacked {
    /// What is counted is for the time before this.
    until: Instant,
    counted: usize,
    /// The log that had the last turn.
    last: StreamId,
}

/// Where blocks are unpacked; nothing is allocated before there is one.
#[derive(Default)]
struct Space {
    block: Vec<u8>,
    bytes: Vec<u8>,
}

impl Guest {
    /// Appends the next block of a packed stream to `printed`, unpacked. `false`: it has not come whole.
    ///
    /// # Errors
    ///
    /// What came is no block.
    fn take_block(
        &mut self,
        id: StreamId,
        space: &mut Space,
        printed: &mut Vec<u8>,
    ) -> Result<bool, Refusal> {
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
        space.block.resize(len, 0);
        space.bytes.resize(MAX_BLOCK, 0);
        let _ = session.read(id, &mut space.block);
        if let Some(bytes) = unpack(&space.block, &mut space.bytes) {
            printed.extend_from_slice(bytes?);
        }
        Ok(true)
    }
}

impl Concentrator {
    /// There is something to read on a packed stream. Where others wait it has its turn behind them.
    pub(super) fn read_packed_leg(&mut self, at: ConsoleId, id: StreamId, leg: ConnId) {
        if self.consoles.guests.get(at).is_some_and(|guest| !guest.is_behind) {
            self.show_blocks(at, id, leg, &mut Space::default());
        }
        self.fx.look_after_guest(at);
    }

    /// Shows what has come of a packed log. What few bytes unpack to can be two hundred times as much: of
    /// that a little is shown at a time.
    fn show_blocks(&mut self, at: ConsoleId, id: StreamId, leg: ConnId, space: &mut Space) {
        let now = self.fx.now;
        if self.is_paused(leg) {
            return;
        }
        let guests = &mut self.consoles.guests;
        let before = guests.unpacked.get(&at).filter(|unpacked| now < unpacked.until);
        let (until, before) = before.map_or((now + UNPACK_AGAIN, 0), |it| (it.until, it.counted));
        let Some(guest) = guests.get_mut(at) else { return };
        let (mut counted, mut printed) = (before, Vec::new());
        let whole = loop {
            if counted >= SHOWN_AT_ONCE {
                guest.is_behind = true;
                break Ok(true);
            }
            let len = printed.len();
            match guest.take_block(id, space, &mut printed) {
                Ok(true) => counted += (printed.len() - len).max(BLOCK_AT_LEAST),
                other => break other,
            }
        };
        let session = guest.trunk.session();
        let end = match whole {
            Err(_) => Some(Err(Fault::PackedBlock)),
            Ok(true) => None,
            Ok(false) if matches!(session.received(id), Ok(Received::End)) => Some(Ok(())),
            Ok(false) => session.has_all(id).then_some(Err(Fault::CutBlock)),
        };
        match end {
            // The agent keeps what was not acked, and may have no room for the rest of the next block.
            None => drop(session.acknowledge(id)),
            Some(Ok(())) => {
                let _ = session.finish(id);
                guest.is_over(id);
            }
            Some(Err(_)) => guest.reset(id),
        }
        if counted > before {
            guests.unpacked.insert(at, Unpacked { until, counted, last: id });
            self.receive_vm(leg, &printed, 0);
        }
        if let Some(end) = end {
            if let Err(fault) = end {
                self.malformed(leg, fault);
            }
            self.fx.doom(leg, CloseReason::PeerClosed);
        }
    }

    /// It may be time for what was left of packed logs: each has its turn.
    pub(super) fn catch_up(&mut self, at: ConsoleId) {
        let guests = &mut self.consoles.guests;
        let Some(unpacked) = guests.unpacked.get(&at) else { return };
        if self.fx.now < unpacked.until {
            return;
        }
        let last = unpacked.last;
        guests.unpacked.remove(&at);
        let Some(guest) = guests.get_mut(at) else { return };
        if !std::mem::take(&mut guest.is_behind) {
            return;
        }
        let packed = guest.streams().filter_map(|(id, carried)| match carried {
            Carried::Leg { conn, is_packed: true } => Some((id, *conn)),
            _ => None,
        });
        let mut packed: Vec<_> = packed.collect();
        let first = packed.partition_point(|(id, _)| id.0 <= last.0);
        packed.rotate_left(first);
        let mut space = Space::default();
        for (id, leg) in packed {
            if self.consoles.guests.get(at).is_none_or(|guest| guest.is_behind) {
                break;
            }
            self.show_blocks(at, id, leg, &mut space);
        }
    }

    /// When it is time for that.
    pub(super) fn next_blocks(&self, at: ConsoleId) -> Instant {
        self.consoles.guests.unpacked.get(&at).map_or(self.fx.now, |unpacked| unpacked.until)
    }
}

/// Of what the blocks of a guest's logs unpack to, how much is shown in one piece; and what a block counts at
/// least, since each is work.
const SHOWN_AT_ONCE: usize = 128 << 10;
const BLOCK_AT_LEAST: usize = 1 << 10;
/// After so long more of it is shown: 64 MB in a second, where a line that somebody packs for carries a few.
const UNPACK_AGAIN: Duration = Duration::from_millis(2);
