//! The VM side of the engine: from a host's first byte to its last (vmware.md §3).

use std::sync::Arc;
use std::time::Duration;

use crate::telnet::{
    Command, Item, Negotiator, Opt, Side, Verb, count_pairs, fold, put_command, put_negotiation,
};
use crate::time::Instant;
use crate::vmware::{self, Dialogue, Message, Said, ServiceUri, VMWARE_TELNET_EXT};

use super::Concentrator;
use super::admission::Kind;
use super::conn::{Conn, Place, Role, Transport, Vm};
use super::console::{Console, Identity, Leg};
use super::event::{CloseReason, Label, What};
use super::id::{ConnId, ConsoleId};
use super::output::Address;
use super::timers::Timer;

/// A VM that agreed to the extension and then says nothing is asked who it is after this long; one that
/// does not tell its name is announced without it.
const ASK_AFTER: Duration = Duration::from_secs(2);

/// Longest name that is kept, in characters; vCenter allows 80.
const NAME_LIMIT: usize = 128;

/// Bytes that are looked through and then copied before the next are looked at: they are in the nearest
/// cache the second time. Three to five percent of a busy VM's cost.
const PIECE: usize = 16 << 10;

const NOT_A_VM: &[u8] =
    b"\r\nThis port is for the serial ports of virtual machines (ESXi: \"use virtual serial port \
concentrator\").\r\nTo use a console, connect to the client port of its VM.\r\n";

const NOT_IDENTIFIED: &[u8] = b"\r\nNo VM was identified on this connection in time; closing it.\r\n";

impl Concentrator {
    /// A connection on a VM listener. `None`: it needs TLS, and there is none to be had.
    pub(super) fn accept_vm(&mut self, peer: Address, now: Instant) -> Option<ConnId> {
        let transport = self.vm_transport(&peer, now)?;
        let mut dialogue = Dialogue::new();
        let mut negotiator = Negotiator::new(match transport {
            Transport::Held(_) => Dialogue::POLICY_WITH_TLS,
            Transport::Plain | Transport::Tls(_) => Dialogue::POLICY,
        });
        let mut opening = Vec::new();
        dialogue.open(&mut negotiator, &mut opening);
        let vm = Vm {
            dialogue,
            place: Place::New,
            moving: None,
            early: None,
            fold: None,
            told: false,
            upgrading: false,
        };
        let is_tls = transport.is_tls();
        let is_held = matches!(transport, Transport::Held(_));
        let source = peer.source();
        let id = self.insert_conn(peer, transport, negotiator, Role::Vm(vm));
        self.admission.admit(id, Kind::Vm, source, is_tls, now);
        // Goes out as soon as it is known how.
        self.say(id, |out| *out = opening);
        if is_tls {
            self.await_handshake(id, now);
        } else if is_held {
            self.await_upgrade(id, now);
        }
        self.timers.set(Timer::Ask(id), now + ASK_AFTER);
        self.timers.set(Timer::Identify(id), now + self.config.identify_timeout);
        self.tell(id, What::VmConnected);
        Some(id)
    }

    /// Moves a VM connection to its next place.
    pub(super) fn set_place(&mut self, id: ConnId, place: Place) {
        let was_paused = self.receive_window(id) == 0;
        let Some(conn) = self.conns.get_mut(id) else { return };
        let source = conn.peer.source();
        let Some(vm) = conn.vm_mut() else { return };
        let before = std::mem::replace(&mut vm.place, place);
        match place {
            // It will not say which VM it is any more.
            Place::Stray if before != Place::Stray => self.admission.unsettle(id, source, self.now),
            _ if before.is_unidentified() && !place.is_unidentified() => self.admission.settle(id),
            _ => {}
        }
        if was_paused
            && self.receive_window(id) > 0
            && let Some(conn) = self.conns.get_mut(id)
        {
            self.outbox.receive(id, &mut conn.announced);
        }
    }

    /// Bytes from a host. One pass; what is left of a command stays in the decoder.
    pub(super) fn receive_vm(&mut self, id: ConnId, data: &[u8], now: Instant) {
        for (nth, piece) in data.chunks(PIECE).enumerate() {
            if let Some(left) = self.receive_piece(id, piece, now) {
                let at = nth * PIECE + piece.len() - left;
                self.receive_sealed(id, &mut data[at..].to_vec(), now);
                return;
            }
        }
    }

