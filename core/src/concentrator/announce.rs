//! Telling: the world by events, peers by bounded replies, and both what a VM is called.

use std::sync::Arc;
use std::time::Duration;

use crate::time::Instant;

use super::Concentrator;
use super::admission::Source;
use super::allowance::Payer;
use super::conn::Conn;
use super::console::Console;
use super::counters::Counters;
use super::event::{Event, EventKind, Fault};
use super::id::{ConnId, ConsoleId};
use super::speech::Mode;
use super::timers::Timer;
use super::unshown::Unshown;

impl Concentrator {
    /// Tells an event of a connection, and of the console that it has to do with.
    pub(super) fn emit(&mut self, id: ConnId, kind: EventKind) {
        let console = self.conns.get(id).and_then(Conn::console);
        self.emit_event(Some(id), console, kind);
    }

    /// Tells an event of a console.
    pub(super) fn emit_of_console(&mut self, console: ConsoleId, kind: EventKind) {
        self.emit_event(None, Some(console), kind);
    }

    pub(super) fn emit_event(&mut self, id: Option<ConnId>, console: Option<ConsoleId>, kind: EventKind) {
        let conn = id.and_then(|id| self.conns.get(id));
        let is_silent = kind.is_last() && conn.is_some_and(|conn| !conn.spoken && conn.is_nobody());
        let peer = conn.map(|conn| conn.peer.clone());
        let console = console.and_then(|id| self.consoles.get(id));
        let payer = console.map(|console| payer(&kind, id.zip(conn), console, self.fx.now));
        // One that expires gives up what was kept for it, and is told of however short its VM was there.
        let is_brief = matches!(kind, EventKind::ConsoleYielded)
            && console.is_some_and(|console| console.tenure.stayed(self.fx.now) < A_WHILE);
        let console = console.map(|console| Arc::clone(&console.label));
        let event = Event { kind, conn: id, peer, console, is_routine: is_silent || is_brief };
        let is_left_out = self.fx.outbox.event(event, payer, self.fx.now);
        if is_silent {
            self.silent_peers = self.silent_peers.saturating_add(1);
        }
        if (is_silent || is_left_out) && !self.fx.timers.is_set(Timer::Summary) {
            self.fx.timers.set(Timer::Summary, self.fx.now + SUMMARY);
        }
    }

    /// Tells in one line how many peers came, said nothing and went; how much strangers had to say beyond
    /// that; and how much was left out of what others had, by address.
    pub(super) fn emit_summary(&mut self) {
        let silent = std::mem::take(&mut self.silent_peers);
        let suppressed = self.fx.outbox.take_strangers_suppressed();
        if silent > 0 {
            self.emit_event(None, None, EventKind::SilentPeers(silent));
        }
        if suppressed > 0 {
            self.emit_event(None, None, EventKind::StrangersSuppressed(suppressed));
        }
        for (from, events) in self.fx.outbox.take_addresses_suppressed() {
            self.emit_event(None, None, EventKind::AddressSuppressed { from, events });
        }
    }

