//! What access servers say of their serial ports, which are consoles here (com-port.md §3), and who is told.

use crate::telnet::com_port_client::{self, Heard, Subject, put_command_of, put_masks};

use super::Concentrator;
use super::conn::Conn;
use super::event::{EventKind, Fault};
use super::id::{ConnId, ConsoleId};
use super::timers::Timer;

impl Concentrator {
    /// A line has agreed to be set, or not.
    pub(super) fn remote_port_switched(&mut self, id: ConnId, on: bool) {
        let (opening, unanswered) = self.remote_ports.switch(id, on, self.fx.now);
        for timer in [Timer::Break(id), Timer::Answers(id)] {
            self.fx.timers.cancel(timer);
        }
        let at = self.conns.get(id).and_then(Conn::console);
        if let Some(at) = at {
            self.answer_askers(at, unanswered);
            self.tell_modems(at);
        }
        // It may have been suspended.
        self.fx.outbox.transmit(id);
        if !on {
            return self.emit(id, EventKind::PortNotSettable);
        }
        self.await_answers(id);
        self.reply(id, |out| {
            for body in &opening {
                put_command_of(body, out);
            }
            put_masks(out);
        });
    }

    /// An access server says something of its port.
    pub(super) fn remote_port_says(&mut self, id: ConnId, body: &[u8]) {
        let Some(at) = self.conns.get(id).and_then(Conn::console) else { return };
        let heard = com_port_client::handle(body, self.consoles.keep_line(at));
        let Some(port) = self.remote_ports.get_mut(id) else { return };
        match heard {
            Ok(Heard::Confirmed(subject)) => self.port_confirms(id, at, subject, body),
            Ok(Heard::Modem(signals)) => {
                port.modem = Some(signals);
                self.tell_modems(at);
            }
            Ok(Heard::LineState(state)) => self.tell_line_state(at, state),
            Ok(Heard::Suspend) => port.is_suspended = true,
            Ok(Heard::Resume) => {
                port.is_suspended = false;
                self.fx.outbox.transmit(id);
            }
            Ok(Heard::Nothing) => {}
            Err(_) => self.malformed(id, Fault::ComPort),
        }
    }

    fn port_confirms(&mut self, id: ConnId, at: ConsoleId, subject: Subject, body: &[u8]) {
        let line = *self.consoles.keep_line(at);
        let answered = self.remote_ports.confirms(id, subject, body, &line);
        self.answer_askers(at, answered);
    }

    /// What a port was asked may have waited too long: whoever has asked hears what holds.
    pub(super) fn answers_timer(&mut self, id: ConnId) {
        let (late, next) = self.remote_ports.expired(id, self.fx.now);
        if let Some(at) = self.conns.get(id).and_then(Conn::console) {
            self.answer_askers(at, late);
        }
        if let Some(next) = next {
            self.fx.timers.set(Timer::Answers(id), next);
        }
    }

    /// A connection ends, which may be one of a port's.
    pub(super) fn remote_port_ends(&mut self, id: ConnId) {
        let Some(unanswered) = self.remote_ports.remove(id) else { return };
        for timer in [Timer::Break(id), Timer::Answers(id)] {
            self.fx.timers.cancel(timer);
        }
        if let Some(at) = self.conns.get(id).and_then(Conn::console) {
            self.answer_askers(at, unanswered);
        }
    }
}
