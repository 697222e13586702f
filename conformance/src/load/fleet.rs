//! Many VMs on one event loop: bring them up, keep them, let them talk.
//!
//! A VM is *up* when WILL-PROXY is in and its name was asked for and given. Every member's end is noticed: it
//! was *refused* if the server had not said a word to it, else *cut*.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};
use vspc_core::vmware::{VmConfig, VmEvent};

use super::LoadError;
use super::guests::IdleGuest;
use super::link::{PATIENCE, numbered_vm, tells_name};
use super::stats::Samples;
use super::strangers::Addresses;
use super::subject::Subject;
use crate::fake_vm::leg::Leg;
use crate::tunnel::{Dial, Port};

/// VMs on a loop of their own.
#[derive(Debug)]
pub(super) struct Fleet {
    poll: Poll,
    events: Events,
    dial: Dial,
    vms: SocketAddr,
    from: Addresses,
    members: Vec<Member>,
    /// How many of them were told to connect.
    begun: usize,
    typed: Vec<u8>,
    /// Bytes that a line has at least.
    width: usize,
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
    guest: Option<IdleGuest>,
}

/// How a fleet came up.
#[derive(Debug, Default)]
pub(super) struct Starts {
    /// From the attempt to connect until up, of each VM that came up.
    pub latency: Samples,
    /// From the first attempt until the last VM was up.
    pub elapsed: Duration,
    /// VMs that did not come up.
    pub missing: usize,
    /// Those of them whose connection was refused, or ended without a word.
    pub refused: usize,
    /// Those of them whose connection ended after the server had said something.
    pub cut: usize,
    /// Why the first of them did not, as far as is known.
    pub why: Option<String>,
}

impl Fleet {
    /// VMs with the numbers `first` to `first + count - 1`, none of them connected.
    pub(super) fn new(subject: &Subject, first: usize, count: usize) -> Result<Self, LoadError> {
        let poll = Poll::new().map_err(|error| LoadError::Usage(format!("event queue: {error}")))?;
        let mut fleet = Self {
            poll,
            events: Events::with_capacity(1024),
            dial: subject.dial(),
            vms: subject.vms(),
            from: Addresses::One,
            members: Vec::new(),
            begun: 0,
            typed: Vec::new(),
            width: 0,
        };
        fleet.add(subject, first, count);
        Ok(fleet)
    }

    /// Adds the VMs with the numbers `first` to `first + count - 1`, none of them connected.
    pub(super) fn add(&mut self, subject: &Subject, first: usize, count: usize) {
        let now = Instant::now();
        self.members.extend((first..first + count).map(|number| Member {
            // Through a relay nobody listens: silent until told to print.
            config: Arc::new(subject.adapt(numbered_vm(number))),
            leg: None,
            began: now,
            agreed: !subject.is_server(),
            named: !subject.is_server(),
            up: false,
            lines: 0,
            guest: None,
        }));
    }

    /// Those that are not connected yet carry the streams of guests, `streams` each, and are not up before
    /// all of them are there.
    pub(super) fn carry_streams(&mut self, streams: u8) {
        for member in &mut self.members[self.begun..] {
            Arc::make_mut(&mut member.config).uri = "vSPC.py?mux=s2".to_owned();
            member.guest = Some(IdleGuest::new(streams));
        }
    }

    /// Brings all of them up, at most `together` at a time, and gives up on those that take longer than
    /// `patience` in all.
    pub(super) fn start(&mut self, together: usize, patience: Duration) -> Starts {
        let began = Instant::now();
        let mut starts = Starts::default();
        let mut pending = 0usize;
        while pending > 0 || self.begun < self.members.len() {
            // What has been answered comes first: a VM's latency is the server's, not that of our queue.
            let mut room = BATCH;
            while self.begun < self.members.len() && pending < together && room > 0 {
                pending += usize::from(self.begin(&mut starts));
                room -= 1;
            }
            let more = self.begun < self.members.len() && pending < together;
            let wait = if more { Duration::ZERO } else { LOOK_AROUND };
            pending = pending.saturating_sub(self.turn(wait, |outcome| starts.settle(outcome, began)));
            if began.elapsed() > patience {
                starts.why.get_or_insert(format!("no end after {} s", patience.as_secs()));
                break;
            }
        }
        starts.missing = self.members.len() - self.up();
        starts
    }

