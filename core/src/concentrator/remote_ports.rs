//! Serial ports of access servers, which are consoles here: their settings are made over there (RFC 2217,
//! com-port.md §3).
//!
//! **Owns** what each has been asked and by whom, what it has said of itself, what is wanted of it when it is
//! connected to again, and that a break takes its time. **Refuses to know** how whoever has asked is told.
//!
//! Commands go to the port in the order in which they came among what was typed: a mark in the queue stands
//! for each ([`COMMAND_MARK`]).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::telnet::com_port::Line;
use crate::telnet::com_port_client::{Subject, opening, put_break, put_command_of, value};
use crate::telnet::{Command, IAC, PortSettings};
use crate::time::Instant;

use super::Concentrator;
use super::effects::Effects;
use super::id::{ConnId, ConsoleId};
use super::timers::Timer;

/// All of them. Each call costs the logarithm of how many those are.
#[derive(Debug, Default)]
pub(super) struct RemotePorts {
    ports: BTreeMap<ConnId, RemotePort>,
    /// What lines are set to when they are there again: by their URI, then by clients.
    wanted: BTreeMap<u16, PortSettings>,
}

/// One that is connected.
#[derive(Debug)]
pub(super) struct RemotePort {
    line: u16,
    /// It has agreed to be set.
    is_on: bool,
    /// It takes no data for now.
    pub(super) is_suspended: bool,
    breaking: Breaking,
    /// Its modem's signals, once it has told them.
    pub(super) modem: Option<u8>,
    /// What it has not answered: at most [`MOST_ASKED`].
    asked: VecDeque<Asking>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Breaking {
    No,
    /// Its beginning is not out.
    Begun,
    /// It ends when its time has passed.
    On,
}

/// One command.
#[derive(Debug)]
pub(super) struct Asking {
    /// Who is to hear the answer. `None`: we ask for ourselves.
    pub(super) who: Option<ConnId>,
    /// The command.
    pub(super) body: Vec<u8>,
    since: Instant,
    is_sent: bool,
}

impl Asking {
    fn is_about(&self, subject: Subject) -> bool {
        Subject::of(&self.body) == Some(subject)
    }

    fn is_set(&self) -> bool {
        value(&self.body) != 0
    }
}

impl RemotePorts {
    /// This one is connected to. `settings`: what its URI says.
    pub(super) fn enter(&mut self, id: ConnId, line: u16, settings: &PortSettings) {
        self.wanted.entry(line).or_insert(*settings);
        self.ports.insert(id, RemotePort::new(line));
    }

    /// It has agreed to be set, or not. Returns what is to be said to it, if it has; what it has not answered
    /// it never will.
    pub(super) fn switch(&mut self, id: ConnId, on: bool, now: Instant) -> (Vec<Vec<u8>>, Vec<Asking>) {
        let Some(port) = self.ports.get_mut(&id) else { return Default::default() };
        let before = std::mem::replace(port, RemotePort::new(port.line));
        port.is_on = on;
        let mut bodies = Vec::new();
        if on {
            for body in opening(&self.wanted.get(&port.line).copied().unwrap_or_default()) {
                bodies.push(body.clone());
                port.asked.push_back(Asking { who: None, body, since: now, is_sent: true });
            }
        }
        (bodies, before.asked.into())
    }

    /// A client asks it this. Returns false if it has been asked too much that it has not answered.
    pub(super) fn carry(&mut self, id: ConnId, who: ConnId, body: &[u8], now: Instant) -> bool {
        let Some(port) = self.get_mut(id).filter(|port| port.asked.len() < MOST_ASKED) else { return false };
        port.asked.push_back(Asking { who: Some(who), body: body.to_vec(), since: now, is_sent: false });
        true
    }

    /// It has confirmed something, with which its line is as it is now. Returns what is answered by that.
    ///
    /// There are some that leave an answer out: a value that was asked for is the answer to that, and to all
    /// on its subject that was asked before.
    pub(super) fn confirms(&mut self, id: ConnId, subject: Subject, body: &[u8], line: &Line) -> Vec<Asking> {
        let Some(port) = self.ports.get_mut(&id) else { return Vec::new() };
        let is_its = |asking: &Asking| asking.is_sent && asking.is_about(subject);
        let is_same =
            |asking: &Asking| is_its(asking) && asking.is_set() && value(&asking.body) == value(body);
        let Some(last) = port.asked.iter().rposition(is_same).or_else(|| port.asked.iter().position(is_its))
        else {
            return Vec::new();
        };
        let mut answered = Vec::new();
        let mut at = 0;
        port.asked.retain_mut(|asking| {
            let is_answered = at <= last && is_its(asking);
            at += 1;
            if is_answered {
                let body = std::mem::take(&mut asking.body);
                answered.push(Asking { body, ..*asking });
            }
            !is_answered
        });
        if answered.last().is_some_and(|asking| asking.who.is_some() && asking.is_set()) {
            self.wanted.entry(port.line).or_default().want_as(subject, line);
        }
        answered
    }

