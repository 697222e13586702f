//! The client side of the engine: people, scripts and debuggers at a console (telnet.md §4-§9).
//!
//! Carries out what `speech` finds a client to be, and what telnet clients ask for. What a client sends waits
//! for nothing but that: it is passed on to its console's queue.

use std::time::Duration;

use crate::telnet::wire_form::count_pairs;
use crate::telnet::{Change, Command, IAC, Item, Opt, Side, Verb, fold_all, put_command, put_negotiation};
use crate::time::Instant;

use super::Concentrator;
use super::answers::are_answers;
use super::conn::{Conn, Local, NOISY_READS, Role, is_noise};
use super::console::{Console, ReaderKey};
use super::consoles::Consoles;
use super::effects::Effects;
use super::event::{CloseReason, Fault};
use super::fanout::{Form, Kind, Settled};
use super::foreign::Foreign;
use super::id::{ConnId, ConsoleId};
use super::remote_ports::COMMAND_MARK;
use super::serial::Upshot;
use super::speech::{Act, Mode, Speech};
use super::timers::Timer;
use super::uplink::{Buffers, Uplink};

impl Concentrator {
    /// How many clients are at a console, without those that will send no more.
    pub(super) fn present(&self, at: ConsoleId) -> usize {
        let persons = self.consoles.get(at).map_or(0, |console| console.fanout().persons());
        persons.saturating_sub(self.half_closed.count(at))
    }

    /// Bytes from a client. One pass; nothing it says waits for anything but what `speech` holds.
    pub(super) fn receive_client(&mut self, id: ConnId, data: &[u8]) {
        let client = self.conns.get(id).and_then(Conn::client);
        let mode = client.map(|client| client.mode);
        if client.is_some_and(|client| client.is_seeded) {
            self.begin_telnet(id);
        }
        match mode {
            Some(Mode::Raw { last: true }) => self.type_guest(id, data),
            Some(Mode::Telnet) => self.receive_telnet(id, data),
            Some(Mode::Undecided | Mode::Raw { last: false }) => {
                self.with_speech(id, |speech, now, act| speech.receive(data, now, act));
            }
            None => {}
        }
    }

    /// A client of vSPC.py's has read what it was told when it was let in, or has had time for it: telnet
    /// begins.
    pub(super) fn begin_telnet(&mut self, id: ConnId) {
        let Some(client) = self.conns.get_mut(id).and_then(Conn::client_mut) else { return };
        if std::mem::take(&mut client.is_seeded) {
            self.fx.timers.cancel(Timer::Admin(id));
            self.offer_options(id);
        }
    }

    /// Offers what telnet clients answer.
    pub(super) fn offer_options(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        for (side, opt) in OFFERS {
            if let Some((verb, opt)) = conn.negotiator.want(side, opt, true) {
                put_negotiation(verb, opt, conn.control.buffer());
            }
        }
        self.fx.outbox.transmit(id);
    }

