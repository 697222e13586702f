//! What is carried between the engine and its peers, and the model that is told of it at every step.

use std::time::Duration;

use vspc_core::concentrator::{ConnId, EventKind, LocalOptions, VmotionStep};

use super::Story;
use crate::world::uuid;

impl Story {
    pub(super) fn feed(&mut self, id: ConnId, max: usize) -> bool {
        let link = &self.world.links[&id];
        let was_heard = link.reason.is_none();
        // No more at once than a journal that is short of memory can show to everyone.
        let max = max.min(if self.is_short { 4096 } else { 32 << 10 });
        let bytes: Vec<u8> = link.inbound.iter().copied().take(max).collect();
        let console = self.console_of(id);
        let is_attached = console.is_some_and(|console| self.is_attached(console));
        let is_end = bytes.is_empty() && link.fin;
        let n = self.world.feed(id, max);
        let bytes = &bytes[..n.min(bytes.len())];
        // Who has shown nothing by its end is raw.
        if is_end
            && n > 0
            && self.decisions.remove(&id).is_some()
            && let Some(reader) = self.readers.get_mut(&id)
        {
            reader.becomes_raw(&self.consoles[reader.console].shown);
        }
        if was_heard && !bytes.is_empty() {
            if let Some(leg) = self.legs.get_mut(&id) {
                leg.said(bytes);
            }
            if let Some(reader) = self.readers.get_mut(&id) {
                let guest = reader.said(bytes);
                if reader.is_gdb && self.decisions.remove(&id).is_some() {
                    reader.becomes_raw(&self.consoles[reader.console].shown);
                }
                if is_attached {
                    let console = &mut self.consoles[reader.console];
                    console.admitted += guest.len();
                    console.typed.extend(guest);
                }
            }
        }
        self.take_note();
        n > 0
    }

    pub(super) fn pull(&mut self, id: ConnId, max: usize) -> bool {
        let before = self.world.links[&id].outbound.len();
        let n = self.world.pull(id, max);
        if n > 0 {
            let next = self.world.offer.get(n).copied();
            let bytes: Vec<u8> = self.world.links[&id].outbound.range(before..).copied().collect();
            let is_heard = self.world.links[&id].reason.is_none();
            if let Some(leg) = self.legs.get_mut(&id).filter(|_| is_heard) {
                self.consoles[leg.console].takes(id, leg, &bytes, next);
            }
            if let Some(reader) = self.readers.get_mut(&id).filter(|_| is_heard) {
                reader.takes(&bytes, &self.consoles[reader.console].shown);
            }
        }
        self.take_note();
        n > 0
    }

    pub(super) fn break_off(&mut self, id: ConnId) {
        self.world.break_off(id);
        self.take_note();
    }

    pub(super) fn pass(&mut self, time: Duration) {
        let until = self.world.now + time;
        while let Some(at) = self.world.engine.poll_timeout().filter(|&at| at <= until) {
            self.world.now = at.max(self.world.now);
            // Who is raw is so before its timer lets anything else happen.
            let now = self.world.now;
            let due: Vec<ConnId> =
                self.decisions.iter().filter(|&(_, &at)| at <= now).map(|(&id, _)| id).collect();
            let (heard, unheard): (Vec<_>, Vec<_>) =
                due.into_iter().partition(|&id| self.world.engine.receive_window(id) > 0);
            self.world.fire();
            for id in unheard {
                self.decisions.insert(id, now + Duration::from_secs(1));
            }
            for id in heard {
                self.decisions.remove(&id);
                if let Some(reader) = self.readers.get_mut(&id) {
                    reader.becomes_raw(&self.consoles[reader.console].shown);
                }
            }
            self.take_note();
            if self.chance.one_in(2) {
                self.some_link(Self::feed);
                self.some_link(Self::pull);
            }
        }
        self.world.now = until;
    }

    fn console_of(&self, id: ConnId) -> Option<usize> {
        self.readers.get(&id).map(|reader| reader.console)
    }

    /// Somebody takes what is typed here, or will.
    pub(super) fn is_attached(&self, console: usize) -> bool {
        let view = self.world.console(uuid(self.consoles[console].uuid));
        view.is_some_and(|view| view.takes_input)
    }

    /// What the engine did becomes known to the model.
    fn take_note(&mut self) {
        for event in &self.world.events[self.events_seen..] {
            let is_witness = event.conn.is_some_and(|id| self.witnesses.contains(&Some(id)));
            assert!(!is_witness, "it happened to a reader that is never late: {:?}", event.kind);
            let (EventKind::Vmotion(step), Some(id)) = (&event.kind, event.conn) else { continue };
            match step {
                VmotionStep::Goahead(_) => {
                    self.legs.get_mut(&id).expect("it is a host").holds = true;
                }
                VmotionStep::Aborted(_) | VmotionStep::Refused(_) => {
                    if let Some(leg) = self.legs.get_mut(&id) {
                        leg.holds = false;
                    }
                }
                VmotionStep::Completed(_) => {
                    let source = self.sources[&id];
                    self.legs.get_mut(&source).expect("it is a host").follower = Some(id);
                    self.legs.get_mut(&id).expect("it is a host").joined = true;
                }
                _ => {}
            }
        }
        self.events_seen = self.world.events.len();
        for at in 0..self.consoles.len() {
            let uuid = uuid(self.consoles[at].uuid);
            if let Some(view) = self.world.console(uuid) {
                for leg in self.world.engine.legs(view.label.id) {
                    self.legs.get_mut(&leg.id).expect("it is a host").joined = true;
                }
            }
            if self.witnesses[at].is_none() && self.world.console(uuid).is_some() {
                self.witnesses[at] =
                    Some(self.world.open_local(uuid, LocalOptions::witness().scrollback(1 << 20)));
            }
            if let Some(witness) = self.witnesses[at] {
                while self.world.pull(witness, usize::MAX) > 0 {}
                let bytes: Vec<u8> = self.world.link(witness).outbound.drain(..).collect();
                self.consoles[at].shows(&bytes, &mut self.legs);
            }
            let lost = self.world.console(uuid).map_or(0, |view| view.counters.input_lost);
            if !self.is_attached(at) {
                self.consoles[at].loses_its_vm(lost - self.lost[at]);
            } else {
                assert_eq!(lost, self.lost[at], "input was lost though the vm has a connection");
            }
            self.lost[at] = lost;
        }
    }
}
