//! What operators ask of guests (operator.md §11): streams opened in them and taken from them, facts told and
//! set.

use serde_json::{Value, json};
use vspc_guest::{Code as GuestCode, Refusal};

use super::Concentrator;
use super::carried::{Carried, Joined};
use super::conn::Conn;
use super::desk::{Join, JoinState};
use super::event::EventKind;
use super::guest::Guest;
use super::id::{ConnId, ConsoleId};
use super::streams::{is_log, shown};
use crate::admin::operator::{Code, Failure, write_id};
use crate::mux::{Priority, StreamId};

impl Concentrator {
    /// A stream of an operator's is to be joined with one in a guest, once its header has come.
    pub(super) fn open_in_guest(&mut self, id: ConnId, at: ConsoleId, stream: u64) -> Result<Value, Failure> {
        self.agent_at(at)?;
        let Some(desk) = self.conns.get_mut(id).and_then(Conn::desk_mut) else { return Ok(json!({})) };
        desk.check_free(stream)?;
        desk.begin_join(stream, at);
        self.hear_joined(id, stream);
        Ok(json!({}))
    }

    /// What of a console's guest is known, if it has one that has answered.
    fn agent_at(&self, at: ConsoleId) -> Result<&Guest, Failure> {
        let guest = self.consoles.guests.get(at);
        let is_there = self.consoles.get(at).is_some_and(|console| !console.legs.is_empty());
        guest.filter(|guest| guest.agent().is_some() && is_there).ok_or_else(no_agent)
    }

    /// A client has said something on a stream that is joined or is to be.
    pub(super) fn hear_joined(&mut self, id: ConnId, stream: u64) {
        let Some(desk) = self.conns.get_mut(id).and_then(Conn::desk_mut) else { return };
        let Some(&mut Join { at, ref state }) = desk.joined(stream) else { return };
        match state {
            JoinState::Over => {}
            JoinState::Open(_) => self.feed_joined(id, stream),
            JoinState::Header(_) => {
                let Some(line) = desk.next_header(stream) else { return };
                match line.and_then(|line| self.begin_in_guest(id, at, stream, &line)) {
                    Ok(()) => self.feed_joined(id, stream),
                    Err(refusal) => {
                        if let Some(desk) = self.conns.get_mut(id).and_then(Conn::desk_mut) {
                            desk.say_on(stream, &refusal.line());
                            desk.end_joined(stream);
                            self.fx.outbox.transmit(id);
                        }
                    }
                }
            }
        }
    }

    /// Opens a stream in a guest, by this header.
    fn begin_in_guest(&mut self, id: ConnId, at: ConsoleId, stream: u64, line: &[u8]) -> Result<(), Refusal> {
        let gone = || Refusal::new(GuestCode::FAILED, "the guest is gone");
        let guest = self.consoles.guests.get_mut(at).ok_or_else(gone)?;
        let (op, belongs, detail) = guest.read_header(line)?;
        let may = &guest.agent().ok_or_else(gone)?.may;
        // The streams of a process come with it.
        if op == "hello" || !(belongs || may.iter().any(|word| **word == *op)) {
            return Err(Refusal::new(GuestCode::NOT_ALLOWED, format!("the guest's agent allows no {op}")));
        }
        let detail = shown(&detail);
        let joined = Joined { operator: id, stream, op: op.into(), detail: detail.clone() };
        let with = guest.open(joined, line)?;
        if let Some(desk) = self.conns.get_mut(id).and_then(Conn::desk_mut) {
            desk.join(stream, at, with);
            if !matches!(op, "put" | "get") {
                desk.set_priority(stream, Priority::High);
            }
        }
        self.fx.look_after_guest(at);
        if !belongs {
            let who = self.who(id);
            self.emit_of_console(at, EventKind::GuestReached { who, op: op.into(), detail });
        }
        Ok(())
    }

    /// A joined stream, or one that tells of facts, takes more.
    pub(super) fn more_for(&mut self, id: ConnId, stream: u64) {
        let Some(desk) = self.conns.get_mut(id).and_then(Conn::desk_mut) else { return };
        match desk.joined_with(stream) {
            Some((at, with)) => self.read_stream(at, with),
            None => self.tell_facts(id),
        }
    }

    /// Has a stream tell of facts.
    pub(super) fn read_facts(
        &mut self,
        id: ConnId,
        at: ConsoleId,
        stream: u64,
        of_host: bool,
    ) -> Result<Value, Failure> {
        let guest = self.consoles.guests.get(at).ok_or_else(no_agent)?;
        let Some(desk) = self.conns.get_mut(id).and_then(Conn::desk_mut) else { return Ok(json!({})) };
        desk.check_free(stream)?;
        if desk.tellings().count() >= MOST_TELLINGS {
            return Err(Failure::new(Code::TooMany, "this connection is told of as many facts as it may be"));
        }
        desk.begin_telling(stream, at, of_host, if of_host { guest.own() } else { guest.told() });
        self.fact_readers.insert(id);
        self.tell_facts(id);
        Ok(json!({}))
    }