    /// Lends out what judges a client that is not decided for good, and does what it says. Meanwhile the
    /// client has none: a call that needs it does nothing.
    pub(super) fn with_speech(
        &mut self,
        id: ConnId,
        ask: impl FnOnce(&mut Speech, Instant, &mut dyn FnMut(Act<'_>)),
    ) {
        let Some(client) = self.conns.get_mut(id).and_then(Conn::client_mut) else { return };
        let Some(mut speech) = client.speech.take() else { return };
        ask(&mut speech, self.fx.now, &mut |act| self.carry_out(id, act));
        if speech.mode().is_final() {
            return;
        }
        match speech.deadline() {
            Some(at) => self.fx.timers.set(Timer::Decide(id), at),
            None => self.fx.timers.cancel(Timer::Decide(id)),
        }
        if let Some(client) = self.conns.get_mut(id).and_then(Conn::client_mut) {
            client.speech = Some(speech);
        }
    }

    fn carry_out(&mut self, id: ConnId, act: Act<'_>) {
        match act {
            Act::Guest(bytes) => self.type_guest(id, bytes),
            Act::Wire(bytes) => {
                let guest = bytes.len() - count_pairs(bytes);
                self.queue_input(id, bytes, guest, |uplink, buffers| uplink.push_wire(bytes, buffers));
            }
            Act::Telnet => self.becomes_telnet(id),
            Act::Decode(bytes) => self.receive_telnet(id, bytes),
            Act::Raw { last } => self.becomes_raw(id, last),
            Act::Foreign(foreign) => self.turn_away(id, foreign),
        }
    }

    /// It is at the wrong port: it is told so, and closed.
    fn turn_away(&mut self, id: ConnId, foreign: Foreign) {
        self.fx.timers.cancel(Timer::Decide(id));
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.queue_control(id, &mut self.fx, |out| out.extend_from_slice(foreign.farewell()));
        conn.doom(id, CloseReason::NotClient(foreign), &mut self.fx);
    }

    fn receive_telnet(&mut self, id: ConnId, data: &[u8]) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let mut decoder = std::mem::take(&mut conn.decoder);
        let mut input = data;
        let mut commands = 0;
        while let Some(item) = decoder.decode_wire(&mut input) {
            commands += usize::from(!matches!(item, Item::Data(_)));
            match item {
                Item::Data(run) => self.type_wire(id, run.bytes, run.pairs),
                Item::Negotiation(verb, opt) => self.client_negotiates(id, verb, opt),
                Item::Command(command) => self.client_commands(id, command),
                Item::Malformed(fault) => self.malformed(id, Fault::Telnet(fault)),
                Item::Subnegotiation(Opt::COM_PORT, body) if self.is_serial(id) => {
                    self.client_sets_line(id, body);
                }
                Item::Subnegotiation(opt, _) => self.malformed(id, Fault::OptionOff(opt)),
            }
        }
        if let Some(conn) = self.conns.get_mut(id) {
            conn.decoder = decoder;
            let is_opening = conn.client().is_some_and(|client| client.ungreeted);
            conn.heard_noise(is_noise(commands, data.len()), if is_opening { 1 } else { NOISY_READS });
        }
    }

    fn client_negotiates(&mut self, id: ConnId, verb: Verb, opt: Opt) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let outcome = conn.negotiator.handle(verb, opt);
        if let Some(client) = conn.client_mut() {
            // A peer that says WILL ECHO is a telnet server wired to this port: a banner would be typed into
            // its guest.
            client.ungreeted &= (verb, opt) != (Verb::Will, Opt::ECHO);
        }
        if let Some((verb, opt)) = outcome.send {
            self.reply(id, |out| put_negotiation(verb, opt, out));
        }
        if let Some(Change { side: Side::Him, opt: Opt::COM_PORT, on }) = outcome.change {
            self.serial_switched(id, on);
            self.settle_form(id, Form::Wire);
        }
        let is_answered = self.conns.get(id).is_some_and(|conn| {
            OFFERS.iter().all(|&(side, opt)| !conn.negotiator.state(side, opt).is_open())
        });
        if is_answered {
            self.greet(id);
        }
    }

    fn is_serial(&self, id: ConnId) -> bool {
        self.conns.get(id).and_then(Conn::client).is_some_and(|client| client.serial.is_some())
    }

    /// A client that takes its console for a serial port sets or asks something (com-port.md §2).
    fn client_sets_line(&mut self, id: ConnId, body: &[u8]) {
        let at = self.conns.get(id).and_then(Conn::seat).map(|(at, _)| at);
        let may_set = at.is_some_and(|at| self.may_type(id, at));
        match self.serial_says(id, body, may_set) {
            Some(Upshot::Break) => self.client_commands(id, Command::BRK),
            // What it has typed goes the way of what others have typed, and may be with the VM.
            Some(Upshot::Skip) => self.skip_output(id),
            Some(Upshot::Resume) => self.fx.outbox.transmit(id),
            Some(Upshot::Carried { skips }) => {
                if skips {
                    self.skip_output(id);
                }
                self.queue_input(id, &[], 0, |uplink, buffers| uplink.push_wire(&COMMAND_MARK, buffers));
            }
            None => {}
        }
    }

    /// What a person's telnet can send (telnet.md §7).
    fn client_commands(&mut self, id: ConnId, command: Command) {
        match command {
            Command::BRK => {
                self.count_for(id).breaks += 1;
                self.queue_input(id, &[], 0, |uplink, buffers| {
                    uplink.push_wire(&[IAC, Command::BRK.0], buffers);
                });
            }
            // A program would take the text for the VM's.
            Command::AYT if self.is_serial(id) => self.reply(id, |out| put_command(Command::NOP, out)),
            Command::AYT => self.reply(id, |out| out.extend_from_slice(ARE_YOU_THERE)),
            Command::IP => self.type_wire(id, b"\x03", 0),
            Command::AO => self.abort_output(id),
            Command::EC => self.type_wire(id, b"\x7f", 0),
            Command::EL => self.type_wire(id, b"\x15", 0),
            _ => {}
        }
    }

    /// Drops what its console holds for it, and marks the place (RFC 854, "Abort Output").
    fn abort_output(&mut self, id: ConnId) {
        self.skip_output(id);
        self.reply(id, |out| put_command(Command::DM, out));
    }

    fn skip_output(&mut self, id: ConnId) {
        if let Some((at, seat)) = self.conns.get(id).and_then(Conn::seat) {
            self.consoles.skip_output(at, seat, &mut self.fx);
        }
    }

