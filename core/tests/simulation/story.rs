//! One story: what happens, by chance, and the model beside it at every step.

use std::collections::BTreeMap;
use std::time::Duration;

use vspc_core::concentrator::{
    CloseReason, Config, ConnId, Counters, EventKind, InBandTls, LocalOptions, SlowClient, VmTls, VmotionStep,
};
use vspc_core::telnet::Command;
use vspc_core::vmware::{Opens, Resume, VmConfig, VmEvent};

use crate::chance::Chance;
use crate::model::{Console, Leg, Reader, Totals, bytes_of};
use crate::world::peer::{command, doubled};
use crate::world::{Client, Host, Kind, Part, World, uuid, vm_config};

/// A move, as its hosts know it.
struct Journey {
    source: ConnId,
    sequence: Vec<u8>,
    targets: Vec<ConnId>,
}

/// What connections go through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Form {
    Plain,
    /// TLS from the first byte.
    #[cfg(feature = "tls")]
    Tls,
    /// TLS after an upgrade by option 37.
    #[cfg(feature = "tls")]
    InBand,
}

impl Form {
    fn vm_tls(self) -> VmTls {
        match self {
            #[cfg(feature = "tls")]
            Self::Tls => VmTls::On,
            _ => VmTls::Off,
        }
    }

    fn in_band_tls(self) -> InBandTls {
        match self {
            #[cfg(feature = "tls")]
            Self::InBand => InBandTls::Require,
            _ => InBandTls::Off,
        }
    }
}

pub(crate) struct Story {
    world: World,
    chance: Chance,
    consoles: Vec<Console>,
    /// Per console, a reader that is never late.
    witnesses: Vec<Option<ConnId>>,
    legs: BTreeMap<ConnId, Leg>,
    readers: BTreeMap<ConnId, Reader>,
    /// When each undecided client turns out to be raw.
    decisions: BTreeMap<ConnId, vspc_core::time::Instant>,
    journeys: Vec<Journey>,
    /// From where each target takes over.
    sources: BTreeMap<ConnId, ConnId>,
    garbage: Vec<ConnId>,
    events_seen: usize,
    /// What each console had lost when it was last looked at.
    lost: Vec<u64>,
    floods: bool,
    two_legs: bool,
    /// Memory is short: then strangers say nothing, because early words may be lost to theirs.
    is_short: bool,
}

impl Story {
    pub(crate) fn new(seed: u64, form: Form) -> Self {
        let mut chance = Chance::new(seed);
        let slow_client =
            [SlowClient::Skip, SlowClient::Skip, SlowClient::Disconnect, SlowClient::Wait][chance.below(4)];
        let is_short = chance.one_in(3);
        let config = Config {
            slow_client,
            journal_memory: if is_short { 128 << 10 } else { 256 << 20 },
            lag_limit: if chance.one_in(2) { 0 } else { 2 << 20 },
            // Enough for what a VM says before a witness can be found.
            scrollback: [4000, 16 << 10][chance.below(2)],
            banner: chance.one_in(2),
            vm_tls: form.vm_tls(),
            in_band_tls: form.in_band_tls(),
            client_tls: form != Form::Plain,
            ..Config::default()
        };
        let mut world = World::seeded(config, seed as u8);
        world.runs = [1, 2, 3, 16, 64][chance.below(5)];
        let count = 1 + chance.below(3);
        let consoles = (0..count).map(|n| Console::new(n as u8 + 1, chance.next() as u8 % 8)).collect();
        Self {
            world,
            consoles,
            witnesses: vec![None; count],
            legs: BTreeMap::new(),
            readers: BTreeMap::new(),
            decisions: BTreeMap::new(),
            journeys: Vec::new(),
            sources: BTreeMap::new(),
            garbage: Vec::new(),
            events_seen: 0,
            lost: vec![0; count],
            floods: chance.one_in(8),
            two_legs: chance.one_in(3),
            is_short,
            chance,
        }
    }

    pub(crate) fn trace(&self) -> u64 {
        self.world.trace()
    }

    pub(crate) fn totals(&self) -> Totals {
        let counters: Counters = self.world.engine.totals();
        Totals {
            shown: self.consoles.iter().map(|console| console.shown.len() as u64).sum(),
            typed: self.consoles.iter().map(|console| console.admitted as u64).sum(),
            completed: counters.vmotions_completed,
            aborted: counters.vmotions_aborted,
            refused: counters.vmotions_refused,
            timed_out: counters.vmotions_timed_out,
            bad_peers: counters.vmotion_bad_peers,
            skipped: counters.bytes_skipped,
            too_slow: counters.clients_too_slow,
            late: counters.late_source_bytes,
            lost: counters.input_lost,
            malformed: counters.malformed,
            takeovers: counters.takeovers,
        }
    }

    // What can happen.

