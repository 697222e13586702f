//! Streams of an operator's connection that are joined with those of guests, or that tell of facts
//! (operator.md §11).
//!
//! **Owns** which stream of the client's is joined with what, and what is still to be told of facts.
//! **Refuses to know** guests.

use std::collections::{BTreeMap, BTreeSet};

use vspc_guest::{Code, Facts, LineBuffer, MAX_LINE, Refusal, Teller};

use crate::mux::{Priority, Received, StreamId};

use super::super::id::ConsoleId;
use super::Desk;

/// A stream that reaches into a guest.
#[derive(Debug)]
pub(in super::super) struct Join {
    /// The console whose guest it is.
    pub(in super::super) at: ConsoleId,
    pub(in super::super) state: JoinState,
}

/// How far it is.
#[derive(Debug)]
pub(in super::super) enum JoinState {
    /// The client has still to say what it is to be.
    Header(LineBuffer),
    /// It is joined with this one.
    Open(StreamId),
    /// It is over on this side.
    Over,
}

/// A stream that tells of facts.
#[derive(Debug)]
pub(in super::super) struct Telling {
    pub(in super::super) at: ConsoleId,
    /// Those that were set for the guest, and not its own.
    pub(in super::super) of_host: bool,
    teller: Teller,
    unsaid: Vec<u8>,
}

/// All of one connection.
#[derive(Debug, Default)]
pub(super) struct Joins {
    joins: BTreeMap<u64, Join>,
    tellings: BTreeMap<u64, Telling>,
}

impl Joins {
    pub(super) fn has(&self, stream: u64) -> bool {
        self.joins.contains_key(&stream) || self.tellings.contains_key(&stream)
    }

    pub(super) fn remove(&mut self, stream: u64) -> Option<Join> {
        self.tellings.remove(&stream);
        self.joins.remove(&stream)
    }
}

impl Desk {
    /// A stream is to be joined, once its client has said with what.
    pub(in super::super) fn begin_join(&mut self, stream: u64, at: ConsoleId) {
        let state = JoinState::Header(LineBuffer::new(MAX_LINE));
        self.joins.joins.insert(stream, Join { at, state });
    }

    /// A stream is joined with this one.
    pub(in super::super) fn join(&mut self, stream: u64, at: ConsoleId, with: StreamId) {
        self.joins.joins.insert(stream, Join { at, state: JoinState::Open(with) });
    }

    pub(in super::super) fn joined(&mut self, stream: u64) -> Option<&mut Join> {
        self.joins.joins.get_mut(&stream)
    }

    /// Every stream that is joined, and with which of which console's guest.
    pub(in super::super) fn all_joined(&self) -> impl Iterator<Item = (u64, ConsoleId, Option<StreamId>)> {
        self.joins.joins.iter().map(|(&stream, join)| {
            let with = match join.state {
                JoinState::Open(with) => Some(with),
                JoinState::Header(_) | JoinState::Over => None,
            };
            (stream, join.at, with)
        })
    }

    /// With what a stream is joined.
    pub(in super::super) fn joined_with(&self, stream: u64) -> Option<(ConsoleId, StreamId)> {
        match self.joins.joins.get(&stream) {
            Some(&Join { at, state: JoinState::Open(with) }) => Some((at, with)),
            _ => None,
        }
    }

    /// The header of a stream that is to be joined, or why there is none; `None`: it has not come.
    pub(in super::super) fn next_header(&mut self, stream: u64) -> Option<Result<Vec<u8>, Refusal>> {
        let JoinState::Header(buffer) = &mut self.joins.joins.get_mut(&stream)?.state else { return None };
        let id = StreamId(stream);
        while let Ok(Received::Bytes(bytes)) = self.session.received(id) {
            let taken = buffer.take(bytes);
            let _ = self.session.consume(id, taken);
            if let Some(line) = buffer.line() {
                return Some(line.map(<[u8]>::to_vec));
            }
        }
        if matches!(self.session.received(id), Ok(Received::End)) {
            return Some(Err(Refusal::new(Code::BAD_LINE, "the stream has no header")));
        }
        None
    }

    /// Gives up to `most` bytes of what a client has said on a stream to `give`; how many, and whether it has
    /// ended.
    pub(in super::super) fn take_said(
        &mut self,
        stream: u64,
        most: usize,
        give: impl FnMut(&[u8]),
    ) -> (usize, bool) {
        let n = self.session.take_runs(StreamId(stream), most, give);
        (n, matches!(self.session.received(StreamId(stream)), Ok(Received::End)))
    }

