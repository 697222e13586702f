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

use crate::telnet::{Command, IAC, Item, Negotiator, Opt, Side, Verb, count_pairs, fold, put_negotiation};
use crate::time::Instant;

use super::Concentrator;
use super::admission::Kind;
use super::conn::{CLIENT_POLICY, Client, Conn, Held, Mode, Role};
use super::event::{CloseReason, What};
use super::id::{ConnId, ConsoleId};
use super::output::Address;
use super::timers::Timer;

/// A client that has answered no offer by then is raw; nothing waits for that.
const DECIDE_AFTER: Duration = Duration::from_secs(1);

/// How long two bytes that began like an answer are held back from a raw client's VM.
const HELD_LIMIT: Duration = Duration::from_millis(100);

/// How long a client that has ended its input is still shown output.
const HALF_CLOSED_LIMIT: Duration = Duration::from_secs(10);

const TOO_MANY: &[u8] = b"\r\nThis console has as many clients as it may have.\r\n";

const ARE_YOU_THERE: &[u8] = b"\r\n[yes]\r\n";

impl Concentrator {
    /// A connection on a console's client port. `None`: it needs TLS, and there is none to be had.
    pub(super) fn accept_client(
        &mut self,
        console: ConsoleId,
        peer: Address,
        now: Instant,
    ) -> Option<ConnId> {
        self.consoles.get(console)?;
        let transport = self.client_transport()?;
        let negotiator = Negotiator::new(CLIENT_POLICY);
        let secure = transport.is_tls();
        let source = peer.source();
        let id = self.insert_conn(peer, transport, negotiator, Role::Arriving(console));
        self.admission.admit(id, Kind::Client, source, true, now);
        if secure {
            self.await_handshake(id, now);
        } else {
            self.enter(id, console, now);
        }
        Some(id)
    }

    /// Lets a client in.
    pub(super) fn enter(&mut self, id: ConnId, console: ConsoleId, now: Instant) {
        self.admission.settle(id);
        if !self.attach_client(id, console, Mode::Undecided, now) {
            self.drop_conn(id, CloseReason::Gone, now);
            return;
        }
        let clients = self.consoles.get(console).map_or(0, |console| console.clients.len());
        if self.config.max_clients.is_some_and(|limit| clients > limit) {
            self.say(id, |out| out.extend_from_slice(TOO_MANY));
            self.close(id, CloseReason::TooManyClients, now);
            return;
        }
        if let Some(conn) = self.conns.get_mut(id) {
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
        }
        self.wake(id);
        self.timers.set(Timer::Decide(id), now + DECIDE_AFTER);
        self.tell(id, What::ClientAttached { clients });
    }

    /// Makes a connection a reader of a console. Returns false if there is no such console any more.
    pub(super) fn attach_client(&mut self, id: ConnId, console: ConsoleId, mode: Mode, now: Instant) -> bool {
        let (Some(conn), Some(attached)) = (self.conns.get_mut(id), self.consoles.get_mut(console)) else {
            return false;
        };
        let head = attached.journal.head();
        conn.role = Role::Client(Client {
            console,
            mode,
            at: head,
            jump: None,
            overtaken: None,
            epoch: u32::MAX,
            attached_at: head,
            after_cr: false,
            spoken: false,
            ended: false,
            held: Held::default(),
        });
        attached.clients.push(id);
        self.consider_expiry(console, now);
        true
    }

    /// Bytes from a client. One pass; nothing it says waits for anything.
    pub(super) fn receive_client(&mut self, id: ConnId, data: &[u8], now: Instant) {
        let Some(client) = self.conns.get_mut(id).and_then(Conn::client_mut) else { return };
        let first = !std::mem::replace(&mut client.spoken, true);
        // gdb opens with '+' or '$' and breaks on anything but the bytes it is owed (telnet.md §9).
        if first && client.mode == Mode::Undecided && matches!(data.first(), Some(b'+' | b'$')) {
            self.becomes_raw(id, true);
        }
        let Some(conn) = self.conns.get(id).filter(|conn| conn.closing.is_none()) else { return };
        let Some(client) = conn.client() else { return };
        match client.mode {
            Mode::Local | Mode::Raw { last: true } => self.type_guest(id, data),
            Mode::Raw { last: false } => self.receive_raw(id, data, now),
            Mode::Undecided | Mode::Telnet => self.receive_telnet(id, data, now),
        }
    }

