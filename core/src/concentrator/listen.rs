//! Listeners: where hosts connect, and one client port per console.

use std::net::SocketAddr;
use std::sync::Arc;

use super::Concentrator;
use super::address::Address;
use super::effects::Newcomer;
use super::event::{EventKind, ListenError};
use super::id::{ConsoleId, ListenerId};
use super::output::Output;
use super::ports::RETRY;
use super::timers::Timer;

#[derive(Clone, Debug)]
pub(super) struct Listener {
    pub(super) purpose: Purpose,
    address: Address,
    /// Its VM was told of without it.
    late: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    /// Hosts connect here.
    Vms,
    /// Clients of this console connect here; the port that was asked for.
    Clients(ConsoleId, u16),
    /// Those connect here who ask about consoles, by whatever protocol.
    Admin,
}

impl Listener {
    /// A listener for those who ask.
    pub(super) fn admin(address: Address) -> Self {
        Self { purpose: Purpose::Admin, address, late: false }
    }

    /// A listener for hosts.
    pub(super) fn vms(address: Address) -> Self {
        Self { purpose: Purpose::Vms, address, late: false }
    }
}

impl Concentrator {
    /// This listener is for those who ask about consoles.
    #[must_use]
    pub fn is_admin_listener(&self, id: ListenerId) -> bool {
        self.listeners.get(id).is_some_and(|listener| matches!(listener.purpose, Purpose::Admin))
    }

    /// A listener was opened, or could not be.
    pub(super) fn listening(&mut self, id: ListenerId, bound: Result<Address, ListenError>) {
        let Some(listener) = self.listeners.get_mut(id) else { return };
        match (listener.purpose, bound) {
            (purpose @ (Purpose::Vms | Purpose::Admin), Ok(bound)) => {
                listener.address = bound.clone();
                let kind = match purpose {
                    Purpose::Admin => EventKind::AdminListening(id, bound),
                    _ => EventKind::Listening(id, bound),
                };
                self.emit_event(None, None, kind);
            }
            (Purpose::Vms | Purpose::Admin, Err(why)) => {
                let address = listener.address.clone();
                self.listeners.remove(id);
                self.emit_event(None, None, EventKind::ListenFailed(id, address, why));
            }
            (Purpose::Clients(at, _), Ok(bound)) => {
                listener.address = bound.clone();
                let is_late = listener.late;
                if let Some(console) = self.consoles.get_mut(at)
                    && let Address::Ip(address) = bound
                {
                    let port = address.port();
                    Arc::make_mut(&mut console.label).port = Some(port);
                    self.fx.outbox.changed(at);
                    if is_late {
                        self.emit_of_console(at, EventKind::PortOpened(port));
                    }
                }
                self.emit_identified(at);
            }
            (Purpose::Clients(at, port), Err(why)) => {
                let was_late = self.listeners.remove(id).is_some_and(|listener| listener.late);
                if let Some(console) = self.consoles.get_mut(at) {
                    console.listener = None;
                }
                self.consoles.consider_yielding(at);
                self.emit_of_console(at, EventKind::PortTaken(port, why));
                self.port_failed(at, port, why);
                if was_late {
                    self.note_late(at);
                }
            }
        }
    }

    /// Something else holds the port: the next one. Anything else, such as no descriptor left, is no
    /// fault of the port's: it is tried again later.
    fn port_failed(&mut self, console: ConsoleId, port: u16, why: ListenError) {
        let Some(ports) = &mut self.ports else { return };
        if matches!(why, ListenError::InUse | ListenError::Denied) && port != 0 {
            ports.pass_over(port, self.fx.now);
            self.open_port(console);
        } else {
            ports.give_back(port);
            self.wait_for_port(console);
        }
    }

    /// Opens a client port for a console that has none.
    pub(super) fn open_port(&mut self, at: ConsoleId) {
        self.open_port_for(Newcomer { console: at, is_late: false });
    }

