//! What operators ask (operator.md §5): their connections' bytes, their requests carried out, and what they
//! are shown.
//!
//! Work per call is bounded: so many requests are carried out, and the rest after the others have had their
//! turn; a page of a list looks at so many consoles; output is taken out of journals as far as the client has
//! credit, a batch at a time.

use std::io::IoSlice;

use serde::Serialize;
use serde_json::{Value, json};

use crate::admin::lock::{Access, Granted, LockMode, LockRefused};
use crate::admin::operator::{
    self, Behalf, Candidate, Code, Failure, Mode, Notice, Op, ParseError, Place, Request, Right, Topic,
    parse_id, put_answer, put_failure, write_id,
};
use crate::mux::CloseReason as SessionEnd;
use crate::telnet::{Command, IAC};

use super::Concentrator;
use super::conn::{Conn, Role};
use super::console::Console;
use super::desk::{Asked, Watch};
use super::event::{CloseReason, Event, EventKind};
use super::id::{ConnId, ConsoleId};
use super::operator::Speaks;
use super::output::Sent;
use super::timers::Timer;

impl Concentrator {
    /// Bytes of an operator's connection.
    pub(super) fn receive_operator(&mut self, id: ConnId, data: &[u8]) {
        let now = self.fx.now;
        let Some(desk) = self.conns.get_mut(id).and_then(Conn::desk_mut) else { return };
        desk.handle_received(data, now);
        self.serve(id);
    }

    /// The session's deadline, or the time for more requests.
    pub(super) fn operator_timer(&mut self, id: ConnId) {
        let now = self.fx.now;
        let Some(desk) = self.conns.get_mut(id).and_then(Conn::desk_mut) else { return };
        desk.handle_timeout(now);
        self.serve(id);
    }

    /// Carries out what a client has asked, so much of it.
    fn serve(&mut self, id: ConnId) {
        let mut work = 0;
        while work < WORK_MOST {
            let Some(desk) =
                self.conns.get_mut(id).filter(|conn| conn.closing.is_none()).and_then(Conn::desk_mut)
            else {
                return;
            };
            match desk.poll() {
                None => break,
                Some(Asked::Request(request)) => work += self.answer_request(id, request),
                Some(Asked::Typed(attach)) => self.take_typed(attach),
                Some(Asked::Left(attach)) => self.doom(attach, CloseReason::PeerClosed),
                Some(Asked::Over(why)) => {
                    if !matches!(why, SessionEnd::Local | SessionEnd::Remote(_)) {
                        self.emit(id, EventKind::AdminRefused(format!("operator session: {why:?}").into()));
                    }
                    return self.doom(id, CloseReason::PeerClosed);
                }
            }
        }
        let is_behind = work >= WORK_MOST;
        let Some(desk) = self.conns.get(id).and_then(Conn::desk) else { return };
        let due = if is_behind { Some(self.fx.now) } else { desk.poll_timeout() };
        match due {
            Some(due) if is_behind || !self.fx.timers.is_set(Timer::Admin(id)) => {
                self.fx.timers.set(Timer::Admin(id), due);
            }
            Some(_) => {}
            None => self.fx.timers.cancel(Timer::Admin(id)),
        }
        self.fx.outbox.transmit(id);
    }

