//! What the streams of a guest are here: consoles that they feed, facts that are told on, and operators'
//! streams that they are joined with.
//!
//! A stream that a guest announces is a leg of a console of its own, without a socket: what it prints goes
//! the way of a serial line that takes a guest's bytes alone, and so does what is typed.

use vspc_guest::{Announcement, Code, LogOk, Name, Pack, Refusal, answer};

use super::Concentrator;
use super::carried::{Carried, Waiting};
use super::conn::{Conn, Early, Role, Transport, Vm, Wire};
use super::console::Console;
use super::event::{CloseReason, EventKind};
use super::feeding::offer_raw_line;
use super::guest::{Chance, Guest, Mux, News};
use super::id::{ConnId, ConsoleId};
use super::index::Placed;
use super::label::{Identity, Label};
use super::timers::Timer;
use crate::admin::operator::{Notice, write_id};
use crate::mux::StreamId;
use crate::telnet::OptionPolicy;
use rand_chacha::rand_core::Rng;

impl Concentrator {
    /// Does what a guest's words, its line and the time ask for.
    pub(super) fn look_after_guest(&mut self, at: ConsoleId, was_cut: bool) {
        let now = self.fx.now;
        if self.consoles.guests.is_control(at) {
            return self.consoles.look_after_control(at, was_cut, &mut self.fx);
        }
        let is_there = self.consoles.get(at).is_some_and(|console| !console.legs.is_empty());
        let has_control = self.consoles.has_control_channel(at);
        let Some(guest) = self.consoles.guests.get_mut(at) else { return };
        let mut text = Vec::new();
        if was_cut || !is_there {
            guest.handle_closed(now, &mut text);
        }
        if !is_there && self.shutting_down {
            guest.lose_all("the server is going down");
        }
        if is_there {
            guest.handle_opened(now);
            if was_cut && guest.mux != Mux::S2OverSl {
                // The rest of a frame whose beginning another connection has would spoil the next one.
                self.consoles.drop_input(at, &mut self.fx);
            }
        }
        let Some(guest) = self.consoles.guests.get_mut(at) else { return };
        guest.handle_control_there(has_control, now);
        guest.interpret(now);
        self.consoles.print_text(at, &text, &mut self.fx);
        loop {
            let Self { consoles, rng, config, .. } = self;
            let Some(guest) = consoles.guests.get_mut(at) else { return };
            let mut chance = || {
                let mut bytes = [0; 32];
                rng.fill_bytes(&mut bytes);
                bytes
            };
            match guest.poll(&config.server, &mut chance) {
                // What was a console until now may be one again at once.
                Some(News::Announced(id, announcement)) if self.fx.has_doomed() => {
                    guest.put_back(News::Announced(id, announcement));
                    return self.fx.look_after_guest(at);
                }
                Some(news) => self.hear(at, news),
                None if guest.interpret(now) => {}
                None => break,
            }
        }
        self.name_members(at);
        let line = self.consoles.get(at).and_then(|console| console.legs.input());
        let line = line.and_then(|id| self.conns.get(id)).and_then(Conn::vm);
        let is_raw = line.is_some_and(|vm| vm.wire == Wire::Raw);
        self.consoles.send_to_guest(at, is_raw, &mut self.fx);
        self.consoles.send_to_control(at, &mut self.fx);
        if let Some(guest) = self.consoles.guests.get_mut(at)
            && guest.take_unblocked()
            && let Some(leg) = self.consoles.get(at).and_then(|console| console.legs.holder())
        {
            self.fx.outbox.receive(leg);
        }
        self.set_guest_timer(at);
        self.consoles.guests.looked_after(at);
    }

