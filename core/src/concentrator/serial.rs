//! Clients that take a console for a serial port (RFC 2217, com-port.md §2): its settings, and the lines of
//! its modem.
//!
//! A VM's UART has no speed and no parity. What clients set is remembered for the console, confirmed, and
//! means nothing else; the carrier is there while the VM is. A program reads what the VM prints: no line of
//! text is put into that.

use crate::telnet::com_port::{Asked, CARRIER, CLEAR_TO_SEND, DATA_SET_READY};

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

    /// A client has sent a command of COM-PORT. Returns what it asks for beyond settings.
    pub(super) fn serial_says(&mut self, id: ConnId, body: &[u8]) -> Option<Asked> {
        let client = self.conns.get_mut(id)?.client_mut()?;
        let (at, session) = (client.console, client.serial.as_mut()?);
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

    /// A console's VM may have come or gone: clients that take it for a serial port see its carrier.
    pub(super) fn tell_modems(&mut self, at: ConsoleId) {
        if !self.consoles.has_line(at) {
            return;
        }
        let modem = self.modem(at);
        let clients = self.consoles.get(at).map(|console| console.clients().collect::<Vec<_>>());
        for id in clients.unwrap_or_default() {
            self.tell_modem(id, modem);
        }
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

    /// Input is always taken, if only to be dropped; the carrier is the VM.
    fn modem(&self, at: ConsoleId) -> u8 {
        let has_vm = self.consoles.get(at).is_some_and(|console| !console.legs.is_empty());
        DATA_SET_READY | CLEAR_TO_SEND | if has_vm { CARRIER } else { 0 }
    }
}
