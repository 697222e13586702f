//! Two ends of SL, bare and under S2, over a line that splits, delays, drops, turns and inserts bytes:
//! byte-exact, never stuck. `SEED=n cargo test --test mux noise` replays one.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::time::Duration;

use vspc_core::mux::link::{EscapeSet, Link, LinkClosed, LinkConfig, LinkEvent, LinkState, Repeat, carry};
use vspc_core::mux::{Config, Event, Received, Role, Session, StreamId};
use vspc_core::time::Instant;

use crate::line::{Chance, START, byte_at, seeds};

/// One direction of a bad line. Errors per million bytes: half turned bits, a quarter drops, a quarter
/// insertions.
struct Wire {
    rate: u64,
    delay: Duration,
    on_the_way: VecDeque<(Instant, Vec<u8>)>,
}

impl Wire {
    fn put(&mut self, bytes: &[u8], chance: &mut Chance, now: Instant) {
        let mut damaged = Vec::with_capacity(bytes.len() + 4);
        for &byte in bytes {
            if chance.below(1_000_000) >= self.rate {
                damaged.push(byte);
                continue;
            }
            match chance.below(4) {
                0 | 1 => damaged.push(byte ^ (1 << chance.below(8))),
                2 => {}
                _ => damaged.extend([chance.next() as u8, byte]),
            }
        }
        self.on_the_way.push_back((now + self.delay, damaged));
    }
}

fn link_config(chance: &mut Chance) -> LinkConfig {
    let mut config = LinkConfig::new(chance.next() as u32);
    config.repeat = if chance.one_in(2) { Repeat::Selective } else { Repeat::GoBackN };
    config.max_payload = 8 + chance.size(250) as u16;
    config.window = 1 + chance.below(20) as u16;
    let sets = [EscapeSet::minimal(), EscapeSet::serial(), EscapeSet::cooked()];
    config.escapes = sets[chance.below(3) as usize].clone();
    config
}

struct World {
    chance: Chance,
    links: [Link; 2],
    wires: [Wire; 2],
    now: Instant,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut chance = Chance(seed);
        let links = [(); 2].map(|()| Link::new(link_config(&mut chance)));
        let rate = [0, 100, 1000, 5000][chance.below(4) as usize];
        let wires = [(); 2].map(|()| Wire {
            rate,
            delay: Duration::from_millis(chance.below(60)),
            on_the_way: VecDeque::new(),
        });
        Self { chance, links, wires, now: START }
    }

    /// Puts what the links say on the wires, in pieces, and takes what has arrived off them.
    fn turn(&mut self) {
        for which in 0..2 {
            self.links[which].handle_timeout(self.now);
            for _ in 0..self.chance.below(6) {
                let mut runs = [IoSlice::new(&[]); 1];
                if self.links[which].transmit(&mut runs) == 0 {
                    break;
                }
                let n = runs[0].len().min(self.chance.size(400) as usize);
                let bytes = runs[0][..n].to_vec();
                self.links[which].handle_sent(n, self.now);
                self.wires[which].put(&bytes, &mut self.chance, self.now);
            }
            while self.wires[which].on_the_way.front().is_some_and(|(at, _)| *at <= self.now) {
                let (_, bytes) = self.wires[which].on_the_way.pop_front().unwrap();
                let cut = self.chance.below(bytes.len() as u64 + 1) as usize;
                self.links[1 - which].handle_received(&bytes[..cut], self.now);
                self.links[1 - which].handle_received(&bytes[cut..], self.now);
            }
        }
    }

    /// Where there is nothing to do now, time goes on to where there is.
    fn wait(&mut self) {
        if self.links.iter().any(Link::has_output) {
            self.now = self.now + Duration::from_micros(self.chance.below(2000));
            return;
        }
        let arrivals = self.wires.iter().filter_map(|wire| wire.on_the_way.front().map(|(at, _)| *at));
        let next = arrivals.chain(self.links.iter().filter_map(Link::poll_timeout)).min();
        if let Some(next) = next {
            self.now = next.max(self.now);
        }
    }
}

