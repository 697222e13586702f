//! Many VMs on one event loop: bring them up, keep them, let them talk.
//!
//! A VM is *up* when WILL-PROXY is in and its name was asked for and given. Every member's end is noticed.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};
use vspc_core::vmware::{VmConfig, VmEvent};

use super::LoadError;
use super::link::{PATIENCE, numbered_vm, tells_name};
use super::stats::Samples;
use super::way::Way;
use crate::fake_vm::leg::Leg;
use crate::tunnel::Dial;

/// VMs on a loop of their own.
#[derive(Debug)]
pub struct Fleet {
    poll: Poll,
    events: Events,
    dial: Dial,
    vms: SocketAddr,
    members: Vec<Member>,
    typed: Vec<u8>,
}

#[derive(Debug)]
struct Member {
    config: Arc<VmConfig>,
    leg: Option<Leg>,
    began: Instant,
    agreed: bool,
    named: bool,
    up: bool,
    lines: u64,
}

/// How a fleet came up.
#[derive(Debug)]
pub struct Starts {
    /// From the attempt to connect until up, of each VM that came up.
    pub latency: Samples,
    /// From the first attempt until the last VM was up.
    pub elapsed: Duration,
    /// VMs that did not come up.
    pub missing: usize,
    /// Why the first of them did not, as far as is known.
    pub why: Option<String>,
}

impl Fleet {
    /// VMs with the numbers `first` to `first + count - 1`, none of them connected.
    pub fn new(way: &Way, first: usize, count: usize) -> Result<Self, LoadError> {
        let poll = Poll::new().map_err(|error| LoadError::Usage(format!("event queue: {error}")))?;
        let now = Instant::now();
        let member = |number| {
            // Through a relay nobody listens: silent until told to print.
            let config = way.suits(numbered_vm(number));
            Member {
                config: Arc::new(config),
                leg: None,
                began: now,
                agreed: !way.is_server(),
                named: !way.is_server(),
                up: false,
                lines: 0,
            }
        };
        let members = (first..first + count).map(member).collect();
        Ok(Self {
            poll,
            events: Events::with_capacity(1024),
            dial: way.dial(),
            vms: way.vms(),
            members,
            typed: Vec::new(),
        })
    }

    /// Brings all of them up, at most `together` at a time, and gives up on those that take longer than
    /// `patience` in all.
    pub fn start(&mut self, together: usize, patience: Duration) -> Starts {
        let began = Instant::now();
        let mut starts =
            Starts { latency: Samples::default(), elapsed: Duration::ZERO, missing: 0, why: None };
        let (mut next, mut pending) = (0, 0usize);
        while pending > 0 || next < self.members.len() {
            // What has been answered comes first: a VM's latency is the server's, not that of our queue.
            let mut room = BATCH;
            while next < self.members.len() && pending < together && room > 0 {
                match self.dial(next) {
                    Ok(()) => pending += 1,
                    Err(error) => drop(starts.why.get_or_insert(format!("cannot connect: {error}"))),
                }
                next += 1;
                room -= 1;
            }
            let more = next < self.members.len() && pending < together;
            let wait = if more { Duration::ZERO } else { LOOK_AROUND };
            let done = self.turn(wait, |outcome, latency| match outcome {
                Ok(()) => starts.latency.push(latency),
                Err(error) => drop(starts.why.get_or_insert(error)),
            });
            pending = pending.saturating_sub(done);
            if began.elapsed() > patience {
                starts.why.get_or_insert(format!("no end after {} s", patience.as_secs()));
                break;
            }
        }
        starts.elapsed = began.elapsed();
        starts.missing = self.members.len() - self.up();
        starts
    }

    /// How many are up.
    #[must_use]
    pub fn up(&self) -> usize {
        self.members.iter().filter(|member| member.up && member.leg.is_some()).count()
    }