    /// The line of a guest has something due, or somebody who has connected to it was not taken in time.
    pub(super) fn guest_timer(&mut self, at: ConsoleId) {
        let now = self.fx.now;
        let Some(guest) = self.consoles.guests.get_mut(at) else { return };
        let mut text = Vec::new();
        guest.handle_timeout(now, &mut text);
        while let Some((id, until)) = guest.next_untaken()
            && until <= now
        {
            guest.refuse(id, &Refusal::new(Code::REFUSED, "nobody has taken the connection"));
        }
        guest.tell_sizes(now);
        self.consoles.print_text(at, &text, &mut self.fx);
        self.catch_up(at);
        self.fx.look_after_guest(at);
    }

    fn set_guest_timer(&mut self, at: ConsoleId) {
        let Some(guest) = self.consoles.guests.get(at) else { return };
        let untaken = guest.next_untaken().map(|(_, until)| until);
        let behind = guest.is_behind.then(|| self.next_blocks(at));
        match [guest.poll_timeout(), untaken, guest.next_size(), behind].into_iter().flatten().min() {
            Some(due) => self.fx.timers.set(Timer::Guest(at), due.max(self.fx.now)),
            None => self.fx.timers.cancel(Timer::Guest(at)),
        }
    }

    fn hear(&mut self, at: ConsoleId, news: News) {
        match news {
            News::Up => {
                let guest = self.consoles.guests.get(at).and_then(Guest::agent);
                let agent = guest.map(|guest| shown(&guest.agent)).unwrap_or_default();
                self.emit_of_console(at, EventKind::GuestUp { agent });
            }
            News::Down(why) => self.emit_of_console(at, EventKind::GuestDown(why.into())),
            News::Announced(id, announcement) => self.take_announced(at, id, &announcement),
            News::Said(id) => self.read_stream(at, id),
            News::Room(id) => self.write_stream(at, id),
            News::Gone(Carried::Leg { conn, .. }, _) => self.fx.doom(conn, CloseReason::PeerClosed),
            News::Gone(Carried::Joined(joined), true) => {
                if let Some(desk) = self.conns.get_mut(joined.operator).and_then(Conn::desk_mut) {
                    desk.end_joined(joined.stream);
                    self.fx.outbox.transmit(joined.operator);
                }
            }
            News::Gone(Carried::Joined(joined), false) => self.cut_joined(joined.operator, joined.stream),
            News::Gone(Carried::Window(window), _) => self.window_gone(at, &window),
            News::Gone(..) => {}
            News::Told(keys) => self.spread_facts(at, false, &keys),
            News::Hyperstart => {
                let chance = Chance::of(&mut self.rng);
                if let Some(guest) = self.consoles.guests.get_mut(at) {
                    guest.begin_to_interpret(chance, self.fx.now);
                    self.fx.look_after_guest(at);
                }
            }
        }
    }

    fn take_announced(&mut self, at: ConsoleId, id: StreamId, announcement: &Announcement) {
        let outcome = match announcement {
            Announcement::Shell { name, .. } => {
                self.open_member(at, id, name, false, &answer::ok(&answer::Done {}))
            }
            Announcement::Log { name } => {
                let is_packed = self.consoles.guests.get(at).is_some_and(|guest| guest.packs);
                let pack = is_packed.then_some(Pack::Lz4);
                self.open_member(at, id, name, is_packed, &answer::ok(&LogOk { back: LOG_BACK, pack }))
            }
            Announcement::Connection { name, from } => self.offer_connection(at, id, name, from),
            Announcement::Facts { .. } => return,
        };
        if let Err(refusal) = outcome
            && let Some(guest) = self.consoles.guests.get_mut(at)
        {
            guest.refuse(id, &refusal);
        }
    }

