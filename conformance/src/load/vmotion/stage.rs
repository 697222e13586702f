//! The event loop of a vMotion run: brings the consoles up, finds their clients, moves the VMs, lets the talk
//! run out.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use memchr::memmem;
use mio::{Events, Poll, Token};

use super::console::{Console, Course, PLACES};
use super::tally::{Due, Tally};
use crate::drive::{Ports, Printing};
use crate::load::LoadError;
use crate::load::link::{ANSWERS, PATIENCE, word};
use crate::load::subject::LOCALHOST;
use crate::random::nonce;
use crate::tunnel::Dial;

/// All consoles and the loop they share.
#[derive(Debug)]
pub(in crate::load) struct Stage {
    poll: Poll,
    events: Events,
    pub(in crate::load) consoles: Vec<Console>,
    pub(in crate::load) tally: Tally,
    talk: Talk,
}

/// What became of all lines, both ways.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(in crate::load) struct Lines {
    pub(in crate::load) said: u64,
    pub(in crate::load) lost: u64,
    pub(in crate::load) repeated: u64,
    pub(in crate::load) foreign: u64,
}

/// Who talks how much.
#[derive(Clone, Copy, Debug)]
struct Talk {
    began: Instant,
    /// Lines per second, of all consoles together, each way.
    rate: f64,
    lines: u64,
}

impl Stage {
    pub(in crate::load) fn new(consoles: Vec<Console>, line_every: Duration) -> Result<Self, LoadError> {
        let poll = Poll::new().map_err(|error| LoadError::Usage(format!("event queue: {error}")))?;
        let rate = consoles.len() as f64 / line_every.as_secs_f64().max(1e-6);
        Ok(Self {
            poll,
            events: Events::with_capacity(1024),
            consoles,
            tally: Tally::default(),
            talk: Talk { began: Instant::now(), rate, lines: 0 },
        })
    }

    /// Every VM connects; one after the other, so that a fresh server gives them ports in this order.
    pub(in crate::load) fn bring_up(&mut self, target: SocketAddr) -> Result<(), LoadError> {
        let deadline = Instant::now() + PATIENCE;
        for index in 0..self.consoles.len() {
            self.consoles[index].dial(self.poll.registry()).map_err(|error| {
                LoadError::Unreachable(format!("VM {index} cannot connect to {target}: {error}"))
            })?;
            while !self.consoles[index].is_up() {
                self.turn(LOOK_AROUND);
                if !self.tally.is_clean() || Instant::now() > deadline {
                    let why = self.tally.problems().pop().unwrap_or_else(|| "no answer".into());
                    return Err(LoadError::Unreachable(format!("VM {index} does not come up: {why}")));
                }
            }
        }
        Ok(())
    }

    /// Finds each console's client port and connects a client to it.
    pub(in crate::load) fn find_clients(&mut self, dial: &Dial, first: u16) -> Result<(), LoadError> {
        let ports = Ports::new(LOCALHOST, first, u16::MAX - first, dial.clone());
        let count = self.consoles.len();
        let found =
            ports.find(self, count, 1).map_err(|why| LoadError::Unreachable(format!("{why}{HINT}")))?;
        let different: HashSet<&u16> = found.iter().collect();
        if different.len() < count {
            return Err(LoadError::Violation(format!("two VMs have the same client port{HINT}")));
        }
        let (nonce, deadline) = (nonce(), Instant::now() + PATIENCE);
        for (number, (console, port)) in self.consoles.iter_mut().zip(&found).enumerate() {
            let hello = [&ANSWERS[..], &word(b'?', nonce, number)].concat();
            let attached = console.attach(dial, ports.at(*port), hello, self.poll.registry());
            attached
                .map_err(|why| LoadError::Unreachable(format!("cannot connect to port {port}: {why}")))?;
        }
        let heard = |(number, console): (usize, &Console)| {
            memmem::find(&console.greeting, &word(b'?', nonce, number)).is_some()
        };
        while !self.consoles.iter().enumerate().all(heard) {
            self.turn(LOOK_AROUND);
            if Instant::now() > deadline {
                return Err(LoadError::Unreachable("not every VM hears its client".into()));
            }
        }
        self.align(nonce, deadline)
    }

    /// Every VM says the word from which its client counts.
    fn align(&mut self, nonce: u64, deadline: Instant) -> Result<(), LoadError> {
        for (number, console) in self.consoles.iter_mut().enumerate() {
            console.say(&word(b'!', nonce, number), &mut self.tally);
        }
        while !self.consoles.iter().all(|console| console.counting) {
            self.turn(LOOK_AROUND);
            for (number, console) in self.consoles.iter_mut().enumerate() {
                console.count_from(&word(b'!', nonce, number));
            }
            if Instant::now() > deadline {
                return Err(LoadError::Unreachable("not every client hears its VM".into()));
            }
        }
        Ok(())
    }

    /// Talks, without moving anything, for a while.
    pub(in crate::load) fn talk(&mut self, time: Duration) {
        let until = Instant::now() + time;
        loop {
            self.turn(Duration::from_millis(1).min(until.saturating_duration_since(Instant::now())));
            self.say_lines();
            if Instant::now() >= until {
                return;
            }
        }
    }

