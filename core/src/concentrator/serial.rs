//! Clients that take a console for a serial port (RFC 2217, com-port.md §2): its settings, and the lines of
//! its modem.
//!
//! A VM's UART has no speed and no parity. What clients set is remembered for the console, confirmed, and
//! means nothing else; the carrier is there while the VM is. Where the console is a port that can be set, it
//! is that which is set and answers. A program reads what the VM prints: no line of text is put into that.

use crate::telnet::com_port::{Asked, CARRIER, CLEAR_TO_SEND, DATA_SET_READY, Line, Session};
use crate::telnet::com_port_client::Subject;

use super::Concentrator;
use super::conn::Conn;
use super::event::Fault;
use super::id::{ConnId, ConsoleId};

impl Concentrator {
    /// A client has switched COM-PORT on or off.
    pub(super) fn serial_switched(&mut self, id: ConnId, on: bool) {
        let Some(client) = self.conns.get_mut(id).and_then(Conn::client_mut) else { return };
        let at = client.console;
        client.serial = on.then(Box::default);
        if on {
            self.consoles.keep_line(at);
            // It was greeted as a person: older output that it is still being shown is none of a port's.
            self.consoles.end_replay(at, client.seat);
            self.tell_modem(id, self.modem(at));
        } else {
            // It may have been suspended.
            self.fx.outbox.transmit(id);
        }
    }

    /// A client has sent a command of COM-PORT. `may_set`: a port that is elsewhere, too. Returns what it
    /// asks for beyond settings.
    pub(super) fn serial_says(&mut self, id: ConnId, body: &[u8], may_set: bool) -> Option<Asked> {
        let client = self.conns.get_mut(id)?.client_mut()?;
        let at = client.console;
        if let Some(subject) = Subject::of(body)
            && let Some(port) = self.port_at(at)
        {
            let line = *self.consoles.keep_line(at);
            return self.asks_port(id, may_set.then_some(port), subject, body, &line);
        }
        let session = self.conns.get_mut(id)?.client_mut()?.serial.as_mut()?;
        let mut answer = std::mem::take(&mut self.answer);
        let asked = session.handle(body, self.consoles.keep_line(at), &self.config.server, &mut answer);
        if !answer.is_empty() {
            self.reply(id, |out| out.extend_from_slice(&answer));
        }
        answer.clear();
        self.answer = answer;
        match asked {
            Ok(Some(Asked::Resume)) => {
                // It may have missed one, where too much was waiting for it.
                self.tell_modem(id, self.modem(at));
                Some(Asked::Resume)
            }
            Ok(asked) => asked,
            Err(_) => {
                self.malformed(id, Fault::ComPort);
                None
            }
        }
    }

    /// A client has sent a command for the port that its console is, whose line was this last. Without a port
    /// that it may set it hears what holds.
    fn asks_port(
        &mut self,
        id: ConnId,
        port: Option<ConnId>,
        subject: Subject,
        body: &[u8],
        line: &Line,
    ) -> Option<Asked> {
        let session = self.conns.get_mut(id)?.client_mut()?.serial.as_mut()?;
        session.wait_for(subject, body);
        if let Some(port) = port {
            self.ask_port(port, subject, body);
        } else {
            let mut answer = Vec::new();
            session.stop_waiting(line, &mut answer);
            self.reply(id, |out| out.extend_from_slice(&answer));
        }
        match *body {
            // Its peer forgets what it has; so do we.
            [_, what] if subject == Subject::Purge => {
                Some(Asked::Purge { received: what & 1 != 0, unsent: what & 2 != 0 })
            }
            _ => None,
        }
    }

    /// Tells those clients of a console's that take it for a serial port something; `tell` appends it.
    pub(super) fn tell_serial_clients(
        &mut self,
        at: ConsoleId,
        mut tell: impl FnMut(&mut Session, &Line, &mut Vec<u8>),
    ) {
        let line = *self.consoles.keep_line(at);
        let clients = self.consoles.get(at).map(|console| console.clients().collect::<Vec<_>>());
        let mut told = Vec::new();
        for id in clients.unwrap_or_default() {
            let Some(conn) = self.conns.get_mut(id).filter(|conn| !conn.control.is_over_limit()) else {
                continue;
            };
            let Some(session) = conn.client_mut().and_then(|client| client.serial.as_mut()) else { continue };
            tell(session, &line, &mut told);
            if !told.is_empty() {
                self.reply(id, |out| out.append(&mut told));
            }
            told.clear();
        }
    }

    /// A console's VM may have come or gone: clients that take it for a serial port see its carrier.
    pub(super) fn tell_modems(&mut self, at: ConsoleId) {
        if !self.consoles.has_line(at) {
            return;
        }
        let modem = self.modem(at);
        self.tell_serial_clients(at, |session, _, out| session.tell_modem(modem, out));
    }

    fn tell_modem(&mut self, id: ConnId, modem: u8) {
        let Some(conn) = self.conns.get_mut(id).filter(|conn| !conn.control.is_over_limit()) else { return };
        let Some(session) = conn.client_mut().and_then(|client| client.serial.as_mut()) else { return };
        let mut told = Vec::new();
        session.tell_modem(modem, &mut told);
        if !told.is_empty() {
            self.reply(id, |out| out.extend_from_slice(&told));
        }
    }

    /// Those of the port that it is. Otherwise input is always taken, if only to be dropped; the carrier is
    /// the VM.
    fn modem(&self, at: ConsoleId) -> u8 {
        if let Some(signals) = self.signals_at(at) {
            return signals;
        }
        let has_vm = self.consoles.get(at).is_some_and(|console| !console.legs.is_empty());
        DATA_SET_READY | CLEAR_TO_SEND | if has_vm { CARRIER } else { 0 }
    }
}