    /// Sets a fact for a guest to read.
    pub(super) fn set_fact(
        &mut self,
        at: ConsoleId,
        key: &str,
        value: Option<&str>,
    ) -> Result<Value, Failure> {
        let guest = self.consoles.guests.get_mut(at).ok_or_else(no_agent)?;
        let is_news = guest.set_own(key, value).map_err(|refusal| {
            let code = if refusal.code == GuestCode::TOO_MANY { Code::TooMany } else { Code::BadRequest };
            Failure::new(code, refusal.message)
        })?;
        if is_news {
            self.spread_facts(at, true, &[key.to_owned()]);
            self.fx.look_after_guest(at);
        }
        Ok(json!({}))
    }

    /// What streams a guest has.
    pub(super) fn describe_streams(&self, at: ConsoleId) -> Result<Value, Failure> {
        let guest = self.agent_at(at)?;
        let agent = guest.agent().ok_or_else(no_agent)?;
        let streams: Vec<Value> = guest
            .streams()
            .filter_map(|(_, carried)| match carried {
                Carried::Leg { conn, .. } => {
                    let member = self.conns.get(*conn).and_then(Conn::console);
                    let label = member.and_then(|member| self.consoles.label(member))?;
                    Some(json!({
                        "kind": if is_log(&label) { "log" } else { "shell" },
                        "name": label.name,
                        "console": write_id(label.id.to_bits()),
                    }))
                }
                Carried::Facts(_) => Some(json!({ "kind": "facts" })),
                Carried::Joined(joined) => Some(json!({
                    "kind": joined.op,
                    "who": self.who(joined.operator),
                    "detail": joined.detail,
                })),
                Carried::Waiting(waiting) => Some(json!({ "kind": "connection", "detail": waiting.name })),
                Carried::Unread(_)
                | Carried::Early(_)
                | Carried::Hello(_)
                | Carried::Window(_)
                | Carried::Over => None,
            })
            .take(SHOWN_STREAMS)
            .collect();
        let may: Vec<_> = agent.may.iter().take(32).map(|word| shown(word)).collect();
        Ok(json!({ "agent": shown(&agent.agent), "may": may, "streams": streams }))
    }

    /// An operator takes what connects to this listener in a guest.
    pub(super) fn accept_from_guest(
        &mut self,
        id: ConnId,
        at: ConsoleId,
        name: &str,
    ) -> Result<Value, Failure> {
        self.agent_at(at)?;
        let name =
            vspc_guest::Name::new(name).map_err(|refusal| Failure::new(Code::BadRequest, refusal.message))?;
        let guests = &mut self.consoles.guests;
        if guests.taker(at, name.as_str()).is_none() && guests.taken_by(id).count() >= MOST_TAKEN {
            let message = "this connection takes connections from as many listeners as it may";
            return Err(Failure::new(Code::TooMany, message));
        }
        if guests.take(at, name.as_str(), id) {
            Ok(json!({}))
        } else {
            let message = format!("somebody takes connections to {} already", name.as_str());
            Err(Failure::new(Code::StreamInUse, message))
        }
    }

    /// Joins a stream with somebody who has connected to a guest.
    pub(super) fn take_from_guest(
        &mut self,
        id: ConnId,
        at: ConsoleId,
        number: u64,
        stream: u64,
    ) -> Result<Value, Failure> {
        self.agent_at(at)?;
        let with = StreamId(number | StreamId::GUEST_BIT);
        let gone = || Failure::new(Code::Gone, "it waits no more");
        let Some(desk) = self.conns.get_mut(id).and_then(Conn::desk_mut) else { return Ok(json!({})) };
        desk.check_free(stream)?;
        let guests = &mut self.consoles.guests;
        let name = match guests.get(at).and_then(|guest| guest.carried(with)) {
            Some(Carried::Waiting(waiting)) => waiting.name.clone(),
            _ => return Err(gone()),
        };
        if guests.taker(at, &name) != Some(id) {
            return Err(gone());
        }
        let guest = guests.get_mut(at).ok_or_else(gone)?;
        let joined = Joined { operator: id, stream, op: "connection".into(), detail: name };
        guest.set(with, Carried::Joined(Box::new(joined)));
        desk.join(stream, at, with);
        self.feed_joined(id, stream);
        self.read_stream(at, with);
        Ok(json!({}))
    }
}

fn no_agent() -> Failure {
    Failure::new(Code::NoAgent, "no agent has answered on this console's line")
}

/// Streams that one connection is told of facts on.
const MOST_TELLINGS: usize = 16;

/// Listeners in guests from which one connection takes connections.
const MOST_TAKEN: usize = 64;

/// Streams that are shown: a line has 64 KiB at most, and one of these some 800 bytes.
const SHOWN_STREAMS: usize = 64;
