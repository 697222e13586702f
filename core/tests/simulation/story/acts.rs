//! What can happen in a story, by chance.

use std::time::Duration;

use vspc_core::concentrator::ConnId;
use vspc_core::telnet::Command;
use vspc_core::vmware::{Opens, Resume, VmConfig, VmEvent};

use super::{Journey, Story};
use crate::model::{Leg, Reader, bytes_of};
use crate::world::peer::{command, doubled};
use crate::world::{Client, Host, Kind, Part, uuid, vm_config};

impl Story {
    pub(super) fn open_links(&self) -> Vec<ConnId> {
        self.world.links.iter().filter(|(_, link)| link.is_open()).map(|(&id, _)| id).collect()
    }

    pub(super) fn some_link<T>(&mut self, act: impl Fn(&mut Self, ConnId, usize) -> T) {
        if let Some(id) = self.chance.pick(&self.open_links()) {
            let max = self.chance.size();
            act(self, id, max);
        }
    }

    fn hosts(&self) -> Vec<ConnId> {
        self.legs.keys().copied().filter(|id| self.world.links[id].reason.is_none()).collect()
    }

    fn clients(&self) -> Vec<ConnId> {
        self.readers.keys().copied().filter(|id| self.world.links[id].reason.is_none()).collect()
    }

    pub(super) fn somebody_prints(&mut self) {
        let hosts: Vec<ConnId> = self.hosts().into_iter().filter(|id| self.prints(*id)).collect();
        let Some(id) = self.chance.pick(&hosts) else { return };
        let joined = self.legs[&id].joined;
        let len = match joined {
            true if self.floods && self.chance.one_in(3) => 150_000,
            true => self.chance.size(),
            false if self.legs[&id].early < 600 => 1 + self.chance.below(100),
            false => return,
        };
        if !joined {
            self.legs.get_mut(&id).expect("it is a host").early += len;
        }
        let bytes = bytes_of(self.legs[&id].slot, len, &mut self.chance);
        self.world.host(id).session.print(&bytes);
    }

    /// A guest stands still from BEGIN until its host refuses, aborts or gives up, and before COMPLETE.
    fn prints(&self, id: ConnId) -> bool {
        !self.journeys.iter().any(|journey| journey.source == id || journey.targets.contains(&id))
    }

    pub(super) fn somebody_types(&mut self) {
        let Some(id) = self.chance.pick(&self.clients()) else { return };
        let link = &self.world.links[&id];
        if link.fin || link.inbound.len() > 5000 {
            return;
        }
        let len = if self.floods && self.chance.one_in(8) { 200_000 } else { self.chance.size() };
        let reader = self.readers.get_mut(&id).expect("it is a client");
        let mut bytes = bytes_of(reader.slot, len, &mut self.chance);
        let opens = !std::mem::replace(&mut reader.spoken, true);
        if reader.kind == Kind::Raw {
            // Who has shown by its first bytes that it is raw may send what it likes, and the upper half of
            // the bytes would show it; the others may yet be telnet clients.
            let may_open = opens && self.world.engine.receive_window(id) > 1;
            let is_high = reader.slot >= 4;
            if may_open && (is_high || self.chance.one_in(2)) {
                reader.is_gdb = true;
                self.world.link(id).inbound.extend(b"+$");
                self.feed(id, 2);
            } else if !reader.is_gdb {
                if is_high {
                    reader.spoken = !opens;
                    return;
                }
                for byte in &mut bytes {
                    if matches!(*byte, 0 | b'+' | b'$') {
                        *byte += 1;
                    }
                }
                // Nor does it begin like a program at the wrong port.
                if opens && matches!(bytes[0], 0x16 | b'A'..=b'Z') {
                    bytes[0] = bytes[0] & 0xe0 | 0x1e;
                }
            }
        } else {
            bytes = doubled(&bytes);
            if self.chance.one_in(8) {
                let asks = 1 + self.chance.below(300);
                bytes.extend(command(Command::AYT).repeat(asks));
            }
        }
        self.world.link(id).inbound.extend(bytes);
    }

