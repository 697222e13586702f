//! Listeners: where hosts connect, and one client port per console.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::Concentrator;
use super::address::Address;
use super::admission::{Kind, Source, Verdict};
use super::console::Console;
use super::effects::Newcomer;
use super::event::{EventKind, ListenError};
use super::id::{ConsoleId, ListenerId};
use super::output::Output;
use super::ports::RETRY;
use super::rules::{ConsoleRule, RulePort};
use super::tenure::SETTLED;
use super::timers::Timer;

#[derive(Clone, Debug)]
pub(super) struct Listener {
    pub(super) purpose: Purpose,
    address: Address,
    /// Its VM was told of without it.
    late: bool,
    /// Another was tried before, which was told of.
    is_second: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    /// Hosts connect here.
    Vms,
    /// This line connects here.
    Line(u16),
    /// Clients of this console connect here; the port that was asked for.
    Clients(ConsoleId, u16),
    /// Those connect here who ask about consoles, by whatever protocol.
    Admin,
}

impl Listener {
    /// A listener for those who ask.
    pub(super) fn admin(address: Address) -> Self {
        Self { purpose: Purpose::Admin, address, late: false, is_second: false }
    }

    /// A listener for a serial line.
    pub(super) fn line(number: u16, address: Address) -> Self {
        Self { purpose: Purpose::Line(number), address, late: false, is_second: false }
    }

    /// A listener for hosts.
    pub(super) fn vms(address: Address) -> Self {
        Self { purpose: Purpose::Vms, address, late: false, is_second: false }
    }
}

impl Concentrator {
    /// This listener is for those who ask about consoles.
    #[must_use]
    pub fn is_admin_listener(&self, id: ListenerId) -> bool {
        self.listeners.get(id).is_some_and(|listener| matches!(listener.purpose, Purpose::Admin))
    }

    /// This listener is a client port.
    #[must_use]
    pub fn is_client_listener(&self, id: ListenerId) -> bool {
        self.port_asked_for(id).is_some()
    }

    /// The port that a console's listener was asked for.
    pub(super) fn port_asked_for(&self, id: ListenerId) -> Option<u16> {
        match self.listeners.get(id)?.purpose {
            Purpose::Clients(_, port) => Some(port),
            Purpose::Vms | Purpose::Line(_) | Purpose::Admin => None,
        }
    }

