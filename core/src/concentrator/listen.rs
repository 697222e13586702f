//! Listeners: where hosts connect, and one client port per console.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::time::Instant;

use super::Concentrator;
use super::admission::{Kind, Source, Verdict};
use super::event::{CloseReason, What};
use super::id::{ConnId, ConsoleId, ListenerId};
use super::output::{Address, Output, Peer};
use super::ports::RETRY;
use super::timers::Timer;

#[derive(Clone, Debug)]
pub(super) struct Listener {
    pub(super) purpose: Purpose,
    address: Address,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    /// Hosts connect here.
    Vms,
    /// Clients of this console connect here; the port that was asked for.
    Clients(ConsoleId, u16),
}

impl Listener {
    /// A listener for hosts.
    pub(super) fn vms(address: Address) -> Self {
        Self { purpose: Purpose::Vms, address }
    }
}

impl Concentrator {
    /// The runtime has opened a listener, or could not.
    pub fn handle_listening(&mut self, id: ListenerId, bound: Result<Address, io::ErrorKind>, now: Instant) {
        self.now = now;
        let Some(listener) = self.listeners.get_mut(id) else { return };
        match (listener.purpose, bound) {
            (Purpose::Vms, Ok(bound)) => {
                listener.address = bound.clone();
                self.tell_plain(What::Listening(id, bound));
            }
            (Purpose::Vms, Err(why)) => {
                let address = listener.address.clone();
                self.listeners.remove(id);
                self.tell_plain(What::ListenFailed(id, address, why));
            }
            (Purpose::Clients(console, _), Ok(bound)) => {
                listener.address = bound.clone();
                if let Some(opened) = self.consoles.get_mut(console)
                    && let Address::Ip(address) = bound
                {
                    Arc::make_mut(&mut opened.label).port = Some(address.port());
                }
                self.tell_identified(console);
            }
            (Purpose::Clients(console, port), Err(why)) => {
                self.listeners.remove(id);
                if let Some(console) = self.consoles.get_mut(console) {
                    console.listener = None;
                }
                self.tell_console(console, What::PortTaken(port, why));
                self.port_failed(console, port, why, now);
            }
        }
    }

    /// Something else holds the port: the next one. Anything else, such as no descriptor left, is no
    /// fault of the port's: it is tried again later.
    fn port_failed(&mut self, console: ConsoleId, port: u16, why: io::ErrorKind, now: Instant) {
        let Some(ports) = &mut self.ports else { return };
        if matches!(why, io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied) && port != 0 {
            ports.pass_over(port, now);
            self.open_port(console, now);
        } else {
            ports.give_back(port);
            self.wait_for_port(console, now);
        }
    }

    /// Opens a client port for a console that has none.
    pub(super) fn open_port(&mut self, console: ConsoleId, now: Instant) {
        let Some(ports) = &mut self.ports else { return };
        if self.shutting_down || self.consoles.get(console).is_none_or(|console| console.listener.is_some()) {
            return;
        }
        let Some(port) = ports.take() else {
            self.tell_console(console, What::PortsExhausted);
            self.wait_for_port(console, now);
            return;
        };
        let address = Address::Ip(SocketAddr::new(self.config.client_interface, port));
        let purpose = Purpose::Clients(console, port);
        let listener = self.listeners.insert(Listener { purpose, address: address.clone() });
        if let Some(console) = self.consoles.get_mut(console) {
            console.listener = Some(listener);
        }
        self.outbox.push(Output::Listen(listener, address));
    }

    fn wait_for_port(&mut self, console: ConsoleId, now: Instant) {
        if let Some(ports) = &mut self.ports {
            ports.waiting.push_back(console);
            if !self.timers.is_set(Timer::Ports) {
                self.timers.set(Timer::Ports, now + RETRY);
            }
        }
        // The VM is served all the same, and told of without a port.
        self.tell_identified(console);
    }

    /// Tries again for consoles without a port.
    pub(super) fn retry_ports(&mut self, now: Instant) {
        let Some(ports) = &mut self.ports else { return };
        ports.reconsider(now);
        for console in std::mem::take(&mut ports.waiting) {
            let Some(ports) = &mut self.ports else { return };
            let Some(waiting) = self.consoles.get(console) else { continue };
            if waiting.listener.is_some() {
                continue;
            }
            // Without a word: that there is none has been said.
            match ports.take() {
                Some(port) => {
                    ports.give_back(port);
                    self.open_port(console, now);
                }
                None => ports.waiting.push_back(console),
            }
        }
        if let Some(ports) = &self.ports
            && !ports.waiting.is_empty()
        {
            self.timers.set(Timer::Ports, now + RETRY);
        }
    }

    /// Closes a console's client port; it is free for the next.
    pub(super) fn close_port(&mut self, console: ConsoleId) {
        let Some(closing) = self.consoles.get_mut(console) else { return };
        let Some(id) = closing.listener.take() else { return };
        Arc::make_mut(&mut closing.label).port = None;
        if let Some(Listener { purpose: Purpose::Clients(_, port), .. }) = self.listeners.remove(id)
            && let Some(ports) = &mut self.ports
        {
            ports.give_back(port);
        }
        self.outbox.push(Output::Unlisten(id));
    }

    /// A connection came in on a listener. `None`: refuse it, there is no room or the listener is closed.
    pub fn handle_accepted(&mut self, on: ListenerId, peer: Peer, now: Instant) -> Option<ConnId> {
        self.now = now;
        let purpose = self.listeners.get(on)?.purpose;
        let kind = match purpose {
            Purpose::Vms => Kind::Vm,
            Purpose::Clients(..) => Kind::Client,
        };
        if self.shutting_down || !self.make_room(kind, peer.address.source(), now) {
            return None;
        }
        match purpose {
            Purpose::Vms => self.accept_vm(peer.address, now),
            Purpose::Clients(console, _) => self.accept_client(console, peer.address, now),
        }
    }

    /// Closes connections that have to leave for a newcomer. Returns whether there is room then.
    fn make_room(&mut self, kind: Kind, from: Source, now: Instant) -> bool {
        loop {
            match self.admission.judge(kind, from, self.listeners.len(), now) {
                Verdict::Admit => return true,
                Verdict::Refuse => return false,
                Verdict::Evict(id) => self.drop_conn(id, CloseReason::Evicted, now),
            }
        }
    }
}
