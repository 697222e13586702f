//! The client side of the engine: people, scripts and debuggers at a console (telnet.md §4-§9).
//!
//! ```text
//!                    answers a negotiation
//!   Undecided ──────────────────────────────▶ Telnet
//!       │ first byte is '+' or '$'              ▲
//!       ├──────────────────▶ Raw, for ever      │ its first IAC begins an answer to our offers
//!       │ 1 s, being read                       │
//!       └──────────────────▶ Raw ───────────────┘
//!                              └── its first IAC begins anything else: Raw, for ever
//! ```

use std::time::Duration;

use memchr::memchr;

use crate::telnet::{Command, IAC, Item, Opt, Side, Verb, fold, put_negotiation};

use super::Concentrator;
use super::address::Address;
use super::admission;
use super::conn::{CLIENT_POLICY, Client, Conn, HeldBytes, Local, Mode, Role};
use super::console::{Console, ReaderKey};
use super::event::{CloseReason, EventKind, Fault};
use super::fanout::{Form, Kind, Settled, Spec};
use super::id::{ConnId, ConsoleId};
use super::timers::Timer;
use super::tls::await_handshake;
use super::uplink::{Buffers, Uplink};
use crate::telnet::wire_form::count_pairs;

impl Concentrator {
    /// A connection on a console's client port. `None`: it needs TLS, and there is none to be had.
    pub(super) fn accept_client(&mut self, console: ConsoleId, peer: Address) -> Option<ConnId> {
        self.consoles.get(console)?;
        let transport = self.tls.for_client(&self.config)?;
        let is_tls = transport.is_tls();
        let conn = Conn::new(peer, transport, CLIENT_POLICY, Role::Arriving(console));
        let source = conn.source();
        let id = self.insert(conn);
        self.admission.admit(id, admission::Kind::Client, source, true, self.fx.now);
        if is_tls {
            await_handshake(id, &mut self.fx);
        } else {
            self.enter(id, console);
        }
        Some(id)
    }

    /// Lets a client in.
    pub(super) fn enter(&mut self, id: ConnId, at: ConsoleId) {
        self.admission.settle(id);
        let spec = Spec {
            key: ReaderKey { id, is_local: false },
            kind: Kind::Person,
            form: Form::Undecided,
            skips: Console::may_skip(Kind::Person, false, self.config.slow_client),
            scrollback: 0,
        };
        let seat = self.attach_reader(at, spec);
        let clients = self.consoles.get(at).map_or(0, |console| console.fanout().persons());
        let Some(conn) = self.conns.get_mut(id) else { return };
        let Some(seat) = seat else {
            return conn.doom(id, CloseReason::Gone, &mut self.fx);
        };
        conn.role = Role::Client(Client {
            console: at,
            seat,
            mode: Mode::Undecided,
            epoch: u32::MAX,
            after_cr: false,
            spoken: false,
            ended: false,
            held: HeldBytes::default(),
        });
        if self.config.max_clients.is_some_and(|limit| clients > limit) {
            conn.queue_control(id, &mut self.fx, |out| out.extend_from_slice(TOO_MANY));
            return conn.doom(id, CloseReason::TooManyClients, &mut self.fx);
        }
        for (side, opt) in [
            (Side::Us, Opt::BINARY),
            (Side::Us, Opt::SGA),
            (Side::Us, Opt::ECHO),
            (Side::Him, Opt::BINARY),
            (Side::Him, Opt::SGA),
        ] {
            if let Some((verb, opt)) = conn.negotiator.want(side, opt, true) {
                put_negotiation(verb, opt, conn.control.buffer());
            }
        }
        self.fx.outbox.transmit(id);
        self.fx.timers.set(Timer::Decide(id), self.fx.now + DECIDE_AFTER);
        self.tell(id, EventKind::ClientAttached { clients });
    }