    /// Lets all of them connect at one moment: each has begun before the first hears or says a word. Whose
    /// SYN is dropped, the kernel tries again.
    pub(super) fn start_at_once(&mut self, from: Addresses, patience: Duration) -> Starts {
        self.from = from;
        let began = Instant::now();
        let mut starts = Starts::default();
        let mut pending = (self.begun..self.members.len()).filter(|_| self.begin(&mut starts)).count();
        while pending > 0 && began.elapsed() < patience {
            pending = pending.saturating_sub(self.turn(LOOK_AROUND, |outcome| starts.settle(outcome, began)));
        }
        if pending > 0 {
            starts.why.get_or_insert(format!("no end after {} s", patience.as_secs()));
        }
        starts.missing = self.members.len() - self.up();
        starts
    }

    /// Has the next one connect; whether it is on its way now.
    fn begin(&mut self, starts: &mut Starts) -> bool {
        let outcome = self.dial(self.begun);
        self.begun += 1;
        if let Err(error) = &outcome {
            starts.refused += 1;
            starts.why.get_or_insert(format!("cannot connect: {error}"));
        }
        outcome.is_ok()
    }

    /// How many are up.
    #[must_use]
    pub(super) fn up(&self) -> usize {
        self.members.iter().filter(|member| member.up && member.leg.is_some()).count()
    }

    /// Does nothing but answer for a while, or until nobody is left.
    pub(super) fn idle(&mut self, time: Duration) {
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            self.turn(left.min(LOOK_AROUND), |_| {});
            if left.is_zero() || self.up() == 0 {
                return;
            }
        }
    }

    /// Lets every member print a line each `every`, evenly spread, until `stop`; returns how many lines.
    pub(super) fn talk(&mut self, every: Duration, stop: &AtomicBool) -> u64 {
        let count = self.members.len();
        let began = Instant::now();
        let mut lines = 0u64;
        while !stop.load(Ordering::Relaxed) {
            let share = began.elapsed().as_secs_f64() / every.as_secs_f64() * count as f64;
            while lines < share as u64 {
                self.print_line(lines as usize % count);
                lines += 1;
            }
            self.turn(Duration::from_millis(1), |_| {});
        }
        lines
    }

    /// Waits until all that was printed has been taken.
    pub(super) fn deliver(&mut self, patience: Duration) {
        let until = Instant::now() + patience;
        let waits = |member: &Member| member.leg.as_ref().is_some_and(|leg| leg.backlog() > 0);
        while self.members.iter().any(waits) && Instant::now() < until {
            for member in &mut self.members {
                if member.leg.as_mut().is_some_and(|leg| leg.flush().is_err()) {
                    member.leg = None;
                }
            }
            self.turn(Duration::from_millis(1), |_| {});
        }
    }

    /// Lines have so many bytes from now on, or more where that is too few to say what they say. To be asked
    /// for before the first.
    pub(super) fn widen_lines(&mut self, width: usize) {
        self.width = width;
    }

    /// What a member is called.
    #[must_use]
    pub(super) fn name(&self, index: usize) -> &str {
        &self.members[index].config.name
    }

    /// All lines that a member has printed.
    #[must_use]
    pub(super) fn printed(&self, index: usize) -> Vec<u8> {
        let Member { config, lines, .. } = &self.members[index];
        (1..=*lines).flat_map(|number| line(&config.name, number, self.width)).collect()
    }

    fn print_line(&mut self, index: usize) {
        let member = &mut self.members[index];
        let Some(leg) = &mut member.leg else { return };
        member.lines += 1;
        leg.session().print(&line(&member.config.name, member.lines, self.width));
        if leg.flush().is_err() || leg.backlog() > MUTE {
            member.leg = None;
        }
    }

    fn dial(&mut self, index: usize) -> std::io::Result<()> {
        let member = &mut self.members[index];
        member.began = Instant::now();
        let config = Arc::clone(&member.config);
        let stream = match self.from.begin(index, self.vms)? {
            Some(stream) => stream,
            None => self.dial.begin(Port::Vm, self.vms)?,
        };
        member.leg = Some(Leg::over(stream, config, self.poll.registry(), Token(index))?);
        Ok(())
    }

    /// One round of events; `settled` hears of every member that came up, after how long, or failed on the
    /// way there, and their number is returned.
    fn turn(&mut self, wait: Duration, mut settled: impl FnMut(Result<Duration, Failure>)) -> usize {
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
            member.named = member.named || tells_name(leg.session().pending());
            if let Some(guest) = &mut member.guest {
                let mut said = Vec::new();
                outcome = outcome.and_then(|()| guest.exchange(&self.typed, &mut said));
                leg.session().print(&said);
            }
            outcome = outcome.and_then(|()| leg.flush());
            while let Some(event) = leg.poll_event() {
                match event {
                    VmEvent::ProxyAgreed => member.agreed = true,
                    VmEvent::Refused | VmEvent::NotProxy => outcome = Err(ErrorKind::PermissionDenied.into()),
                    _ => {}
                }
            }
            let is_up = leg.is_connected()
                && member.agreed
                && member.named
                && member.guest.as_ref().is_none_or(IdleGuest::is_idle);
            if outcome.is_ok() && !member.up && is_up {
                member.up = true;
                count += 1;
                settled(Ok(member.began.elapsed()));
            }
            if let Err(error) = outcome {
                let cut = leg.has_heard();
                member.leg = None;
                if !member.up {
                    count += 1;
                    settled(Err(Failure { cut, why: format!("{}: {error}", member.config.name) }));
                }
            }
        }
        count
    }
}

