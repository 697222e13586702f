//! Lines that carry a guest's streams: which bytes are its session's, which are text, and what goes out.

use std::io::IoSlice;

use super::super::console::GUEST_AHEAD;
use super::super::effects::Effects;
use super::super::id::{ConnId, ConsoleId};
use super::super::output::Sent;
use super::{Consoles, after_print};
use crate::telnet::wire_form::escape_into;

impl Consoles {
    /// Whether a console's line carries streams of a guest's.
    pub(in crate::concentrator) fn has_guest(&self, id: ConsoleId) -> bool {
        self.table.get(id).is_some_and(|console| console.has_guest)
    }

    /// Takes in what came of a line that has a guest's streams on it: those go to its session, and what is
    /// left is printed. A reader of that never makes the VM wait: the streams are others'. What legs print
    /// that do not hold the input is text.
    pub(in crate::concentrator) fn print_beside_streams(
        &mut self,
        id: ConsoleId,
        from: ConnId,
        came: &[u8],
        fx: &mut Effects,
    ) {
        let is_holders = self.table.get(id).is_some_and(|console| console.legs.holder() == Some(from));
        if self.guests.is_control(id) {
            return self.hear_control(id, came, is_holders, fx);
        }
        let Some(guest) = self.guests.get_mut(id) else { return };
        let mut text = Vec::new();
        if is_holders {
            guest.handle_received(came, fx.now, &mut text);
            fx.look_after_guest(id);
        } else {
            text.extend_from_slice(came);
        }
        if let Some(console) = self.table.get_mut(id) {
            console.count().bytes_from_vm += came.len() as u64;
        }
        self.print_text(id, &text, fx);
    }

    /// What on such a line is no stream's.
    pub(in crate::concentrator) fn print_text(&mut self, id: ConsoleId, text: &[u8], fx: &mut Effects) {
        let Some(console) = self.table.get_mut(id).filter(|_| !text.is_empty()) else { return };
        let mut wire = Vec::with_capacity(text.len());
        escape_into(text, &mut wire);
        let pairs = wire.len() - text.len();
        console.fanout_mut().print(&wire, pairs, &mut self.pools.vms);
        after_print(console, self.limits, false, &mut self.pools.vms, fx);
        self.by_silence.touch(id.index);
        self.trim_memory(fx);
    }

    /// Has a guest be sent what its session has for it. A line without telnet, `is_raw`, [takes that
    /// itself](Self::offer_frames) while nothing else goes over it; otherwise as much as may wait is put into
    /// the uplink, where it has its place among what people type.
    pub(in crate::concentrator) fn send_to_guest(&mut self, id: ConsoleId, is_raw: bool, fx: &mut Effects) {
        let Some(console) = self.table.get_mut(id).filter(|console| console.legs.has_holder()) else {
            return;
        };
        let Some(guest) = self.guests.get_mut(id) else { return };
        if is_raw && guest.is_frames_alone() {
            if guest.trunk.has_output()
                && let Some(line) = console.legs.input()
            {
                fx.outbox.transmit(line);
            }
            return;
        }
        let (uplink, buffers) = (&mut console.uplink, &mut self.buffers);
        while uplink.len() < GUEST_AHEAD {
            let room = GUEST_AHEAD - uplink.len();
            let sent = guest.transmit_with(fx.now, |runs| {
                let mut left = room;
                for run in runs {
                    let piece = &run[..run.len().min(left)];
                    uplink.push_guest(piece, buffers);
                    left -= piece.len();
                }
                room - left
            });
            if sent == 0 {
                break;
            }
        }
        console.wake_input(fx);
    }

    /// What waits for a console's line is lost.
    pub(in crate::concentrator) fn drop_input(&mut self, id: ConsoleId, fx: &mut Effects) {
        if let Some((console, buffers)) = self.with_buffers(id) {
            console.drop_input(buffers, fx);
        }
    }

    /// Whether a line without telnet is owed frames of a guest's session.
    pub(in crate::concentrator) fn has_frames(&self, id: ConsoleId) -> bool {
        self.guests.get(id).is_some_and(|guest| guest.is_frames_alone() && guest.trunk.has_output())
    }

    /// Offers a line without telnet what the session of its guest has for it, borrowed from there.
    pub(in crate::concentrator) fn offer_frames(
        &mut self,
        id: ConsoleId,
        fx: &mut Effects,
        take: impl FnOnce(&[IoSlice<'_>]) -> usize,
    ) -> Sent {
        let Some(guest) = self.guests.get_mut(id).filter(|guest| guest.is_frames_alone()) else {
            return Sent::default();
        };
        let mut offered = 0;
        let taken = guest.trunk.transmit_with(fx.now, |runs| {
            offered = runs.iter().map(|run| run.len()).sum();
            take(runs).min(offered)
        });
        if taken > 0 {
            fx.look_after_guest(id);
            if let Some(console) = self.table.get_mut(id) {
                console.count().bytes_to_vm += taken as u64;
            }
        }
        Sent { offered, taken }
    }
}
