//! Clients that take a console for a serial port (RFC 2217, com-port.md §2): its settings, and the lines of
//! its modem.
//!
//! A VM's UART has no speed and no parity. What clients set is remembered for the console, confirmed, and
//! means nothing else; the carrier is there while the VM is. Where the console is a port that can be set, it
//! is that which is set and answers. A program reads what the VM prints: no line of text is put into that.

use crate::telnet::com_port::{Asked, CARRIER, CLEAR_TO_SEND, DATA_SET_READY, PURGE, put_what_holds};
use crate::telnet::com_port_client::{self, Subject};

use super::Concentrator;
use super::conn::Conn;
use super::event::Fault;
use super::id::{ConnId, ConsoleId};
use super::remote_ports::Asking;

/// What comes of a command beyond settings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Upshot {
    /// A break.
    Break,
    /// It skips what it was not shown yet.
    Skip,
    /// It takes output again.
    Resume,
    /// The port was asked, and is to come to that behind what was typed.
    Carried {
        /// The same as [`Skip`](Self::Skip), too.
        skips: bool,
    },
}

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

    /// A client has sent a command of COM-PORT. `may_set`: a port that is elsewhere, too. Returns what comes
    /// of it beyond settings.
    pub(super) fn serial_says(&mut self, id: ConnId, body: &[u8], may_set: bool) -> Option<Upshot> {
        let at = self.conns.get(id)?.client()?.console;
        let line = *self.consoles.keep_line(at);
        let is_ports = matches!(Subject::of(body), Some(subject) if subject != Subject::Break)
            && com_port_client::has_known_value(body);
        if let Some(port) = self.port_at(at).filter(|_| is_ports) {
            if !may_set || !self.ask_port(port, id, body) {
                self.reply(id, |out| put_what_holds(body, &line, out));
                return None;
            }
            return Some(Upshot::Carried { skips: matches!(body, [PURGE, 1 | 3]) });
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
                self.catch_up_on_modem(id);
                Some(Upshot::Resume)
            }
            Ok(Some(Asked::Break)) => Some(Upshot::Break),
            Ok(Some(Asked::Purge { received: true, .. })) => Some(Upshot::Skip),
            Ok(Some(Asked::Purge { .. } | Asked::Suspend) | None) => None,
            Err(_) => {
                self.malformed(id, Fault::ComPort);
                None
            }
        }
    }

    /// These are answered, or never will be: whoever has asked hears what holds.
    pub(super) fn answer_askers(&mut self, at: ConsoleId, answered: Vec<Asking>) {
        if answered.is_empty() {
            return;
        }
        let line = *self.consoles.keep_line(at);
        for asking in answered {
            let Some(who) = asking.who else { continue };
            let Some(conn) = self.conns.get_mut(who) else { continue };
            let put = |out: &mut Vec<u8>| put_what_holds(&asking.body, &line, out);
            match conn.client() {
                // It goes on being read.
                Some(client) if client.is_suspended() => self.reply(who, put),
                Some(_) => conn.queue_control(who, &mut self.fx, put),
                None => {}
            }
        }
    }

    /// A console's VM may have come or gone: clients that take it for a serial port see its carrier.
    pub(super) fn tell_modems(&mut self, at: ConsoleId) {
        if !self.consoles.has_line(at) {
            return;
        }
        let modem = self.modem(at);
        for id in self.serial_clients(at) {
            self.tell_modem(id, modem);
        }
    }

    /// Something has happened on the line of the port that a console is.
    pub(super) fn tell_line_state(&mut self, at: ConsoleId, state: u8) {
        for id in self.serial_clients(at) {
            let Some(conn) = self.conns.get_mut(id) else { continue };
            let Some(session) = conn.client_mut().and_then(|client| client.serial.as_mut()) else { continue };
            let mut told = Vec::new();
            session.tell_line(state, &mut told);
            if !told.is_empty() {
                self.reply(id, |out| out.append(&mut told));
            }
        }
    }

    /// A client takes what it is told again: it may have missed a change of the modem's signals.
    pub(super) fn catch_up_on_modem(&mut self, id: ConnId) {
        if let Some(at) = self.conns.get(id).and_then(Conn::client).map(|client| client.console) {
            self.tell_modem(id, self.modem(at));
        }
    }

    fn serial_clients(&self, at: ConsoleId) -> Vec<ConnId> {
        let is_serial = |id: &ConnId| {
            self.conns.get(*id).and_then(Conn::client).is_some_and(|client| client.serial.is_some())
        };
        self.consoles.get(at).map(|console| console.clients().filter(is_serial).collect()).unwrap_or_default()
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
