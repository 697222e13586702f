//! The VM side of the engine: from a host's first byte to its last (vmware.md §3).

use std::sync::Arc;
use std::time::Duration;

use crate::telnet::{
    Change, Command, Item, Malformed, Opt, Side, Verb, fold_all, put_command, put_negotiation,
};
use crate::vmware::{Code, Dialogue, Message, Said, ServiceUri, Uuid, VMWARE_TELNET_EXT, message_decoder};

use super::Concentrator;
use super::address::Address;
use super::admission::{Heard, Kind};
use super::channels::CONTROL_SUFFIX;
use super::config::VmTls;
use super::conn::{Conn, Early, NOISY_READS, Place, Role, Transport, Vm, Wire, is_noise};
use super::consoles::Consoles;
use super::effects::Effects;
use super::event::{CloseReason, EventKind, Fault};
use super::guest::Mux;
use super::id::ConnId;
use super::index::Placed;
use super::label::Identity;
use super::target::Target;
use super::timers::Timer;
use super::tls::{await_handshake, await_upgrade};
use crate::telnet::wire_form::{count_pairs, escape_into, wire_prefix};

impl Concentrator {
    /// A connection on a VM listener; `announced`: which is there already. `None`: it needs TLS, and there is
    /// none to be had.
    pub(super) fn accept_vm(&mut self, peer: Address, announced: Option<ConnId>) -> Option<ConnId> {
        let now = self.fx.now;
        let transport = self.tls.for_vm(&self.config, &peer, now)?;
        let (is_tls, is_upgradable) = (transport.is_tls(), matches!(transport, Transport::Upgradable(_)));
        let policy = if is_upgradable { Dialogue::POLICY_WITH_TLS } else { Dialogue::POLICY };
        let mut conn = Conn::new(peer, transport, policy, Role::Vm(Vm::new(Wire::Vmware)));
        conn.decoder = message_decoder();
        // Goes out as soon as it is known how.
        let mut opening = Vec::new();
        if let Role::Vm(vm) = &mut conn.role {
            vm.dialogue.open(&mut conn.negotiator, &mut opening);
        }
        let source = conn.source();
        let id = self.take_up(conn, announced);
        self.admission.admit(id, Kind::Vm, source, is_tls, now);
        if let Some(conn) = self.conns.get_mut(id) {
            conn.queue_control(id, &mut self.fx, |out| *out = opening);
        }
        if is_tls {
            await_handshake(id, &mut self.fx);
        } else if is_upgradable {
            await_upgrade(id, self.config.vm_tls == VmTls::Auto, &mut self.fx);
        }
        self.fx.timers.set(Timer::Ask(id), now + ASK_AFTER);
        self.fx.timers.set(Timer::Identify(id), now + self.config.identify_timeout);
        Some(id)
    }

