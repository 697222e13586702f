//! What access servers say of their serial ports, which are consoles here (com-port.md §3), and who is told.

use crate::telnet::com_port::Session;
use crate::telnet::com_port_client::{self, Heard, Subject, put_command_of, put_masks};

use super::Concentrator;
use super::conn::Conn;
use super::event::{EventKind, Fault};
use super::id::{ConnId, ConsoleId};
use super::timers::Timer;

impl Concentrator {
    /// A line has agreed to be set, or not.
    pub(super) fn remote_port_switched(&mut self, id: ConnId, on: bool) {
        let opening = self.remote_ports.switch(id, on);
        if !on {
            self.answer_for(id);
            return self.emit(id, EventKind::PortNotSettable);
        }
        if let Some(conn) = self.conns.get_mut(id) {
            conn.queue_control(id, &mut self.fx, |out| {
                for (_, body) in &opening {
                    put_command_of(body, out);
                }
                put_masks(out);
            });
        }
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
            Ok(Heard::LineState(state)) => {
                self.tell_serial_clients(at, |session, _, out| session.tell_line(state, out));
            }
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
        if self.remote_ports.confirms(id, subject, body, self.consoles.keep_line(at)) {
            self.tell_serial_clients(at, |session, line, out| {
                session.confirmed(subject, &body[1..], line, out);
            });
        }
    }

    /// A connection ends, which may be one of a port's.
    pub(super) fn remote_port_ends(&mut self, id: ConnId) {
        if self.remote_ports.remove(id) {
            self.answer_for(id);
            self.fx.timers.cancel(Timer::Break(id));
        }
    }

    /// It will not answer: whoever has asked it hears what it was last known to have.
    fn answer_for(&mut self, id: ConnId) {
        let Some(at) = self.conns.get(id).and_then(Conn::console) else { return };
        if self.consoles.has_line(at) {
            self.tell_serial_clients(at, Session::stop_waiting);
        }
    }
}