    pub(super) fn somebody_comes(&mut self) {
        if self.clients().len() > 8 {
            return;
        }
        let console = self.chance.below(self.consoles.len());
        let Some(port) = self.world.port(uuid(self.consoles[console].uuid)) else { return };
        let kind = [Kind::Raw, Kind::Telnet, Kind::TelnetAscii][self.chance.below(3)];
        let Some(id) = self.world.connect_to(port, Part::Client(Client::new(kind))) else { return };
        let slot = if self.chance.one_in(3) { 7 } else { self.chance.below(8) as u8 };
        let at = self.consoles[console].shown.len();
        self.readers.insert(id, Reader::new(console, slot, kind, at));
        if kind == Kind::Raw {
            self.decisions.insert(id, self.world.now + Duration::from_secs(1));
            return;
        }
        // A telnet program answers at once; how its answer is cut is up to the network.
        let cut = 1 + self.chance.below(40);
        for _ in 0..60 {
            self.pull(id, cut);
            self.world.exchange(id, cut);
            self.feed(id, cut);
        }
    }

    pub(super) fn somebody_stalls_or_goes_on(&mut self) {
        let everyone = if self.chance.one_in(4) { self.hosts() } else { self.clients() };
        let Some(id) = self.chance.pick(&everyone) else { return };
        let room = self.chance.size();
        let capacity = if self.chance.one_in(2) { usize::MAX } else { room };
        let link = self.world.link(id);
        if link.stalled {
            link.stalled = false;
            link.capacity = capacity;
        } else {
            link.stalled = true;
            link.capacity = link.outbound.len() + room;
        }
    }

    pub(super) fn a_client_leaves(&mut self) {
        let Some(id) = self.chance.pick(&self.clients()) else { return };
        match self.chance.below(3) {
            0 => self.world.link(id).fin = true,
            1 => self.break_off(id),
            _ => {}
        }
    }

    pub(super) fn a_vm_comes(&mut self) {
        let console = self.chance.below(self.consoles.len());
        let here = self.legs.iter().filter(|(id, leg)| {
            leg.console == console && self.world.links[id].reason.is_none() && leg.follower.is_none()
        });
        let limit = if self.two_legs { 2 } else { 1 };
        let moving = self.world.console(uuid(self.consoles[console].uuid)).is_some_and(|view| view.moving);
        if here.count() >= limit || moving {
            return;
        }
        let opens = if self.chance.one_in(2) { Opens::WaitsForDo } else { Opens::WillFirst };
        let config = VmConfig { opens, ..vm_config(self.consoles[console].uuid) };
        self.host_connects(console, config);
    }

    fn host_connects(&mut self, console: usize, config: VmConfig) -> Option<ConnId> {
        let links = &self.world.links;
        let slot = self.consoles[console].free_slot(|id| links[&id].reason.is_some())?;
        let id = self.world.connect_to_vms(Part::Host(Host::new(config)))?;
        self.consoles[console].give_slot(slot, id);
        self.legs.insert(id, Leg::new(console, slot));
        Some(id)
    }

    pub(super) fn a_vm_breaks(&mut self) {
        if !self.chance.one_in(3) {
            return;
        }
        let Some(id) = self.chance.pick(&self.hosts()) else { return };
        if self.chance.one_in(2) {
            self.break_off(id);
        } else {
            self.world.link(id).fin = true;
        }
    }

    pub(super) fn a_move_begins(&mut self) {
        let hosts: Vec<ConnId> = self
            .hosts()
            .into_iter()
            .filter(|id| self.legs[id].joined && self.prints(*id) && !self.world.links[id].fin)
            .collect();
        let Some(source) = self.chance.pick(&hosts) else { return };
        let sequence: Vec<u8> =
            (0..1 + self.chance.below(5)).map(|_| 250 + self.chance.below(6) as u8).collect();
        self.world.host(source).session.begin(&sequence);
        self.journeys.push(Journey { source, sequence, targets: Vec::new() });
    }