    /// Bytes from a client. One pass; nothing it says waits for anything.
    pub(super) fn receive_client(&mut self, id: ConnId, data: &[u8]) {
        let Some(client) = self.conns.get_mut(id).and_then(Conn::client_mut) else { return };
        let is_first = !std::mem::replace(&mut client.spoken, true);
        // gdb opens with '+' or '$' and breaks on anything but the bytes it asked for (telnet.md §9).
        if is_first && client.mode == Mode::Undecided && matches!(data.first(), Some(b'+' | b'$')) {
            self.becomes_raw(id, true);
        }
        let Some(conn) = self.conns.get(id).filter(|conn| conn.closing.is_none()) else { return };
        match conn.client().map(|client| client.mode) {
            Some(Mode::Raw { last: true }) => self.type_guest(id, data),
            Some(Mode::Raw { last: false }) => self.receive_raw(id, data),
            Some(Mode::Undecided | Mode::Telnet) => self.receive_telnet(id, data),
            None => {}
        }
    }

    fn receive_telnet(&mut self, id: ConnId, data: &[u8]) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let mut decoder = std::mem::take(&mut conn.decoder);
        let mut input = data;
        while let Some(item) = decoder.decode_wire(&mut input) {
            match item {
                Item::Data(run) => self.type_wire(id, run.bytes, run.pairs),
                Item::Negotiation(verb, opt) => self.client_negotiates(id, verb, opt),
                Item::Command(command) => self.client_commands(id, command),
                Item::Malformed(fault) => self.malformed(id, Fault::Telnet(fault)),
                Item::Subnegotiation(opt, _) => self.malformed(id, Fault::OptionOff(opt)),
            }
        }
        if let Some(conn) = self.conns.get_mut(id) {
            conn.decoder = decoder;
        }
    }

    fn client_negotiates(&mut self, id: ConnId, verb: Verb, opt: Opt) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let outcome = conn.negotiator.handle(verb, opt);
        if let Some((verb, opt)) = outcome.send {
            self.reply(id, |out| put_negotiation(verb, opt, out));
        }
        if outcome.answered {
            self.becomes_telnet(id);
        }
    }

    /// What a person's telnet can send (telnet.md §7).
    fn client_commands(&mut self, id: ConnId, command: Command) {
        match command {
            Command::BRK => {
                self.count_for(id).breaks += 1;
                self.queue_input(id, 0, |uplink, buffers| uplink.push_wire(&[IAC, Command::BRK.0], buffers));
            }
            Command::AYT => self.reply(id, |out| out.extend_from_slice(ARE_YOU_THERE)),
            // In line mode the client has turned Ctrl-C into this; in character mode it sends 03 itself.
            Command::IP if self.is_in_line_mode(id) => self.type_wire(id, b"\x03", 0),
            Command::EC => self.type_wire(id, b"\x7f", 0),
            Command::EL => self.type_wire(id, b"\x15", 0),
            _ => {}
        }
    }

    fn is_in_line_mode(&self, id: ConnId) -> bool {
        self.conns.get(id).is_some_and(|conn| {
            !(conn.negotiator.is_on(Side::Us, Opt::SGA) && conn.negotiator.is_on(Side::Us, Opt::ECHO))
        })
    }

    /// Input in wire form, of a client that is or may be telnet.
    fn type_wire(&mut self, id: ConnId, wire: &[u8], pairs: usize) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let is_binary = conn.negotiator.is_on(Side::Him, Opt::BINARY);
        let Some(client) = conn.client_mut() else { return };
        // Folding is for those who have shown that they speak telnet, and do not send BINARY.
        if client.mode != Mode::Telnet || is_binary {
            client.after_cr = false;
            let guest = wire.len() - pairs;
            self.queue_input(id, guest, |uplink, buffers| uplink.push_wire(wire, buffers));
            return;
        }
        let mut after_cr = client.after_cr;
        let mut rest = wire;
        while let Some(run) = fold(&mut after_cr, &mut rest, true) {
            let guest = run.len() - count_pairs(run);
            self.queue_input(id, guest, |uplink, buffers| uplink.push_wire(run, buffers));
        }
        if let Some(client) = self.conns.get_mut(id).and_then(Conn::client_mut) {
            client.after_cr = after_cr;
        }
    }

    /// Input as it is, of a raw client.
    fn type_guest(&mut self, id: ConnId, data: &[u8]) {
        self.queue_input(id, data.len(), |uplink, buffers| uplink.push_guest(data, buffers));
    }

    /// Input of someone inside the process.
    pub(super) fn receive_local(&mut self, id: ConnId, data: &[u8]) {
        if let Some(Role::Local(Local { may_type: true, .. })) = self.conns.get(id).map(|conn| &conn.role) {
            self.type_guest(id, data);
        }
    }

    /// A raw client whose first IAC has not come yet: it may still be a telnet client that was slow to
    /// answer.
    fn receive_raw(&mut self, id: ConnId, data: &[u8]) {
        let Some(client) = self.conns.get_mut(id).and_then(Conn::client_mut) else { return };
        let held = std::mem::take(&mut client.held);
        self.fx.timers.cancel(Timer::Decide(id));
        let mut input = [&held.bytes[..usize::from(held.len)], data].concat();
        let Some(at) = memchr(IAC, &input) else {
            self.type_guest(id, &input);
            return;
        };
        let answer = input.split_off(at);
        self.type_guest(id, &input);
        let Some(conn) = self.conns.get_mut(id) else { return };
        let verb = answer.get(1).map(|&byte| Verb::from_byte(byte));
        match (verb, answer.get(2)) {
            (None, _) | (Some(Some(_)), None) => {
                let Role::Client(client) = &mut conn.role else { return };
                client.held.len = answer.len() as u8;
                client.held.bytes[..answer.len()].copy_from_slice(&answer);
                self.fx.timers.set(Timer::Decide(id), self.fx.now + HELD_LIMIT);
            }
            (Some(Some(verb)), Some(&opt)) if conn.negotiator.would_answer(verb, Opt(opt)) => {
                self.becomes_telnet(id);
                self.receive_telnet(id, &answer);
            }
            _ => {
                self.becomes_raw(id, true);
                self.type_guest(id, &answer);
            }
        }
    }

    /// A second has passed, or held bytes have waited long enough. `is_read`: its VM takes input. While it
    /// does not the client is not read, so its answer may be in its socket: it is not judged then.
    pub(super) fn decide(&mut self, id: ConnId, is_read: bool) {
        let Some(client) = self.conns.get_mut(id).and_then(Conn::client_mut) else { return };
        match client.mode {
            Mode::Undecided if is_read => self.becomes_raw(id, false),
            Mode::Undecided => self.fx.timers.set(Timer::Decide(id), self.fx.now + DECIDE_AFTER),
            Mode::Raw { .. } => {
                let held = std::mem::take(&mut client.held);
                self.becomes_raw(id, true);
                self.type_guest(id, &held.bytes[..usize::from(held.len)]);
            }
            Mode::Telnet => {}
        }
    }

    fn becomes_raw(&mut self, id: ConnId, last: bool) {
        self.fx.timers.cancel(Timer::Decide(id));
        let Some(conn) = self.conns.get_mut(id) else { return };
        let decoder = std::mem::take(&mut conn.decoder);
        let Some(client) = conn.client_mut() else { return };
        client.mode = Mode::Raw { last };
        self.settle_form(id, Form::Guest);
        // A last byte that might have begun a command was a byte.
        if decoder.pending_iac() {
            self.type_guest(id, &[IAC]);
        }
    }

    fn becomes_telnet(&mut self, id: ConnId) {
        let Some(client) = self.conns.get_mut(id).and_then(Conn::client_mut) else { return };
        if client.mode == Mode::Telnet {
            return;
        }
        client.mode = Mode::Telnet;
        let (at, seat) = (client.console, client.seat);
        self.fx.timers.cancel(Timer::Decide(id));
        self.settle_form(id, Form::Wire);
        let Some(console) = self.consoles.get_mut(at) else { return };
        console.fanout_mut().replay(seat, self.config.client_scrollback as u64);
        if self.config.banner {
            let banner = console.banner();
            if let Some(conn) = self.conns.get_mut(id) {
                conn.queue_control(id, &mut self.fx, |out| out.extend_from_slice(banner.as_bytes()));
            }
        }
        self.fx.outbox.transmit(id);
    }

    /// It is known in which form a client is shown output.
    fn settle_form(&mut self, id: ConnId, form: Form) {
        let Some((at, seat)) = self.conns.get(id).and_then(Conn::seat) else { return };
        let Some(console) = self.consoles.get_mut(at) else { return };
        let skips = Console::may_skip(Kind::Person, form == Form::Guest, self.config.slow_client);
        if console.fanout_mut().settle_form(seat, form, skips) == Settled::Lost {
            console.lose_reader(ReaderKey { id, is_local: false }, &mut self.fx);
        }
        self.fx.outbox.transmit(id);
    }

    /// Puts what someone typed into its console's queue, `guest` bytes of it; drops it where no VM will ever
    /// take it.
    fn queue_input(&mut self, id: ConnId, guest: usize, push: impl FnOnce(&mut Uplink, &mut Buffers)) {
        let (at, epoch) = match self.conns.get_mut(id).map(|conn| &mut conn.role) {
            Some(Role::Client(client)) => (client.console, &mut client.epoch),
            Some(Role::Local(local)) => (local.console, &mut local.epoch),
            Some(Role::Vm(_) | Role::Arriving(_)) | None => return,
        };
        let Some((console, buffers)) = self.consoles.with_buffers(at) else { return };
        let has_vm = !console.legs.is_empty();
        let counters = console.count();
        counters.bytes_from_clients += guest as u64;
        if !has_vm {
            counters.input_dropped += guest as u64;
            return;
        }
        *epoch = console.uplink.admit(*epoch);
        push(&mut console.uplink, buffers);
        console.wake_input(&mut self.fx);
    }

    /// A client has ended its input; it is still shown output for a while.
    pub(super) fn end_input(&mut self, id: ConnId) {
        if let Some(client) = self.conns.get_mut(id).and_then(Conn::client_mut)
            && !std::mem::replace(&mut client.ended, true)
        {
            let held = std::mem::take(&mut client.held);
            self.type_guest(id, &held.bytes[..usize::from(held.len)]);
            self.fx.timers.set(Timer::Linger(id), self.fx.now + HALF_CLOSED_LIMIT);
        }
    }

    /// Takes a reader off its console. One that is left with the first half of a pair gets the second before
    /// anything else.
    pub(super) fn detach_reader(&mut self, id: ConnId) {
        self.fx.timers.cancel(Timer::Decide(id));
        let Some(conn) = self.conns.get_mut(id) else { return };
        let Some((console, seat)) = conn.seat() else { return };
        if self.consoles.detach_reader(console, seat, &mut self.fx) {
            conn.control.push_front(IAC);
        }
    }
}

impl Console {
    /// One line about where a client has come to.
    fn banner(&self) -> String {
        let state = match (self.legs.is_empty(), self.legs.is_held()) {
            (true, _) => "VM is not connected, waiting",
            (false, true) => "VM is moving to another host",
            (false, false) if self.fanout().journal().head() == 0 => "VM has said nothing yet",
            (false, false) => "VM is connected",
        };
        let others = match self.fanout().persons().saturating_sub(1) {
            0 => "nobody else here".to_owned(),
            1 => "1 other here".to_owned(),
            n => format!("{n} others here"),
        };
        format!("\r\n[vspc: connected to {}; {state}; {others}]\r\n", self.label.title())
    }
}

/// A client that has answered no offer by then is raw; nothing waits for that.
const DECIDE_AFTER: Duration = Duration::from_secs(1);

/// How long two bytes that began like an answer are held back from a raw client's VM.
const HELD_LIMIT: Duration = Duration::from_millis(100);

/// How long a client that has ended its input is still shown output.
const HALF_CLOSED_LIMIT: Duration = Duration::from_secs(10);

const TOO_MANY: &[u8] = b"\r\nThis console has as many clients as it may have.\r\n";

const ARE_YOU_THERE: &[u8] = b"\r\n[yes]\r\n";
