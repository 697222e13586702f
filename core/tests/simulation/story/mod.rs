//! One story: what happens, by chance, and the model beside it at every step.

mod acts;
mod carry;

use std::collections::BTreeMap;
use std::time::Duration;

use vspc_core::concentrator::{
    CloseReason, Config, ConnId, Counters, EventKind, InBandTls, SlowClient, VmTls,
};

use crate::chance::Chance;
use crate::model::{Console, Leg, Reader, Totals};
use crate::world::World;

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
