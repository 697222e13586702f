//! Serial lines that are this machine's own: each is opened by a thread, which stays with it.
//!
//! **Owns** those threads, and how much the log says of each line. **Refuses to know** when a line is opened
//! again. The loop has one end of a pair of sockets, whatever the line is: that is closed when the line ends,
//! and the line is given up when the loop closes it.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use socket2::Socket;
use vspc_core::concentrator::LocalLine;

use crate::outlets::Ending;

use super::program::Program;
use super::pty::Pty;
use super::tty::Tty;
use super::voice::{LeftOut, Voice};

/// What opens them.
#[derive(Debug)]
pub(super) struct LocalLines {
    /// Waits for their threads, when the loop has ended.
    ending: Ending,
    voices: Mutex<HashMap<LocalLine, Arc<Mutex<Voice>>>>,
}

impl LocalLines {
    pub(super) fn new(ending: Ending) -> Self {
        Self { ending, voices: Mutex::default() }
    }

    /// Opens one.
    pub(super) fn open(&self, line: &LocalLine) -> io::Result<Socket> {
        let voice = self.voice(line);
        let (opened, outcome) = channel();
        let (its, its_voice) = (line.clone(), Arc::clone(&voice));
        // The thread opens it: without the one there is not the other.
        self.ending.try_spawn("line", move || stay(&its, &its_voice, &opened))?;
        let outcome = outcome.recv().unwrap_or_else(|_| Err(ErrorKind::Other.into()));
        let fault = outcome.as_ref().err().map(ToString::to_string);
        let is_news = voice.lock().unwrap_or_else(PoisonError::into_inner).is_news(fault.as_deref());
        if let Some(fault) = fault.filter(|_| is_news) {
            say(&voice, |left_out| log::warn!("{line} cannot be opened: {fault}{left_out}"));
        }
        outcome
    }

    fn voice(&self, line: &LocalLine) -> Arc<Mutex<Voice>> {
        let mut voices = self.voices.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Mutex::new(Voice::new(Instant::now())));
        Arc::clone(voices.entry(line.clone()).or_insert_with(new))
    }
}

/// Says something of a line, if that may be.
pub(super) fn say(voice: &Mutex<Voice>, line: impl FnOnce(LeftOut)) {
    let may = voice.lock().unwrap_or_else(PoisonError::into_inner).may_say(Instant::now());
    if let Some(left_out) = may {
        line(left_out);
    }
}

/// A thread's life.
fn stay(line: &LocalLine, voice: &Arc<Mutex<Voice>>, opened: &Sender<io::Result<Socket>>) {
    let carried = match line {
        LocalLine::Program(command) => {
            hand_over(Program::start(command, Arc::clone(voice)), opened).map(Program::watch).map(Ok)
        }
        LocalLine::Device(path) => hand_over(Tty::open(path), opened).map(Tty::carry),
        LocalLine::Pty(path) => hand_over(Pty::make(path), opened).map(Pty::carry),
    };
    if let Some(Err(error)) = carried {
        say(voice, |left_out| log::warn!("{line} has ended: {error}{left_out}"));
    }
}

/// Hands the loop its end of a line, or why there is none. Where nobody waits for it any more, it is closed,
/// and with that the line is given up.
fn hand_over<L>(line: io::Result<(L, Socket)>, opened: &Sender<io::Result<Socket>>) -> Option<L> {
    let (line, outcome) = match line {
        Ok((line, socket)) => (Some(line), Ok(socket)),
        Err(error) => (None, Err(error)),
    };
    let _ = opened.send(outcome);
    line
}