    /// Input in wire form, of a client that is telnet.
    fn type_wire(&mut self, id: ConnId, wire: &[u8], pairs: usize) {
        let Self { conns, consoles, config, scratch, fx, .. } = self;
        let Some(conn) = conns.get_mut(id) else { return };
        let is_binary = conn.negotiator.is_on(Side::Him, Opt::BINARY);
        let Some(client) = conn.client_mut() else { return };
        let is_binary = is_binary || client.serial.is_some();
        let enters: Vec<u8>;
        let is_person = client.visit.who.is_some() && client.serial.is_none();
        let wire = match config.admin_enter_cr && is_person {
            true => {
                enters = wire.iter().map(|&byte| if byte == b'\n' { b'\r' } else { byte }).collect();
                &enters[..]
            }
            false => wire,
        };
        let mut after_cr = std::mem::take(&mut client.after_cr);
        let mut resized = None;
        let mut type_run = |run: &[u8], pairs: usize| {
            let guest = run.len() - pairs;
            let settles = type_at(
                id,
                conn,
                consoles,
                (run, guest),
                config.ports_ignore_locks,
                fx,
                |uplink, buffers| {
                    uplink.push_wire(run, buffers);
                },
            );
            resized = settles.or(resized);
        };
        if is_binary {
            type_run(wire, pairs);
        } else {
            fold_all(&mut after_cr, wire, true, scratch, |run| type_run(run, count_pairs(run)));
            if let Some(client) = conn.client_mut() {
                client.after_cr = after_cr;
            }
        }
        if let Some(at) = resized {
            self.settle_size(at);
        }
    }

    /// Input as it is, of a raw client.
    pub(super) fn type_guest(&mut self, id: ConnId, data: &[u8]) {
        self.queue_input(id, data, data.len(), |uplink, buffers| uplink.push_guest(data, buffers));
    }

    /// Input of someone inside the process.
    pub(super) fn receive_local(&mut self, id: ConnId, data: &[u8]) {
        if let Some(Role::Local(Local { may_type: true, .. })) = self.conns.get(id).map(|conn| &conn.role) {
            self.type_guest(id, data);
        }
    }

    /// Something that a client has sent, or not sent, has waited long enough. `is_read`: its VM takes input.
    /// While it does not the client is not read, and what would decide may be in its socket.
    pub(super) fn decide(&mut self, id: ConnId, is_read: bool) {
        self.with_speech(id, |speech, now, act| match is_read {
            true => speech.elapsed(now, act),
            false => speech.postpone(now),
        });
        self.greet(id);
    }

    fn becomes_raw(&mut self, id: ConnId, last: bool) {
        self.fx.timers.cancel(Timer::Decide(id));
        let Some(client) = self.conns.get_mut(id).and_then(Conn::client_mut) else { return };
        client.mode = Mode::Raw { last };
        self.settle_form(id, Form::Guest);
    }

    pub(super) fn becomes_telnet(&mut self, id: ConnId) {
        let Some(client) = self.conns.get_mut(id).and_then(Conn::client_mut) else { return };
        client.mode = Mode::Telnet;
        client.ungreeted = true;
        self.fx.timers.set(Timer::Decide(id), self.fx.now + GREET_AFTER);
        self.settle_form(id, Form::Wire);
    }

    /// Greets a telnet client: one line about where it is, and what its console printed before it came. Done
    /// once, when it has answered all offers, or has said no WILL ECHO for a while.
    fn greet(&mut self, id: ConnId) {
        let Some(client) = self.conns.get_mut(id).and_then(Conn::client_mut) else { return };
        if client.mode != Mode::Telnet || !std::mem::take(&mut client.ungreeted) {
            return;
        }
        let (at, seat) = (client.console, client.seat);
        let is_program = client.serial.is_some() || client.forward.is_some();
        self.fx.timers.cancel(Timer::Decide(id));
        if is_program {
            // It would take the line for the VM's.
            return self.fx.outbox.transmit(id);
        }
        let (clients, not_before) = (self.present(at), self.consoles.shown_from(at));
        let Some(console) = self.consoles.get_mut(at) else { return };
        console.fanout_mut().replay(seat, self.config.client_scrollback as u64, not_before);
        if self.config.banner {
            let banner = console.banner(clients);
            if let Some(conn) = self.conns.get_mut(id) {
                conn.queue_control(id, &mut self.fx, |out| out.extend_from_slice(banner.as_bytes()));
            }
        }
        self.fx.outbox.transmit(id);
    }

    /// It is known in which form a client is shown output.
    fn settle_form(&mut self, id: ConnId, form: Form) {
        let Some((at, seat)) = self.conns.get(id).and_then(Conn::seat) else { return };
        let is_program = form == Form::Guest || self.is_serial(id);
        let slow = self.slow_client_at(at);
        let Some(console) = self.consoles.get_mut(at) else { return };
        let skips = Console::may_skip(Kind::Person, is_program, slow);
        if console.fanout_mut().settle_form(seat, form, skips) == Settled::Lost {
            console.lose_reader(ReaderKey { id, is_local: false }, &mut self.fx);
        }
        self.fx.outbox.transmit(id);
    }