    /// Makes a console of a stream, or has the one that it was before be fed again.
    fn open_member(
        &mut self,
        at: ConsoleId,
        id: StreamId,
        name: &Name,
        is_packed: bool,
        ok: &[u8],
    ) -> Result<(), Refusal> {
        let Some(label) = self.consoles.label(at) else { return Ok(()) };
        let suffix = format!("{}/{}", label.suffix, name.as_str()).into();
        let identity = Identity { uuid: label.uuid, suffix, clone: label.clone.clone() };
        let member = match self.consoles.by_identity(&identity) {
            Some(member) => {
                let is_fed = self.consoles.get(member).is_some_and(|console| !console.legs.is_empty());
                let parent = self.consoles.guests.parent(member);
                if is_fed || parent.is_some_and(|parent| parent != at) {
                    return Err(Refusal::new(Code::IN_USE, "there is one of this name already"));
                }
                if parent.is_none() {
                    // It was kept over a restart.
                    self.consoles.add_member(member, at);
                }
                member
            }
            None => {
                if self.consoles.guests.members(at).count() >= MOST_MEMBERS && !self.forget_member_of(at) {
                    return Err(Refusal::new(Code::TOO_MANY, "this guest has as many consoles as it may"));
                }
                self.consoles.open_member(identity, at, &mut self.fx)
            }
        };
        let holder = self.consoles.get(at).and_then(|console| console.legs.holder());
        let Some(peer) = holder.and_then(|id| self.conns.get(id)).map(|conn| conn.peer.clone()) else {
            return Err(Refusal::new(Code::FAILED, "its line is gone"));
        };
        let transport = Transport::Stream(Box::new((at, id)));
        let mut conn = Conn::new(peer, transport, NO_TELNET, Role::Vm(Vm::new(Wire::Stream)));
        conn.spoken = true;
        let leg = self.insert(conn);
        if let Some(guest) = self.consoles.guests.get_mut(at) {
            guest.accept(id, Carried::Leg { conn: leg, is_packed }, ok);
        }
        let name = base_name(&label.name, &label.suffix);
        let early = Early { uuid: Some(label.uuid), name, ..Early::default() };
        self.join(leg, Placed::Same(member), early);
        if self.consoles.has_own_port(member) {
            self.open_port(member);
        }
        self.begin_size(member);
        self.read_stream(at, id);
        Ok(())
    }

    /// Forgets a console of this guest's whose stream is over, and at which nobody is. Whether there was one.
    fn forget_member_of(&mut self, at: ConsoleId) -> bool {
        let mut unused = self
            .consoles
            .guests
            .members(at)
            .filter(|&member| self.consoles.get(member).is_some_and(Console::is_unused));
        let Some(member) = unused.next() else { return false };
        drop(unused);
        self.consoles.guests.disown(member);
        self.fx.yields(member, None);
        true
    }

    /// Consoles that are streams are called after that of their guest.
    fn name_members(&mut self, at: ConsoleId) {
        let Some(label) = self.consoles.label(at) else { return };
        let Some(guest) = self.consoles.guests.get_mut(at) else { return };
        if guest.is_called(&label) {
            return;
        }
        let Some(name) = base_name(&label.name, &label.suffix) else { return };
        let members: Vec<ConsoleId> = self.consoles.guests.members(at).collect();
        for member in members {
            let Some(console) = self.consoles.get(member) else { continue };
            if console.label.name != console.label.full_name(&name)
                && let Some(leg) = console.legs.holder()
            {
                self.name_leg(member, leg, &name);
            }
        }
    }

    /// There is something to read on a stream: its console shows it, or its operator is sent it, as far as
    /// that can be taken.
    pub(super) fn read_stream(&mut self, at: ConsoleId, id: StreamId) {
        match self.consoles.guests.get(at).and_then(|guest| guest.carried(id)) {
            Some(&Carried::Leg { conn, is_packed: false }) => self.read_leg(at, id, conn),
            Some(&Carried::Leg { conn, is_packed: true }) => self.read_packed_leg(at, id, conn),
            Some(Carried::Joined(joined)) => {
                let (operator, stream) = (joined.operator, joined.stream);
                self.read_joined(at, id, operator, stream);
            }
            _ => {}
        }
    }