    /// Tells that a peer broke the protocol: once per connection, the rest is counted.
    pub(super) fn malformed(&mut self, id: ConnId, fault: Fault) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let is_first = !std::mem::replace(&mut conn.malformed_told, true);
        self.consoles.count_in(conn.console(), &mut self.fx.counters).malformed += 1;
        if is_first {
            self.emit(id, EventKind::Malformed(fault));
        }
    }

    /// Answers a peer, in the bounded way of [`Conn::queue_reply`].
    pub(super) fn reply(&mut self, id: ConnId, put: impl FnOnce(&mut Vec<u8>)) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        // To a line that takes a guest's bytes it would be input.
        if conn.vm().is_some_and(|vm| vm.wire.is_raw()) {
            return;
        }
        if !conn.queue_reply(id, &mut self.fx, put) {
            self.count_for(id).replies_dropped += 1;
        }
    }

    /// The counters that something on this connection belongs to.
    pub(super) fn count_for(&mut self, id: ConnId) -> &mut Counters {
        let console = self.conns.get(id).and_then(Conn::console);
        self.consoles.count_in(console, &mut self.fx.counters)
    }

    /// The counters of a console.
    pub(super) fn count_in(&mut self, console: ConsoleId) -> &mut Counters {
        self.consoles.count_in(Some(console), &mut self.fx.counters)
    }

    /// A line on the screens of a console's telnet clients. A raw one gets none: it would be corruption.
    /// Costs a look at each client.
    pub(super) fn show_line(&mut self, at: ConsoleId, text: &str) {
        let Some(console) = self.consoles.get(at) else { return };
        for id in console.clients().collect::<Vec<_>>() {
            self.show_line_to(id, text);
        }
    }

    /// A line on the screen of one client, if it is a person's telnet client.
    pub(super) fn show_line_to(&mut self, id: ConnId, text: &str) {
        let client = self.conns.get(id).and_then(Conn::client);
        if client
            .is_some_and(|client| client.mode == Mode::Telnet && !client.is_seeded && client.serial.is_none())
        {
            self.reply(id, |out| out.extend_from_slice(format!("\r\n[vspc: {text}]\r\n").as_bytes()));
        }
    }

    /// Shows at a console what its VM has printed before that console was known, and says if some of it is
    /// gone.
    pub(super) fn show_early(&mut self, at: ConsoleId, from: ConnId, unshown: Unshown) {
        let dropped = unshown.dropped();
        self.consoles.adopt(at, from, unshown, &mut self.fx);
        if dropped > 0 {
            self.emit_of_console(at, EventKind::EarlyOutputDropped(dropped));
            self.show_line(at, &format!("{dropped} bytes that the VM printed at first were dropped"));
        }
    }

    /// The console is called `name` (in full) from now on, after the VM of this connection.
    pub(super) fn name_console(&mut self, at: ConsoleId, id: ConnId, name: &str) {
        let Some(console) = self.consoles.get_mut(at) else { return };
        if console.label.name != name {
            let from = std::mem::replace(&mut Arc::make_mut(&mut console.label).name, name.to_owned());
            self.fx.outbox.changed(at);
            if !from.is_empty() {
                self.emit_event(Some(id), Some(at), EventKind::VmRenamed(from));
            }
            if self.consoles.has_rules() {
                self.fx.apply_rule(at);
            }
        }
        self.emit_identified(at);
    }

    /// Tells of VMs that were identified, once name and port are known with which they are to be told.
    pub(super) fn emit_identified(&mut self, at: ConsoleId) {
        let Some(console) = self.consoles.get(at) else { return };
        let port_is_coming = (console.listener.is_some() && console.label.port.is_none())
            || self.fx.is_newcomer(at)
            || self.ports.as_ref().is_some_and(|ports| ports.rush.has(at));
        if console.label.name.is_empty() || port_is_coming {
            return;
        }
        // One that is called otherwise may turn out to be another VM.
        let legs = console.legs.conns().filter(|&id| console.legs.other_name(id).is_none());
        for id in legs.collect::<Vec<_>>() {
            self.emit_identified_of(id);
        }
    }

    /// Tells that this connection's VM was identified, unless that was told before.
    pub(super) fn emit_identified_of(&mut self, id: ConnId) {
        if let Some(vm) = self.conns.get_mut(id).and_then(Conn::vm_mut)
            && !std::mem::replace(&mut vm.told, true)
        {
            self.fx.timers.cancel(Timer::Ask(id));
            self.emit(id, EventKind::VmIdentified);
        }
    }
}

/// Who is charged for an event of a console: the address of the connection that it happened on, or the one
/// that the console's VM is connected from longest.
fn payer(kind: &EventKind, conn: Option<(ConnId, &Conn)>, console: &Console, now: Instant) -> Payer {
    let stays = || console.tenure.held_for(now) >= A_WHILE;
    match conn {
        Some((id, conn)) => Payer {
            source: conn.source(),
            is_resident: kind.is_landmark() && console.legs.holder() == Some(id) && stays(),
        },
        None => Payer {
            source: console.tenure.home(now).map_or(Source::Nowhere, Source::from),
            is_resident: stays(),
        },
    }
}

/// Who has held a console's input for this long is no newcomer any more.
const A_WHILE: Duration = Duration::from_secs(60);

/// How often peers that said nothing are told of, all together.
const SUMMARY: Duration = Duration::from_secs(60);