    /// How much may be said on a joined stream now; where it is nothing its client's credit is awaited.
    pub(in super::super) fn room(&mut self, stream: u64) -> usize {
        let credit = self.session.credit(StreamId(stream));
        if credit == 0 {
            let _ = self.session.want_credit(StreamId(stream));
        }
        credit
    }

    /// Says this on a joined stream.
    pub(in super::super) fn say_on(&mut self, stream: u64, bytes: &[u8]) {
        let _ = self.session.write(StreamId(stream), bytes);
    }

    /// How urgent what is said on a joined stream is, beside what is said on others.
    pub(in super::super) fn set_priority(&mut self, stream: u64, priority: Priority) {
        let _ = self.session.set_priority(StreamId(stream), priority);
    }

    /// Nothing more is said on a joined stream.
    pub(in super::super) fn finish_joined(&mut self, stream: u64) {
        let _ = self.session.finish(StreamId(stream));
    }

    /// A joined stream is over on this side, in order: what its client still says is dropped.
    pub(in super::super) fn end_joined(&mut self, stream: u64) {
        let _ = self.session.finish(StreamId(stream));
        let _ = self.session.stop_reading(StreamId(stream));
        if let Some(join) = self.joins.joins.get_mut(&stream) {
            join.state = JoinState::Over;
        }
    }

    /// A joined stream is cut.
    pub(in super::super) fn reset_joined(&mut self, stream: u64) {
        if self.joins.joins.remove(&stream).is_some() {
            let _ = self.session.reset(StreamId(stream));
        }
    }

    /// A stream tells of a console's facts from now on.
    pub(in super::super) fn begin_telling(
        &mut self,
        stream: u64,
        at: ConsoleId,
        of_host: bool,
        facts: &Facts,
    ) {
        let telling = Telling { at, of_host, teller: Teller::new(facts), unsaid: Vec::new() };
        self.joins.tellings.insert(stream, telling);
    }

    /// Which facts are told, and on which streams.
    pub(in super::super) fn tellings(&self) -> impl Iterator<Item = (u64, &Telling)> {
        self.joins.tellings.iter().map(|(&stream, telling)| (stream, telling))
    }

    /// The consoles whose guests it has to do with.
    pub(in super::super) fn guests(&self) -> BTreeSet<ConsoleId> {
        let joined = self.joins.joins.values().map(|join| join.at);
        joined.chain(self.joins.tellings.values().map(|telling| telling.at)).collect()
    }

    /// Nothing more is told of the facts of this console's guest.
    pub(in super::super) fn end_tellings_of(&mut self, at: ConsoleId) {
        let of = self.joins.tellings.iter().filter(|(_, telling)| telling.at == at);
        for stream in of.map(|(&stream, _)| stream).collect::<Vec<_>>() {
            self.joins.tellings.remove(&stream);
            let _ = self.session.reset(StreamId(stream));
        }
    }

    /// These facts have changed. Whether that is told here.
    pub(in super::super) fn note_facts(
        &mut self,
        at: ConsoleId,
        of_host: bool,
        facts: &Facts,
        keys: &[String],
    ) -> bool {
        let mut any = false;
        let all = self.joins.tellings.values_mut();
        for telling in all.filter(|telling| telling.at == at && telling.of_host == of_host) {
            keys.iter().for_each(|key| telling.teller.handle_changed(facts, key));
            any = true;
        }
        any
    }

    /// Tells of facts as far as the client takes that.
    pub(in super::super) fn tell_facts(&mut self, stream: u64, facts: &Facts) {
        let Some(telling) = self.joins.tellings.get_mut(&stream) else { return };
        loop {
            if telling.unsaid.is_empty() {
                let Some(line) = telling.teller.poll(facts) else { return };
                telling.unsaid = line;
            }
            let id = StreamId(stream);
            let n = self.session.credit(id).min(telling.unsaid.len());
            let taken = self.session.write(id, &telling.unsaid[..n]).unwrap_or(0);
            telling.unsaid.drain(..taken);
            if !telling.unsaid.is_empty() {
                let _ = self.session.want_credit(id);
                return;
            }
        }
    }

    /// What a client says on a stream that tells of facts means nothing; its end ends the telling.
    pub(super) fn hear_telling(&mut self, stream: u64) {
        let id = StreamId(stream);
        while let Ok(Received::Bytes(bytes)) = self.session.received(id) {
            let n = bytes.len();
            let _ = self.session.consume(id, n);
        }
        if matches!(self.session.received(id), Ok(Received::End)) {
            self.joins.tellings.remove(&stream);
            let _ = self.session.finish(id);
        }
    }
}
