//! The VM side of the engine: from a host's first byte to its last (vmware.md §3).

use crate::telnet::{
    Change, Command, Item, Malformed, Opt, Side, Verb, fold_all, put_command, put_negotiation,
};
use crate::vmware::{Code, Dialogue, Said, VMWARE_TELNET_EXT, message_decoder};

use super::Concentrator;
use super::address::Address;
use super::admission::{Heard, Kind};
use super::config::VmTls;
use super::conn::{Conn, NOISY_READS, Place, Role, Transport, Vm, Wire, is_noise};
use super::consoles::Consoles;
use super::effects::Effects;
use super::event::{CloseReason, Fault};
use super::id::ConnId;
use super::identifying::ASK_AFTER;
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

/// Commands after which one who has still not said which VM it is is closed: a hundred times what it takes.
const MOST_COMMANDS: u16 = 3000;

/// Bytes that are looked through and then copied before the next are looked at: they are in the nearest
/// cache the second time. Three to five percent of a busy VM's cost.
const PIECE: usize = 16 << 10;

const NOT_A_VM: &[u8] =
    b"\r\nThis port is for the serial ports of virtual machines (ESXi: \"use virtual serial port \
concentrator\").\r\nTo use a console, connect to the client port of its VM.\r\n";

/// Room for ids of connections that are gone beside those that are not, before they are looked for.
const EARLY_ROOM: usize = 64;