    /// Bytes from a host. One pass; what is left of a command stays in the decoder. Returns how many bytes at
    /// the end are TLS, if that has begun among them. So many at their start are [printed](print_data)
    /// already.
    pub(super) fn receive_vm(&mut self, id: ConnId, data: &[u8], mut printed: usize) -> Option<usize> {
        let Self { conns, consoles, fx, .. } = self;
        let conn = conns.get_mut(id)?;
        if conn.vm().is_some_and(|vm| vm.wire.is_raw()) {
            self.receive_raw_line(id, data);
            return None;
        }
        printed += print_data(id, conn, &data[printed..], consoles, fx);
        let was_nobody = conn.is_nobody();
        let mut rest = &data[printed..];
        let mut commands = 0;
        if rest.is_empty() {
            return None;
        }
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(rest.len().min(PIECE));
            rest = behind;
            if let Some(left) = self.receive_piece(id, piece, &mut commands) {
                return Some(left + rest.len());
            }
        }
        let conn = self.conns.get_mut(id)?;
        let is_noise = is_noise(commands, data.len());
        // A session's start is little but commands.
        conn.heard_noise(is_noise, if was_nobody { 1 } else { NOISY_READS });
        None
    }

    fn is_line(&self, id: ConnId) -> bool {
        self.conns.get(id).and_then(Conn::vm).is_some_and(|vm| vm.wire.is_lines())
    }

    /// Bytes of a line that says nothing but what its guest prints.
    fn receive_raw_line(&mut self, id: ConnId, data: &[u8]) {
        if let Some(console) = self.conns.get(id).and_then(Conn::prints_at)
            && self.consoles.has_guest(console)
        {
            return self.consoles.print_beside_streams(console, id, data, &mut self.fx);
        }
        let mut wire = std::mem::take(&mut self.scratch);
        for piece in data.chunks(PIECE) {
            wire.clear();
            escape_into(piece, &mut wire);
            let pairs = wire.len() - piece.len();
            match self.conns.get(id).and_then(Conn::prints_at) {
                Some(console) => self.consoles.print(console, id, &wire, pairs, &mut self.fx),
                None => self.vm_output(id, &wire, pairs),
            }
        }
        wire.clear();
        self.scratch = wire;
    }

    /// Adds the commands in a piece to `commands`. Returns how many bytes are left of one in which TLS began.
    fn receive_piece(&mut self, id: ConnId, data: &[u8], commands: &mut usize) -> Option<usize> {
        let conn = self.conns.get_mut(id).filter(|conn| conn.closing.is_none())?;
        let was_tls = conn.transport.is_tls();
        let mut prints_at = conn.prints_at();
        let mut decoder = std::mem::take(&mut conn.decoder);
        self.unfinished.release(decoder.held());
        let mut input = data;
        let before = *commands;
        while let Some(item) = decoder.decode_wire(&mut input) {
            *commands += usize::from(!matches!(item, Item::Data(_)));
            match item {
                Item::Data(run) => {
                    match prints_at {
                        Some(console) => {
                            self.consoles.print(console, id, run.bytes, run.pairs, &mut self.fx);
                        }
                        None => self.vm_prints(id, run.bytes, run.pairs),
                    }
                    continue;
                }
                Item::Negotiation(verb, Opt::AUTHENTICATION) => self.vm_negotiates_tls(id, verb),
                Item::Negotiation(verb, opt) => self.vm_negotiates(id, verb, opt),
                Item::Subnegotiation(VMWARE_TELNET_EXT, body) if !self.is_line(id) => self.vm_says(id, body),
                Item::Subnegotiation(Opt::AUTHENTICATION, body) => self.vm_authenticates(id, body),
                Item::Subnegotiation(Opt::COM_PORT, body) if self.remote_ports.is_set_by_us(id) => {
                    self.remote_port_says(id, body);
                }
                Item::Subnegotiation(opt, _) => self.malformed(id, Fault::OptionOff(opt)),
                // Text would be typed into the guest; a NOP shows that someone is here.
                Item::Command(Command::AYT) => self.reply(id, |out| put_command(Command::NOP, out)),
                Item::Command(_) => {}
                Item::Malformed(fault) => self.vm_is_malformed(id, fault),
            }
            let conn = self.conns.get_mut(id).filter(|conn| conn.closing.is_none())?;
            prints_at = conn.prints_at();
            if conn.transport.is_tls() != was_tls {
                // A subnegotiation has just ended: the decoder holds nothing.
                conn.decoder = message_decoder();
                return Some(input.len());
            }
        }
        let conn = self.conns.get_mut(id)?;
        if self.unfinished.change(0, decoder.held()) {
            self.unfinished.release(decoder.held());
            decoder.give_up();
        }
        conn.decoder = decoder;
        let more = u16::try_from(*commands - before).unwrap_or(u16::MAX);
        conn.commands = conn.commands.saturating_add(more);
        if more > 0
            && conn.vm().is_some_and(|vm| vm.place == Place::Unidentified)
            && conn.commands > MOST_COMMANDS
        {
            conn.doom(id, CloseReason::TooManyCommands, &mut self.fx);
        }
        None
    }

    /// It breaks telnet's rules. A DO-PROXY that is too long to be read has its answer all the same: a host
    /// that gets none would wait for ever.
    fn vm_is_malformed(&mut self, id: ConnId, fault: Malformed) {
        self.malformed(id, Fault::Telnet(fault));
        if self.is_line(id) {
            return;
        }
        let Malformed::OversizedSubnegotiation { opt: VMWARE_TELNET_EXT, first, .. } = fault else { return };
        let is_told = self.conns.get(id).is_some_and(|conn| !conn.transport.is_untrusted());
        if is_told && Code(first) == Code::DO_PROXY {
            self.refuse_proxy(id, CloseReason::ServiceUri);
        }
    }

    fn vm_prints(&mut self, id: ConnId, wire: &[u8], pairs: usize) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if conn.transport.is_untrusted() {
            return self.malformed(id, Fault::DataBeforeTls);
        }
        let Role::Vm(vm) = &mut conn.role else { return };
        match vm.fold {
            None => self.vm_output(id, wire, pairs),
            // BINARY was refused: CR NUL is CR (telnet.md §6). CR LF stays.
            Some(mut after_cr) => {
                let mut scratch = std::mem::take(&mut self.scratch);
                fold_all(&mut after_cr, wire, false, &mut scratch, |run| {
                    self.vm_output(id, run, count_pairs(run));
                });
                self.scratch = scratch;
                if let Some(vm) = self.conns.get_mut(id).and_then(Conn::vm_mut) {
                    vm.fold = Some(after_cr);
                }
            }
        }
    }

    fn vm_output(&mut self, id: ConnId, wire: &[u8], pairs: usize) {
        let Some(vm) = self.conns.get_mut(id).and_then(Conn::vm_mut) else { return };
        let moving = vm.moving;
        match vm.place {
            Place::Unidentified => self.stranger_prints(id, wire, pairs),
            Place::Target => {
                let early = vm.early.get_or_insert_default();
                self.consoles.promote(&mut early.unshown);
                self.consoles.keep_unshown(&mut early.unshown, wire, pairs, &mut self.fx);
            }
            // Nobody will ever see it.
            Place::Rejected | Place::Aside(_) | Place::Detached => {}
            Place::Console(console) => match (&mut vm.early, moving) {
                // The source's last bytes are still coming in.
                (Some(early), Some(moving)) => {
                    if self.consoles.keep_waiting(&mut early.unshown, wire, pairs, &mut self.fx) {
                        self.end_adoption(moving);
                    }
                }
                // It may be another VM than this console's. As much as can wait for that waits.
                (Some(early), None) => {
                    if self.consoles.keep_waiting(&mut early.unshown, wire, pairs, &mut self.fx) {
                        self.adopt_early(id);
                    }
                }
                (None, Some(moving)) => {
                    self.source_prints(id, moving);
                    // Its last bytes go before those of its target.
                    let holder = self.consoles.get(console).and_then(|console| console.legs.holder());
                    let target = self.moves.get(moving).and_then(|moved| moved.target);
                    let speaker = if target.is_some() && target == holder { target } else { None };
                    self.consoles.print(console, speaker.unwrap_or(id), wire, pairs, &mut self.fx);
                }
                (None, None) => self.consoles.print(console, id, wire, pairs, &mut self.fx),
            },
            Place::MovedAway(console) => {
                let counters = self.consoles.count_in(Some(console), &mut self.fx.counters);
                counters.late_source_bytes += (wire.len() - pairs) as u64;
            }
        }
    }

    /// Keeps what a connection prints that has not said which VM it is. Where all of those together have too
    /// much, the one that began first loses its oldest first.
    fn stranger_prints(&mut self, id: ConnId, wire: &[u8], pairs: usize) {
        let Some(vm) = self.conns.get_mut(id).and_then(Conn::vm_mut) else { return };
        let unshown = &mut vm.early.get_or_insert_default().unshown;
        let is_first = !unshown.is_a_strangers();
        self.consoles.keep_unshown(unshown, wire, pairs, &mut self.fx);
        if is_first {
            self.early.push_back(id);
            if self.early.len() > 2 * self.conns.len() + EARLY_ROOM {
                self.forget_early_of_others();
            }
        }
        while let Some(&first) = self.early.front() {
            let early = self.conns.get_mut(first).and_then(Conn::vm_mut).and_then(|vm| vm.early.as_mut());
            let unshown = early.map(|early| &mut early.unshown).filter(|unshown| unshown.is_a_strangers());
            let is_there = match unshown {
                Some(_) if !self.consoles.strangers_have_too_much() => return,
                Some(unshown) => self.consoles.drop_oldest_of(unshown, &mut self.fx),
                None => false,
            };
            if !is_there {
                self.early.pop_front();
            }
        }
    }

    /// Those that have left or have a console need not come to the front to be forgotten: somebody may stand
    /// there for long.
    fn forget_early_of_others(&mut self) {
        let conns = &self.conns;
        self.early.retain(|&id| {
            let vm = conns.get(id).and_then(Conn::vm);
            vm.and_then(|vm| vm.early.as_ref()).is_some_and(|early| early.unshown.is_a_strangers())
        });
    }

    fn vm_negotiates(&mut self, id: ConnId, verb: Verb, opt: Opt) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let outcome = conn.negotiator.handle(verb, opt);
        let is_binary = conn.negotiator.is_on(Side::Him, Opt::BINARY);
        let Role::Vm(vm) = &mut conn.role else { return };
        if opt == Opt::BINARY && matches!(verb, Verb::Will | Verb::Wont) {
            vm.fold = (!is_binary).then_some(false);
        }
        let mut answer = std::mem::take(&mut self.answer);
        if let Some((verb, opt)) = outcome.send {
            put_negotiation(verb, opt, &mut answer);
        }
        let said = outcome.change.and_then(|change| vm.dialogue.handle_change(&change, &mut answer));
        self.answer(id, answer);
        if let Some(Change { side: Side::Us, opt: Opt::COM_PORT, on }) = outcome.change {
            self.remote_port_switched(id, on);
        }
        if said == Some(Said::NotVm)
            && let Some(conn) = self.conns.get_mut(id)
        {
            conn.queue_control(id, &mut self.fx, |out| out.extend_from_slice(NOT_A_VM));
            conn.doom(id, CloseReason::NotVm, &mut self.fx);
        }
    }

    fn vm_negotiates_tls(&mut self, id: ConnId, verb: Verb) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if conn.is_nobody() {
            // Hosts offer it before they hear of anything else; what becomes of it does not matter.
            self.admission.heard(id, Heard::Dialogue, self.fx.now);
        }
        let (reply, upgraded) = self.tls.negotiate(id, conn, verb, &mut self.fx);
        if let Some(verb) = reply {
            self.reply(id, |out| put_negotiation(verb, Opt::AUTHENTICATION, out));
        }
        self.after_upgrade(id, upgraded);
    }

    fn vm_authenticates(&mut self, id: ConnId, body: &[u8]) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let Some((reply, upgraded)) = self.tls.authenticate(id, conn, body, &mut self.fx) else {
            return self.malformed(id, Fault::AuthenticationOutOfPlace);
        };
        if !reply.is_empty() {
            self.reply(id, |out| out.extend_from_slice(reply));
        }
        self.after_upgrade(id, upgraded);
    }

    fn vm_says(&mut self, id: ConnId, body: &[u8]) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if conn.transport.is_untrusted() {
            return self.malformed(id, Fault::VmwareBeforeTls);
        }
        let Role::Vm(vm) = &mut conn.role else { return };
        let mut answer = std::mem::take(&mut self.answer);
        let said = vm.dialogue.handle_received(body, &mut answer);
        self.answer(id, answer);
        match said {
            Err(fault) => self.malformed(id, Fault::Vmware(fault)),
            Ok(
                None | Some(Said::LocationUuid(_) | Said::BiosUuid(_) | Said::UnknownToVm(_) | Said::NotVm),
            ) => {}
            Ok(Some(Said::Uuid(uuid))) => {
                if let Some(early) = self.early_mut(id) {
                    early.uuid.get_or_insert(uuid);
                    self.identify(id);
                }
            }
            Ok(Some(Said::Name(name))) => self.vm_is_named(id, name),
            Ok(Some(Said::Proxy { direction, uri })) => self.vm_asks_for_proxy(id, direction, uri),
            Ok(Some(Said::VmotionBegin { sequence })) => self.begin_move(id, sequence),
            Ok(Some(Said::VmotionPeer { sequence_and_secret })) => {
                self.accept_peer(id, sequence_and_secret);
            }
            Ok(Some(Said::VmotionComplete { sequence })) => self.complete_move(id, sequence),
            Ok(Some(Said::VmotionAbort { .. })) => self.abort_move(id),
        }
    }

    /// What is answered to something a peer may say without end. It was put together in `self.answer`, which
    /// is given back empty: a crowd that makes one answer after the other costs no allocation for each.
    fn answer(&mut self, id: ConnId, mut answer: Vec<u8>) {
        if !answer.is_empty() {
            self.reply(id, |out| out.extend_from_slice(&answer));
        }
        answer.clear();
        self.answer = answer;
    }

    /// What a connection has said of itself, while it has no console.
    fn early_mut(&mut self, id: ConnId) -> Option<&mut Early> {
        let vm = self.conns.get_mut(id)?.vm_mut()?;
        (vm.place == Place::Unidentified).then(|| &mut **vm.early.get_or_insert_default())
    }

    fn vm_asks_for_proxy(&mut self, id: ConnId, direction: u8, uri: &[u8]) {
        let uri = ServiceUri::new(uri);
        let is_served = |wanted: &str| wanted == uri.base() || wanted == uri.as_str();
        let mut dial = None;
        let refused = if direction != b'S' {
            match self.target_of(id, direction, &uri) {
                Some(target) => {
                    dial = Some(Arc::new(target));
                    None
                }
                None => Some(CloseReason::Direction),
            }
        } else if self.config.service_uri.as_deref().is_none_or(is_served) {
            None
        } else {
            Some(CloseReason::ServiceUri)
        };
        if let Some(reason) = refused {
            return self.refuse_proxy(id, reason);
        }
        self.reply(id, |out| Message::WillProxy.put(out));
        let mux: Option<Mux> = uri.option("mux").and_then(|mux| mux.parse().ok());
        // Two ports of a VM are one console's, but not one whose frames go to the other.
        let has_port = uri.option("port").is_some_and(|port| !port.is_empty());
        let is_control = mux == Some(Mux::V1Control);
        let is_apart = mux.is_some() && (has_port || is_control);
        let may_count = mux.is_some() && has_port
            || self.config.multi_console
            || !self.config.multi_console_by_uuid.is_empty();
        let mut suffix = if may_count { uri.suffix() } else { String::new() };
        if is_control {
            suffix.push_str(CONTROL_SUFFIX);
        }
        self.consoles.dials.wishes(id, dial);
        self.consoles.guests.wishes(id, mux);
        if let Some(early) = self.early_mut(id) {
            early.is_apart |= is_apart;
            early.suffix.get_or_insert(suffix);
            self.identify(id);
        }
    }

    /// What a VM asks to be connected to, if it may be.
    fn target_of(&mut self, id: ConnId, direction: u8, uri: &ServiceUri<'_>) -> Option<Target> {
        let why = match Target::of_vm(uri.as_str()) {
            _ if direction != b'C' => return None,
            Ok(target) if target.is_allowed_by(&self.config.dial_allow) => return Some(target),
            Ok(_) => None,
            Err(why) => Some(why),
        };
        let uri = uri.as_str().chars().take(URI_SHOWN).collect::<String>().into();
        self.emit(id, EventKind::DialRefused { uri, why });
        None
    }

    fn refuse_proxy(&mut self, id: ConnId, why: CloseReason) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.queue_control(id, &mut self.fx, |out| Message::WontProxy.put(out));
            conn.doom(id, why, &mut self.fx);
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
            Place::Unidentified => {
                vm.early.get_or_insert_default().name = Some(name);
                self.identify(id);
            }
            Place::Target => vm.early.get_or_insert_default().name = Some(name),
            Place::Console(console) => {
                self.name_leg(console, id, &name);
                // At once: what it is called next may be the name of a console of its own.
                self.part_others();
            }
            Place::Aside(console) => {
                if let Some(console) = self.consoles.get_mut(console) {
                    console.legs.name_aside(id, &name);
                }
            }
            Place::Rejected | Place::MovedAway(_) | Place::Detached => {}
        }
    }

    /// Attaches a connection to its console, once it has said enough to know which that is. Where a VM of its
    /// UUID is here already, or several VMs share that, its name is a part of it.
    fn identify(&mut self, id: ConnId) {
        let Some((identity, early)) = self.said_who(id) else { return };
        let name = early.name.clone().filter(|name| !name.is_empty());
        let is_asked = std::mem::replace(&mut early.awaits_name, true);
        match self.consoles.place(&identity, name.as_deref()) {
            Placed::Unclear if is_asked => {}
            Placed::Unclear => self.fx.timers.set(Timer::Ask(id), self.fx.now + ASK_AFTER),
            placed => self.settle_in(id, placed),
        }
    }

    /// What a connection without a console has said, if that is all it takes but for its name.
    fn said_who(&mut self, id: ConnId) -> Option<(Identity, &mut Early)> {
        let uuid = self.conns.get(id)?.vm()?.early.as_ref()?.uuid?;
        let is_multi = self.are_ports_apart(uuid) || self.conns.get(id)?.vm()?.early.as_ref()?.is_apart;
        let needs_uri = is_multi || self.config.service_uri.is_some();
        let vm = self.conns.get_mut(id)?.vm_mut().filter(|vm| vm.place == Place::Unidentified)?;
        let early = vm.early.as_mut()?;
        if needs_uri && early.suffix.is_none() {
            return None;
        }
        let suffix = early.suffix.clone().filter(|_| is_multi).unwrap_or_default().into();
        Some((Identity { suffix, ..Identity::of(uuid) }, early))
    }

    /// Whether each serial port of a VM is a console of its own. Costs a look at each rule about that.
    fn are_ports_apart(&self, uuid: Uuid) -> bool {
        let mut rules = self.config.multi_console_by_uuid.iter();
        rules.find(|(pattern, _)| pattern.matches_uuid(uuid)).map_or(self.config.multi_console, |(_, on)| *on)
    }

    fn settle_in(&mut self, id: ConnId, placed: Placed) {
        let early = self.conns.get_mut(id).and_then(Conn::vm_mut).and_then(|vm| vm.early.take());
        self.join(id, placed, early.map_or_else(Early::default, |early| *early));
    }

    /// [`ASK_AFTER`] has passed.
    pub(super) fn ask(&mut self, id: ConnId) {
        if let Some((identity, _)) = self.said_who(id) {
            let placed = self.consoles.place_without_name(&identity);
            return self.settle_in(id, placed);
        }
        let Some(conn) = self.conns.get_mut(id) else { return };
        let is_vm = conn.negotiator.is_on(Side::Him, VMWARE_TELNET_EXT);
        let Role::Vm(vm) = &mut conn.role else { return };
        match vm.place {
            Place::Unidentified if is_vm => {
                vm.dialogue.ask(conn.control.buffer());
                self.fx.outbox.transmit(id);
            }
            Place::Console(_) => self.emit_identified_of(id),
            Place::Unidentified
            | Place::Rejected
            | Place::Aside(_)
            | Place::Target
            | Place::MovedAway(_)
            | Place::Detached => {}
        }
    }

    /// The time to say which VM it is has passed.
    pub(super) fn give_up_identifying(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.queue_control(id, &mut self.fx, |out| out.extend_from_slice(NOT_IDENTIFIED));
            conn.doom(id, CloseReason::IdentifyTimeout, &mut self.fx);
        }
    }

    /// A connection ends while its name is waited for: what it has printed is shown where its UUID belongs.
    fn show_last_words(&mut self, id: ConnId) {
        let Some((identity, early)) = self.said_who(id) else { return };
        let unshown = std::mem::take(&mut early.unshown);
        match self.consoles.place_without_name(&identity) {
            Placed::Same(console) => self.show_early(console, id, unshown),
            _ => self.consoles.drop_unshown(unshown),
        }
    }

    /// Takes a VM connection out of everything it has part in. It will not be heard again.
    pub(super) fn detach_vm(&mut self, id: ConnId) {
        let Some(vm) = self.conns.get(id).and_then(Conn::vm) else { return };
        let (place, moving, wire) = (vm.place, vm.moving, vm.wire);
        self.remote_port_ends(id);
        if wire == Wire::Stream {
            self.end_stream_of(id);
        }
        self.show_last_words(id);
        self.adopt_early(id);
        self.set_place(id, Place::Detached);
        self.consoles.dials.wishes(id, None);
        self.consoles.guests.wishes(id, None);
        for timer in [Timer::Ask(id), Timer::Identify(id)] {
            self.fx.timers.cancel(timer);
        }
        if let Some(moving) = moving {
            self.end_of_mover(moving, id);
        }
        // A source's leg waits for its target and is no longer this connection's; any other goes with it.
        if let Place::Console(console) = place {
            self.detach_leg(console, |console| console.legs.detach(id));
        }
        self.drop_early_of(id);
    }
}

