//! What a guest says, line by line: its answer to hello, what it announces, the facts that it tells.

use vspc_guest::{
    Announcement, Code, LineBuffer, MAX_FACT_LINE, MAX_LINE, Next, Pack, Refusal, Teller, answer,
};

use super::super::carried::{Carried, FactStream};
use super::{Guest, Known, Met, Mux, News};
use crate::mux::{Received, StreamId, Trunk};

impl Guest {
    /// There is something to read on a stream.
    pub(super) fn read(&mut self, id: StreamId) {
        let Some(carried) = self.streams.get_mut(id) else { return };
        match carried {
            Carried::Leg { .. } | Carried::Joined(_) => self.tell_of(News::Said(id)),
            Carried::Waiting(_) | Carried::Early(_) => {}
            Carried::Window(_) => self.pass_over_window(id),
            Carried::Over => drop(self.trunk.session().stop_reading(id)),
            Carried::Unread(line) => match next_line(&mut self.trunk, id, line) {
                None if matches!(self.trunk.session().received(id), Ok(Received::End)) => {
                    self.refuse(id, &Refusal::new(Code::BAD_LINE, "the stream has no header"));
                }
                None => {}
                Some(Err(refusal)) => self.refuse(id, &refusal),
                Some(Ok(line)) => self.read_announcement(id, &line),
            },
            Carried::Hello(hello) => {
                let outcome = match next_line(&mut self.trunk, id, &mut hello.line) {
                    None => return,
                    Some(line) => line.and_then(|line| hello.greeting.handle_line(&line)),
                };
                match outcome {
                    Err(refusal) => self.complain(&refusal.to_string()),
                    Ok((who, next)) => {
                        if let Some(guest) = &who {
                            // A socket carries more than anybody packs.
                            let can = guest.packs.iter().any(|word| Pack::WORDS.contains(&word.as_str()));
                            self.packs = can && self.mux == Mux::S2OverSl;
                        }
                        let who = who.map(Known::of).or_else(|| hello.half_known.take());
                        match next {
                            Next::Say(line) => {
                                hello.half_known = who;
                                let _ = self.trunk.session().write(id, &line);
                                // The answer may be there.
                                self.read(id);
                            }
                            Next::Over => {
                                let _ = self.trunk.session().finish(id);
                                let _ = self.trunk.session().stop_reading(id);
                                self.met = who.map_or(Met::Nobody(None), Met::Agent);
                                self.streams.set(id, Carried::Over);
                                self.tell_of(News::Up);
                                self.read_early();
                            }
                        }
                    }
                }
            }
            Carried::Facts(facts) => {
                let mut changed = Vec::new();
                let outcome = loop {
                    match next_line(&mut self.trunk, id, &mut facts.line) {
                        None => break Ok(()),
                        Some(line) => match line.and_then(|line| self.told.handle_line(&line)) {
                            Ok(keys) => changed.extend(keys),
                            Err(refusal) => break Err(refusal),
                        },
                    }
                };
                if !changed.is_empty() {
                    self.tell_of(News::Told(changed));
                }
                if outcome.is_err() {
                    let _ = self.trunk.session().reset(id);
                }
            }
        }
    }

    /// Hello is over: what was announced before that was known is heard now.
    fn read_early(&mut self) {
        let early = self.streams.iter().filter_map(|(id, carried)| match carried {
            Carried::Early(buffer) => Some((id, buffer.line()?.ok()?.to_vec())),
            _ => None,
        });
        for (id, line) in early.collect::<Vec<_>>() {
            self.read_announcement(id, &line);
        }
    }

    fn read_announcement(&mut self, id: StreamId, line: &[u8]) {
        if self.agent().is_none() {
            let mut kept = LineBuffer::new(MAX_LINE);
            kept.take(line);
            self.streams.set(id, Carried::Early(Box::new(kept)));
            return;
        }
        match Announcement::parse(line) {
            Err(refusal) => self.refuse(id, &refusal),
            Ok(Announcement::Facts { .. }) if self.streams.facts().is_some() => {
                self.refuse(id, &Refusal::new(Code::IN_USE, "there are facts already"));
            }
            Ok(Announcement::Facts { .. }) => {
                self.told.begin();
                let facts = FactStream {
                    line: LineBuffer::new(MAX_FACT_LINE),
                    teller: Teller::new(&self.own),
                    unsaid: answer::ok(&answer::Done {}),
                };
                self.streams.set(id, Carried::Facts(Box::new(facts)));
                self.tell();
                self.read(id);
            }
            Ok(announcement) => self.tell_of(News::Announced(id, announcement)),
        }
    }
}

/// The next line of a stream, or that it is too long; `None`: it has not come.
fn next_line(trunk: &mut Trunk, id: StreamId, buffer: &mut LineBuffer) -> Option<Result<Vec<u8>, Refusal>> {
    while let Ok(Received::Bytes(bytes)) = trunk.session().received(id) {
        let taken = buffer.take(bytes);
        let _ = trunk.session().consume(id, taken);
        let line = buffer.line().map(|line| line.map(<[u8]>::to_vec));
        if line.is_some() {
            buffer.clear();
            return line;
        }
    }
    None
}