    fn receive_telnet(&mut self, id: ConnId, data: &[u8], now: Instant) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let mut decoder = std::mem::take(&mut conn.decoder);
        let mut input = data;
        while let Some(item) = decoder.decode_wire(&mut input) {
            match item {
                Item::Data(run) => self.type_wire(id, run.bytes, run.pairs),
                Item::Negotiation(verb, opt) => self.client_negotiates(id, verb, opt),
                Item::Command(command) => self.client_commands(id, command),
                Item::Malformed(fault) => self.malformed(id, format_args!("{fault}")),
                Item::Subnegotiation(opt, _) => {
                    self.malformed(id, format_args!("subnegotiation of {opt}, which is off"));
                }
            }
        }
        let _ = now;
        if let Some(conn) = self.conns.get_mut(id) {
            conn.decoder = decoder;
        }
    }

    fn client_negotiates(&mut self, id: ConnId, verb: Verb, opt: Opt) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let outcome = conn.negotiator.receive(verb, opt);
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
                if let Some(console) =
                    self.conns.get(id).and_then(Conn::console).and_then(|id| self.consoles.get_mut(id))
                {
                    console.count().breaks += 1;
                }
                self.queue_input(id, |uplink, buffers| uplink.push_wire(&[IAC, Command::BRK.0], buffers), 0);
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
        let binary = conn.negotiator.is_on(Side::Him, Opt::BINARY);
        let Some(client) = conn.client_mut() else { return };
        let guest = wire.len() - pairs;
        // Folding is for those who have shown that they speak telnet, and do not send BINARY.
        if client.mode != Mode::Telnet || binary {
            client.after_cr = false;
            self.queue_input(id, |uplink, buffers| uplink.push_wire(wire, buffers), guest);
            return;
        }
        let mut after_cr = client.after_cr;
        let mut rest = wire;
        while let Some(run) = fold(&mut after_cr, &mut rest, true) {
            let guest = run.len() - count_pairs(run);
            self.queue_input(id, |uplink, buffers| uplink.push_wire(run, buffers), guest);
        }
        if let Some(client) = self.conns.get_mut(id).and_then(Conn::client_mut) {
            client.after_cr = after_cr;
        }
    }

    /// Input as it is, of a raw client.
    fn type_guest(&mut self, id: ConnId, data: &[u8]) {
        self.queue_input(id, |uplink, buffers| uplink.push_guest(data, buffers), data.len());
    }

    /// A raw client whose first IAC has not come yet: it may still be a telnet client that was slow to
    /// answer.
    fn receive_raw(&mut self, id: ConnId, data: &[u8], now: Instant) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let Role::Client(client) = &mut conn.role else { return };
        let held = std::mem::take(&mut client.held);
        self.timers.cancel(Timer::Decide(id));
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
                self.timers.set(Timer::Decide(id), now + HELD_LIMIT);
            }
            (Some(Some(verb)), Some(&opt)) if conn.negotiator.would_answer(verb, Opt(opt)) => {
                self.becomes_telnet(id);
                self.receive_telnet(id, &answer, now);
            }
            _ => {
                self.becomes_raw(id, true);
                self.type_guest(id, &answer);
            }
        }
    }

    /// A second has passed, or held bytes have waited long enough.
    pub(super) fn decide(&mut self, id: ConnId) {
        // Its answer may be in its socket: while its VM takes nothing it is not read, and not judged.
        let is_heard = self.receive_window(id) > 0;
        let Some(client) = self.conns.get_mut(id).and_then(Conn::client_mut) else { return };
        match client.mode {
            Mode::Undecided if is_heard => self.becomes_raw(id, false),
            Mode::Undecided => self.timers.set(Timer::Decide(id), self.now + DECIDE_AFTER),
            Mode::Raw { .. } => {
                let held = std::mem::take(&mut client.held);
                self.becomes_raw(id, true);
                self.type_guest(id, &held.bytes[..usize::from(held.len)]);
            }
            Mode::Telnet | Mode::Local => {}
        }
    }

    fn becomes_raw(&mut self, id: ConnId, last: bool) {
        self.timers.cancel(Timer::Decide(id));
        let Some(conn) = self.conns.get_mut(id) else { return };
        let decoder = std::mem::take(&mut conn.decoder);
        let Role::Client(client) = &mut conn.role else { return };
        let was_undecided = client.mode == Mode::Undecided;
        client.mode = Mode::Raw { last };
        if was_undecided
            && client.overtaken.is_none()
            && let Some(console) = self.consoles.get(client.console)
            && console.journal.is_mid_pair(client.at)
        {
            // It has the first half of a pair: that is the whole byte for it.
            client.at += 1;
        }
        self.wake(id);
        self.judge_overtaken(id);
        // A last byte that might have begun a command was a byte.
        if decoder.pending_iac() {
            self.type_guest(id, &[IAC]);
        }
    }

    fn becomes_telnet(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let Role::Client(client) = &mut conn.role else { return };
        if matches!(client.mode, Mode::Telnet | Mode::Local) {
            return;
        }
        if client.mode == Mode::Undecided
            && client.overtaken.is_none()
            && let Some(console) = self.consoles.get(client.console)
            && console.journal.is_mid_pair(client.at)
        {
            // The second half of a pair goes before the banner and what was printed before.
            conn.control.push_front(IAC);
            client.at += 1;
        }
        client.mode = Mode::Telnet;
        self.timers.cancel(Timer::Decide(id));
        let Some(console) = self.consoles.get(client.console) else { return };
        let scrollback = self.config.client_scrollback as u64;
        if scrollback > 0 && client.overtaken.is_none() {
            let from = console.journal.scrollback_start(client.attached_at, scrollback);
            // What it has been shown since it came is not shown again.
            if from < client.attached_at {
                client.jump = Some((client.attached_at, client.at));
                client.at = from;
            }
        }
        if self.config.banner {
            let banner = self.banner(id);
            self.say(id, |out| out.extend_from_slice(banner.as_bytes()));
        }
        self.wake(id);
    }

    /// One line about where a client has come to.
    fn banner(&self, id: ConnId) -> String {
        let Some(client) = self.conns.get(id).and_then(Conn::client) else { return String::new() };
        let Some(console) = self.consoles.get(client.console) else { return String::new() };
        let label = &console.label;
        let name = if label.name.is_empty() {
            format!("{}{}", label.uuid, label.suffix)
        } else {
            label.name.clone()
        };
        let moving = console.legs.last().is_some_and(|leg| leg.moving.is_some());
        let state = match (console.legs.is_empty(), moving) {
            (true, _) => "VM is not connected, waiting",
            (false, true) => "VM is moving to another host",
            (false, false) if console.journal.head() == 0 => "VM has said nothing yet",
            (false, false) => "VM is connected",
        };
        let others = console.clients.len().saturating_sub(1);
        let others = match others {
            0 => "nobody else here".to_owned(),
            1 => "1 other here".to_owned(),
            n => format!("{n} others here"),
        };
        format!("\r\n[vspc: connected to {name}; {state}; {others}]\r\n")
    }

    /// Puts a client's input into its console's queue; drops it where no VM will ever take it.
    fn queue_input(
        &mut self,
        id: ConnId,
        push: impl FnOnce(&mut super::uplink::Uplink, &mut super::uplink::Buffers),
        guest: usize,
    ) {
        let Some(client) = self.conns.get_mut(id).and_then(Conn::client_mut) else { return };
        let Some(console) = self.consoles.get_mut(client.console) else { return };
        console.count().bytes_from_clients += guest as u64;
        if console.legs.is_empty() {
            console.count().input_dropped += guest as u64;
            return;
        }
        client.epoch = console.uplink.admit(client.epoch);
        push(&mut console.uplink, &mut self.buffers);
        let console = client.console;
        self.wake_input(console);
    }

    /// A client has ended its input; it is still shown output for a while.
    pub(super) fn end_input(&mut self, id: ConnId, now: Instant) {
        if let Some(client) = self.conns.get_mut(id).and_then(Conn::client_mut)
            && !std::mem::replace(&mut client.ended, true)
        {
            let held = std::mem::take(&mut client.held);
            self.type_guest(id, &held.bytes[..usize::from(held.len)]);
            self.timers.set(Timer::Linger(id), now + HALF_CLOSED_LIMIT);
        }
    }

    /// Takes a client off its console.
    pub(super) fn detach_client(&mut self, id: ConnId, now: Instant) {
        self.timers.cancel(Timer::Decide(id));
        let Some(client) = self.conns.get(id).and_then(Conn::client) else { return };
        let console = client.console;
        if let Some(left) = self.consoles.get_mut(console) {
            left.clients.retain(|&client| client != id);
            if left.clients.is_empty() {
                left.clients = Vec::new();
            }
        }
        self.trim(console);
        self.consider_resume(console);
        self.consider_expiry(console, now);
    }
}