    /// What has waited for its answer too long, and when that is to be looked at again.
    pub(super) fn expired(&mut self, id: ConnId, now: Instant) -> (Vec<Asking>, Option<Instant>) {
        let Some(port) = self.ports.get_mut(&id) else { return Default::default() };
        let is_late = |asking: &Asking| asking.since + ANSWER_WITHIN <= now;
        let count = port.asked.iter().take_while(|asking| is_late(asking)).count();
        let late = port.asked.drain(..count).collect();
        (late, port.asked.front().map(|asking| asking.since + ANSWER_WITHIN))
    }

    /// It ends. Returns what it has not answered, if it was there.
    pub(super) fn remove(&mut self, id: ConnId) -> Option<Vec<Asking>> {
        self.ports.remove(&id).map(|port| port.asked.into())
    }

    /// One that has agreed to be set.
    pub(super) fn get_mut(&mut self, id: ConnId) -> Option<&mut RemotePort> {
        self.ports.get_mut(&id).filter(|port| port.is_on)
    }

    /// It has agreed to be set.
    pub(super) fn is_set_by_us(&self, id: ConnId) -> bool {
        self.ports.get(&id).is_some_and(|port| port.is_on)
    }
}

impl RemotePort {
    fn new(line: u16) -> Self {
        Self {
            line,
            is_on: false,
            is_suspended: false,
            breaking: Breaking::No,
            modem: None,
            asked: VecDeque::new(),
        }
    }

    /// What was typed waits.
    pub(super) fn holds(&self) -> bool {
        self.is_suspended || self.breaking != Breaking::No
    }

    /// Appends what a command among what was typed stands for.
    pub(super) fn put_command(&mut self, command: Command, out: &mut Vec<u8>) {
        if command == Command::BRK {
            put_break(true, out);
            self.breaking = Breaking::Begun;
        } else if let Some(asking) = self.asked.iter_mut().find(|asking| !asking.is_sent) {
            asking.is_sent = true;
            put_command_of(&asking.body, out);
        }
    }

    /// The socket has taken all commands: a break that has begun lasts from now on.
    pub(super) fn commands_are_out(&mut self, id: ConnId, fx: &mut Effects) {
        if self.breaking == Breaking::Begun {
            self.breaking = Breaking::On;
            fx.timers.set(Timer::Break(id), fx.now + BREAK);
        }
    }
}

impl Concentrator {
    /// The port that a console is, if it is one that has agreed to be set.
    pub(super) fn port_at(&self, at: ConsoleId) -> Option<ConnId> {
        let id = self.consoles.get(at)?.legs.input()?;
        self.remote_ports.is_set_by_us(id).then_some(id)
    }

    /// What is known of the modem's signals of the port that a console is.
    pub(super) fn signals_at(&self, at: ConsoleId) -> Option<u8> {
        self.remote_ports.ports.get(&self.port_at(at)?)?.modem
    }

    /// A client asks a port this, behind what it has typed: it is to be marked there. Returns false if the
    /// port has too much to answer as it is.
    pub(super) fn ask_port(&mut self, port: ConnId, who: ConnId, body: &[u8]) -> bool {
        let is_carried = self.remote_ports.carry(port, who, body, self.fx.now);
        if is_carried {
            self.await_answers(port);
        }
        is_carried
    }

    /// A port was asked something: it has its time.
    pub(super) fn await_answers(&mut self, port: ConnId) {
        if !self.fx.timers.is_set(Timer::Answers(port)) {
            self.fx.timers.set(Timer::Answers(port), self.fx.now + ANSWER_WITHIN);
        }
    }

    /// A break has had its time.
    pub(super) fn end_break(&mut self, id: ConnId) {
        let Some(port) = self.remote_ports.get_mut(id) else { return };
        port.breaking = Breaking::No;
        if let Some(conn) = self.conns.get_mut(id) {
            conn.queue_control(id, &mut self.fx, |out| put_break(false, out));
        }
    }
}

/// What stands among what was typed for a command of COM-PORT. Means nothing to whoever else takes it.
pub(super) const COMMAND_MARK: [u8; 2] = [IAC, Command::NOP.0];

/// How long a break lasts: what POSIX has for tcsendbreak, a quarter of a second to half of one.
const BREAK: Duration = Duration::from_millis(250);

/// How much a port may be asked that it has not answered.
const MOST_ASKED: usize = 64;

/// How long an answer may take. pyserial waits for three seconds.
const ANSWER_WITHIN: Duration = Duration::from_millis(2500);