    /// Does nothing but answer for a while, or until nobody is left.
    pub fn idle(&mut self, time: Duration) {
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            self.turn(left.min(LOOK_AROUND), |_, _| {});
            if left.is_zero() || self.up() == 0 {
                return;
            }
        }
    }

    /// Lets every member print a line each `every`, evenly spread, until `stop`; returns how many lines.
    pub fn talk(&mut self, every: Duration, stop: &AtomicBool) -> u64 {
        let count = self.members.len();
        let began = Instant::now();
        let mut lines = 0u64;
        while !stop.load(Ordering::Relaxed) {
            let share = began.elapsed().as_secs_f64() / every.as_secs_f64() * count as f64;
            while lines < share as u64 {
                self.print_line(lines as usize % count);
                lines += 1;
            }
            self.turn(Duration::from_millis(1), |_, _| {});
        }
        lines
    }

    fn print_line(&mut self, index: usize) {
        let member = &mut self.members[index];
        let Some(leg) = &mut member.leg else { return };
        member.lines += 1;
        let line = format!("{} says line {} and that all is well\r\n", member.config.name, member.lines);
        leg.session().print(line.as_bytes());
        if leg.flush().is_err() || leg.backlog() > MUTE {
            member.leg = None;
        }
    }

    fn dial(&mut self, index: usize) -> std::io::Result<()> {
        let member = &mut self.members[index];
        member.began = Instant::now();
        let config = Arc::clone(&member.config);
        member.leg = Some(Leg::open(&self.dial, self.vms, config, self.poll.registry(), Token(index))?);
        Ok(())
    }

    /// One round of events; `settled` hears of every member that came up or failed on the way there, and
    /// their number is returned.
    fn turn(&mut self, wait: Duration, mut settled: impl FnMut(Result<(), String>, Duration)) -> usize {
        match self.poll.poll(&mut self.events, Some(wait)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return 0,
            _ => {}
        }
        let mut count = 0;
        for event in &self.events {
            let member = &mut self.members[event.token().0];
            let Some(leg) = &mut member.leg else { continue };
            leg.wake(event);
            self.typed.clear();
            // In two steps, because the name must be seen between what is read and what is sent.
            let mut outcome = leg.read(&mut self.typed);
            member.named = member.named || tells_name(leg.session().transmit());
            outcome = outcome.and_then(|()| leg.flush());
            while let Some(event) = leg.poll_event() {
                match event {
                    VmEvent::ProxyAgreed => member.agreed = true,
                    VmEvent::Refused | VmEvent::NotProxy => outcome = Err(ErrorKind::PermissionDenied.into()),
                    _ => {}
                }
            }
            if outcome.is_ok() && !member.up && leg.is_connected() && member.agreed && member.named {
                member.up = true;
                count += 1;
                settled(Ok(()), member.began.elapsed());
            }
            if let Err(error) = outcome {
                member.leg = None;
                if !member.up {
                    count += 1;
                    settled(Err(format!("{}: {error}", member.config.name)), Duration::ZERO);
                }
            }
        }
        count
    }
}

impl Starts {
    /// Fails when nobody came up at all.
    pub fn require_any(&self, way: &Way) -> Result<(), LoadError> {
        if self.latency.is_empty() && self.missing > 0 {
            let why = self.why.clone().unwrap_or_else(|| "no reason known".into());
            return Err(LoadError::Unreachable(format!("no VM came up at {}: {why}", way.vms())));
        }
        Ok(())
    }
}

/// New connections between two looks at what came in.
const BATCH: usize = 4;
/// The longest sleep of the loop.
const LOOK_AROUND: Duration = Duration::from_millis(100);
/// A member whose lines nobody takes is gone: a server always reads its VMs.
const MUTE: usize = 1 << 20;
/// How long a fleet may take to come up, unless it says otherwise.
pub const FLEET_PATIENCE: Duration = Duration::from_secs(6 * PATIENCE.as_secs());

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::load::stand_in::StandIn;

    #[test]
    fn a_fleet_comes_up_talks_and_stays() {
        let proxy = StandIn::start();
        let way = Way::Server { vms: proxy.vms, first: 1, dial: Dial::default() };
        let mut fleet = Fleet::new(&way, 0, 30).unwrap();
        let starts = fleet.start(8, PATIENCE);
        assert_eq!((starts.missing, starts.latency.len(), fleet.up()), (0, 30, 30), "{:?}", starts.why);
        proxy.wait_for(|heard| heard.named == 30);
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| fleet.talk(Duration::from_millis(20), &stop));
            proxy.wait_for(|heard| heard.text().contains("load-29 says line 2 "));
            stop.store(true, Ordering::Relaxed);
        });
        assert_eq!(fleet.up(), 30);
    }

    #[test]
    fn nobody_at_home_is_told_not_waited_for() {
        let gone = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
        let way = Way::Server { vms: gone, first: 1, dial: Dial::default() };
        let mut fleet = Fleet::new(&way, 0, 3).unwrap();
        let starts = fleet.start(8, PATIENCE);
        assert_eq!(starts.missing, 3);
        assert!(matches!(starts.require_any(&way), Err(LoadError::Unreachable(_))));
    }
}
