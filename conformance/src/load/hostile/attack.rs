//! What all attacks are made of: connections at a pace, crowds that stay, visitors that come and go, floods.
//!
//! An attack runs in a thread of its own, at a low priority, at the pace that it says; what it costs is told
//! beside what it does. It ends soon after its time is over.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::ground::{Ground, VICTIMS, Victim};
use super::peer::{End, From, Peer};
use crate::load::LoadError;
use crate::load::report::Report;
use crate::random::Random;

/// An attack that is going on.
#[derive(Debug)]
pub(super) struct Attack<'a> {
    /// Whom it meets.
    pub(super) ground: &'a Ground,
    /// Chance, from the run's seed.
    pub(super) random: Random,
    /// What it found out, and what is not as it must be.
    pub(super) facts: Report,
    /// What it has done.
    pub(super) effort: Effort,
    /// How long the one thing took that a bare server is timed by.
    pub(super) took: Option<Duration>,
    stop: &'a AtomicBool,
    until: Instant,
    lane: u64,
    scratch: Vec<u8>,
}

/// One attack's part in what goes on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    /// Which of several attacks at a time it is.
    pub(super) lane: u64,
    /// Where its chance starts from.
    pub(super) seed: u64,
    /// How long it goes on.
    pub(super) time: Duration,
}

/// What attackers did, and what that cost.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Effort {
    /// Connections that were begun.
    pub(super) connections: u64,
    /// Bytes that were sent.
    pub(super) bytes: u64,
    /// Processor time of its thread.
    pub(super) cpu: Duration,
    /// How long it went on.
    pub(super) elapsed: Duration,
}