    /// Puts what someone typed into its console's queue, as [`type_at`] does.
    fn queue_input(
        &mut self,
        id: ConnId,
        typed: &[u8],
        guest: usize,
        push: impl FnOnce(&mut Uplink, &mut Buffers),
    ) {
        let Self { conns, consoles, config, fx, .. } = self;
        let Some(conn) = conns.get_mut(id) else { return };
        if let Some(at) = type_at(id, conn, consoles, (typed, guest), config.ports_ignore_locks, fx, push) {
            self.settle_size(at);
        }
    }

    /// Takes a reader off its console; what was held of it is typed. One that is left with the first half of
    /// a pair gets the second before anything else.
    pub(super) fn detach_reader(&mut self, id: ConnId) {
        let speech =
            self.conns.get_mut(id).and_then(Conn::client_mut).and_then(|client| client.speech.take());
        if let Some(mut speech) = speech {
            speech.end(self.fx.now, &mut |act| {
                if let Act::Guest(bytes) = act {
                    self.type_guest(id, bytes);
                }
            });
        }
        self.fx.timers.cancel(Timer::Decide(id));
        self.half_closed.remove(id);
        if let Some((at, _)) = self.conns.get(id).and_then(Conn::seat) {
            self.forget_size(at, id);
        }
        let Some(conn) = self.conns.get_mut(id) else { return };
        let Some((console, seat)) = conn.seat() else { return };
        // An attach has no socket of its own.
        let shown_by = match &conn.role {
            Role::Attach(attach) => attach.operator,
            _ => id,
        };
        if self.consoles.detach_reader(console, seat, &mut self.fx)
            && let Some(conn) = self.conns.get_mut(shown_by)
        {
            conn.control.push_front(IAC);
        }
    }
}

/// Puts what somebody types at a console into its queue, `guest` bytes once IACs are single; drops it where
/// no VM will ever take it, and where it would come in the middle of a guest's frames. Returns the console if
/// another size of terminal may count there now.
#[must_use]
pub(super) fn type_at(
    id: ConnId,
    conn: &mut Conn,
    consoles: &mut Consoles,
    (typed, guest): (&[u8], usize),
    ports_ignore_locks: bool,
    fx: &mut Effects,
    push: impl FnOnce(&mut Uplink, &mut Buffers),
) -> Option<ConsoleId> {
    let (at, epoch) = conn.types_at()?;
    if let Some(visit) = conn.visit_mut() {
        visit.typed += guest as u64;
    }
    let (console, buffers, is_taken) = consoles.typed_at(at)?;
    let may_type = console.lets_type(id, conn.is_visitor(), ports_ignore_locks);
    let has_vm = !console.legs.is_empty() && !is_taken;
    let counters = console.count();
    counters.bytes_from_clients += guest as u64;
    if !has_vm || !may_type {
        counters.input_dropped += guest as u64;
        return None;
    }
    conn.set_epoch(console.uplink.admit(epoch));
    push(&mut console.uplink, buffers);
    console.uplink.note_waiting(fx.now);
    console.wake_input(fx);
    // A terminal that answers a program is one that shows it, and no sign of somebody who works there.
    (!are_answers(typed) && consoles.guests.windows.note_typed(at, id)).then_some(at)
}

impl Console {
    /// One line about where a client has come to, `clients` with it.
    fn banner(&self, clients: usize) -> String {
        let state = match (!self.legs.has_holder(), self.legs.is_held()) {
            (true, _) => "VM is not connected, waiting",
            (false, true) => "VM is moving to another host",
            (false, false) if self.fanout().journal().head() == 0 => "VM has said nothing yet",
            (false, false) => "VM is connected",
        };
        let others = match clients.saturating_sub(1) {
            0 => "nobody else here".to_owned(),
            1 => "1 other here".to_owned(),
            n => format!("{n} others here"),
        };
        format!("\r\n[vspc: connected to {}; {state}; {others}]\r\n", self.label.title())
    }
}

/// How long a telnet client that has not answered all offers may still say WILL ECHO before it is greeted. A
/// server's opening comes in one piece; people do not notice so much.
const GREET_AFTER: Duration = Duration::from_millis(100);

/// What telnet clients are offered (telnet.md §4).
pub(super) const OFFERS: [(Side, Opt); 5] = [
    (Side::Us, Opt::BINARY),
    (Side::Us, Opt::SGA),
    (Side::Us, Opt::ECHO),
    (Side::Him, Opt::BINARY),
    (Side::Him, Opt::SGA),
];

const ARE_YOU_THERE: &[u8] = b"\r\n[yes]\r\n";