    fn read_leg(&mut self, at: ConsoleId, id: StreamId, leg: ConnId) {
        let mut printed = Vec::new();
        loop {
            let window = if self.is_paused(leg) { 0 } else { TAKEN_AT_ONCE };
            let Some(guest) = self.consoles.guests.get_mut(at) else { return };
            printed.clear();
            let (taken, is_end) = guest.take(id, window, |bytes| printed.extend_from_slice(bytes));
            if is_end {
                let _ = guest.trunk.session().finish(id);
                guest.is_over(id);
                self.fx.doom(leg, CloseReason::PeerClosed);
            }
            if taken > 0 {
                self.receive_vm(leg, &printed, 0);
            }
            if taken == 0 || is_end {
                break;
            }
        }
        self.fx.look_after_guest(at);
    }

    fn read_joined(&mut self, at: ConsoleId, id: StreamId, operator: ConnId, stream: u64) {
        loop {
            let Some(desk) = self.conns.get_mut(operator).and_then(Conn::desk_mut) else { return };
            let Some(guest) = self.consoles.guests.get_mut(at) else { return };
            let room = desk.room(stream).min(TAKEN_AT_ONCE);
            let (taken, is_end) = guest.take(id, room, |bytes| desk.say_on(stream, bytes));
            if is_end {
                desk.finish_joined(stream);
            }
            if taken == 0 || is_end {
                break;
            }
        }
        self.fx.outbox.transmit(operator);
        self.fx.look_after_guest(at);
    }

    /// A stream takes bytes again.
    fn write_stream(&mut self, at: ConsoleId, id: StreamId) {
        match self.consoles.guests.get(at).and_then(|guest| guest.carried(id)) {
            Some(&Carried::Leg { conn, .. }) => self.feed_leg(conn),
            Some(Carried::Joined(joined)) => {
                let (operator, stream) = (joined.operator, joined.stream);
                self.feed_joined(operator, stream);
            }
            Some(Carried::Window(_)) => {
                let now = self.fx.now;
                if let Some(guest) = self.consoles.guests.get_mut(at) {
                    guest.tell_size(id, now);
                }
            }
            _ => {}
        }
    }

    /// Types at a stream what its console's clients have typed, as far as it takes that.
    pub(super) fn feed_leg(&mut self, leg: ConnId) {
        let Some((at, id)) = self.conns.get(leg).and_then(Conn::stream) else { return };
        let mut typed = Vec::new();
        loop {
            let Self { conns, consoles, scratch, fx, .. } = self;
            let (Some(conn), Some(guest)) = (conns.get(leg), consoles.guests.get_mut(at)) else { return };
            let room = guest.room(id);
            typed.clear();
            let sent = offer_raw_line(leg, conn, consoles, scratch, fx, |runs| {
                runs.iter().for_each(|run| typed.extend_from_slice(run));
                typed.truncate(room);
                typed.len()
            });
            if sent.is_idle() {
                self.fx.outbox.drained(leg);
                break;
            }
            if let Some(guest) = consoles.guests.get_mut(at) {
                let _ = guest.trunk.session().write(id, &typed);
            }
            if sent.taken == 0 {
                break;
            }
        }
        self.fx.look_after_guest(at);
    }

    /// Gives a guest's stream what its operator has said, as far as it takes that.
    pub(super) fn feed_joined(&mut self, operator: ConnId, stream: u64) {
        let mut fed = None;
        loop {
            let Some(desk) = self.conns.get_mut(operator).and_then(Conn::desk_mut) else { return };
            let Some((at, id)) = desk.joined_with(stream) else { break };
            let Some(guest) = self.consoles.guests.get_mut(at) else { break };
            fed = Some(at);
            let room = guest.room(id);
            let session = guest.trunk.session();
            let (taken, is_end) = desk.take_said(stream, room, |bytes| {
                let _ = session.write(id, bytes);
            });
            if is_end {
                let _ = guest.trunk.session().finish(id);
            }
            if taken == 0 || is_end {
                break;
            }
        }
        if let Some(at) = fed {
            self.fx.look_after_guest(at);
        }
        // Its credit has risen.
        self.fx.outbox.transmit(operator);
    }