    /// Returns how many bytes are left of a piece in which TLS began.
    fn receive_piece(&mut self, id: ConnId, data: &[u8], now: Instant) -> Option<usize> {
        let conn = self.conns.get_mut(id).filter(|conn| conn.closing.is_none())?;
        let was_tls = conn.transport.is_tls();
        let mut decoder = std::mem::take(&mut conn.decoder);
        let mut input = data;
        while let Some(item) = decoder.decode_wire(&mut input) {
            match item {
                Item::Data(run) => self.vm_prints(id, run.bytes, run.pairs, now),
                Item::Negotiation(verb, opt) => self.vm_negotiates(id, verb, opt, now),
                Item::Subnegotiation(VMWARE_TELNET_EXT, body) => self.vm_says(id, body, now),
                Item::Subnegotiation(Opt::AUTHENTICATION, body) => self.vm_authenticates(id, body, now),
                Item::Subnegotiation(opt, _) => {
                    self.malformed(id, format_args!("subnegotiation of {opt}, which is off"));
                }
                // Text would be typed into the guest; a NOP shows that someone is here.
                Item::Command(Command::AYT) => self.reply(id, |out| put_command(Command::NOP, out)),
                Item::Command(_) => {}
                Item::Malformed(fault) => self.malformed(id, format_args!("{fault}")),
            }
            let conn = self.conns.get(id).filter(|conn| conn.closing.is_none())?;
            if conn.transport.is_tls() != was_tls {
                // A subnegotiation has just ended: the decoder holds nothing.
                return Some(input.len());
            }
        }
        self.conns.get_mut(id)?.decoder = decoder;
        None
    }