impl<'a> Attack<'a> {
    /// Runs one in this thread, until its time is over or `stop`.
    pub(super) fn run(
        ground: &'a Ground,
        what: fn(&mut Attack<'_>) -> Result<(), LoadError>,
        part: Part,
        stop: &'a AtomicBool,
    ) -> (Self, Result<(), LoadError>) {
        // Of this thread only, as Linux has it; where that is not allowed, it runs as it is.
        let _ = rustix::process::setpriority_process(None, NICE);
        let (began, cpu) = (Instant::now(), thread_cpu());
        let mut attack = Self {
            ground,
            random: Random::new(part.seed),
            facts: Report::new(),
            effort: Effort::default(),
            took: None,
            stop,
            until: began + part.time,
            lane: part.lane,
            scratch: vec![0; 1 << 16],
        };
        let outcome = what(&mut attack);
        attack.effort.cpu = thread_cpu().saturating_sub(cpu);
        attack.effort.elapsed = began.elapsed();
        (attack, outcome)
    }

    /// The number of the VM whose console it attacks: another for each lane.
    pub(super) fn victim_number(&self) -> usize {
        VICTIMS + self.lane as usize
    }

    /// That VM, connected, and where clients reach it.
    pub(super) fn victim(&self) -> Result<Victim, LoadError> {
        self.ground.victim(self.victim_number())
    }

    /// Whether there is time left.
    pub(super) fn is_on(&self) -> bool {
        Instant::now() < self.until && !self.stop.load(Ordering::Relaxed)
    }

    /// Time that is left.
    pub(super) fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// From now on it ends after so long; returns when it would have ended.
    pub(super) fn set_end(&mut self, time: Duration) -> Instant {
        std::mem::replace(&mut self.until, Instant::now() + time)
    }

    /// Ends at this moment again.
    pub(super) fn restore_end(&mut self, until: Instant) {
        self.until = until;
    }

    /// Does nothing for a while.
    pub(super) fn rest(&self, time: Duration) {
        let until = Instant::now() + time;
        while self.is_on() && Instant::now() < until {
            thread::sleep(time.min(STEP));
        }
    }

    /// A pace that begins now.
    pub(super) fn pace(&self, per_second: f64) -> Pace {
        Pace { began: Instant::now(), per_second, done: 0.0 }
    }

    /// Waits until one more (or `amount` more) may be done.
    pub(super) fn keep(&self, pace: &mut Pace, amount: f64) {
        pace.done += amount;
        while pace.done > pace.began.elapsed().as_secs_f64() * pace.per_second && self.is_on() {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// One more connection; none when this machine has no more to give.
    pub(super) fn connect(&mut self, to: SocketAddr, from: From, say: Vec<u8>) -> Option<Peer> {
        self.effort.connections += 1;
        let mut peer = Peer::connect(to, from, say).ok()?;
        self.effort.bytes += peer.write() as u64;
        Some(peer)
    }

    /// A look at one: writes what it has to say, reads what has come.
    pub(super) fn look(&mut self, peer: &mut Peer) {
        self.effort.bytes += peer.write() as u64;
        peer.read(&mut self.scratch);
    }

    /// A look at each of them.
    pub(super) fn look_at(&mut self, peers: &mut [Peer]) {
        peers.iter_mut().for_each(|peer| self.look(peer));
    }

    /// So many connect, and say what they have to.
    pub(super) fn gather(
        &mut self,
        to: SocketAddr,
        count: usize,
        per_second: f64,
        mut say: impl FnMut(usize) -> Vec<u8>,
    ) -> Vec<Peer> {
        let (mut peers, mut pace) = (Vec::new(), self.pace(per_second));
        for number in 0..count {
            if !self.is_on() {
                break;
            }
            peers.extend(self.connect(to, From::default(), say(number)));
            self.keep(&mut pace, 1.0);
            if number % LOOK_AFTER == LOOK_AFTER - 1 {
                self.look_at(&mut peers);
            }
        }
        peers
    }

    /// They stay until the end; whoever is turned away comes back. Returns how often that happened.
    pub(super) fn stay(
        &mut self,
        peers: &mut Vec<Peer>,
        to: SocketAddr,
        mut say: impl FnMut(usize) -> Vec<u8>,
    ) -> usize {
        let (count, mut returned) = (peers.len(), 0);
        let mut pace = self.pace(RETURN_PER_SECOND);
        while self.is_on() {
            self.look_at(peers);
            peers.retain(|peer| peer.is_open);
            while peers.len() < count && self.is_on() {
                returned += 1;
                peers.extend(self.connect(to, From::default(), say(count + returned)));
                self.keep(&mut pace, 1.0);
            }
            self.rest(STEP);
        }
        self.look_at(peers);
        returned
    }

    /// Visitors come, say something, and go when `kept` others have come after them. `gone` is shown each
    /// that has gone.
    pub(super) fn visits(
        &mut self,
        visits: Visits,
        mut say: impl FnMut(&mut Random, u64) -> Vec<u8>,
        mut gone: impl FnMut(&Peer),
    ) {
        let mut here = std::collections::VecDeque::new();
        let (mut pace, mut number) = (self.pace(visits.per_second), 0);
        while self.is_on() {
            let words = say(&mut self.random, number);
            number += 1;
            here.extend(self.connect(visits.to, From::default(), words));
            if here.len() > visits.kept
                && let Some(mut peer) = here.pop_front()
            {
                self.look(&mut peer);
                gone(&peer);
                let both = if number % 2 == 0 { End::Close } else { End::Reset };
                peer.leave(visits.end.unwrap_or(both));
            }
            if number % LOOK_AFTER as u64 == 0 {
                here.iter_mut().for_each(|peer| self.look(peer));
            }
            self.keep(&mut pace, 1.0);
        }
        for mut peer in here {
            self.look(&mut peer);
            gone(&peer);
        }
    }

    /// So many connections say the same without end, `per_second` bytes together; whoever is turned away
    /// comes back. Returns how often that happened.
    pub(super) fn flood(
        &mut self,
        to: SocketAddr,
        count: usize,
        pattern: &[u8],
        first: impl Fn(usize) -> Vec<u8>,
        per_second: f64,
    ) -> usize {
        let mut peers = self.gather(to, count, 5000.0, &first);
        let (mut pace, mut again) = (self.pace(per_second), self.pace(RETURN_PER_SECOND));
        let mut returned = 0;
        while self.is_on() {
            let mut sent = 0;
            for peer in &mut peers {
                if peer.backlog() > 0 {
                    sent += peer.write();
                } else {
                    sent += peer.write_on(pattern);
                }
                peer.read(&mut self.scratch);
            }
            self.effort.bytes += sent as u64;
            if sent == 0 {
                thread::sleep(Duration::from_millis(1));
            }
            self.keep(&mut pace, sent as f64);
            peers.retain(|peer| peer.is_open);
            while peers.len() < count && self.is_on() {
                returned += 1;
                peers.extend(self.connect(to, From::default(), first(count + returned)));
                self.keep(&mut again, 1.0);
            }
        }
        returned
    }
}

/// How visitors come and go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Visits {
    pub(super) to: SocketAddr,
    pub(super) per_second: f64,
    /// How many are there at a time.
    pub(super) kept: usize,
    /// How they leave; otherwise both ways in turn.
    pub(super) end: Option<End>,
}

/// So much per second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    began: Instant,
    per_second: f64,
    done: f64,
}

impl Effort {
    /// Adds another's.
    pub(super) fn add(&mut self, other: &Self) {
        self.connections += other.connections;
        self.bytes += other.bytes;
        self.cpu += other.cpu;
        self.elapsed = self.elapsed.max(other.elapsed);
    }

    /// Per cent of one processor.
    pub(super) fn percent(&self) -> f64 {
        100.0 * self.cpu.as_secs_f64() / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// Processor time of this thread.
fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Attackers get what the server and the bystanders leave.
const NICE: i32 = 10;
/// The longest sleep.
const STEP: Duration = Duration::from_millis(50);
/// New connections between two looks at those that are there.
const LOOK_AFTER: usize = 32;
/// How many of those that were turned away come back per second.
const RETURN_PER_SECOND: f64 = 500.0;