    /// Somebody has connected to a listener in a guest: whoever takes such connections is told.
    fn offer_connection(
        &mut self,
        at: ConsoleId,
        id: StreamId,
        name: &Name,
        from: &str,
    ) -> Result<(), Refusal> {
        let nobody = || Refusal::new(Code::REFUSED, "nobody takes connections of this name");
        let taker = self.consoles.guests.taker(at, name.as_str()).ok_or_else(nobody)?;
        let until = self.fx.now + TAKE_WITHIN;
        let desk = self.conns.get_mut(taker).and_then(Conn::desk_mut).ok_or_else(nobody)?;
        if desk.waiting() > TOLD_MOST {
            return Err(nobody());
        }
        desk.notify(&Notice::Connection {
            console: write_id(at.to_bits()),
            name: name.as_str().to_owned(),
            number: id.number(),
            from: from.chars().filter(|c| !c.is_control()).take(SHOWN).collect(),
        });
        self.fx.outbox.transmit(taker);
        if let Some(guest) = self.consoles.guests.get_mut(at) {
            guest.set(id, Carried::Waiting(Box::new(Waiting { name: name.as_str().into(), until })));
        }
        Ok(())
    }

    /// These facts of a guest, or those that were set for it, have changed.
    pub(super) fn spread_facts(&mut self, at: ConsoleId, of_host: bool, keys: &[String]) {
        for id in self.fact_readers.clone() {
            let desk = self.conns.get_mut(id).and_then(Conn::desk_mut);
            let facts = self.consoles.guests.get(at);
            let facts = facts.map(|guest| if of_host { guest.own() } else { guest.told() });
            if desk.zip(facts).is_some_and(|(desk, facts)| desk.note_facts(at, of_host, facts, keys)) {
                self.tell_facts(id);
            }
        }
    }

    /// Tells an operator's connection of facts, as far as it takes that.
    pub(super) fn tell_facts(&mut self, id: ConnId) {
        let Self { conns, consoles, .. } = self;
        let Some(desk) = conns.get_mut(id).and_then(Conn::desk_mut) else { return };
        let all: Vec<_> =
            desk.tellings().map(|(stream, telling)| (stream, telling.at, telling.of_host)).collect();
        for (stream, at, of_host) in all {
            if let Some(guest) = consoles.guests.get(at) {
                desk.tell_facts(stream, if of_host { guest.own() } else { guest.told() });
            }
        }
        self.fx.outbox.transmit(id);
    }
}

/// What a VM is called without its console's suffix.
fn base_name(name: &str, suffix: &str) -> Option<String> {
    let name = name.strip_suffix(suffix).unwrap_or(name);
    (!name.is_empty()).then(|| name.to_owned())
}

/// Whether what feeds a console is a log of its guest's, by its name.
pub(super) fn is_log(label: &Label) -> bool {
    label.suffix.contains("/log/")
}

/// What a guest says of itself, for a log: not all of it, and nothing that moves a cursor.
pub(super) fn shown(text: &str) -> Box<str> {
    text.chars().filter(|c| !c.is_control()).take(SHOWN).collect::<String>().into()
}

/// Notices that wait for an operator before it is told of no more connections.
const TOLD_MOST: usize = 32 << 10;
/// Characters of what a guest or an operator says that are shown.
const SHOWN: usize = 128;
/// Of a log that is new, how much of what was there before.
const LOG_BACK: u64 = 16 << 10;
/// Bytes of a stream that are taken in one piece.
const TAKEN_AT_ONCE: usize = 128 << 10;
/// Consoles that the streams of one guest may be: as many as it may announce at a time, and some that are
/// over.
const MOST_MEMBERS: usize = 96;
/// How long somebody who has connected to a guest waits to be taken.
const TAKE_WITHIN: std::time::Duration = std::time::Duration::from_secs(10);
/// What a stream negotiates: nothing.
const NO_TELNET: &[OptionPolicy] = &[];