    /// A listener was opened, or could not be.
    pub(super) fn listening(&mut self, id: ListenerId, bound: Result<Address, ListenError>) {
        let Some(listener) = self.listeners.get_mut(id) else { return };
        match (listener.purpose, bound) {
            (purpose @ (Purpose::Vms | Purpose::Line(_) | Purpose::Admin), Ok(bound)) => {
                listener.address = bound.clone();
                let kind = match purpose {
                    Purpose::Admin => EventKind::AdminListening(id, bound),
                    _ => EventKind::Listening(id, bound),
                };
                self.emit_event(None, None, kind);
            }
            (Purpose::Vms | Purpose::Line(_) | Purpose::Admin, Err(why)) => {
                let address = listener.address.clone();
                self.listeners.remove(id);
                self.emit_event(None, None, EventKind::ListenFailed(id, address, why));
            }
            (Purpose::Clients(at, asked), Ok(bound)) => {
                let port = bound.tcp_port().unwrap_or(asked);
                listener.address = bound;
                let is_late = listener.late;
                if let Some(console) = self.consoles.get_mut(at) {
                    Arc::make_mut(&mut console.label).port = Some(port);
                    self.fx.outbox.changed(at);
                    if console.has_guest {
                        // It keeps the label that its streams were called after.
                        self.fx.look_after_guest(at);
                    }
                    if is_late {
                        self.emit_of_console(at, EventKind::PortOpened(port));
                    }
                }
                self.emit_identified(at);
            }
            (Purpose::Clients(at, port), Err(why)) => {
                let is_ports_fault = matches!(why, ListenError::InUse | ListenError::Denied);
                let was_late = listener.late;
                let is_told = listener.is_second || (was_late && !is_ports_fault);
                self.listeners.remove(id);
                if let Some(console) = self.consoles.get_mut(at) {
                    console.listener = None;
                }
                self.consoles.consider_yielding(at);
                if !is_told {
                    self.emit_of_console(at, EventKind::PortTaken(port, why));
                }
                self.port_failed(at, port, why);
                if was_late {
                    self.note(at, |listener| listener.late = true);
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
            self.open_port_for(Newcomer { console, is_late: false });
            self.note(console, |listener| listener.is_second = true);
        } else {
            ports.give_back(port);
            self.wait_for_port(console);
        }
    }

    /// Opens a client port for a console that has none: later, where VMs come all at once.
    pub(super) fn open_port(&mut self, at: ConsoleId) {
        let now = self.fx.now;
        if self.consoles.port_needs_name(at) {
            // Hosts tell it at once. For one that does not, the rules for UUIDs alone have to do.
            return self.queue_for_port(at);
        }
        if self.ports.as_mut().is_some_and(|ports| ports.rush.arrive(now)) {
            return self.put_off(at);
        }
        self.open_port_for(Newcomer { console: at, is_late: false });
    }

    /// This console's port comes a moment later, and its VM is told of then.
    fn put_off(&mut self, at: ConsoleId) {
        let Some(ports) = &mut self.ports else { return };
        let due = ports.rush.put_off(at, self.fx.now);
        if self.fx.timers.deadline(Timer::Ports).is_none_or(|at| at > due) {
            self.fx.timers.set(Timer::Ports, due);
        }
    }

    /// The same, where its VM may have been told of without one. A console that nobody uses may have to yield
    /// its port; then this comes again once it has.
    pub(super) fn open_port_for(&mut self, newcomer: Newcomer) {
        let at = newcomer.console;
        if self.ports.is_none() || self.shutting_down {
            return;
        }
        if self.consoles.get(at).is_none_or(|console| console.listener.is_some()) {
            return;
        }
        let rule = self.consoles.rule(at).map(|rule| rule.port);
        if rule == Some(RulePort::None) || self.consoles.is_stream_without_port(at) {
            return self.emit_identified(at);
        }
        // None was kept for it where there were open ports to spare, of VMs that may come again, or where
        // many came in at a time.
        if !self.admission.is_one_free(self.listeners.len()) {
            let (now, spare) = (self.fx.now, self.consoles.ports_without_vm());
            let verdict = self.admission.judge(Kind::Vm, Source::Nowhere, self.listeners.len(), spare, now);
            if matches!(verdict, Verdict::Evict(_)) {
                // A stranger leaves for it as soon as the timer fires, before a console is forgotten for it.
                return self.put_off(at);
            }
            return match self.consoles.yields_port(at, self.fx.now) {
                Some(unused) => self.fx.yields(unused, Some(newcomer)),
                None => self.wait_for_port(at),
            };
        }
        let Some(ports) = &mut self.ports else { return };
        let port = match rule {
            Some(RulePort::This(port)) if ports.take_own(port) => Some(port),
            _ => ports.take(self.consoles.number(at)),
        };
        if let Some(port) = port {
            self.open_this_port(at, port);
            if newcomer.is_late {
                self.note(at, |listener| listener.late = true);
            }
        } else if ports.may_grow() {
            // Nobody is forgotten for that.
            self.wait_for_port(at);
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

    /// A console is called otherwise: the rule for that counts, and its client port is the one that it says.
    /// Who is connected stays connected, but for those who may not be there by the new rule.
    pub(super) fn apply_rule(&mut self, at: ConsoleId) {
        let list = self.consoles.may(at).cloned();
        let (watching, had_list) = (self.watching(at), self.consoles.has_list(at));
        self.consoles.find_rule(at);
        for member in self.consoles.guests.members(at).collect::<Vec<_>>() {
            self.fx.apply_rule(member);
        }
        self.meet_guest(at);
        if self.consoles.may(at) != list.as_ref() {
            self.list_has_changed(at, had_list);
            self.lose_sight(at, &watching);
        }
        if !self.has_port_of_rule(at) {
            self.close_port(at);
            self.open_port(at);
        }
        self.emit_identified(at);
    }

    /// Rules have changed: consoles have the client ports that theirs say. Those of `changed` have another
    /// rule than before, or none. Costs a look at each console.
    pub(super) fn fit_ports(&mut self, changed: &[ConsoleId]) {
        if let Some(ports) = &mut self.ports {
            ports.change_own(self.config.console_rules.iter().filter_map(ConsoleRule::own_port));
        }
        // First those are closed that others are to have.
        let has_wrong_one = |&at: &ConsoleId| {
            self.consoles.get(at).is_some_and(|console| console.listener.is_some())
                && !self.has_port_of_rule(at)
        };
        let all: Vec<ConsoleId> = self.consoles.iter().map(Console::id).collect();
        let closed: Vec<ConsoleId> = all.into_iter().filter(has_wrong_one).collect();
        for &at in &closed {
            self.close_port(at);
        }
        for &at in closed.iter().chain(changed) {
            if self.consoles.get(at).is_some_and(|console| console.listener.is_none()) {
                self.open_port(at);
            }
        }
    }

    /// Whether a console has the client port that its rule says, or none if that says so.
    fn has_port_of_rule(&self, at: ConsoleId) -> bool {
        let Some(console) = self.consoles.get(at) else { return true };
        if self.consoles.is_stream_without_port(at) {
            return console.listener.is_none();
        }
        let has = console.listener.and_then(|id| self.port_asked_for(id));
        let is_own = |port| self.ports.as_ref().is_some_and(|ports| ports.is_own(port));
        match (self.consoles.rule(at).map_or(RulePort::Any, |rule| rule.port), has) {
            (RulePort::None, has) => has.is_none(),
            (RulePort::This(port), has) => has == Some(port),
            (RulePort::Any, Some(port)) => !is_own(port),
            (RulePort::Any, None) => !self.consoles.ports_need_names(),
        }
    }

    /// Opens a client port that was taken for this console.
    pub(super) fn open_this_port(&mut self, at: ConsoleId, port: u16) {
        let Some(console) = self.consoles.get_mut(at) else { return };
        let address = self.config.client_interface.port(port);
        let purpose = Purpose::Clients(at, port);
        let listener = Listener { purpose, address: address.clone(), late: false, is_second: false };
        let listener = self.listeners.insert(listener);
        console.listener = Some(listener);
        self.consoles.consider_yielding(at);
        self.fx.outbox.push(Output::Listen(listener, address));
    }

    pub(super) fn wait_for_port(&mut self, console: ConsoleId) {
        self.queue_for_port(console);
        // The VM is served all the same, and told of without a port.
        self.emit_identified(console);
    }

    fn queue_for_port(&mut self, console: ConsoleId) {
        if let Some(ports) = &mut self.ports {
            ports.waiting.push_back(console);
            if !self.fx.timers.is_set(Timer::Ports) {
                self.fx.timers.set(Timer::Ports, self.fx.now + RETRY);
            }
        }
    }

    /// Closes client ports of VMs that have hardly been there, for a newcomer for whom there is no
    /// descriptor: of the address that has the most such ports, the newest first. Who is connected stays
    /// connected: a VM without a port is better served than one that is refused. Returns whether any was
    /// closed. Costs a look at every console, which pays for many newcomers.
    pub(super) fn shed_ports(&mut self) -> bool {
        if !self.admission.may_shed_ports() {
            return false;
        }
        let mut by_source: BTreeMap<Source, Vec<(Duration, ConsoleId)>> = BTreeMap::new();
        for console in self.consoles.iter().filter(|console| console.listener.is_some()) {
            let stayed = console.tenure.stayed(self.fx.now);
            if let Some(holder) = console.legs.holder().and_then(|id| self.conns.get(id))
                && stayed < YOUNG
            {
                by_source.entry(holder.source()).or_default().push((stayed, console.id()));
            }
        }
        let Some(mut young) = by_source.into_values().max_by_key(Vec::len) else { return false };
        young.sort_unstable_by_key(|&(stayed, at)| (stayed, Reverse(at)));
        for (_, at) in young.into_iter().take(self.admission.batch()) {
            if let Some(port) = self.consoles.label(at).and_then(|label| label.port) {
                self.emit_of_console(at, EventKind::PortShed(port));
            }
            self.close_port(at);
            self.queue_for_port(at);
        }
        true
    }

    /// Tries again for consoles without a port, as far as there are descriptors. For `made` of them somebody
    /// has left.
    pub(super) fn retry_ports(&mut self, made: usize) {
        let Some(ports) = &mut self.ports else { return };
        ports.reconsider(self.fx.now);
        let mut waiting = std::mem::take(&mut ports.waiting);
        // Who has come back meanwhile has a port, or waits twice.
        let mut seen = BTreeSet::new();
        waiting.retain(|&at| {
            self.consoles.get(at).is_some_and(|console| console.listener.is_none()) && seen.insert(at)
        });
        let mut tried = 0;
        while tried < TRIED_AT_ONCE
            && let Some(&console) = waiting.front()
        {
            let is_late = !self.consoles.port_needs_name(console);
            let newcomer = Newcomer { console, is_late };
            let spare = self.consoles.ports_without_vm();
            if self.admission.has_room_for_port(self.listeners.len(), spare)
                || (tried < made && self.admission.is_one_free(self.listeners.len()))
            {
                self.open_port_for(newcomer);
            } else if let Some(unused) = self.consoles.yields_descriptor(Some(console)) {
                self.fx.yields(unused, Some(newcomer));
            } else {
                break;
            }
            waiting.pop_front();
            tried += 1;
        }
        if let Some(ports) = &mut self.ports {
            ports.waiting.append(&mut waiting);
        }
        if let Some(ports) = &self.ports
            && !ports.waiting.is_empty()
        {
            let pause = if tried < TRIED_AT_ONCE { RETRY } else { SOON };
            self.fx.timers.set(Timer::Ports, self.fx.now + pause);
        }
    }

    /// Notes something of the port that is being opened for a console.
    fn note(&mut self, at: ConsoleId, note: impl FnOnce(&mut Listener)) {
        let listener = self.consoles.get(at).and_then(|console| console.listener);
        if let Some(listener) = listener.and_then(|id| self.listeners.get_mut(id)) {
            note(listener);
        }
    }

    /// Closes a console's client port; it is free for the next.
    pub(super) fn close_port(&mut self, at: ConsoleId) {
        let Some(console) = self.consoles.get_mut(at) else { return };
        let Some(id) = console.listener.take() else { return };
        Arc::make_mut(&mut console.label).port = None;
        console.note_kept(None);
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
                Some(Purpose::Vms | Purpose::Line(_) | Purpose::Admin) => {
                    self.listeners.remove(id);
                    self.fx.outbox.push(Output::Unlisten(id));
                }
                None => {}
            }
        }
    }
}

/// How many consoles without a port are tried at a time: each costs the runtime a dozen system calls.
pub(super) const TRIED_AT_ONCE: usize = 256;

/// When the next of them are.
const SOON: Duration = Duration::from_millis(100);

/// A VM that has been connected for less in total may have its client port closed for a newcomer.
const YOUNG: Duration = Duration::from_micros(SETTLED);