fn bare(seed: u64) {
    let mut world = World::new(seed);
    world.links[0].open(START);
    if world.chance.one_in(3) {
        world.links[1].open(START);
    }
    let totals = [(); 2].map(|()| world.chance.size(4000));
    let (mut written, mut read) = ([0u64; 2], [0u64; 2]);
    let mut closed = [false; 2];
    let id = StreamId(seed);
    let mut turns = 0;
    while closed != [true; 2] {
        turns += 1;
        assert!(
            turns < 100_000 && world.now < START + Duration::from_secs(4000),
            "stuck at {read:?} of {totals:?}"
        );
        for which in 0..2 {
            let room = (world.chance.size(600)).min(totals[which] - written[which]);
            let bytes: Vec<u8> = (0..room).map(|i| byte_at(id, which == 0, written[which] + i)).collect();
            written[which] += world.links[which].write(&bytes) as u64;
            if written[which] == totals[which] {
                world.links[which].finish();
            }
            let received = world.links[which].received();
            let n = received.len().min(world.chance.size(1000) as usize);
            for (i, byte) in received[..n].iter().enumerate() {
                assert_eq!(*byte, byte_at(id, which == 1, read[1 - which] + i as u64));
            }
            read[1 - which] += n as u64;
            world.links[which].consume(n);
            while let Some(event) = world.links[which].poll_event() {
                match event {
                    LinkEvent::Closed(LinkClosed::Done) => closed[which] = true,
                    // The last ACK was lost, and with it what the other end was waiting for: it has read
                    // everything.
                    LinkEvent::Closed(_) if read == totals => closed[which] = true,
                    LinkEvent::Closed(why) => panic!("{why:?}"),
                    LinkEvent::Restarted => panic!("restarted"),
                    _ => {}
                }
            }
        }
        world.turn();
        world.wait();
    }
    for (which, link) in world.links.iter_mut().enumerate() {
        let rest = link.received().len() as u64;
        assert_eq!(read[1 - which] + rest, totals[1 - which]);
    }
}

/// A session on each end, two streams each way.
fn under_s2(seed: u64) {
    let mut world = World::new(seed);
    world.links[0].open(START);
    let mut sessions = [Role::Host, Role::Guest].map(|role| Session::new(Config::new(role), START).unwrap());
    let total = world.chance.size(3000);
    let ids: Vec<StreamId> = (0..4)
        .map(|i| if i < 2 { sessions[0].open().unwrap() } else { sessions[1].open().unwrap() })
        .collect();
    let mut written = [[0u64; 2]; 4];
    let mut read = [[0u64; 2]; 4];
    let mut retired = [0; 2];
    let mut turns = 0;
    while retired != [4, 4] {
        turns += 1;
        assert!(
            turns < 100_000 && world.now < START + Duration::from_secs(4000),
            "stuck at {read:?} of {total}"
        );
        for which in 0..2 {
            let session = &mut sessions[which];
            session.handle_timeout(world.now);
            for (i, id) in ids.iter().enumerate() {
                let at = written[i][which];
                let bytes: Vec<u8> =
                    (at..total.min(at + 500)).map(|at| byte_at(*id, which == 0, at)).collect();
                if let Ok(n) = session.write(*id, &bytes) {
                    written[i][which] += n as u64;
                }
                if written[i][which] == total {
                    let _ = session.finish(*id);
                }
                while let Ok(Received::Bytes(bytes)) = session.received(*id) {
                    for (k, byte) in bytes.iter().enumerate() {
                        assert_eq!(*byte, byte_at(*id, which == 1, read[i][1 - which] + k as u64));
                    }
                    read[i][1 - which] += bytes.len() as u64;
                    let n = bytes.len();
                    session.consume(*id, n).unwrap();
                }
            }
            while let Some(event) = session.poll_event() {
                match event {
                    Event::Retired(_) => retired[which] += 1,
                    Event::Reset(..) | Event::Closed(_) | Event::Restarted(_) => panic!("{event:?}"),
                    _ => {}
                }
            }
            carry(session, &mut world.links[which], world.now);
        }
        world.turn();
        for (session, link) in sessions.iter_mut().zip(&mut world.links) {
            assert_ne!(link.state(), LinkState::Done);
            carry(session, link, world.now);
        }
        if world.links.iter().all(|link| !link.has_output()) {
            world.now = world.now + Duration::from_millis(1);
        }
        world.wait();
    }
    assert!(read.iter().flatten().all(|n| *n == total));
}

fn run_all(count: u64, run: fn(u64)) {
    for seed in seeds(count) {
        if let Err(panic) = std::panic::catch_unwind(|| run(seed)) {
            eprintln!("replay with SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn ten_thousand_bad_lines_lose_nothing() {
    run_all(10_000, bare);
}

#[test]
fn a_session_over_a_bad_line_loses_nothing() {
    run_all(2000, under_s2);
}
