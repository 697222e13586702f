//! hyperstart's two channels, which are two consoles of one VM: which belongs to which, and what goes over
//! the control channel.
//!
//! **Owns** how the control channel's console is told from that of the streams: by what stands behind its
//! suffix. **Refuses to know** what is said there.

use super::console::{Console, GUEST_AHEAD};
use super::consoles::Consoles;
use super::effects::Effects;
use super::guest::Guest;
use super::id::ConsoleId;
use super::label::Identity;

impl Consoles {
    /// Whether a console's line is not read because somebody does not read what it prints.
    pub(super) fn is_paused(&self, id: ConsoleId) -> bool {
        self.get(id).is_some_and(|console| {
            console.paused || console.has_guest && self.guests.get(id).is_some_and(Guest::is_blocked)
        })
    }

    /// The console of the streams that a control channel is about.
    fn streams_of(&self, control: ConsoleId) -> Option<ConsoleId> {
        let label = self.label(control)?;
        let suffix = label.suffix.strip_suffix(CONTROL_SUFFIX)?.into();
        self.by_identity(&Identity { uuid: label.uuid, suffix, clone: label.clone.clone() })
    }

    /// The console of the control channel that streams are announced on.
    fn control_of(&self, streams: ConsoleId) -> Option<ConsoleId> {
        let label = self.label(streams)?;
        let suffix = format!("{}{CONTROL_SUFFIX}", label.suffix).into();
        let identity = Identity { uuid: label.uuid, suffix, clone: label.clone.clone() };
        self.by_identity(&identity).filter(|&control| self.guests.is_control(control))
    }

    /// Whether the control channel is there of the guest whose streams these are.
    pub(super) fn has_control_channel(&self, streams: ConsoleId) -> bool {
        let has_line = |control| self.get(control).is_some_and(|console| !console.legs.is_empty());
        self.guests.get(streams).is_some_and(|guest| guest.interpreted.is_some())
            && self.control_of(streams).is_some_and(has_line)
    }

    /// A control channel is there, or gone; `was_cut`: what was under way on it is lost.
    pub(super) fn look_after_control(&mut self, control: ConsoleId, was_cut: bool, fx: &mut Effects) {
        let Some(streams) = self.streams_of(control) else { return };
        if let Some(guest) = self.guests.get_mut(streams) {
            if was_cut {
                guest.handle_control_there(false, fx.now);
            }
            fx.look_after_guest(streams);
        }
    }

    /// Bytes came on a control channel; `is_holders`: from the connection that has its input.
    pub(super) fn hear_control(
        &mut self,
        control: ConsoleId,
        came: &[u8],
        is_holders: bool,
        fx: &mut Effects,
    ) {
        if let Some(console) = self.get_mut(control) {
            console.count().bytes_from_vm += came.len() as u64;
        }
        let Some(streams) = self.streams_of(control).filter(|_| is_holders) else { return };
        if let Some(guest) = self.guests.get_mut(streams) {
            guest.handle_control(came, fx.now);
            fx.look_after_guest(streams);
        }
    }

    /// Puts into a control channel's uplink what its guest is to be told, as much as may wait there.
    pub(super) fn send_to_control(&mut self, streams: ConsoleId, fx: &mut Effects) {
        if self.guests.get(streams).is_none_or(|guest| guest.interpreted.is_none()) {
            return;
        }
        let Some(control) = self.control_of(streams) else { return };
        let has_room = |console: &Console| console.legs.has_holder() && console.uplink.len() < GUEST_AHEAD;
        let mut told = Vec::new();
        while self.get(control).is_some_and(has_room) {
            told.clear();
            let sent = self.guests.get_mut(streams).map_or(0, |guest| {
                guest.transmit_control(|bytes| {
                    told.extend_from_slice(bytes);
                    bytes.len()
                })
            });
            let Some((console, buffers)) = self.with_buffers(control).filter(|_| sent > 0) else { return };
            console.uplink.push_guest(&told, buffers);
            console.wake_input(fx);
        }
    }
}

/// What stands behind the suffix of a control channel's console.
pub(super) const CONTROL_SUFFIX: &str = "_control";