    fn doom(&mut self, id: ConnId, why: CloseReason) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.doom(id, why, &mut self.fx);
        }
    }

    /// Carries out one request and answers it. Returns what it cost, in requests that look up nothing.
    fn answer_request(&mut self, id: ConnId, request: Result<Request, ParseError>) -> usize {
        let (number, outcome) = match request {
            Err(ParseError::Broken(message)) => {
                if let Some(desk) = self.conns.get_mut(id).and_then(Conn::desk_mut) {
                    desk.notify(&Notice::Broken { message });
                }
                self.doom(id, CloseReason::NotUnderstood);
                return 1;
            }
            Err(ParseError::Refused(number, failure)) => (number, Err(failure)),
            Ok(Request { id: number, op }) => (number, self.carry_out_op(id, number, op)),
        };
        if let Err(failure) = outcome
            && let Some(desk) = self.conns.get_mut(id).and_then(Conn::desk_mut)
        {
            put_failure(number, &failure, desk.buffer());
        }
        1 + self.consoles.len() / CONSOLES_PER_WORK
    }

    fn say(&mut self, id: ConnId, number: u64, ok: &impl Serialize) {
        if let Some(desk) = self.conns.get_mut(id).and_then(Conn::desk_mut) {
            put_answer(number, ok, desk.buffer());
        }
    }

    fn carry_out_op(&mut self, id: ConnId, number: u64, op: Op) -> Result<(), Failure> {
        let Some(desk) = self.conns.get(id).and_then(Conn::desk) else { return Ok(()) };
        let (is_known, right) = (desk.standing.is_known, desk.standing.right);
        let needs = match &op {
            Op::Hello { .. } => Right::None,
            _ if !is_known => {
                return Err(Failure::new(Code::HelloFirst, "the first request has to be hello"));
            }
            Op::Lock { mode: Mode::ReadOnly, .. } => Right::Spectator,
            Op::Lock { .. } | Op::BreakAt(_) | Op::Break(_) => Right::Writer,
            Op::Bump { .. } | Op::Kick { .. } | Op::GiveInput { .. } => Right::Operator,
            _ => Right::Spectator,
        };
        if right < needs {
            return Err(Failure::needs(needs));
        }
        let ok = match op {
            Op::Hello { v, client: _, behalf } => self.hello(id, v, behalf)?,
            Op::List { matching, after, limit } => {
                let page = self.page(&matching, after, limit);
                self.say(id, number, &page);
                return Ok(());
            }
            Op::Show(console) => {
                let at = self.console_called(&console)?;
                json!({ "console": self.describe(at) })
            }
            Op::Who(console) => {
                let at = self.console_called(&console)?;
                self.describe_those_at(at, id)
            }
            Op::Subscribe { to, matching } => self.subscribe(id, to, matching),
            Op::Unsubscribe(topic) => self.unsubscribe(id, topic),
            Op::Attach { console, stream, lock, scrollback, from } => {
                let at = self.console_called(&console)?;
                self.attach_as_asked(id, right, at, stream, lock, scrollback, from)?
            }
            Op::Lock { stream, mode } => {
                let attach = self.attach_of(id, stream)?;
                let granted = self.change_lock(attach, lock_mode(mode)).map_err(|why| {
                    let at = self.conns.get(attach).and_then(Conn::console);
                    self.locked(at, why)
                })?;
                json!({ "access": access(granted), "lock": mode_of(granted.applied) })
            }
            Op::BreakAt(stream) => {
                let attach = self.attach_of(id, stream)?;
                let at = self.conns.get(attach).and_then(Conn::console);
                let at = at.ok_or_else(|| Failure::new(Code::NoSuchStream, "nothing is attached to it"))?;
                self.send_break(attach, at)?
            }
            Op::Break(console) => {
                let at = self.console_called(&console)?;
                self.send_break(id, at)?
            }
            Op::Bump { console, client, reason } => {
                let at = self.console_called(&console)?;
                self.bump(id, at, client, &reason)?
            }
            Op::Kick { client, reason } => self.kick_as_asked(id, client, &reason)?,
            Op::GiveInput { console, leg } => {
                let at = self.console_called(&console)?;
                let now = self.fx.now;
                self.give_input(at, ConnId::from_bits(leg), now)
                    .map_err(|error| Failure::new(Code::NoSuchClient, error.to_string()))?;
                json!({})
            }
            Op::Stats => {
                let mut counts: serde_json::Map<String, Value> =
                    self.totals().iter().map(|(name, count)| (name.to_owned(), count.into())).collect();
                counts.insert("consoles".into(), self.consoles.len().into());
                counts.insert("connections".into(), self.conns.len().into());
                Value::Object(counts)
            }
        };
        self.say(id, number, &ok);
        Ok(())
    }

    fn hello(&mut self, id: ConnId, v: u32, behalf: Option<Behalf>) -> Result<Value, Failure> {
        if v == 0 || v > operator::VERSION {
            let message = format!("version {v} is not spoken here, {} is", operator::VERSION);
            return Err(Failure::new(Code::Unsupported, message));
        }
        self.admission.stop_judging(id);
        let server = self.config.server.clone();
        let Some(desk) = self.conns.get_mut(id).and_then(Conn::desk_mut) else { return Ok(json!({})) };
        let standing = &mut desk.standing;
        if let Some(behalf) = behalf {
            if !standing.grant.delegates {
                let message = "this connection may not ask for others: it needs the right delegate";
                return Err(Failure {
                    needs: Some("delegate".into()),
                    ..Failure::new(Code::NotAllowed, message)
                });
            }
            let place = behalf.address.map(|address| format!("@{address}")).unwrap_or_default();
            standing.who = printable(&format!("{}{place} (via {})", behalf.user, standing.came_as));
            standing.right = behalf.rights.min(standing.grant.right);
        }
        standing.is_known = true;
        let (right, who) = (standing.right, standing.who.clone());
        Ok(json!({
            "v": operator::VERSION,
            "server": server,
            "rights": right.name(),
            "as": who,
            "features": [],
        }))
    }

    /// The console that is meant.
    fn console_called(&self, text: &str) -> Result<ConsoleId, Failure> {
        if let Some(id) = parse_id(text).map(ConsoleId::from_bits)
            && self.consoles.get(id).is_some()
        {
            return Ok(id);
        }
        let mut found = self.find(text);
        let candidate = |id: ConsoleId| {
            let label = self.consoles.label(id)?;
            Some(Candidate { id: write_id(id.to_bits()), name: label.name.clone() })
        };
        match (found.next(), found.next()) {
            (Some(one), None) => Ok(one),
            (Some(one), Some(other)) => {
                let all = [one, other].into_iter().chain(found).take(CANDIDATES).filter_map(candidate);
                let message = format!("several consoles are called {text:?}: name one by its id");
                Err(Failure { candidates: all.collect(), ..Failure::new(Code::Ambiguous, message) })
            }
            (None, _) => {
                let like = self.consoles.iter().filter(|console| matches(text, console));
                let candidates = like.take(CANDIDATES).filter_map(|console| candidate(console.id()));
                let message = format!("no console is called {text:?}");
                Err(Failure {
                    candidates: candidates.collect(),
                    ..Failure::new(Code::NoSuchConsole, message)
                })
            }
        }
    }

    fn page(&self, matching: &str, after: Option<u64>, limit: usize) -> Page {
        let from = after.map_or(0, |id| ConsoleId::from_bits(id).index + 1);
        let mut page = Page { consoles: Vec::new(), next: None };
        let mut last = None;
        for (looked_at, console) in self.consoles.iter_from(from).enumerate() {
            if page.consoles.len() == limit
                || looked_at == LOOKED_AT_MOST
                || page.consoles.len() * 640 > PAGE_BYTES
            {
                page.next = last.map(|id: ConsoleId| write_id(id.to_bits()));
                break;
            }
            last = Some(console.id());
            if matches(matching, console) {
                page.consoles.push(self.describe_console(console));
            }
        }
        page
    }

    fn describe(&self, at: ConsoleId) -> Option<operator::Console> {
        self.consoles.get(at).map(|console| self.describe_console(console))
    }

    fn describe_console(&self, console: &Console) -> operator::Console {
        let label = &console.label;
        let counters = console.counters();
        let offset = console.fanout().journal().guest_head();
        let has_printed = counters.bytes_from_vm > 0;
        let idle = self.fx.now.duration_since(console.last_output);
        operator::Console {
            id: write_id(label.id.to_bits()),
            name: label.name.clone(),
            uuid: label.uuid.simple().to_string(),
            suffix: label.suffix.to_string(),
            port: label.port,
            state: self.state_of(console).name().into(),
            since_ms: millis(console.tenure.since(self.fx.now)),
            host: self.host_of(console).map(|host| host.to_string()),
            legs: console.legs.live(),
            clients: console.fanout().persons(),
            lock: self.held_at(label.id),
            idle_ms: has_printed.then(|| millis(idle)),
            stayed_ms: millis(console.tenure.stayed(self.fx.now)),
            home: console.tenure.home(self.fx.now).map(|home| home.to_string()),
            out: counters.bytes_from_vm,
            typed: counters.bytes_from_clients,
            epoch: self.epoch_of(label.id),
            offset,
            shared: self.consoles.is_shared(label),
        }
    }

    /// Of which count a console's offsets are: another one after each start, and for each console.
    fn epoch_of(&self, at: ConsoleId) -> String {
        format!("{:x}.{}", self.epoch, write_id(at.to_bits()))
    }

    fn describe_those_at(&self, at: ConsoleId, asker: ConnId) -> Value {
        let lock = self.consoles.get(at).map(Console::lock);
        let clients: Vec<Value> = self
            .clients(at)
            .map(|client| {
                let conn = self.conns.get(client.id);
                let visit = conn.and_then(Conn::visit);
                let held = lock
                    .and_then(|lock| lock.mode(client.id))
                    .filter(|mode| matches!(mode, LockMode::Exclusive | LockMode::Write));
                let you = matches!(
                    conn.map(|conn| &conn.role), Some(Role::Attach(attach)) if attach.operator == asker
                );
                json!({
                    "id": write_id(client.id.to_bits()),
                    "who": self.who(client.id),
                    "from": client.peer.to_string(),
                    "speaks": speaks(client.speaks),
                    "access": if self.may_type(client.id, at) { "write" } else { "read" },
                    "lock": held.map(mode_of),
                    "since_ms": visit.map(|visit| millis(self.fx.now.duration_since(visit.since))),
                    "you": you,
                })
            })
            .collect();
        let legs: Vec<Value> = self
            .legs(at)
            .map(|leg| {
                json!({
                    "id": write_id(leg.id.to_bits()),
                    "from": leg.peer.to_string(),
                    "holds_input": leg.holds_input,
                })
            })
            .collect();
        json!({ "clients": clients, "legs": legs })
    }

    fn subscribe(&mut self, id: ConnId, to: Topic, matching: String) -> Value {
        let Some(desk) = self.conns.get_mut(id).and_then(Conn::desk_mut) else { return json!({}) };
        match to {
            Topic::Consoles => {
                desk.watch =
                    Some(Watch { matching, next: Some(0), changed: std::collections::BTreeSet::new() });
                self.watchers.insert(id);
            }
            Topic::Events => {
                desk.log.get_or_insert(0);
                self.loggers.insert(id);
            }
        }
        json!({})
    }

    fn unsubscribe(&mut self, id: ConnId, topic: Topic) -> Value {
        if let Some(desk) = self.conns.get_mut(id).and_then(Conn::desk_mut) {
            match topic {
                Topic::Consoles => desk.watch = None,
                Topic::Events => desk.log = None,
            }
        }
        match topic {
            Topic::Consoles => self.watchers.remove(&id),
            Topic::Events => self.loggers.remove(&id),
        };
        json!({})
    }

    #[expect(clippy::too_many_arguments, reason = "they are the fields of one request")]
    fn attach_as_asked(
        &mut self,
        id: ConnId,
        right: Right,
        at: ConsoleId,
        stream: u64,
        lock: Option<Mode>,
        scrollback: u64,
        from: Option<Place>,
    ) -> Result<Value, Failure> {
        let default = if right >= Right::Writer { operator::ATTACH_DEFAULT } else { Mode::ReadOnly };
        let mode = lock.unwrap_or(default);
        if mode != Mode::ReadOnly && right < Right::Writer {
            return Err(Failure::needs(Right::Writer));
        }
        let Some(desk) = self.conns.get(id).and_then(Conn::desk) else { return Ok(json!({})) };
        if !desk.is_open(stream) {
            return Err(Failure::new(Code::NoSuchStream, format!("stream {stream} is not open")));
        }
        if desk.attached(stream).is_some() {
            return Err(Failure::new(
                Code::StreamInUse,
                format!("stream {stream} carries an attach already"),
            ));
        }
        if self.is_full(at) {
            let message = "the console has as many clients as it may have (--max-clients)";
            return Err(Failure::new(Code::TooMany, message));
        }
        let scrollback = match from {
            None => scrollback,
            Some(place) => self.back_to(at, &place).ok_or_else(|| {
                Failure::new(Code::Gone, "what was printed since then is not all kept, or counted anew")
            })?,
        };
        let (attach, granted) = self
            .attach_stream(id, stream, at, lock_mode(mode), scrollback)
            .map_err(|why| self.locked(Some(at), why))?;
        let offset = self
            .conns
            .get(attach)
            .and_then(Conn::seat)
            .and_then(|(at, seat)| Some(self.consoles.get(at)?.fanout().position(seat).0));
        Ok(json!({
            "console": self.describe(at),
            "access": access(granted),
            "lock": mode_of(granted.applied),
            "epoch": self.epoch_of(at),
            "offset": offset,
        }))
    }

    /// How far back a place is, in bytes as they are kept; `None`: not all since then is kept.
    fn back_to(&self, at: ConsoleId, place: &Place) -> Option<u64> {
        if place.epoch != self.epoch_of(at) {
            return None;
        }
        let journal = self.consoles.get(at)?.fanout().journal();
        let oldest = journal.guest_at(journal.tail());
        let guest = place.offset.checked_sub(oldest)?;
        if place.offset > journal.guest_head() {
            return None;
        }
        Some(journal.head() - journal.advance_guest(journal.tail(), usize::try_from(guest).ok()?))
    }

    fn attach_of(&self, id: ConnId, stream: u64) -> Result<ConnId, Failure> {
        let attached = self.conns.get(id).and_then(Conn::desk).and_then(|desk| desk.attached(stream));
        attached.ok_or_else(|| {
            Failure::new(Code::NoSuchStream, format!("nothing is attached to stream {stream}"))
        })
    }

    /// Why a lock was not to be had.
    fn locked(&self, at: Option<ConsoleId>, why: LockRefused) -> Failure {
        let held = at.and_then(|at| self.held_at(at));
        let others = || {
            let lock = self.consoles.get(at?)?.lock();
            let other = lock.writers().next().or_else(|| lock.spectators().next())?;
            Some(self.who(other).into())
        };
        let by = held.map(|held| held.by).or_else(others);
        Failure { by, ..Failure::new(Code::Locked, why.to_string()) }
    }

    fn send_break(&mut self, id: ConnId, at: ConsoleId) -> Result<Value, Failure> {
        let holder = self.consoles.get(at).and_then(|console| console.lock().holder());
        let is_attach = self.conns.get(id).is_some_and(|conn| conn.visit().is_some());
        let may = if is_attach { self.may_type(id, at) } else { holder.is_none() };
        if !may {
            return Err(self.locked(Some(at), LockRefused::Write));
        }
        let who = self.who(id);
        let Some((console, buffers)) = self.consoles.with_buffers(at) else { return Ok(json!({})) };
        console.count().breaks += 1;
        if !console.legs.is_empty() {
            console.uplink.push_wire(&[IAC, Command::BRK.0], buffers);
            console.wake_input(&mut self.fx);
        }
        self.emit_event(Some(id), Some(at), EventKind::BreakSent { who });
        Ok(json!({}))
    }

    fn bump(
        &mut self,
        id: ConnId,
        at: ConsoleId,
        client: Option<u64>,
        reason: &str,
    ) -> Result<Value, Failure> {
        let by = self.who(id);
        let is_own = |conn: &Conn| matches!(&conn.role, Role::Attach(attach) if attach.operator == id);
        let all: Vec<ConnId> =
            self.consoles.get(at).map(|console| console.clients().collect()).unwrap_or_default();
        let victims: Vec<ConnId> = match client.map(ConnId::from_bits) {
            Some(one) if all.contains(&one) => vec![one],
            Some(_) => return Err(Failure::new(Code::NoSuchClient, "no such client is at this console")),
            None => all.into_iter().filter(|id| !self.conns.get(*id).is_some_and(is_own)).collect(),
        };
        let reason = printable(reason);
        let because = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        for &victim in &victims {
            self.end_attach(victim, CloseReason::Bumped, Some((reason.clone(), by.to_string())));
            self.show_line_to(victim, &format!("{by} sent you away{because}"));
            let kind =
                EventKind::SentAway { who: self.who(victim), by: by.clone(), reason: reason.as_str().into() };
            self.emit(victim, kind);
            self.doom(victim, CloseReason::Bumped);
        }
        Ok(json!({ "bumped": victims.len() }))
    }

    fn kick_as_asked(&mut self, id: ConnId, client: u64, reason: &str) -> Result<Value, Failure> {
        let victim = ConnId::from_bits(client);
        if self.conns.get(victim).is_none() {
            return Err(Failure::new(Code::NoSuchClient, "there is no such connection"));
        }
        let (who, by) = (self.who(victim), self.who(id));
        self.emit(victim, EventKind::SentAway { who, by, reason: printable(reason).into() });
        self.doom(victim, CloseReason::Kicked);
        Ok(json!({}))
    }

    /// Types what has come on an attach's stream, as far as its console has room for it.
    pub(super) fn take_typed(&mut self, attach: ConnId) {
        let Some(Role::Attach(attached)) = self.conns.get(attach).map(|conn| &conn.role) else { return };
        let (operator, stream, at) = (attached.operator, attached.stream, attached.console);
        let mut typed = Vec::new();
        loop {
            let Some(Role::Attach(attached)) = self.conns.get(attach).map(|conn| &conn.role) else { return };
            let window = self.typing_window(attach, at, attached.epoch, true);
            let Some(desk) = self.conns.get_mut(operator).and_then(Conn::desk_mut) else { return };
            typed.clear();
            if window == 0 || desk.take_typed(stream, window, &mut typed) == 0 {
                break;
            }
            self.type_guest(attach, &typed);
        }
        self.fx.outbox.transmit(operator);
    }

    /// To an operator: answers, notices, and output of its attaches.
    pub(super) fn offer_operator(&mut self, id: ConnId, take: impl FnOnce(&[IoSlice<'_>]) -> usize) -> Sent {
        if self.conns.get(id).and_then(Conn::desk).is_some_and(|desk| !desk.is_short()) {
            self.fill(id);
        }
        let now = self.fx.now;
        let Some(desk) = self.conns.get_mut(id).and_then(Conn::desk_mut) else { return Sent::default() };
        let before = desk.receive_window();
        let (offered, taken) = desk.transmit(now, take);
        if before == 0 && desk.receive_window() > 0 {
            self.fx.outbox.receive(id);
        }
        if let Some(due) = desk.poll_timeout()
            && !self.fx.timers.is_set(Timer::Admin(id))
        {
            self.fx.timers.set(Timer::Admin(id), due);
        }
        Sent { offered, taken }
    }

    /// Hands the session what its client can take: what waits, what has changed, output.
    fn fill(&mut self, id: ConnId) {
        let is_closing = self
            .conns
            .get(id)
            .is_none_or(|conn| conn.closing.is_some_and(|closing| closing == super::conn::Closing::Farewell));
        if !is_closing {
            self.tell_of_consoles(id);
        }
        if let Some(desk) = self.conns.get_mut(id).and_then(Conn::desk_mut) {
            desk.flush();
        }
        let mut filled = 0;
        while filled < FILL_MOST && !is_closing {
            let Some(desk) = self.conns.get_mut(id).and_then(Conn::desk_mut) else { return };
            let Some((stream, attach, credit)) = desk.next_ready() else { break };
            filled += self.fill_attach(id, stream, attach, credit);
        }
        // Notices of gaps.
        if let Some(desk) = self.conns.get_mut(id).and_then(Conn::desk_mut) {
            desk.flush();
        }
    }

    /// Takes output of an attach's console, as much as its client has room for. Returns how much.
    fn fill_attach(&mut self, id: ConnId, stream: u64, attach: ConnId, credit: usize) -> usize {
        let Some((at, seat)) = self.conns.get(attach).and_then(Conn::seat) else { return 0 };
        let missed = self.consoles.catch_up(at, seat);
        let Some(console) = self.consoles.get(at) else { return 0 };
        let (offset, _) = console.fanout().position(seat);
        let mut runs = [IoSlice::new(&[]); RUNS];
        let (count, layout) = console.fanout().offer(seat, &[], &mut self.scratch, &mut runs);
        let offered: usize = runs[..count].iter().map(|run| run.len()).sum();
        let taken = offered.min(credit);
        let Some(desk) = self.conns.get_mut(id).and_then(Conn::desk_mut) else { return 0 };
        if let Some(bytes) = missed {
            desk.notify(&Notice::Missed { stream, offset, bytes });
        }
        let mut left = taken;
        for run in &runs[..count] {
            let n = run.len().min(left);
            desk.show(stream, &run[..n]);
            left -= n;
        }
        if offered > 0 {
            desk.mark_ready(stream);
        }
        if let Some(bytes) = missed {
            self.consoles.told_of_gap(at, seat);
            self.emit(attach, EventKind::ReaderSkipped(bytes));
        }
        if taken > 0 {
            self.consoles.took(at, seat, layout, taken, &mut self.fx);
        }
        if let Some(visit) = self.conns.get_mut(attach).and_then(Conn::visit_mut) {
            visit.shown += taken as u64;
        }
        if offered == 0 {
            self.fx.outbox.drained(attach);
        }
        taken
    }

    /// Tells a subscriber of consoles: those there were, then what has changed.
    fn tell_of_consoles(&mut self, id: ConnId) {
        for _ in 0..LOOKED_AT_MOST {
            let Some(desk) = self.conns.get_mut(id).and_then(Conn::desk_mut) else { return };
            if desk.waiting() > TOLD_MOST {
                return;
            }
            let Some(watch) = &mut desk.watch else { return };
            let next = match watch.next {
                Some(slot) => match self.consoles.iter_from(slot).next() {
                    Some(console) => {
                        watch.next = Some(console.id().index + 1);
                        watch.changed.remove(&console.id());
                        console.id()
                    }
                    None => {
                        watch.next = None;
                        desk.notify(&Notice::Synced);
                        continue;
                    }
                },
                None => match watch.changed.pop_first() {
                    Some(changed) => changed,
                    None => return,
                },
            };
            let notice = match self.consoles.get(next) {
                None => Notice::ConsoleGone { id: write_id(next.to_bits()) },
                Some(console) if matches(&watch.matching, console) => {
                    Notice::Console { console: Box::new(self.describe_console(console)) }
                }
                Some(_) => continue,
            };
            if let Some(desk) = self.conns.get_mut(id).and_then(Conn::desk_mut) {
                desk.notify(&notice);
            }
        }
        // There is more to look at, after others have had their turn.
        self.fx.timers.set(Timer::Admin(id), self.fx.now);
    }

    /// A console is not what it was: attaches and subscribers are told, as they have room.
    pub(super) fn spread_change(&mut self, at: ConsoleId) {
        self.refresh_attaches(at);
        for id in self.watchers.clone() {
            if let Some(watch) =
                self.conns.get_mut(id).and_then(Conn::desk_mut).and_then(|desk| desk.watch.as_mut())
            {
                watch.changed.insert(at);
                self.fx.outbox.transmit(id);
            }
        }
    }

    /// Something was logged: subscribers are told, as they have room.
    pub(super) fn spread_event(&mut self, event: &Event) {
        for id in self.loggers.clone() {
            let Some(desk) = self.conns.get_mut(id).and_then(Conn::desk_mut) else { continue };
            let is_full = desk.waiting() > TOLD_MOST;
            let Some(dropped) = &mut desk.log else { continue };
            if is_full {
                *dropped += 1;
                continue;
            }
            let count = std::mem::take(dropped);
            if count > 0 {
                desk.notify(&Notice::LogDropped { count });
            }
            event.put_line(desk.buffer());
            self.fx.outbox.transmit(id);
        }
    }
}

/// One page of a list.
#[derive(Serialize)]
struct Page {
    consoles: Vec<operator::Console>,
    next: Option<String>,
}

/// Whether a console's name or UUID matches: a pattern, where there is `*` or `?` in it, otherwise a part of
/// one of them.
fn matches(text: &str, console: &Console) -> bool {
    if text.is_empty() {
        return true;
    }
    let wanted = text.to_lowercase();
    let label = &console.label;
    let name = label.name.to_lowercase();
    let uuid = label.uuid.simple().to_string();
    if wanted.contains(['*', '?']) {
        let wanted: Vec<char> = wanted.chars().collect();
        return [name, uuid].iter().any(|text| is_like(&wanted, &text.chars().collect::<Vec<_>>()));
    }
    name.contains(&wanted) || uuid.contains(&wanted.replace('-', ""))
}

/// Whether a text is of a pattern's form. Costs the product of their lengths at most.
fn is_like(pattern: &[char], text: &[char]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&c) if c == '?' || c == text[t] => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (p, t) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

/// A text for people's screens and for logs: on one line, and not without end.
fn printable(text: &str) -> String {
    text.chars().take(256).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn lock_mode(mode: Mode) -> LockMode {
    match mode {
        Mode::ReadOnly => LockMode::Readonly,
        Mode::FreeForAll => LockMode::FreeForAll,
        Mode::FreeForAllFallback => LockMode::FreeForAllOrReadonly,
        Mode::Write => LockMode::Write,
        Mode::Exclusive => LockMode::Exclusive,
    }
}

fn mode_of(lock: LockMode) -> Mode {
    match lock {
        LockMode::Readonly => Mode::ReadOnly,
        LockMode::FreeForAll => Mode::FreeForAll,
        LockMode::FreeForAllOrReadonly => Mode::FreeForAllFallback,
        LockMode::Write => Mode::Write,
        LockMode::Exclusive => Mode::Exclusive,
    }
}

fn access(granted: Granted) -> operator::Access {
    match granted.access {
        Access::Writer => operator::Access::Write,
        Access::Spectator => operator::Access::Read,
    }
}

fn speaks(speaks: Speaks) -> &'static str {
    match speaks {
        Speaks::Undecided => "undecided",
        Speaks::Telnet => "telnet",
        Speaks::Raw => "raw",
        Speaks::Local => "local",
        Speaks::V3 => "v3",
        Speaks::Operator => "operator",
    }
}

/// Requests that are carried out before others have their turn.
const WORK_MOST: usize = 32;

/// Consoles that can be looked at for what one request costs.
const CONSOLES_PER_WORK: usize = 2048;

/// Consoles that one page of a list, or one look for news, looks at.
const LOOKED_AT_MOST: usize = 2048;

/// Bytes of a page, about: a line has 64 KiB at most.
const PAGE_BYTES: usize = 48 << 10;

/// Candidates that are named.
const CANDIDATES: usize = 8;

/// Output that is taken out of journals before the socket takes some.
const FILL_MOST: usize = 256 << 10;

/// Notices that wait for a client before newer ones wait to be made.
const TOLD_MOST: usize = 32 << 10;

/// Pieces of output that are looked at for one attach at a time.
const RUNS: usize = 16;