    fn vm_prints(&mut self, id: ConnId, wire: &[u8], pairs: usize, now: Instant) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if conn.transport.is_untrusted() {
            self.malformed(id, format_args!("serial data before TLS"));
            return;
        }
        let Role::Vm(vm) = &mut conn.role else { return };
        let Some(mut after_cr) = vm.fold else {
            self.vm_output(id, wire, pairs, now);
            return;
        };
        // BINARY was refused: CR NUL is CR (telnet.md §10). CR LF stays.
        let mut rest = wire;
        while let Some(run) = fold(&mut after_cr, &mut rest, false) {
            self.vm_output(id, run, count_pairs(run), now);
        }
        if let Some(vm) = self.conns.get_mut(id).and_then(Conn::vm_mut) {
            vm.fold = Some(after_cr);
        }
    }

    fn vm_output(&mut self, id: ConnId, wire: &[u8], pairs: usize, now: Instant) {
        let Some(vm) = self.conns.get(id).and_then(Conn::vm) else { return };
        match vm.place {
            Place::New | Place::Stray | Place::Target => self.print_early(id, wire, pairs),
            Place::Gone => {}
            // The source's last bytes are still coming in.
            Place::Console(_) if vm.early.is_some() => self.print_adopted(id, wire, pairs, now),
            Place::Console(console) => {
                if vm.moving.is_some() {
                    self.source_prints(id, now);
                }
                self.print(console, wire, pairs, now);
            }
            Place::Left(console) => {
                if let Some(console) = self.consoles.get_mut(console) {
                    console.count().late_source_bytes += (wire.len() - pairs) as u64;
                }
            }
        }
    }

    fn vm_negotiates(&mut self, id: ConnId, verb: Verb, opt: Opt, now: Instant) {
        if opt == Opt::AUTHENTICATION {
            self.vm_negotiates_tls(id, verb, now);
            return;
        }
        let Some(conn) = self.conns.get_mut(id) else { return };
        let outcome = conn.negotiator.receive(verb, opt);
        if let Some((verb, opt)) = outcome.send {
            self.reply(id, |out| put_negotiation(verb, opt, out));
        }
        let Some(conn) = self.conns.get_mut(id) else { return };
        let is_binary = conn.negotiator.is_on(Side::Him, Opt::BINARY);
        let Role::Vm(vm) = &mut conn.role else { return };
        if opt == Opt::BINARY && matches!(verb, Verb::Will | Verb::Wont) {
            vm.fold = (!is_binary).then_some(false);
        }
        let Some(change) = outcome.change else { return };
        let mut answer = Vec::new();
        let said = vm.dialogue.changed(&change, &mut answer);
        self.answer(id, &answer);
        if said == Some(Said::NotVm) {
            self.say(id, |out| out.extend_from_slice(NOT_A_VM));
            self.close(id, CloseReason::NotVm, now);
        }
    }

    fn vm_says(&mut self, id: ConnId, body: &[u8], now: Instant) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if conn.transport.is_untrusted() {
            self.malformed(id, format_args!("{VMWARE_TELNET_EXT} spoken before TLS"));
            return;
        }
        let Role::Vm(vm) = &mut conn.role else { return };
        let mut answer = Vec::new();
        let said = vm.dialogue.received(body, &mut answer);
        self.answer(id, &answer);
        match said {
            Err(fault) => self.malformed(id, format_args!("{fault}")),
            Ok(
                None | Some(Said::LocationUuid(_) | Said::BiosUuid(_) | Said::UnknownToVm(_) | Said::NotVm),
            ) => {}
            Ok(Some(Said::Uuid(uuid))) => {
                if let Some(early) = self.unplaced(id) {
                    early.uuid.get_or_insert(uuid);
                    self.identify(id, now);
                }
            }
            Ok(Some(Said::Name(name))) => self.vm_is_named(id, name),
            Ok(Some(Said::Proxy { direction, uri })) => self.vm_asks_for_proxy(id, direction, uri, now),
            Ok(Some(Said::VmotionBegin { sequence })) => self.begin_move(id, sequence, now),
            Ok(Some(Said::VmotionPeer { sequence_and_secret })) => {
                self.accept_peer(id, sequence_and_secret, now);
            }
            Ok(Some(Said::VmotionComplete { sequence })) => self.complete_move(id, sequence, now),
            Ok(Some(Said::VmotionAbort { .. })) => self.abort_move(id, now),
        }
    }

    /// What the dialogue has to say to something a peer may say without end.
    fn answer(&mut self, id: ConnId, answer: &[u8]) {
        if !answer.is_empty() {
            self.reply(id, |out| out.extend_from_slice(answer));
        }
    }

    /// What a connection has said of itself, while it has no console.
    fn unplaced(&mut self, id: ConnId) -> Option<&mut super::conn::Early> {
        let vm = self.conns.get_mut(id)?.vm_mut()?;
        (vm.place == Place::New).then(|| &mut **vm.early.get_or_insert_default())
    }

    fn vm_asks_for_proxy(&mut self, id: ConnId, direction: u8, uri: &[u8], now: Instant) {
        let uri = ServiceUri::new(uri);
        let refused = if direction != b'S' {
            Some(CloseReason::Direction)
        } else {
            let wanted = self.config.service_uri.as_deref();
            wanted
                .is_some_and(|wanted| wanted != uri.base() && wanted != uri.as_str())
                .then_some(CloseReason::ServiceUri)
        };
        if let Some(reason) = refused {
            self.say(id, |out| Message::WontProxy.put(out));
            self.close(id, reason, now);
            return;
        }
        self.reply(id, |out| Message::WillProxy.put(out));
        let suffix = if self.config.multi_console { uri.suffix() } else { String::new() };
        if let Some(early) = self.unplaced(id) {
            early.suffix.get_or_insert(suffix);
            self.identify(id, now);
        }
    }

    fn vm_is_named(&mut self, id: ConnId, name: &[u8]) {
        let name: String = String::from_utf8_lossy(name)
            .chars()
            .map(|c| if c.is_control() { '\u{fffd}' } else { c })
            .take(NAME_LIMIT)
            .collect();
        let Some(vm) = self.conns.get_mut(id).and_then(Conn::vm_mut) else { return };
        match vm.place {
            Place::New | Place::Target => vm.early.get_or_insert_default().name = Some(name),
            Place::Console(console) => self.name_console(console, id, &name),
            Place::Stray | Place::Left(_) | Place::Gone => {}
        }
    }

    /// The VM is called `name`, says this connection.
    pub(super) fn name_console(&mut self, console: ConsoleId, id: ConnId, name: &str) {
        let Some(named) = self.consoles.get_mut(console) else { return };
        // With multi-console the suffix belongs to the name, too, as vSPC.py shows it.
        let name = format!("{name}{}", named.label.suffix);
        if named.label.name != name {
            let old = std::mem::replace(&mut Arc::make_mut(&mut named.label).name, name);
            if !old.is_empty() {
                self.tell_both(Some(id), Some(console), What::VmRenamed(old));
            }
        }
        self.tell_identified(console);
    }

    /// Attaches a connection to its console, once it has said enough to know which that is.
    fn identify(&mut self, id: ConnId, now: Instant) {
        let needs_uri = self.config.multi_console || self.config.service_uri.is_some();
        let Some(vm) = self.conns.get_mut(id).and_then(Conn::vm_mut) else { return };
        let Some(early) = &vm.early else { return };
        let (Some(uuid), true) = (early.uuid, early.suffix.is_some() || !needs_uri) else { return };
        let early = *vm.early.take().unwrap_or_default();
        let suffix = early.suffix.as_deref().unwrap_or_default();
        let identity = Identity { uuid, suffix: suffix.into() };
        let console = match self.by_identity.get(&identity) {
            Some(&console) => console,
            None => self.open_console(identity, now),
        };
        self.set_place(id, Place::Console(console));
        self.timers.cancel(Timer::Identify(id));
        self.timers.set(Timer::Ask(id), now + ASK_AFTER);
        self.attach_leg(console, id, now);
        let name = early.name.clone();
        self.adopt_early(console, early, now);
        if let Some(name) = name {
            self.name_console(console, id, &name);
        }
    }

    fn open_console(&mut self, identity: Identity, now: Instant) -> ConsoleId {
        let label = Label {
            id: ConsoleId { index: 0, generation: 0 },
            uuid: identity.uuid,
            suffix: identity.suffix.to_string(),
            name: String::new(),
            port: None,
        };
        let console = self.consoles.insert(Console::new(label, now));
        if let Some(opened) = self.consoles.get_mut(console) {
            Arc::make_mut(&mut opened.label).id = console;
        }
        self.by_identity.insert(identity, console);
        self.open_port(console, now);
        console
    }

    fn attach_leg(&mut self, console: ConsoleId, id: ConnId, now: Instant) {
        self.finish_input(console);
        let Some(attached) = self.consoles.get_mut(console) else { return };
        let others: Vec<ConnId> = attached.legs.iter().filter_map(|leg| leg.conn).collect();
        attached.legs.reserve_exact(1);
        attached.legs.push(Leg { conn: Some(id), moving: None });
        let legs = attached.legs.len();
        // Nobody can tell a second port from a second life (vmware.md §4): a dead host answers a NOP
        // with a reset, or its keepalive will tell.
        for &other in &others {
            self.reply(other, |out| put_command(Command::NOP, out));
        }
        if !others.is_empty()
            && let Some(attached) = self.consoles.get_mut(console)
            && !std::mem::replace(&mut attached.legs_told, true)
        {
            self.tell(id, What::SecondLeg { legs });
        }
        self.consider_expiry(console, now);
        self.wake_input(console);
    }

    /// Tells of VMs that were identified, once name and port are known with which they are to be told.
    pub(super) fn tell_identified(&mut self, console: ConsoleId) {
        let Some(told) = self.consoles.get(console) else { return };
        let port_is_coming = told.listener.is_some() && told.label.port.is_none();
        if told.label.name.is_empty() || port_is_coming {
            return;
        }
        for leg in told.legs.clone() {
            if let Some(id) = leg.conn {
                self.tell_identified_now(id);
            }
        }
    }

    fn tell_identified_now(&mut self, id: ConnId) {
        if let Some(vm) = self.conns.get_mut(id).and_then(Conn::vm_mut)
            && !std::mem::replace(&mut vm.told, true)
        {
            self.timers.cancel(Timer::Ask(id));
            self.tell(id, What::VmIdentified);
        }
    }

    /// [`ASK_AFTER`] has passed.
    pub(super) fn ask(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let is_vm = conn.negotiator.is_on(Side::Him, VMWARE_TELNET_EXT);
        let Role::Vm(vm) = &mut conn.role else { return };
        match vm.place {
            Place::New if is_vm => {
                vm.dialogue.ask(conn.control.buffer());
                self.wake(id);
            }
            Place::Console(_) => self.tell_identified_now(id),
            Place::New | Place::Stray | Place::Target | Place::Left(_) | Place::Gone => {}
        }
    }

    /// The time to say which VM it is has passed.
    pub(super) fn give_up_identifying(&mut self, id: ConnId, now: Instant) {
        self.say(id, |out| out.extend_from_slice(NOT_IDENTIFIED));
        self.close(id, CloseReason::IdentifyTimeout, now);
    }

    /// Takes a VM connection out of everything it has part in. It will not be heard again.
    pub(super) fn detach_vm(&mut self, id: ConnId, now: Instant) {
        let Some(vm) = self.conns.get(id).and_then(Conn::vm) else { return };
        let (place, moving) = (vm.place, vm.moving);
        self.set_place(id, Place::Gone);
        for timer in [Timer::Ask(id), Timer::Identify(id)] {
            self.timers.cancel(timer);
        }
        if let Some(moved) = moving {
            self.end_of_mover(moved, id, now);
        } else if let Place::Console(console) = place
            && let Some(left) = self.consoles.get(console)
            && let Some(index) = left.legs.iter().position(|leg| leg.conn == Some(id))
        {
            self.remove_leg(console, index, now);
        }
        if let Some(mut early) = self.conns.get_mut(id).and_then(Conn::vm_mut).and_then(|vm| vm.early.take())
        {
            early.journal.clear(&mut self.early_pool);
        }
    }

    /// What a protocol fault is worth: a count, and one event per connection.
    pub(super) fn malformed(&mut self, id: ConnId, what: std::fmt::Arguments<'_>) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let first = !std::mem::replace(&mut conn.malformed_told, true);
        match conn.console().and_then(|console| self.consoles.get_mut(console)) {
            Some(console) => console.count().malformed += 1,
            None => self.retired.malformed += 1,
        }
        if first {
            self.tell(id, What::Malformed(what.to_string()));
        }
    }
}

/// The codes a VM's words go by, for events.
pub(super) const fn word(code: vmware::Code) -> &'static str {
    match code.name() {
        Some(name) => name,
        None => "a suboption",
    }
}
