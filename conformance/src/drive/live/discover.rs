//! Which port shows this VM? Nothing in the protocol says, and servers word their banners as they like. So
//! the VM prints a mark that occurs nowhere else, and the client port that shows it is the right one.

use super::{Live, Trouble, connect, read_all};
use crate::drive::{PeerId, nonce};
use crate::telnet::Client;
use crate::tunnel::{Dial, Port};
use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long is searched at least: a server may take its time to open a port.
const SEARCH: Duration = Duration::from_secs(6);

/// How often all ports are looked at, at least.
const ROUNDS: u32 = 2;

/// The whole search, however many ports there are and however long they take.
const AT_MOST: Duration = Duration::from_secs(20);

/// How long a client port may take to show what its VM prints. vSPC.py lets half a second pass in which
/// the client negotiates.
const SHOWS_WITHIN: Duration = Duration::from_millis(800);

/// How often the VM prints its mark.
const PRINT_EVERY: Duration = Duration::from_millis(100);

/// How long a server may take to notice that a probe has gone.
const FORGOTTEN: Duration = Duration::from_millis(30);

/// How many ports behind the likely one are looked at before all others: so many VMs may have come at the
/// same moment.
const BEHIND: u16 = 160;

/// How many open ports are watched at a time.
const BATCH: usize = 32;

/// How long one port may take to answer.
const CONNECT: Duration = Duration::from_millis(300);

/// A client that agrees with everything and looks for a mark.
struct Probe {
    port: u16,
    stream: mio::net::TcpStream,
    client: Client,
}

impl Live {
    pub(super) fn discover(&mut self, vm: PeerId, first: u16, count: u16) -> Result<u16, Trouble> {
        let last = first.saturating_add(count.saturating_sub(1));
        let nonce = nonce();
        let begun = Instant::now();
        // A server may still be opening the port: go round until the time is up.
        let mut candidates = self.candidates(first, last);
        let mut at = 0;
        let mut any_open = false;
        let mut again = true;
        let mut rounds = 0;
        let (search, at_most) = (SEARCH * self.slack, AT_MOST * self.slack);
        while begun.elapsed() < at_most && (rounds < ROUNDS || begun.elapsed() < search) {
            let mut probes = Vec::new();
            while at < candidates.len() && probes.len() < BATCH && begun.elapsed() < at_most {
                probes.extend(self.probe(candidates[at]));
                at += 1;
            }
            any_open |= !probes.is_empty();
            let found = self.watch(vm, &mut probes, nonce);
            if !probes.is_empty() {
                // Nobody may still count the probes as clients when the real ones come.
                probes.clear();
                std::thread::sleep(FORGOTTEN);
            }
            if let Some(port) = found {
                self.hint = port.saturating_add(1);
                return Ok(port);
            }
            // Others may have come meanwhile, so look at the likely places once more before all others.
            rounds += u32::from(at == candidates.len());
            if at == candidates.len() || std::mem::take(&mut again) {
                std::thread::sleep(PRINT_EVERY);
                (at, candidates) = (0, self.candidates(first, last));
            }
        }
        Err(Trouble::Failed(if any_open {
            format!("no port of {first}..={last} shows what this VM prints")
        } else {
            format!("no port of {first}..={last} is open")
        }))
    }

    /// Ports to look at, the likely ones first. Servers give the lowest free port, and some keep the ports of
    /// VMs that have gone for a day: so a fresh VM is behind the last one that was found, or where the open
    /// ports end.
    fn candidates(&self, first: u16, last: u16) -> Vec<u16> {
        let near = |port: u16| port.saturating_sub(BEHIND).max(first)..=port.saturating_add(8).min(last);
        let mut likely: Vec<u16> = Vec::new();
        if (first..=last).contains(&self.hint) {
            likely.extend(near(self.hint).rev());
        }
        likely.extend(near(self.end_of_open(first, last)).rev());
        let all: Vec<u16> = likely.into_iter().chain(first..=last).collect();
        let mut seen = std::collections::HashSet::new();
        all.into_iter().filter(|port| seen.insert(*port)).collect()
    }

    /// The first closed port, if the open ones have no gaps; a few connections tell.
    fn end_of_open(&self, first: u16, last: u16) -> u16 {
        let is_open = |port: u16| {
            // In clear, whatever clients speak: whether it is open shows before anything is said.
            Dial::default().connect(Port::Client, self.address(port), CONNECT).is_ok()
        };
        if !is_open(first) {
            return first;
        }
        let (mut open, mut step) = (first, 1);
        while open < last && is_open(open.saturating_add(step).min(last)) {
            open = open.saturating_add(step).min(last);
            step = step.saturating_mul(2);
        }
        let mut closed = open.saturating_add(step).min(last);
        while closed - open > 1 {
            let middle = open + (closed - open) / 2;
            if is_open(middle) { open = middle } else { closed = middle }
        }
        closed
    }

    fn address(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.options.client_host, port)
    }

    fn probe(&self, port: u16) -> Option<Probe> {
        let stream = connect(&self.options.dial, Port::Client, self.address(port), CONNECT).ok()?;
        Some(Probe { port, stream, client: Client::default() })
    }

    /// Lets the VM print until a probe shows it. When one does, waits for the last print too, so that none
    /// turns up later where it is not expected.
    fn watch(&mut self, vm: PeerId, probes: &mut [Probe], nonce: u64) -> Option<u16> {
        if probes.is_empty() {
            return None;
        }
        let begun = Instant::now();
        let mut printed = 0_u32;
        let mark = |n: u32| format!("[{nonce:x}.{n}]");
        while begun.elapsed() < SHOWS_WITHIN {
            if begun.elapsed() >= PRINT_EVERY * printed {
                printed += 1;
                self.write(vm, format!("{}\r\n", mark(printed)).as_bytes());
            }
            if let Some(port) = shows(probes, mark(0).trim_end_matches("0]")) {
                let until = Instant::now() + Duration::from_secs(1);
                while Instant::now() < until && shows(probes, &mark(printed)).is_none() {
                    self.idle(probes);
                }
                return Some(port);
            }
            self.idle(probes);
        }
        None
    }

    fn idle(&mut self, probes: &mut [Probe]) {
        self.read(Duration::from_millis(1));
        for probe in probes {
            probe.read();
        }
    }
}

impl Drop for Probe {
    /// By RST: a client that merely ends its input may still be served for a while.
    fn drop(&mut self) {
        // It may have gone already, and then it is not needed.
        let _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }
}

fn shows(probes: &[Probe], mark: &str) -> Option<u16> {
    let mark = mark.as_bytes();
    probes
        .iter()
        .find(|probe| memchr::memmem::find(&probe.client.bytes, mark).is_some())
        .map(|probe| probe.port)
}

impl Probe {
    fn read(&mut self) {
        if self.client.closed {
            return;
        }
        let mut bytes = Vec::new();
        self.client.closed = read_all(&mut self.stream, &mut bytes);
        let answer = self.client.read(&bytes);
        // A few bytes on a fresh connection: they fit, or it has gone.
        let _ = self.stream.write(&answer);
    }
}
