//! Serial ports of access servers, which are consoles here: their settings are made over there (RFC 2217,
//! com-port.md §3).
//!
//! **Owns** what each has said of itself, what is wanted of it when it is connected to again, and that a
//! break takes its time. What clients set goes to the port itself, and its answer is theirs.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::telnet::PortSettings;
use crate::telnet::com_port::Line;
use crate::telnet::com_port_client::{Subject, opening, put_break, put_command_of, value};

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
    is_breaking: bool,
    /// Its modem's signals, once it has told them.
    pub(super) modem: Option<u8>,
    /// What clients have set that is not confirmed yet, by [`Subject`].
    set: u16,
    /// What it owes, by [`Subject`].
    owed: [Owed; Subject::COUNT],
}

/// Answers on one subject that have not come.
#[derive(Clone, Copy, Default, Debug)]
struct Owed {
    count: u16,
    /// What was asked for last; 0: what holds.
    last: u32,
}

impl RemotePorts {
    /// This one is connected to. `settings`: what its URI says.
    pub(super) fn enter(&mut self, id: ConnId, line: u16, settings: &PortSettings) {
        self.wanted.entry(line).or_insert(*settings);
        let port = RemotePort {
            line,
            is_on: false,
            is_suspended: false,
            is_breaking: false,
            modem: None,
            set: 0,
            owed: [Owed::default(); Subject::COUNT],
        };
        self.ports.insert(id, port);
    }

    /// It has agreed to be set, or not. Returns what it is to be asked first, if it has.
    pub(super) fn switch(&mut self, id: ConnId, on: bool) -> Vec<(Subject, Vec<u8>)> {
        let Some(port) = self.ports.get_mut(&id) else { return Vec::new() };
        port.is_on = on;
        if !on {
            return Vec::new();
        }
        let opening = opening(&self.wanted.get(&port.line).copied().unwrap_or_default());
        for (subject, body) in &opening {
            port.asks(*subject, body);
        }
        opening
    }

    /// It has confirmed something, with which its line is as it is now. Returns whether that is the answer to
    /// what it was asked last.
    pub(super) fn confirms(&mut self, id: ConnId, subject: Subject, body: &[u8], line: &Line) -> bool {
        let Some(port) = self.ports.get_mut(&id) else { return false };
        let is_last = port.answers(subject, body);
        let bit = 1 << subject as u16;
        if is_last && port.set & bit != 0 {
            port.set &= !bit;
            self.wanted.entry(port.line).or_default().want_as(subject, line);
        }
        is_last
    }

    /// It ends. Returns whether it was there.
    pub(super) fn remove(&mut self, id: ConnId) -> bool {
        self.ports.remove(&id).is_some()
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
    /// What was typed waits.
    pub(super) fn holds(&self) -> bool {
        self.is_suspended || self.is_breaking
    }

    /// It is asked this.
    fn asks(&mut self, subject: Subject, body: &[u8]) {
        let owed = &mut self.owed[subject as usize];
        *owed = Owed { count: owed.count.saturating_add(1), last: value(body) };
    }

    /// It has answered. Returns whether that is the answer to what it was asked last: there are some that
    /// leave an answer out, and then it is the value that tells.
    fn answers(&mut self, subject: Subject, body: &[u8]) -> bool {
        let owed = &mut self.owed[subject as usize];
        let is_last = owed.count <= 1 || (owed.last != 0 && owed.last == value(body));
        owed.count = if is_last { 0 } else { owed.count - 1 };
        is_last
    }

    /// Appends the beginning of a break, which ends by itself.
    pub(super) fn begin_break(&mut self, id: ConnId, out: &mut Vec<u8>, fx: &mut Effects) {
        put_break(true, out);
        self.is_breaking = true;
        fx.timers.set(Timer::Break(id), fx.now + BREAK);
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

    /// A client asks the port itself.
    pub(super) fn ask_port(&mut self, port: ConnId, subject: Subject, body: &[u8]) {
        let is_query = matches!(body, [_, 0] | [_, 0, 0, 0, 0]);
        if let Some(port) = self.remote_ports.get_mut(port) {
            port.asks(subject, body);
            port.set |= u16::from(!is_query) << subject as u16;
        }
        self.reply(port, |out| put_command_of(body, out));
    }

    /// A break has had its time.
    pub(super) fn end_break(&mut self, id: ConnId) {
        let Some(port) = self.remote_ports.get_mut(id) else { return };
        port.is_breaking = false;
        if let Some(conn) = self.conns.get_mut(id) {
            conn.queue_control(id, &mut self.fx, |out| put_break(false, out));
        }
    }
}

/// How long a break lasts: what POSIX has for tcsendbreak, a quarter of a second to half of one.
const BREAK: Duration = Duration::from_millis(250);