/// Prints what a VM's connection brings as far as that is data and its console shows it as it comes: nearly
/// always that is all of it. Returns how much it was; a read of nothing else is noted as such.
pub(super) fn print_data(
    id: ConnId,
    conn: &mut Conn,
    data: &[u8],
    consoles: &mut Consoles,
    fx: &mut Effects,
) -> usize {
    let is_telnet = conn.vm().is_some_and(|vm| !vm.wire.is_raw()) && conn.decoder.is_idle();
    let Some(console) = conn.prints_at().filter(|_| is_telnet) else { return 0 };
    let mut rest = data;
    loop {
        let piece = &rest[..rest.len().min(PIECE)];
        // A pair that the piece's end cuts is whole in the next.
        let (len, pairs) = wire_prefix(piece);
        if len == 0 {
            break;
        }
        consoles.print(console, id, &piece[..len], pairs, fx);
        rest = &rest[len..];
    }
    if rest.is_empty() {
        conn.heard_noise(false, 0);
    }
    data.len() - rest.len()
}

/// A VM that agreed to the extension and then says nothing is asked who it is after this long; one that
/// does not tell its name is announced without it.
const ASK_AFTER: Duration = Duration::from_secs(2);

/// Commands after which one who has still not said which VM it is is closed: a hundred times what it takes.
const MOST_COMMANDS: u16 = 3000;

/// Longest name that is kept, in characters; vCenter allows 80.
const NAME_LIMIT: usize = 128;

/// How much is told of a URI that is refused, in characters.
const URI_SHOWN: usize = 200;

/// Bytes that are looked through and then copied before the next are looked at: they are in the nearest
/// cache the second time. Three to five percent of a busy VM's cost.
const PIECE: usize = 16 << 10;

const NOT_A_VM: &[u8] =
    b"\r\nThis port is for the serial ports of virtual machines (ESXi: \"use virtual serial port \
concentrator\").\r\nTo use a console, connect to the client port of its VM.\r\n";

const NOT_IDENTIFIED: &[u8] = b"\r\nNo VM was identified on this connection in time; closing it.\r\n";

/// Room for ids of connections that are gone beside those that are not, before they are looked for.
const EARLY_ROOM: usize = 64;