    /// The same, where its VM may have been told of without one. A console that nobody uses may have to yield
    /// its port; then this comes again once it has.
    pub(super) fn open_port_for(&mut self, newcomer: Newcomer) {
        let at = newcomer.console;
        let Some(ports) = &mut self.ports else { return };
        if self.shutting_down || self.consoles.get(at).is_none_or(|console| console.listener.is_some()) {
            return;
        }
        if let Some(port) = ports.take(self.consoles.number(at)) {
            self.open_this_port(at, port);
            if newcomer.is_late {
                self.note_late(at);
            }
        } else if let Some(unused) = self.consoles.yields_port(at, self.fx.now) {
            self.fx.yields(unused, Some(newcomer));
        } else {
            // That there is none is told once.
            if !newcomer.is_late {
                self.emit_of_console(at, EventKind::PortsExhausted);
            }
            self.wait_for_port(at);
        }
    }

    /// Opens a client port that was taken for this console.
    pub(super) fn open_this_port(&mut self, at: ConsoleId, port: u16) {
        let Some(console) = self.consoles.get_mut(at) else { return };
        let address = Address::Ip(SocketAddr::new(self.config.client_interface, port));
        let purpose = Purpose::Clients(at, port);
        let listener = self.listeners.insert(Listener { purpose, address: address.clone(), late: false });
        console.listener = Some(listener);
        self.consoles.consider_yielding(at);
        self.fx.outbox.push(Output::Listen(listener, address));
    }

    fn wait_for_port(&mut self, console: ConsoleId) {
        if let Some(ports) = &mut self.ports {
            ports.waiting.push_back(console);
            if !self.fx.timers.is_set(Timer::Ports) {
                self.fx.timers.set(Timer::Ports, self.fx.now + RETRY);
            }
        }
        // The VM is served all the same, and told of without a port.
        self.emit_identified(console);
    }

    /// Tries again for consoles without a port.
    pub(super) fn retry_ports(&mut self) {
        let Some(ports) = &mut self.ports else { return };
        ports.reconsider(self.fx.now);
        for console in std::mem::take(&mut ports.waiting) {
            self.open_port_for(Newcomer { console, is_late: true });
        }
        if let Some(ports) = &self.ports
            && !ports.waiting.is_empty()
        {
            self.fx.timers.set(Timer::Ports, self.fx.now + RETRY);
        }
    }

    /// The port that is being opened for a console will be told of by itself.
    fn note_late(&mut self, at: ConsoleId) {
        let listener = self.consoles.get(at).and_then(|console| console.listener);
        if let Some(listener) = listener.and_then(|id| self.listeners.get_mut(id)) {
            listener.late = true;
        }
    }

    /// Closes a console's client port; it is free for the next.
    pub(super) fn close_port(&mut self, at: ConsoleId) {
        let Some(console) = self.consoles.get_mut(at) else { return };
        let Some(id) = console.listener.take() else { return };
        Arc::make_mut(&mut console.label).port = None;
        let owner = self.consoles.number(at);
        self.fx.outbox.changed(at);
        self.consoles.consider_yielding(at);
        if let Some(Listener { purpose: Purpose::Clients(_, port), .. }) = self.listeners.remove(id)
            && let Some(ports) = &mut self.ports
        {
            ports.give_back_of(port, owner);
        }
        self.fx.outbox.push(Output::Unlisten(id));
    }

    /// Closes every listener.
    pub(super) fn close_listeners(&mut self) {
        for id in self.listeners.ids() {
            match self.listeners.get(id).map(|listener| listener.purpose) {
                Some(Purpose::Clients(console, _)) => self.close_port(console),
                Some(Purpose::Vms | Purpose::Admin) => {
                    self.listeners.remove(id);
                    self.fx.outbox.push(Output::Unlisten(id));
                }
                None => {}
            }
        }
    }
}
