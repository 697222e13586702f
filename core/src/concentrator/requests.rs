//! What operators ask (operator.md §5): their connections' bytes, their requests carried out, and what they
//! are shown.
//!
//! Work per call is bounded: so many requests are carried out, and the rest after the others have had their
//! turn; a page of a list looks at so many consoles; output is taken out of journals as far as the client has
//! credit, a batch at a time.

use serde::Serialize;
use serde_json::{Value, json};

use crate::admin::lock::LockRefused;
use crate::admin::operator::{
    self, Behalf, Candidate, Code, Extras, FactsOf, Failure, LogQuery, Mode, Notice, Op, ParseError,
    ReloadOutcome, Request, Right, Topic, parse_id, put_answer, put_failure, write_id,
};
use crate::mux::CloseReason as SessionEnd;
use crate::telnet::{Command, IAC};
use crate::time::Instant;

use super::Concentrator;
use super::attaching::{access, lock_mode, mode_of};
use super::conn::{Conn, Role};
use super::describing::matches;
use super::desk::{Asked, Watch};
use super::event::{CloseReason, EventKind};
use super::id::{ConnId, ConsoleId};
use super::output::{LogOrder, LogReader, Order, Output};
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
                Some(Asked::Said(stream)) => self.hear_joined(id, stream),
                Some(Asked::Room(stream)) => self.more_for(id, stream),
                Some(Asked::LeftJoin(join, in_order)) => self.left_joined(&join, in_order),
                Some(Asked::LeftLog(stream)) => {
                    self.fx.outbox.push(Output::Log(LogOrder::Stop(LogReader { conn: id, stream })));
                }
                Some(Asked::Left(attach)) => self.doom(attach, CloseReason::PeerClosed),
                Some(Asked::Over(why)) => {
                    if !matches!(why, SessionEnd::Local | SessionEnd::Remote(_)) {
                        self.emit(id, EventKind::AdminRefused(words(why).into()));
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
        let mut work = 1 + self.consoles.len() / CONSOLES_PER_WORK;
        if let Ok(Request { op: Op::List { with: Extras { last_line: true }, .. }, .. }) = &request {
            work += LAST_LINES_WORK;
        }
        let (number, outcome) = match request {
            Err(ParseError::Broken(message)) => {
                if let Some(desk) = self.conns.get_mut(id).and_then(Conn::desk_mut) {
                    desk.notify(&Notice::Broken { message });
                }
                self.doom(id, CloseReason::NotUnderstood);
                // It is told before it is closed.
                self.fx.outbox.transmit(id);
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
        work
    }

    fn say(&mut self, id: ConnId, number: u64, ok: &impl Serialize) {
        if let Some(desk) = self.conns.get_mut(id).and_then(Conn::desk_mut) {
            put_answer(number, ok, desk.buffer());
        }
    }

    fn carry_out_op(&mut self, id: ConnId, number: u64, op: Op) -> Result<(), Failure> {
        let Some(desk) = self.conns.get(id).and_then(Conn::desk) else { return Ok(()) };
        let (is_known, right) = (desk.standing.is_known, desk.standing.right);
        // What is about one console is judged there.
        let is_about_all = matches!(op, Op::Stats | Op::Reload | Op::Drain);
        let needs = match &op {
            Op::Hello { .. } => Right::None,
            _ if !is_known => {
                return Err(Failure::new(Code::HelloFirst, "the first request has to be hello"));
            }
            Op::Lock { mode: Mode::ReadOnly, .. } => Right::Spectator,
            Op::Lock { .. } | Op::BreakAt { .. } | Op::Break { .. } => Right::Writer,
            Op::Open { .. } | Op::SetFact { .. } | Op::Accept { .. } | Op::Take { .. } => Right::Writer,
            Op::Bump { .. } | Op::Kick { .. } | Op::GiveInput { .. } | Op::Reload | Op::Drain => {
                Right::Operator
            }
            _ => Right::Spectator,
        };
        if right < needs && (is_about_all || self.most_right(id) < needs) {
            return Err(Failure::needs(needs));
        }
        let ok = match op {
            Op::Hello { v, client: _, behalf } => self.hello(id, v, behalf)?,
            Op::List { matching, after, limit, with } => {
                let page = self.page(id, &matching, after, limit, with);
                self.say(id, number, &page);
                return Ok(());
            }
            Op::Show { console, with } => {
                let at = self.console_for(id, &console, needs)?;
                json!({ "console": self.consoles.get(at).map(|at| self.describe_with(at, with)) })
            }
            Op::Who(console) => {
                let at = self.console_for(id, &console, needs)?;
                self.describe_those_at(at, id)
            }
            Op::Subscribe { to, matching } => self.subscribe(id, to, matching),
            Op::Unsubscribe(topic) => self.unsubscribe(id, topic),
            Op::Attach { console, stream, lock, scrollback, from, size } => {
                let at = self.console_for(id, &console, needs)?;
                let granted = self.attach_as_asked(id, at, stream, lock, scrollback, from)?;
                if let (Some(size), Ok(attach)) = (size, self.attach_of(id, stream)) {
                    self.note_size(attach, size);
                }
                granted
            }
            Op::Resize { stream, size } => {
                let attach = self.attach_of(id, stream)?;
                self.note_size(attach, size);
                json!({})
            }
            Op::Log { console, stream, query } => {
                let at = self.console_for(id, &console, needs)?;
                self.begin_log(id, at, stream, query)?
            }
            Op::Lock { stream, mode } => {
                let attach = self.attach_of(id, stream)?;
                self.needs_right(id, self.conns.get(attach).and_then(Conn::console), needs)?;
                let granted = self.change_lock(attach, lock_mode(mode)).map_err(|why| {
                    let at = self.conns.get(attach).and_then(Conn::console);
                    self.locked(at, Some(attach), why)
                })?;
                json!({ "access": access(granted), "lock": mode_of(granted.applied) })
            }
            Op::BreakAt { stream, reason } => {
                let attach = self.attach_of(id, stream)?;
                let at = self.conns.get(attach).and_then(Conn::console);
                let at = at.ok_or_else(|| Failure::new(Code::NoSuchStream, "nothing is attached to it"))?;
                self.needs_right(id, Some(at), needs)?;
                self.send_break(attach, at, &reason)?
            }
            Op::Break { console, reason } => {
                let at = self.console_for(id, &console, needs)?;
                self.send_break(id, at, &reason)?
            }
            Op::Bump { console, client, reason } => {
                let at = self.console_for(id, &console, needs)?;
                self.bump(id, at, client, &reason)?
            }
            Op::Kick { client, reason } => self.kick_as_asked(id, client, &reason)?,
            Op::GiveInput { console, leg } => {
                let at = self.console_for(id, &console, needs)?;
                let now = self.fx.now;
                self.give_input(at, ConnId::from_bits(leg), now)
                    .map_err(|error| Failure::new(Code::NoSuchClient, error.to_string()))?;
                json!({})
            }
            Op::Streams(console) => {
                let at = self.console_for(id, &console, needs)?;
                self.describe_streams(at)?
            }
            Op::Open { console, stream } => {
                let at = self.console_for(id, &console, needs)?;
                self.open_in_guest(id, at, stream)?
            }
            Op::Facts { console, stream, of } => {
                let at = self.console_for(id, &console, needs)?;
                self.read_facts(id, at, stream, of == FactsOf::Host)?
            }
            Op::SetFact { console, key, value } => {
                let at = self.console_for(id, &console, needs)?;
                self.set_fact(at, &key, value.as_deref())?
            }
            Op::Accept { console, name } => {
                let at = self.console_for(id, &console, needs)?;
                self.accept_from_guest(id, at, &name)?
            }
            Op::Take { console, number, stream } => {
                let at = self.console_for(id, &console, needs)?;
                self.take_from_guest(id, at, number, stream)?
            }
            Op::Reload => {
                self.order(id, Order::Reload(id));
                if let Some(desk) = self.conns.get_mut(id).and_then(Conn::desk_mut) {
                    desk.await_outcome(number);
                }
                return Ok(());
            }
            Op::Drain => {
                self.order(id, Order::Drain);
                json!({})
            }
            Op::Stats => self.describe_all(id),
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
            standing.speak_for(behalf, &self.config.admin_rights);
        }
        standing.is_known = true;
        let (right, who, delegates) = (standing.right, standing.who.clone(), standing.grant.delegates);
        let features = ["guests", "resize"].into_iter().chain(self.config.has_logs.then_some("log"));
        Ok(json!({
            "v": operator::VERSION,
            "server": server,
            "rights": right.name(),
            "as": who,
            "delegates": delegates,
            "lists": self.lists_of(id),
            "features": features.collect::<Vec<_>>(),
        }))
    }

    fn begin_log(
        &mut self,
        id: ConnId,
        at: ConsoleId,
        stream: u64,
        query: LogQuery,
    ) -> Result<Value, Failure> {
        if !self.config.has_logs {
            let message = "this server keeps no logs of consoles (--log-dir)";
            return Err(Failure::new(Code::Unsupported, message));
        }
        let Some(desk) = self.conns.get_mut(id).and_then(Conn::desk_mut) else { return Ok(json!({})) };
        desk.check_free(stream)?;
        if !desk.begin_log(stream, at) {
            return Err(Failure::new(Code::TooMany, "this connection reads as many logs as it may"));
        }
        let order = LogOrder::Begin(LogReader { conn: id, stream }, at, Box::new(query));
        self.fx.outbox.push(Output::Log(order));
        Ok(json!({ "console": self.describe(at) }))
    }

    /// The piece of a log that an [`Output::Log`] has asked for, as records (operator.md §10); `is_last`: no
    /// more come, which may be said at any time. Returns whether anybody reads it still; if not, no more is
    /// to be read.
    pub fn handle_log(&mut self, reader: LogReader, piece: Vec<u8>, is_last: bool, now: Instant) -> bool {
        self.fx.now = now;
        let conn = self.conns.get_mut(reader.conn).filter(|conn| conn.closing.is_none());
        let is_read =
            conn.and_then(Conn::desk_mut).is_some_and(|desk| desk.feed_log(reader.stream, piece, is_last));
        if is_read {
            self.fx.outbox.transmit(reader.conn);
        }
        self.settle();
        is_read
    }

    /// What came of the reload that a connection has ordered. Its next request is taken from now on.
    pub fn handle_reloaded(&mut self, id: ConnId, outcome: &ReloadOutcome, now: Instant) {
        self.fx.now = now;
        let conn = self.conns.get_mut(id).filter(|conn| conn.closing.is_none());
        if let Some(desk) = conn.and_then(Conn::desk_mut)
            && let Some(number) = desk.take_awaited()
        {
            put_answer(number, &outcome.cut(), desk.buffer());
            self.serve(id);
        }
        self.settle();
    }

    /// The console that is meant, at which this one may do what `needs` says.
    fn console_for(&self, id: ConnId, text: &str, needs: Right) -> Result<ConsoleId, Failure> {
        let at = self.console_called(id, text)?;
        self.needs_right(id, Some(at), needs)?;
        Ok(at)
    }

    fn needs_right(&self, id: ConnId, at: Option<ConsoleId>, needs: Right) -> Result<(), Failure> {
        let right = at.map_or(Right::None, |at| self.right_at(id, at));
        if right < needs { Err(Failure::needs(needs)) } else { Ok(()) }
    }

    /// The console that is meant, out of those that this one may know of.
    fn console_called(&self, asker: ConnId, text: &str) -> Result<ConsoleId, Failure> {
        if let Some(id) = parse_id(text).map(ConsoleId::from_bits)
            && self.consoles.get(id).is_some()
            && self.sees(asker, id)
        {
            return Ok(id);
        }
        let mut found = self.find(text).filter(|&at| self.sees(asker, at));
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
                let like = like.filter(|console| self.sees(asker, console.id()));
                let candidates = like.take(CANDIDATES).filter_map(|console| candidate(console.id()));
                let message = format!("no console is called {text:?}");
                Err(Failure {
                    candidates: candidates.collect(),
                    ..Failure::new(Code::NoSuchConsole, message)
                })
            }
        }
    }

    fn subscribe(&mut self, id: ConnId, to: Topic, matching: String) -> Value {
        let Some(desk) = self.conns.get_mut(id).and_then(Conn::desk_mut) else { return json!({}) };
        match to {
            Topic::Consoles => {
                desk.watch = Some(Watch::new(matching));
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

    pub(super) fn send_break(&mut self, id: ConnId, at: ConsoleId, reason: &str) -> Result<Value, Failure> {
        let holder = self.consoles.get(at).and_then(|console| console.lock().holder());
        let is_attach = self.conns.get(id).is_some_and(Conn::is_visitor);
        let may = if is_attach { self.may_type(id, at) } else { holder.is_none() };
        if !may {
            return Err(self.locked(Some(at), Some(id), LockRefused::Write));
        }
        let (who, reason) = (self.who(id), printable(reason).into());
        let Some((console, buffers)) = self.consoles.with_buffers(at) else { return Ok(json!({})) };
        console.count().breaks += 1;
        if !console.legs.is_empty() {
            console.uplink.push_wire(&[IAC, Command::BRK.0], buffers);
            console.wake_input(&mut self.fx);
        }
        self.emit_event(Some(id), Some(at), EventKind::BreakSent { who, reason });
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

    fn order(&mut self, id: ConnId, order: Order) {
        let by = self.who(id);
        self.emit(id, EventKind::Ordered { by, order });
        self.fx.outbox.push(Output::Host(order));
    }

    fn kick_as_asked(&mut self, id: ConnId, client: u64, reason: &str) -> Result<Value, Failure> {
        let victim = ConnId::from_bits(client);
        // One that is at no console is everybody's, and so the business of operators of the whole server.
        let at = self.conns.get(victim).map(Conn::console);
        let right = at.map_or(Right::None, |at| match at {
            Some(at) => self.right_at(id, at),
            None => self.right_anywhere(id),
        });
        match right {
            Right::None => return Err(Failure::new(Code::NoSuchClient, "there is no such connection")),
            Right::Operator => {}
            Right::Spectator | Right::Writer => return Err(Failure::needs(Right::Operator)),
        }
        let (who, by) = (self.who(victim), self.who(id));
        self.emit(victim, EventKind::SentAway { who, by, reason: printable(reason).into() });
        self.doom(victim, CloseReason::Kicked);
        Ok(json!({}))
    }
}

/// Why a session has ended that nobody has ended, for logs.
fn words(why: SessionEnd) -> String {
    let words = match why {
        SessionEnd::Violation(violation) => return format!("operator session: {violation}"),
        SessionEnd::Local | SessionEnd::Remote(_) => "it was ended",
        SessionEnd::Version => "no common version",
        SessionEnd::Silent => "it does not answer",
        SessionEnd::NotS2 => "what came is no S2",
        SessionEnd::NoHello => "no HELLO came in time",
        SessionEnd::Echo => "what is sent comes back",
        SessionEnd::Misuse => "more was taken than was offered",
    };
    format!("operator session: {words}")
}

/// A text for people's screens and for logs: on one line, and not without end.
pub(super) fn printable(text: &str) -> String {
    text.chars().take(256).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Requests that are carried out before others have their turn.
const WORK_MOST: usize = 32;

/// What the last lines of a page of consoles cost besides, in requests.
const LAST_LINES_WORK: usize = 8;

/// Consoles that can be looked at for what one request costs.
const CONSOLES_PER_WORK: usize = 2048;

/// Candidates that are named.
const CANDIDATES: usize = 8;
