//! Facts (APPLICATION §7): what this machine tells of itself, and what it is told by its host.
//!
//! Owns both sets, and the stream on which they are told.

pub(crate) mod local;
pub(crate) mod machine;

use vspc_core::mux::{Session, StreamId};
use vspc_guest::{Facts, LineBuffer, Listener, MAX_FACT_LINE, Refusal, Teller};

use crate::say::{Line, leave, say, take_line};
use crate::task::{Ctx, Fate};

/// Both sets.
#[derive(Debug)]
pub(crate) struct FactTask {
    own: Facts,
    teller: Teller,
    host: Listener,
    stream: Option<StreamId>,
    line: LineBuffer,
    /// A line that there was no room for.
    waiting: Option<Vec<u8>>,
}

impl FactTask {
    /// With what is known from the beginning.
    pub(crate) fn new(own: Facts) -> Self {
        Self {
            own,
            teller: Teller::default(),
            host: Listener::default(),
            stream: None,
            line: LineBuffer::new(MAX_FACT_LINE),
            waiting: None,
        }
    }

    /// A host takes them.
    pub(crate) fn attach(&mut self, id: StreamId) {
        self.stream = Some(id);
        self.teller = Teller::new(&self.own);
        self.host.begin();
        self.line = LineBuffer::new(MAX_FACT_LINE);
        self.waiting = None;
    }

    /// The session is gone.
    pub(crate) fn detach(&mut self) {
        self.stream = None;
    }

    /// Tells what is to be told, and hears what is.
    pub(crate) fn step(&mut self, ctx: &mut Ctx<'_>) -> Fate {
        if let Some(id) = self.stream {
            self.tell(id, ctx.session);
            self.hear(id, ctx.session);
        }
        Fate::Stays
    }

    /// Sets a fact of this machine's.
    pub(crate) fn set(&mut self, key: &str, value: &str) -> Result<(), Refusal> {
        if self.own.set(key, value)? && self.stream.is_some() {
            self.teller.handle_changed(&self.own, key);
        }
        Ok(())
    }

    /// Forgets one.
    pub(crate) fn unset(&mut self, key: &str) {
        if self.own.unset(key) && self.stream.is_some() {
            self.teller.handle_changed(&self.own, key);
        }
    }

    /// What the host has told.
    pub(crate) const fn host(&self) -> &Facts {
        self.host.facts()
    }

    fn tell(&mut self, id: StreamId, session: &mut Session) {
        while let Some(line) = self.waiting.take().or_else(|| self.teller.poll(&self.own)) {
            if !say(session, id, &line) {
                self.waiting = Some(line);
                return;
            }
        }
    }

    fn hear(&mut self, id: StreamId, session: &mut Session) {
        loop {
            let heard = match take_line(session, id, &mut self.line) {
                Line::Part | Line::End => return,
                Line::Whole(line) => line.and_then(|line| self.host.handle_line(&line)),
            };
            match heard {
                Ok(changed) => changed.iter().for_each(|key| log::debug!("the host told {key}")),
                Err(refusal) => {
                    log::warn!("facts cannot be read: {refusal}");
                    leave(session, id);
                    self.stream = None;
                    return;
                }
            }
        }
    }
}
