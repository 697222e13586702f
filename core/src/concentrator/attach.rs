//! Connections and consoles come together and part: a VM's connection gets its place, joins the legs of a
//! console and leaves them; a reader gets its seat.

use crate::telnet::{Command, put_command};

use super::Concentrator;
use super::conn::{Conn, Place};
use super::console::{Console, ReaderKey};
use super::event::EventKind;
use super::fanout::{Seat, Spec};
use super::id::{ConnId, ConsoleId};
use super::legs::Left;

impl Concentrator {
    /// Takes up a connection.
    pub(super) fn insert(&mut self, conn: Conn) -> ConnId {
        let id = self.conns.insert(conn);
        self.fx.outbox.open(id);
        id
    }

    /// Moves a VM connection to its next place.
    pub(super) fn set_place(&mut self, id: ConnId, place: Place) {
        let was_paused = self.is_paused(id);
        let Some(conn) = self.conns.get_mut(id) else { return };
        let source = conn.source();
        let Some(vm) = conn.vm_mut() else { return };
        let before = std::mem::replace(&mut vm.place, place);
        match place {
            // It will not say which VM it is any more.
            Place::Rejected if before != Place::Rejected => {
                self.admission.unsettle(id, source, self.fx.now);
            }
            _ if before.is_unidentified() && !place.is_unidentified() => self.admission.settle(id),
            _ => {}
        }
        if was_paused && !self.is_paused(id) {
            self.fx.outbox.receive(id);
        }
    }

    /// Whether a VM's connection is not read because its console waits for a reader.
    pub(super) fn is_paused(&self, id: ConnId) -> bool {
        match self.conns.get(id).and_then(Conn::vm).map(|vm| vm.place) {
            Some(Place::Console(console)) => self.consoles.get(console).is_some_and(|console| console.paused),
            _ => false,
        }
    }

    /// A VM's connection joins its console. Input goes to it from now on.
    pub(super) fn attach_leg(&mut self, at: ConsoleId, id: ConnId) {
        let from = self.conns.get(id).and_then(|conn| conn.peer.ip());
        let Some((console, buffers)) = self.consoles.with_buffers(at) else { return };
        let others: Vec<ConnId> = console.legs.conns().collect();
        let owed = console.attach_leg(id, from, buffers, &mut self.fx);
        let legs = console.legs.len();
        let is_news = !others.is_empty() && !std::mem::replace(&mut console.legs_told, true);
        console.wake_input(&mut self.fx);
        self.give_half(owed);
        // Nobody can tell a second port from a second life (vmware.md §4): a dead host answers a NOP with a
        // reset, or its keepalive will tell.
        for other in others {
            self.reply(other, |out| put_command(Command::NOP, out));
        }
        if is_news {
            self.tell(id, EventKind::SecondLeg { legs });
        }
        self.consoles.consider_expiry(at, &mut self.fx);
    }

    /// A leg leaves its console, as `leave` says.
    pub(super) fn detach_leg(&mut self, at: ConsoleId, leave: impl FnOnce(&mut Console) -> Option<Left>) {
        let Some((console, buffers)) = self.consoles.with_buffers(at) else { return };
        let owed = console.take_half(buffers);
        if let Some(left) = leave(console) {
            let heir = console.legs.latest().and_then(|id| self.conns.get(id)?.peer.ip());
            console.after_leg(left, heir, buffers, &mut self.fx);
        }
        self.give_half(owed);
        self.consoles.consider_expiry(at, &mut self.fx);
    }

    /// A connection that has taken half a pair gets the other half before anything else.
    fn give_half(&mut self, owed: Option<(ConnId, u8)>) {
        if let Some((id, half)) = owed
            && let Some(conn) = self.conns.get_mut(id)
        {
            conn.control.push_front(half);
            self.fx.outbox.transmit(id);
        }
    }

    /// Seats a reader at a console. `None`: there is no such console any more.
    pub(super) fn attach_reader(&mut self, at: ConsoleId, spec: Spec<ReaderKey>) -> Option<Seat> {
        let console = self.consoles.get_mut(at)?;
        let seat = console.fanout_mut().attach(spec);
        self.fx.outbox.changed(at);
        self.consoles.consider_expiry(at, &mut self.fx);
        Some(seat)
    }
}
