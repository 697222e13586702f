//! Two ends over a clean line that splits and delays, with every freedom an owner has, from a seed:
//! byte-exact, never stuck. `SEED=n cargo test --test mux simulation` replays one.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use vspc_core::mux::{Config, Event, Features, Received, Role, Session, Start, StreamId};
use vspc_core::time::Instant;

use crate::line::{Chance, START, Watch, byte_at, seeds, take};

/// One direction of one stream, as the model knows it.
#[derive(Default)]
struct Flow {
    total: u64,
    written: u64,
    finished: bool,
    read: u64,
    ended: bool,
}

struct End {
    session: Session,
    host: bool,
    /// What it reads at a time.
    appetite: u64,
    /// Whether it takes payload as it arrives.
    at_once: bool,
    /// Bytes on their way to the other end.
    line: VecDeque<u8>,
    watch: Option<Watch>,
    live: Vec<StreamId>,
    retired: u64,
}

struct World {
    chance: Chance,
    ends: [End; 2],
    /// Per stream: host to guest, guest to host.
    flows: BTreeMap<StreamId, [Flow; 2]>,
    max_total: u64,
    now: Instant,
    resets: bool,
    reset: Vec<StreamId>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut chance = Chance(seed);
        let overcommit = chance.one_in(3);
        let config = |role, chance: &mut Chance| {
            let mut config = Config::new(role);
            config.max_frame = chance.size(5000) as u16;
            config.window = if chance.one_in(4) { 0 } else { chance.size(9000) as u32 };
            (config.min_frame, config.min_window) = (1, 1);
            config.receive_buffer = if overcommit {
                (chance.size(2000) as u32).max(config.max_frame.min(64).into())
            } else {
                config.window.max(config.max_frame.into())
            };
            config.send_buffer = chance.size(9000) as u32;
            config.features = if chance.one_in(3) { Features(chance.below(8) as u8) } else { Features::ALL };
            config.seed = [chance.next(), chance.next()];
            config
        };
        let (host, guest) = (config(Role::Host, &mut chance), config(Role::Guest, &mut chance));
        let features = host.features.and(guest.features);
        let max_frame = host.max_frame.min(guest.max_frame);
        let window =
            |config: &Config| if features.has(Features::WINDOWED) { u64::from(config.window) } else { 0 };
        // A strict receiver with less room than a frame asks again, too.
        let watch = |peer: &Config| (!overcommit).then(|| Watch::new(max_frame.into(), window(peer)));
        let end = |config: &Config, peer: &Config, chance: &mut Chance| End {
            session: Session::new(config.clone(), START).unwrap(),
            host: config.role == Role::Host,
            appetite: chance.size(6000),
            at_once: chance.one_in(2),
            line: VecDeque::new(),
            watch: watch(peer),
            live: Vec::new(),
            retired: 0,
        };
        let ends = [end(&host, &guest, &mut chance), end(&guest, &host, &mut chance)];
        let resets = features.has(Features::RESET) && chance.one_in(4);
        // As much as forty round trips carry: small windows are slow, and need no more to show what they can
        // do.
        let narrow = [&host, &guest].map(|c| {
            let window = if window(c) == 0 { u64::MAX } else { window(c) };
            window.min(max_frame.into()).min(c.receive_buffer.into()).min(c.send_buffer.into())
        });
        let max_total = (narrow[0].min(narrow[1]) * 40).clamp(200, 12_000);
        Self { chance, ends, flows: BTreeMap::new(), max_total, now: START, resets, reset: Vec::new() }
    }

    fn open(&mut self, which: usize) {
        let id = self.ends[which].session.open().unwrap();
        let total = |chance: &mut Chance, max| if chance.one_in(5) { 0 } else { chance.size(max) };
        let mut flows = [Flow::default(), Flow::default()];
        for flow in &mut flows {
            flow.total = total(&mut self.chance, self.max_total);
        }
        self.flows.insert(id, flows);
        self.ends[which].live.push(id);
    }

    fn write(&mut self, which: usize) {
        let end = &mut self.ends[which];
        if end.live.is_empty() {
            return;
        }
        let id = end.live[self.chance.below(end.live.len() as u64) as usize];
        let flow = &mut self.flows.get_mut(&id).unwrap()[which];
        if flow.finished {
            return;
        }
        let n = self.chance.size(4000).min(flow.total - flow.written);
        let bytes: Vec<u8> = (0..n).map(|i| byte_at(id, end.host, flow.written + i)).collect();
        if let Ok(n) = end.session.write(id, &bytes) {
            flow.written += n as u64;
            if flow.written == flow.total && end.session.finish(id).is_ok() {
                flow.finished = true;
            }
        }
    }

    fn read(&mut self, which: usize) {
        let end = &mut self.ends[which];
        if end.live.is_empty() {
            return;
        }
        let id = end.live[self.chance.below(end.live.len() as u64) as usize];
        let flow = &mut self.flows.get_mut(&id).unwrap()[1 - which];
        loop {
            match end.session.received(id) {
                Ok(Received::Bytes(bytes)) => {
                    let n = bytes.len().min(self.chance.size(end.appetite) as usize);
                    for (i, byte) in bytes[..n].iter().enumerate() {
                        assert_eq!(
                            *byte,
                            byte_at(id, !end.host, flow.read + i as u64),
                            "{id} at {}",
                            flow.read + i as u64
                        );
                    }
                    flow.read += n as u64;
                    end.session.consume(id, n).unwrap();
                    if self.chance.one_in(2) {
                        return;
                    }
                }
                Ok(Received::End) => {
                    assert!(
                        flow.finished && flow.read == flow.total,
                        "{id} ended at {} of {}",
                        flow.read,
                        flow.total
                    );
                    flow.ended = true;
                    return;
                }
                _ => return,
            }
        }
    }

    fn events(&mut self, which: usize) {
        while let Some(event) = self.ends[which].session.poll_event() {
            let end = &mut self.ends[which];
            match event {
                Event::Opened(id) => end.live.push(id),
                Event::Retired(id) => {
                    end.retired += 1;
                    end.live.retain(|other| *other != id);
                    let [a, b] = &self.flows[&id];
                    // Its own output was acked to the last byte, the other's was read to the end.
                    let (own, other) = if which == 0 { (a, b) } else { (b, a) };
                    assert!(
                        own.finished && own.read == own.total,
                        "{id} retired with {} of {}",
                        own.read,
                        own.total
                    );
                    assert!(
                        other.read == other.total,
                        "{id} retired, {} of {} read",
                        other.read,
                        other.total
                    );
                }
                Event::Reset(id, _) => {
                    assert!(self.resets, "{id} was reset");
                    end.live.retain(|other| *other != id);
                    if !self.reset.contains(&id) {
                        self.reset.push(id);
                    }
                }
                Event::Started(_) | Event::Readable(_) | Event::Writable(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn send(&mut self, which: usize) {
        let end = &mut self.ends[which];
        let room = 20_000usize.saturating_sub(end.line.len()).min(self.chance.size(8000) as usize);
        let runs = self.chance.size(9) as usize;
        let bytes = take(&mut end.session, room, runs, self.now);
        if let Some(watch) = &mut end.watch {
            watch.sent(&bytes);
        }
        end.line.extend(bytes);
    }

    fn deliver(&mut self, which: usize) {
        let [a, b] = &mut self.ends;
        let (from, to) = if which == 0 { (a, b) } else { (b, a) };
        let n = from.line.len().min(self.chance.size(9000) as usize).min(to.session.receive_window());
        let bytes: Vec<u8> = from.line.drain(..n).collect();
        if let Some(watch) = &mut to.watch {
            watch.heard(&bytes);
        }
        if !to.at_once {
            return to.session.handle_received(&bytes, self.now);
        }
        let mut input = &bytes[..];
        while let Some(mut payload) = to.session.poll_received(&mut input, self.now) {
            let id = payload.id();
            assert!(to.live.contains(&id), "{id} arrives unannounced");
            let flow = &mut self.flows.get_mut(&id).unwrap()[which];
            // Sometimes nothing, often all of it, sometimes in two bites.
            for _ in 0..self.chance.below(3) {
                let n = payload.bytes().len().min(self.chance.size(to.appetite) as usize);
                for (i, byte) in payload.bytes()[..n].iter().enumerate() {
                    assert_eq!(*byte, byte_at(id, !to.host, flow.read + i as u64), "{id} at {}", flow.read);
                }
                flow.read += n as u64;
                payload.consume(n);
            }
        }
        assert!(input.is_empty());
    }

    fn step(&mut self, which: usize) {
        match self.chance.below(12) {
            0 | 1 => self.write(which),
            2..=4 => self.read(which),
            5..=7 => self.send(which),
            8 | 9 => self.deliver(which),
            10 => self.events(which),
            _ if self.resets && self.chance.one_in(40) => {
                let end = &mut self.ends[which];
                if let Some(id) = end.live.first() {
                    let _ = end.session.reset(*id);
                }
            }
            _ => {
                self.now = self.now + Duration::from_millis(self.chance.below(5));
                for end in &mut self.ends {
                    end.session.handle_timeout(self.now);
                }
            }
        }
    }

    fn is_done(&self) -> bool {
        self.ends
            .iter()
            .all(|end| end.live.is_empty() && end.session.stream_count() == 0 && end.line.is_empty())
    }
}

fn run(seed: u64) {
    let mut world = World::new(seed);
    let streams = 1 + world.chance.below(6);
    for _ in 0..streams {
        let which = world.chance.below(2) as usize;
        world.open(which);
    }
    let mut steps = 0u64;
    while !world.is_done() {
        let which = world.chance.below(2) as usize;
        world.step(which);
        steps += 1;
        if steps.is_multiple_of(64) {
            // A stream that was attached, written and finished before the other side looks is seen all the
            // same.
            world.events(0);
            world.events(1);
        }
        assert!(steps < 3_000_000, "stuck");
    }
    for (id, flows) in &world.flows {
        if world.reset.contains(id) {
            continue;
        }
        for flow in flows {
            assert!(flow.read == flow.total && flow.finished, "{id}: {} of {}", flow.read, flow.total);
        }
    }
    for end in &world.ends {
        if let Some(watch) = &end.watch {
            assert_eq!(watch.requests, 0, "asked again though nothing need be thrown away");
        }
        assert_eq!(end.session.counters().malformed, 0);
    }
}

fn run_all(count: u64) {
    for seed in seeds(count) {
        if let Err(panic) = std::panic::catch_unwind(|| run(seed)) {
            eprintln!("replay with SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn ten_thousand_clean_lines_lose_nothing() {
    run_all(10_000);
}

#[test]
fn two_v1_ends_lose_nothing_while_consumers_come_and_go() {
    for seed in seeds(1000) {
        let mut chance = Chance(seed);
        let config = |role, chance: &mut Chance| {
            let mut config = Config::new(role);
            config.start = Start::V1;
            config.receive_buffer = 50 + chance.size(5000) as u32;
            config.send_buffer = 50 + chance.size(5000) as u32;
            config
        };
        let mut ends =
            [Role::Host, Role::Guest].map(|role| Session::new(config(role, &mut chance), START).unwrap());
        let ids: Vec<StreamId> = (0..3).map(|_| ends[0].open().unwrap()).collect();
        for id in &ids {
            ends[1].attach(*id).unwrap();
        }
        let mut lines = [VecDeque::new(), VecDeque::new()];
        let total = 1500u64;
        let mut written = [[0u64; 2]; 3];
        let mut read = [[0u64; 2]; 3];
        let mut now = START;
        let mut steps = 0;
        while read.iter().flatten().any(|n| *n < total) {
            steps += 1;
            assert!(steps < 200_000, "stuck, SEED={seed}");
            let (which, stream) = (chance.below(2) as usize, chance.below(3) as usize);
            let id = ids[stream];
            match chance.below(6) {
                0 => {
                    let at = written[stream][which];
                    let bytes: Vec<u8> = (at..(at + chance.size(1500)).min(total))
                        .map(|i| byte_at(id, which == 0, i))
                        .collect();
                    written[stream][which] += ends[which].write(id, &bytes).unwrap() as u64;
                }
                1 | 2 => {
                    let (limit, runs) = (chance.size(3000) as usize, chance.size(5) as usize);
                    lines[which].extend(take(&mut ends[which], limit, runs, now));
                }
                3 => {
                    let n = lines[which]
                        .len()
                        .min(chance.size(3000) as usize)
                        .min(ends[1 - which].receive_window());
                    let bytes: Vec<u8> = lines[which].drain(..n).collect();
                    ends[1 - which].handle_received(&bytes, now);
                }
                4 => {
                    if let Ok(Received::Bytes(bytes)) = ends[which].received(id) {
                        let n = bytes.len().min(chance.size(2000) as usize);
                        for (i, byte) in bytes[..n].iter().enumerate() {
                            assert_eq!(
                                *byte,
                                byte_at(id, which == 1, read[stream][1 - which] + i as u64),
                                "SEED={seed}"
                            );
                        }
                        read[stream][1 - which] += n as u64;
                        ends[which].consume(id, n).unwrap();
                    }
                }
                _ => {
                    now = now + Duration::from_millis(3);
                    ends[0].handle_timeout(now);
                    ends[1].handle_timeout(now);
                }
            }
        }
    }
}