    pub(crate) fn step(&mut self) {
        match self.chance.below(100) {
            0..=19 => self.some_link(Self::feed),
            20..=39 => self.some_link(Self::pull),
            40..=49 => self.some_link(|story, id, max| story.world.exchange(id, max)),
            50..=59 => self.somebody_prints(),
            60..=66 => self.somebody_types(),
            67..=68 => self.somebody_comes(),
            69..=70 => self.somebody_stalls_or_goes_on(),
            71 => self.a_client_leaves(),
            72..=74 => self.a_vm_comes(),
            75 => self.a_vm_breaks(),
            76..=78 => self.a_move_begins(),
            79..=87 => self.a_move_goes_on(),
            88 => self.a_stranger_does_something(),
            89 => self.a_little_time_passes(),
            90 => self.time_passes(),
            _ => self.everything_is_carried(),
        }
    }

    fn open_links(&self) -> Vec<ConnId> {
        self.world.links.iter().filter(|(_, link)| link.is_open()).map(|(&id, _)| id).collect()
    }

    fn some_link<T>(&mut self, act: impl Fn(&mut Self, ConnId, usize) -> T) {
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

    fn somebody_prints(&mut self) {
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

    fn somebody_types(&mut self) {
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

    fn somebody_comes(&mut self) {
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

    fn somebody_stalls_or_goes_on(&mut self) {
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

    fn a_client_leaves(&mut self) {
        let Some(id) = self.chance.pick(&self.clients()) else { return };
        match self.chance.below(3) {
            0 => self.world.link(id).fin = true,
            1 => self.break_off(id),
            _ => {}
        }
    }

    fn a_vm_comes(&mut self) {
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

    fn a_vm_breaks(&mut self) {
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

    fn a_move_begins(&mut self) {
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

    fn a_move_goes_on(&mut self) {
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

    fn a_stranger_does_something(&mut self) {
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

    fn a_little_time_passes(&mut self) {
        let millis = self.chance.below(20) as u64;
        self.pass(Duration::from_millis(millis));
    }

    fn time_passes(&mut self) {
        let seconds = [1, 1, 2, 2, 5, 6, 11, 62][self.chance.below(8)];
        self.pass(Duration::from_secs(seconds));
    }

    fn everything_is_carried(&mut self) {
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

    // Carrying, with the model beside it.

    fn feed(&mut self, id: ConnId, max: usize) -> bool {
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

    fn pull(&mut self, id: ConnId, max: usize) -> bool {
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

    fn break_off(&mut self, id: ConnId) {
        self.world.break_off(id);
        self.take_note();
    }

    fn pass(&mut self, time: Duration) {
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
    fn is_attached(&self, console: usize) -> bool {
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

    // The end.

    /// Everyone reads again, what is on its way arrives, and every account is closed.
    pub(crate) fn finish(&mut self) {
        for link in self.world.links.values_mut() {
            link.stalled = false;
            link.capacity = usize::MAX;
        }
        self.rest();
        self.pass(Duration::from_secs(3));
        self.rest();
        self.pass(Duration::from_secs(130));
        self.rest();
        // Who could not be read while a VM moved is known a second later.
        self.pass(Duration::from_secs(3));
        self.rest();
        let mut skips = 0;
        for (id, reader) in &self.readers {
            let link = &self.world.links[id];
            skips += reader.skips;
            match link.reason {
                None => assert_eq!(
                    reader.at,
                    self.consoles[reader.console].shown.len(),
                    "{id}, {:?}, has not seen everything",
                    reader.kind
                ),
                Some(CloseReason::PeerClosed | CloseReason::Failed(_) | CloseReason::TooSlow) => {}
                Some(why) => panic!("{id} was closed: {why:?}"),
            }
        }
        let told = self.world.told(|what| matches!(what, EventKind::ReaderSkipped(_)));
        assert!(skips <= told, "{skips} skips and {told} events");
        for (at, console) in self.consoles.iter().enumerate() {
            assert!(
                console.typed.is_empty() || !self.is_attached(at),
                "{} bytes wait for a vm that is there",
                console.typed.len()
            );
        }
        let totals = self.world.engine.totals();
        let missing: usize = self.legs.values().map(Leg::missing).sum();
        assert_eq!(totals.early_bytes_dropped, 0);
        assert_eq!(missing as u64, totals.late_source_bytes, "bytes that were not shown");
        self.world.shut_down();
        self.world.pass(Duration::from_secs(3));
        assert!(self.world.engine.is_empty());
    }

    fn rest(&mut self) {
        loop {
            let mut moved = false;
            for id in self.open_links() {
                moved |= self.pull(id, usize::MAX);
                moved |= self.world.exchange(id, usize::MAX);
                moved |= self.feed(id, usize::MAX);
            }
            if !moved {
                self.world.check_nobody_is_forgotten();
                return;
            }
        }
    }
}