fn line(name: &str, number: u64, width: usize) -> Vec<u8> {
    let words = format!("{name} says line {number} and that all is well");
    format!("{words:.<width$}\r\n", width = width.saturating_sub(2)).into_bytes()
}

/// A VM did not come up.
struct Failure {
    /// The server had said something to it.
    cut: bool,
    why: String,
}

impl Starts {
    /// One VM has come up or failed, in a run that began then.
    fn settle(&mut self, outcome: Result<Duration, Failure>, began: Instant) {
        match outcome {
            Ok(latency) => {
                self.latency.push(latency);
                self.elapsed = began.elapsed();
            }
            Err(failure) => {
                *if failure.cut { &mut self.cut } else { &mut self.refused } += 1;
                self.why.get_or_insert(failure.why);
            }
        }
    }

    /// Fails unless everybody came up.
    pub(crate) fn require_all(&self) -> Result<(), LoadError> {
        if self.missing > 0 {
            let why = self.why.as_deref().unwrap_or_default();
            return Err(LoadError::Violation(format!("{} VMs did not come up: {why}", self.missing)));
        }
        Ok(())
    }

    /// Fails when nobody came up at all.
    pub(super) fn require_any(&self, subject: &Subject) -> Result<(), LoadError> {
        if self.latency.is_empty() && self.missing > 0 {
            let why = self.why.clone().unwrap_or_else(|| "no reason known".into());
            return Err(LoadError::Unreachable(format!("no VM came up at {}: {why}", subject.vms())));
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
pub(super) const FLEET_PATIENCE: Duration = Duration::from_secs(6 * PATIENCE.as_secs());

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::load::stand_in::StandIn;

    #[test]
    fn a_fleet_comes_up_talks_and_stays() {
        let proxy = StandIn::start();
        let subject = Subject::Server { vms: proxy.vms, first: 1, dial: Dial::default() };
        let mut fleet = Fleet::new(&subject, 0, 30).unwrap();
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
        let subject = Subject::Server { vms: gone, first: 1, dial: Dial::default() };
        let mut fleet = Fleet::new(&subject, 0, 3).unwrap();
        let starts = fleet.start(8, PATIENCE);
        assert_eq!(starts.missing, 3);
        assert!(matches!(starts.require_any(&subject), Err(LoadError::Unreachable(_))));
    }
    #[test]
    fn refused_and_cut_are_told_apart() {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let subject =
            Subject::Server { vms: listener.local_addr().unwrap(), first: 1, dial: Dial::default() };
        thread::spawn(move || {
            for (number, stream) in listener.incoming().map_while(Result::ok).enumerate() {
                use std::io::{Read, Write};
                // It has sent something: closing with that unread would take back the word.
                let _ = (&stream).read(&mut [0; 64]);
                if number % 3 == 0 {
                    let _ = (&stream).write_all(b"a word");
                }
            }
        });
        let mut fleet = Fleet::new(&subject, 0, 30).unwrap();
        let starts = fleet.start_at_once(Addresses::One, PATIENCE);
        assert_eq!((starts.missing, starts.refused, starts.cut), (30, 20, 10), "{:?}", starts.why);
    }

    #[test]
    fn a_fleet_comes_up_at_one_moment_from_many_addresses() {
        let bare = crate::load::bare::Bare::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let subject = Subject::Server { vms: bare.at, first: 1, dial: Dial::default() };
        thread::spawn(|| bare.run(false));
        let mut fleet = Fleet::new(&subject, 0, 300).unwrap();
        let starts = fleet.start_at_once(Addresses::Many, PATIENCE);
        assert_eq!((starts.missing, fleet.up()), (0, 300), "{:?}", starts.why);
    }
}
