//! The line of a guest, be it one with S2 on it or hyperstart's channel of streams. That one has an
//! interpreter, which is an agent as any other: what it says goes to the guest's trunk, and not what is on
//! the line.
//!
//! **Owns** what goes between interpreter and trunk. **Refuses to know** which consoles the channels are.

use std::io::IoSlice;

use vspc_guest::{Header, Refusal};

use crate::hyperstart::{self, Interpreter, InterpreterConfig};
use crate::time::Instant;

use super::guest::{Chance, Guest, Mux};

/// A guest whose line is hyperstart's.
#[derive(Debug)]
pub(super) struct Interpreted {
    interpreter: Interpreter,
    /// The line was not to be read when that was looked at last.
    was_blocked: bool,
}

impl Interpreted {
    /// Of a line that is closed.
    pub(super) fn new(chance: Chance, now: Instant) -> Self {
        let config = InterpreterConfig {
            nonce: chance.nonces[1] | 1,
            seed: chance.seed,
            // A number that JSON has in full, with room behind it for all that will ever run.
            first_id: 1 | (chance.seed[0] & 0xffff_ffff) << 16,
        };
        Self { interpreter: Interpreter::new(config, now), was_blocked: false }
    }
}

impl Guest {
    /// Its line is there.
    pub(super) fn handle_opened(&mut self, now: Instant) {
        match &mut self.interpreted {
            Some(interpreted) => interpreted.interpreter.handle_streams_opened(now),
            None => self.trunk.handle_opened(now),
        }
    }

    /// Its control channel is there, or is not.
    pub(super) fn handle_control_there(&mut self, is_there: bool, now: Instant) {
        match &mut self.interpreted {
            Some(interpreted) if is_there => interpreted.interpreter.handle_control_opened(now),
            Some(interpreted) => interpreted.interpreter.handle_control_closed(now),
            None => {}
        }
    }

    /// Its line is gone. One that was found out to be hyperstart's may be another's when it is back.
    pub(super) fn close_interpreted(&mut self, now: Instant) {
        let Some(interpreted) = &mut self.interpreted else { return };
        interpreted.interpreter.handle_streams_closed(now);
        self.interpret(now);
        if self.mux == Mux::Auto {
            self.interpreted = None;
        }
    }

    /// Bytes came on its line. What is text goes to `text`.
    pub(super) fn handle_received(&mut self, data: &[u8], now: Instant, text: &mut Vec<u8>) {
        match &mut self.interpreted {
            Some(interpreted) => interpreted.interpreter.handle_streams(data, now),
            None => self.trunk.handle_received(data, now, text),
        }
    }

    /// Bytes came on its control channel.
    pub(super) fn handle_control(&mut self, data: &[u8], now: Instant) {
        if let Some(interpreted) = &mut self.interpreted {
            interpreted.interpreter.handle_control(data, now);
        }
    }

    /// A deadline may have passed.
    pub(super) fn handle_timeout(&mut self, now: Instant, text: &mut Vec<u8>) {
        if let Some(interpreted) = &mut self.interpreted {
            interpreted.interpreter.handle_timeout(now);
        }
        self.trunk.handle_timeout(now, text);
    }

    /// When [`Self::handle_timeout`] is to be called at the latest.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let interpreted = self.interpreted.as_ref();
        let due = interpreted.and_then(|interpreted| interpreted.interpreter.poll_timeout());
        [self.trunk.poll_timeout(), due].into_iter().flatten().min()
    }

    /// Gives what goes to its line next to `take`.
    pub(super) fn transmit_with(
        &mut self,
        now: Instant,
        take: impl FnOnce(&[IoSlice<'_>]) -> usize,
    ) -> usize {
        match &mut self.interpreted {
            Some(interpreted) => interpreted.interpreter.transmit_streams(now, take),
            None => self.trunk.transmit_with(now, take),
        }
    }

    /// Gives what goes to its control channel next to `take`.
    pub(super) fn transmit_control(&mut self, take: impl FnOnce(&[u8]) -> usize) -> usize {
        self.interpreted.as_mut().map_or(0, |interpreted| interpreted.interpreter.transmit_control(take))
    }

    /// From now on its line, which is open, is hyperstart's.
    pub(super) fn begin_to_interpret(&mut self, chance: Chance, now: Instant) {
        self.trunk.handle_closed(now, &mut Vec::new());
        self.interpreted = Some(Box::new(Interpreted::new(chance, now)));
        self.handle_opened(now);
    }

    /// Its line is not to be read now: who does not read a stream of it keeps all others waiting.
    pub(super) fn is_blocked(&self) -> bool {
        let interpreted = self.interpreted.as_ref();
        interpreted.is_some_and(|interpreted| interpreted.interpreter.receive_window() == 0)
    }

    /// Whether its line is to be read again, which it was not when this was asked last.
    pub(super) fn take_unblocked(&mut self) -> bool {
        let is_blocked = self.is_blocked();
        self.interpreted.as_mut().is_some_and(|interpreted| {
            std::mem::replace(&mut interpreted.was_blocked, is_blocked) && !is_blocked
        })
    }

    /// Passes on what interpreter and trunk say to each other. Whether there was anything.
    pub(super) fn interpret(&mut self, now: Instant) -> bool {
        let Some(mut interpreted) = self.interpreted.take() else { return false };
        let interpreter = &mut interpreted.interpreter;
        let mut any = false;
        if let Some(why) = interpreter.take_ended() {
            any = true;
            self.trunk.handle_closed(now, &mut Vec::new());
            self.note_down(why.into());
        }
        if interpreter.is_up() {
            self.trunk.handle_opened(now);
        }
        let mut said = Vec::new();
        loop {
            said.clear();
            let asked = self.trunk.transmit_with(now, |runs| gather(runs, &mut said));
            interpreter.handle_agent(&said, now);
            said.clear();
            let answered = interpreter.transmit_agent(now, |runs| gather(runs, &mut said));
            if answered > 0 {
                self.trunk.handle_received(&said, now, &mut Vec::new());
            }
            if asked + answered == 0 {
                break;
            }
            any = true;
        }
        self.interpreted = Some(interpreted);
        any
    }

    /// What an operator's stream is to be, by its first line; whether it comes with another one; and what of
    /// that is for people: no input, and no keys.
    ///
    /// # Errors
    ///
    /// It is no header, or one of something that such a guest cannot do.
    pub(super) fn read_header(&self, line: &[u8]) -> Result<(&'static str, bool, String), Refusal> {
        if self.interpreted.is_some() {
            let header = hyperstart::Header::parse(line)?;
            return Ok((header.op(), header.is_part(), header.detail()));
        }
        let header = Header::parse(line)?;
        let detail = match &header {
            Header::Exec(exec) => exec.argv.join(" "),
            Header::Put(put) => put.path.clone(),
            Header::Get(get) => get.path.clone(),
            Header::Connect(connect) => connect.to.clone(),
            Header::Hello(_)
            | Header::Shell(_)
            | Header::Err { .. }
            | Header::Control { .. }
            | Header::Window { .. } => String::new(),
        };
        Ok((header.op(), matches!(header, Header::Err { .. } | Header::Control { .. }), detail))
    }
}

/// Puts runs together; returns how many bytes that were.
fn gather(runs: &[IoSlice<'_>], into: &mut Vec<u8>) -> usize {
    runs.iter().for_each(|run| into.extend_from_slice(run));
    runs.iter().map(|run| run.len()).sum()
}