    /// Moves these VMs, all at once, and returns when each has arrived or stays.
    pub(in crate::load) fn round(&mut self, movers: &[(usize, Course)], paste: usize, sequence: &mut u32) {
        for &(mover, _) in movers {
            if paste > 0 {
                self.consoles[mover].paste(paste, &mut self.tally);
            }
        }
        let mut next = 0;
        let deadline = Instant::now() + ROUND_LIMIT;
        loop {
            // Hosts begin on their own; here one thread plays all of them, so it looks at the answers between
            // two beginnings instead of adding its own queue to what the server takes.
            if let Some(&(mover, course)) = movers.get(next) {
                *sequence = sequence.wrapping_mul(0x0019_660D).wrapping_add(0x3C6E_F35F);
                self.consoles[mover].begin(sequence.to_be_bytes(), course, &mut self.tally);
                next += 1;
                self.turn(Duration::ZERO);
                continue;
            }
            if let Some(due) = self.tally.due.pop_front() {
                let (Due::Dial(mover) | Due::Arrive(mover)) = due;
                self.consoles[mover].step(due, self.poll.registry(), &mut self.tally);
                self.turn(Duration::ZERO);
                continue;
            }
            self.turn(Duration::from_millis(1));
            if !self.tally.due.is_empty() {
                continue;
            }
            self.say_lines();
            let now = Instant::now();
            for &(mover, _) in movers {
                self.consoles[mover].tick(now, &mut self.tally);
            }
            let done = |console: &Console| console.is_up() || console.is_dead();
            if movers.iter().all(|&(mover, _)| done(&self.consoles[mover])) {
                return;
            }
            if now > deadline {
                self.tally.problem("a round of moves has no end".into());
                return;
            }
        }
    }

    /// Nobody says anything new; what was said arrives.
    pub(in crate::load) fn run_out(&mut self) {
        let mut last = (0, Instant::now());
        while !self.consoles.iter().all(Console::is_settled) {
            self.turn(LOOK_AROUND);
            let arrived =
                self.consoles.iter().map(|console| console.heard.next() + console.seen.next()).sum();
            if arrived != last.0 {
                last = (arrived, Instant::now());
            }
            if last.1.elapsed() > SILENCE {
                return;
            }
        }
        // Whatever is said twice says it again about now.
        self.turn(LOOK_AROUND);
    }

    /// Ends the check of every line that was said.
    pub(in crate::load) fn finish(&mut self) -> Lines {
        let mut lines = Lines::default();
        for console in &mut self.consoles {
            let (printed, typed) = (console.printed, console.typed);
            lines.said += printed + typed;
            for (check, said) in [(&mut console.seen, printed), (&mut console.heard, typed)] {
                check.finish(said);
                lines.lost += check.lost;
                lines.repeated += check.repeated;
                lines.foreign += check.foreign;
                if let Some(first) = &check.first {
                    self.tally.problem(format!("first wrong line: {first}"));
                }
            }
        }
        lines
    }

    fn say_lines(&mut self) {
        let due = (self.talk.began.elapsed().as_secs_f64() * self.talk.rate) as u64;
        // After a pause the lines of the pause are not made up for.
        self.talk.lines = self.talk.lines.max(due.saturating_sub(self.consoles.len() as u64));
        while self.talk.lines < due {
            let console = self.talk.lines as usize % self.consoles.len();
            self.consoles[console].print(&mut self.tally);
            self.consoles[console].type_line(&mut self.tally);
            self.talk.lines += 1;
        }
    }

    fn turn(&mut self, wait: Duration) {
        match self.poll.poll(&mut self.events, Some(wait)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => {
                self.tally.problem(format!("event queue: {error}"));
                return;
            }
            _ => {}
        }
        for event in &self.events {
            let Token(token) = event.token();
            if let Some(console) = self.consoles.get_mut(token / PLACES) {
                console.wake(token % PLACES, event, &mut self.tally);
            }
        }
    }
}

impl Printing for Stage {
    fn print(&mut self, vm: usize, bytes: &[u8]) -> bool {
        self.consoles[vm].say(bytes, &mut self.tally);
        !self.consoles[vm].is_dead()
    }

    fn serve(&mut self) {
        self.turn(Duration::ZERO);
    }
}

/// The longest sleep of the loop.
const LOOK_AROUND: Duration = Duration::from_millis(50);
/// Why VMs may share a port.
const HINT: &str = " (several serial ports of one VM need a server with --multi-console)";
/// No round takes longer: a move has timers of 5 s, a silent host one more.
const ROUND_LIMIT: Duration = Duration::from_secs(30);
/// How long nothing may arrive before what is missing counts as lost.
const SILENCE: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::link::numbered_vm;
    use crate::load::stand_in::StandIn;
    use crate::load::subject::Subject;

    fn move_one(proxy: &StandIn, course: Course) -> Stage {
        let subject = Subject::Server { vms: proxy.vms, first: 1, dial: Dial::default() };
        let consoles = vec![Console::new(0, subject, numbered_vm(0))];
        let mut stage = Stage::new(consoles, Duration::from_millis(1)).unwrap();
        stage.bring_up(proxy.vms).unwrap();
        let mut sequence = u32::MAX;
        stage.round(&[(0, course)], 0, &mut sequence);
        stage
    }

    #[test]
    fn every_course_of_a_move_comes_to_its_end() {
        for (course, completed, aborted) in [
            (Course::Plain, 1, 0),
            (Course::SourceDiesFirst, 1, 0),
            (Course::AbortEarly, 0, 1),
            (Course::AbortLate, 0, 1),
        ] {
            let stage = move_one(&StandIn::start(), course);
            let tally = &stage.tally;
            assert_eq!((tally.completed, tally.aborted), (completed, aborted), "{course:?}");
            assert_eq!((tally.goahead.len(), tally.misdirected), (1, 0), "{course:?}");
            assert!(tally.is_clean() && stage.consoles[0].is_up(), "{:?}", tally.problems());
        }
    }

    #[test]
    fn a_byte_to_the_source_behind_goahead_is_a_violation() {
        let stage = move_one(&StandIn::start_saying(b"late"), Course::AbortLate);
        assert_eq!(stage.tally.misdirected, 4);
        assert!(!stage.tally.is_clean());
    }
}
