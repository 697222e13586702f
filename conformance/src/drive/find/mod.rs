//! Which client port shows which VM? Nothing in the protocol says, and servers word their banners as they
//! like. So each VM prints a mark that occurs nowhere else, and the port that shows it is the right one.
//!
//! Owns the order in which ports are tried: first those that were closed before ([`Ports::look`]), since a
//! server gives a new VM a new port, then those that were open already. Refuses to know what a VM is
//! ([`Printing`]).

mod knocks;
mod search;

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::random::nonce;
use crate::tunnel::Dial;

use knocks::Knocks;
use search::{Search, Sought};

/// Where client ports are, and what is known of them. Searches that share it tell each other what they found.
#[derive(Debug)]
pub struct Ports {
    host: IpAddr,
    first: u16,
    last: u16,
    dial: Dial,
    known: Mutex<Known>,
}

#[derive(Default, Debug)]
struct Known {
    /// The consoles of others: open before anybody here connected, or found to be another VM's.
    others: HashSet<u16>,
    /// Where a fresh VM is likely to be found: servers give the lowest free port.
    next: u16,
}

/// VMs whose consoles are looked for, numbered from 0.
pub trait Printing {
    /// Prints; false when that VM's connection has ended.
    fn print(&mut self, vm: usize, bytes: &[u8]) -> bool;

    /// Reads what has come for them and answers, without waiting.
    fn serve(&mut self);
}

impl Ports {
    /// `count` ports of `host`, from `first` upwards, reached by `dial`.
    #[must_use]
    pub fn new(host: IpAddr, first: u16, count: u16, dial: Dial) -> Self {
        let last = first.saturating_add(count.saturating_sub(1));
        Self { host, first, last, dial, known: Mutex::new(Known { next: first, ..Known::default() }) }
    }

    /// Where a port is reached.
    #[must_use]
    pub fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.host, port)
    }

    /// Notes which ports are open: consoles of others, which are tried last from now on. It takes a
    /// connection to each port, in clear whatever clients speak: whether one is open shows before anything is
    /// said.
    ///
    /// # Errors
    ///
    /// This machine has no poller or no socket to give.
    pub fn look(&self) -> Result<(), String> {
        let all: Vec<u16> = (self.first..=self.last).collect();
        for some in all.chunks(STEP.1) {
            let mut knocks = Knocks::new()?;
            for port in some {
                knocks.knock(*port, self.at(*port), &Dial::default())?;
            }
            let limit = Instant::now() + CONNECT;
            while knocks.pending > 0 && Instant::now() < limit {
                knocks.turn(Duration::from_millis(5));
            }
            let open = knocks.doors.values().filter(|door| door.is_open);
            self.known().others.extend(open.map(|door| door.port));
        }
        Ok(())
    }

    /// Finds the ports of `count` VMs, for at most 20 s times `slack`.
    ///
    /// # Errors
    ///
    /// Why there is none for one of them, in words.
    pub fn find(&self, vms: &mut dyn Printing, count: usize, slack: u32) -> Result<Vec<u16>, String> {
        let mut search = Search {
            ports: self,
            vms,
            mark: format!("[{:016x}.", nonce()),
            prints: 0,
            begun: Instant::now(),
            sought: vec![Sought::default(); count],
            knocks: Knocks::new()?,
            step: STEP.0,
            any_open: false,
            hung_up: false,
        };
        let mut rounds = 0;
        let in_time = |begun: Instant, rounds| {
            let elapsed = begun.elapsed();
            elapsed < AT_MOST * slack && (rounds < ROUNDS || elapsed < SEARCH * slack)
        };
        while !search.is_done() && in_time(search.begun, rounds) {
            search.round()?;
            rounds += 1;
        }
        search.clear();
        if search.hung_up {
            // Nobody may still count these clients when the real ones come.
            std::thread::sleep(FORGOTTEN);
        }
        let found: Option<Vec<u16>> = search.sought.iter().map(|sought| sought.port).collect();
        let (first, last) = (self.first, self.last);
        match found {
            Some(found) => {
                let mut known = self.known();
                known.next = found.iter().fold(known.next, |next, port| next.max(port.saturating_add(1)));
                known.others.extend(&found);
                Ok(found)
            }
            None if search.any_open => Err(format!("no port of {first}..={last} shows what this VM prints")),
            None => Err(format!("no port of {first}..={last} is open")),
        }
    }

    /// The ports of fresh VMs, those that are likely first; and how many these are.
    fn fresh(&self, count: usize) -> (Vec<u16>, usize) {
        let known = self.known();
        let beyond =
            known.next.saturating_add(u16::try_from(count).unwrap_or(u16::MAX)).saturating_add(AHEAD);
        let likely = (known.next.saturating_sub(BEHIND).max(self.first)..beyond.min(self.last)).rev();
        let mut seen = HashSet::new();
        let mut fresh = |port: &u16| !known.others.contains(port) && seen.insert(*port);
        let mut ports: Vec<u16> = likely.filter(&mut fresh).collect();
        let likely = ports.len();
        ports.extend((self.first..=self.last).filter(fresh));
        (ports, likely)
    }

    fn others(&self) -> Vec<u16> {
        let mut others: Vec<u16> = self.known().others.iter().copied().collect();
        others.sort_unstable();
        others
    }

    /// A search that panicked has left nothing half done here.
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long is searched at least: a server may take its time to open a port.
const SEARCH: Duration = Duration::from_secs(6);

/// How often all ports are tried, at least.
const ROUNDS: u32 = 2;

/// No new round begins after this time.
const AT_MOST: Duration = Duration::from_secs(20);

/// How long a port may take to answer when all are looked at.
const CONNECT: Duration = Duration::from_millis(300);

/// How long a server may take to notice that a client has gone.
const FORGOTTEN: Duration = Duration::from_millis(30);

/// How many ports behind the likely one are tried before all others, and how many ahead: so many VMs may have
/// come at the same moment.
const BEHIND: u16 = 160;
const AHEAD: u16 = 8;

/// How many ports are tried at once: at first, so that a console that is where it is expected costs others
/// nothing, and at most.
const STEP: (usize, usize) = (16, 256);

#[cfg(test)]
mod tests;
