//! A stream that the server joins with one in the guest: its first lines, and then bytes both ways.
//!
//! Owns what waits to be said on it, and what of its state is known. Refuses to know what the bytes are.

use serde_json::{Value, json};
use vspc_core::mux::StreamId;
use vspc_guest::{Header, LineBuffer, MAX_LINE, answer};
use vspc_operator::News;

use super::{Guest, Trouble};
use crate::connection::Connection;
use crate::endings::describe;
use crate::failure::Failure;

/// A stream into a guest.
#[derive(Debug)]
pub(crate) struct Joined {
    stream: StreamId,
    /// The request that joins it.
    request: u64,
    /// What the stream has not taken yet.
    unsent: Vec<u8>,
    /// No more is said, once that has left.
    said_all: bool,
    finished: bool,
    /// The guest's first line is still to come.
    line: Option<LineBuffer>,
    /// Of the guest's direction nothing more comes.
    heard_all: bool,
}

/// What was heard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Came {
    /// More may come.
    More,
    /// All of it has.
    End,
}

impl Joined {
    /// Asks for a stream in the guest, and says what it is to be.
    pub(crate) fn open(connection: &mut Connection, guest: &Guest, header: &Header) -> Result<Self, Failure> {
        let line = header.line();
        if line.len() > MAX_LINE {
            let most = "so many words do not go to a guest: they may have some 4000 bytes in all";
            return Err(Failure::usage(most));
        }
        if let Err(refusal) = Header::parse(&line) {
            return Err(Failure::usage(refusal.message));
        }
        let mut joined = Self::request(connection, "open", json!({"console": guest.reference}))?;
        joined.line = Some(LineBuffer::new(MAX_LINE));
        joined.say(&line);
        joined.push(connection);
        Ok(joined)
    }

    /// Takes a connection to one of the guest's listeners; the first line is this side's.
    pub(crate) fn take(
        connection: &mut Connection,
        guest: &Guest,
        number: &Value,
        outcome: &Result<(), vspc_guest::Refusal>,
    ) -> Result<Self, Failure> {
        let fields = json!({"console": guest.reference, "number": number});
        let mut joined = Self::request(connection, "take", fields)?;
        match outcome {
            Ok(()) => joined.say(&answer::ok(&answer::Done {})),
            Err(refusal) => {
                joined.say(&refusal.line());
                joined.finish();
            }
        }
        joined.push(connection);
        Ok(joined)
    }

    fn request(connection: &mut Connection, op: &str, fields: Value) -> Result<Self, Failure> {
        let (request, stream) = connection
            .request_stream(op, fields)
            .ok_or_else(|| Failure::error("no more streams can be opened on one connection"))?;
        Ok(Self {
            stream,
            request,
            unsent: Vec::new(),
            said_all: false,
            finished: false,
            line: None,
            heard_all: false,
        })
    }

    /// Whether news is about it, and if so, why it is no more.
    pub(crate) fn lost(&self, news: &News) -> Option<Trouble> {
        match news {
            News::Answer(id, Err(refusal)) if *id == self.request => Some(Trouble::Server(refusal.clone())),
            News::Reset(stream) if *stream == self.stream => Some(Trouble::Reset),
            News::Over(ending) => Some(Trouble::Over(describe(ending))),
            _ => None,
        }
    }

    /// The guest's answer, as soon as it is there; what follows stays on the stream.
    pub(crate) fn answer<T: serde::de::DeserializeOwned>(
        &mut self,
        connection: &mut Connection,
    ) -> Option<Result<T, Trouble>> {
        let line = self.line.as_mut()?;
        let has_ended = connection.receive(self.stream, |bytes| line.take(bytes));
        let outcome = match line.line() {
            None if !has_ended => return None,
            None => Err(Trouble::Reset),
            Some(Err(refusal)) => Err(Trouble::Guest(refusal)),
            Some(Ok(line)) => answer::parse(line).map_err(Trouble::Guest),
        };
        self.line = None;
        Some(outcome)
    }

    /// Whether the guest's answer was heard.
    pub(crate) const fn is_answered(&self) -> bool {
        self.line.is_none()
    }

    /// Hears what follows the answer; `take` says how much it took of each piece, less than all where it has
    /// no room. News has to be asked first whether the stream was lost: here that is an end like others.
    pub(crate) fn hear(&mut self, connection: &mut Connection, take: impl FnMut(&[u8]) -> usize) -> Came {
        if self.line.is_some() || self.heard_all {
            return if self.heard_all { Came::End } else { Came::More };
        }
        self.heard_all = connection.receive(self.stream, take);
        if self.heard_all { Came::End } else { Came::More }
    }

    /// Whether all that the guest says was heard.
    pub(crate) const fn has_heard_all(&self) -> bool {
        self.heard_all
    }

    /// Says this, behind what was said before.
    pub(crate) fn say(&mut self, bytes: &[u8]) {
        if !self.said_all {
            self.unsent.extend_from_slice(bytes);
        }
    }

    /// Forgets what waits to be said. It says no lines any more.
    pub(crate) fn forget(&mut self) {
        self.unsent.clear();
    }

    /// Says no more.
    pub(crate) fn finish(&mut self) {
        self.said_all = true;
    }

    /// Bytes that wait for the stream to take them.
    pub(crate) fn waiting(&self) -> usize {
        self.unsent.len()
    }

    /// Whether all was said, and has left.
    pub(crate) const fn has_said_all(&self) -> bool {
        self.finished
    }

    /// Gives the stream what it takes.
    pub(crate) fn push(&mut self, connection: &mut Connection) {
        while !self.unsent.is_empty() {
            let n = connection.write(self.stream, &self.unsent);
            self.unsent.drain(..n);
            if n == 0 {
                break;
            }
            // What has left makes room for more.
            connection.push();
        }
        if self.said_all && self.unsent.is_empty() && !self.finished {
            self.finished = true;
            connection.finish(self.stream);
        }
    }

    /// Gives it up in both directions.
    pub(crate) fn leave(&mut self, connection: &mut Connection) {
        connection.leave(self.stream);
        (self.said_all, self.finished, self.heard_all) = (true, true, true);
        self.unsent.clear();
    }
}