    pub(super) fn a_move_goes_on(&mut self) {
        if self.journeys.is_empty() {
            return;
        }
        let at = self.chance.below(self.journeys.len());
        let (source, sequence) = (self.journeys[at].source, self.journeys[at].sequence.clone());
        let console = self.legs[&source].console;
        let alive = self.world.links[&source].reason.is_none();
        let host = self.world.host(source);
        let refused = host.said.contains(&VmEvent::Notnow { sequence: sequence.clone() });
        let secret = host.said.iter().rev().find_map(|event| match event {
            VmEvent::Goahead { sequence: ours, secret } if *ours == sequence => Some(secret.clone()),
            _ => None,
        });
        if refused {
            host.said.clear();
            self.journeys.remove(at);
            return;
        }
        let Some(secret) = secret else {
            // It may give up before it is answered.
            if !alive || self.chance.one_in(30) {
                if alive {
                    self.world.host(source).session.abort();
                }
                self.journeys.remove(at);
            }
            return;
        };
        match self.chance.below(14) {
            0..=4 if self.journeys[at].targets.len() < 2 => {
                let resume = Some(Resume { sequence, secret });
                let config = VmConfig { resume, ..vm_config(self.consoles[console].uuid) };
                if let Some(target) = self.host_connects(console, config) {
                    self.journeys[at].targets.push(target);
                    self.sources.insert(target, source);
                }
            }
            5 => {
                let secret = bytes_of(3, 8, &mut self.chance);
                let resume = Some(Resume { sequence, secret });
                let config = VmConfig { resume, ..vm_config(self.consoles[console].uuid) };
                if let Some(wrong) = self.host_connects(console, config) {
                    self.world.host(wrong).session.complete();
                }
            }
            6 if alive => {
                self.world.host(source).session.abort();
                self.journeys.remove(at);
            }
            // The host gives up without a word; its guest runs on.
            7 if alive && self.journeys[at].targets.is_empty() => {
                self.journeys.remove(at);
            }
            8 if alive => {
                if self.chance.one_in(2) {
                    self.world.link(source).fin = true;
                } else {
                    self.break_off(source);
                }
            }
            9..=13 => {
                let ready: Vec<ConnId> = self.journeys[at]
                    .targets
                    .clone()
                    .into_iter()
                    .filter(|&target| {
                        self.world.host(target).was_told(|e| matches!(e, VmEvent::PeerOk { .. })) > 0
                    })
                    .collect();
                if let Some(target) = self.chance.pick(&ready) {
                    self.world.host(target).session.complete();
                    if self.chance.one_in(4) {
                        self.world.host(target).session.complete();
                    }
                    // Bytes of the source that are still on their way may come later than the target's.
                    if alive && self.chance.one_in(2) {
                        let bytes = bytes_of(self.legs[&source].slot, 30, &mut self.chance);
                        self.world.host(source).session.print(&bytes);
                    }
                    self.journeys.remove(at);
                }
            }
            _ => {}
        }
    }

    pub(super) fn a_stranger_does_something(&mut self) {
        if self.is_short {
            return;
        }
        if self.garbage.len() < 6
            && let Some(id) = self.world.connect_to_vms(Part::Mute)
        {
            self.garbage.push(id);
        }
        let Some(id) = self.chance.pick(&self.garbage) else { return };
        let junk: Vec<u8> = (0..self.chance.size())
            .map(|_| match self.chance.below(4) {
                0 => 255,
                1 => 240 + self.chance.below(15) as u8,
                2 => [232, 40, 41, 44, 46, 48, 70, 82][self.chance.below(8)],
                _ => self.chance.next() as u8,
            })
            .collect();
        self.world.link(id).inbound.extend(junk);
        if self.chance.one_in(4) {
            self.break_off(id);
            self.garbage.retain(|&other| other != id);
        }
    }

    pub(super) fn a_little_time_passes(&mut self) {
        let millis = self.chance.below(20) as u64;
        self.pass(Duration::from_millis(millis));
    }

    pub(super) fn time_passes(&mut self) {
        let seconds = [1, 1, 2, 2, 5, 6, 11, 62][self.chance.below(8)];
        self.pass(Duration::from_secs(seconds));
    }

    pub(super) fn everything_is_carried(&mut self) {
        let cut = if self.chance.one_in(3) { 1 + self.chance.below(50) } else { usize::MAX };
        for round in 0.. {
            assert!(round < 1_000_000, "the world does not come to rest");
            let mut moved = false;
            for id in self.open_links() {
                moved |= self.pull(id, cut);
                moved |= self.world.exchange(id, usize::MAX);
                moved |= self.feed(id, cut);
            }
            if !moved || (round > 40 && !self.chance.one_in(8)) {
                return;
            }
        }
    }
}
