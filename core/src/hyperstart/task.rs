//! One process in the guest: its streams on either side, and how far it is.
//!
//! Owns what of it moves when, and how long it may keep others waiting. Refuses to know other processes.

use std::time::Duration;

use serde_json::Value;
use vspc_guest::{Belongs, Code as Word, ControlLine, Ending, Key, LineBuffer, Pty, Refusal, answer};

use super::command::{Api, Command, Process, ProcessName, signal_number};
use crate::mux::{Priority, Received, Session, StreamId};
use crate::time::Instant;

/// One process.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) key: Key,
    /// Its streams towards the concentrator.
    pub(super) main: Option<StreamId>,
    pub(super) err: Option<StreamId>,
    pub(super) control: Option<StreamId>,
    said: LineBuffer,
    pub(super) phase: Phase,
    pub(super) name: ProcessName,
    /// It is its container's init.
    pub(super) is_init: bool,
    pub(super) has_terminal: bool,
    size: Option<(u16, u16)>,
    /// Its streams in the guest, once it was asked for.
    pub(super) stdio: StreamId,
    pub(super) stderr: Option<StreamId>,
    /// The guest has said that it has ended.
    pub(super) has_ended: bool,
    /// All that it printed was passed on, or is nobody's.
    pub(super) is_silent: bool,
    stdin_ended: bool,
    pace: Pace,
    /// Its status, which came before the guest has said that it runs.
    pub(super) early: Option<u8>,
    /// How long it has kept all others waiting since [`FAIR`] bytes of it were passed on.
    blocked: Duration,
    /// Bytes that were passed on since.
    passed: usize,
    /// Who it was for has gone; it is killed at this time.
    pub(super) kill_at: Option<Instant>,
}

/// How far it is.
#[derive(Debug)]
pub(super) enum Phase {
    /// Its streams come, until then.
    Gathering { plan: Option<Box<Plan>>, until: Instant },
    /// The guest was asked to run it.
    Asked,
    /// It runs, or has.
    Running,
}

/// What is to run.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) what: What,
    pub(super) process: Process,
    pub(super) with: Vec<Belongs>,
    pub(super) pty: Option<Pty>,
}

#[derive(Debug)]
pub(super) enum What {
    /// One more process in this container.
    Exec(Box<str>),
    /// A container, described so.
    Container(Box<[u8]>),
}

impl Plan {
    fn memory(&self) -> usize {
        let described = match &self.what {
            What::Exec(container) => container.len(),
            What::Container(described) => described.len(),
        };
        let env = self.process.env.iter().map(|(name, value)| name.len() + value.len());
        size_of::<Self>() + described + self.process.args.iter().map(String::len).chain(env).sum::<usize>()
    }
}

/// The two sides that a task passes bytes between.
pub(super) struct Sides<'a> {
    /// Streams of the guest's.
    pub(super) guest: &'a mut Session,
    /// Streams of the concentrator's.
    pub(super) agent: &'a mut Session,
    pub(super) now: Instant,
}

/// What of a process' input the guest may not have handed on, of which it has room for one burst and drops
/// the rest. A message for a stream that it does not know is answered behind what was sent before, and by
/// then that was handed on. The answer may be lost where the guest has much to say.
#[derive(Clone, Copy, Default, Debug)]
struct Pace {
    unsure: usize,
    question: Option<Question>,
}

#[derive(Clone, Copy, Debug)]
struct Question {
    id: StreamId,
    /// It is asked again then.
    again: Instant,
    /// How long was waited.
    wait: Duration,
}

impl Task {
    /// Nothing of it is known but what its streams name it by.
    pub(super) fn new(key: Key, until: Instant) -> Self {
        Self {
            key,
            main: None,
            err: None,
            control: None,
            said: LineBuffer::new(vspc_guest::MAX_LINE),
            phase: Phase::Gathering { plan: None, until },
            name: ProcessName { container: Box::default(), process: Box::default() },
            is_init: false,
            has_terminal: false,
            size: None,
            stdio: StreamId::SESSION,
            stderr: None,
            has_ended: false,
            is_silent: false,
            stdin_ended: false,
            pace: Pace::default(),
            early: None,
            blocked: Duration::ZERO,
            passed: 0,
            kill_at: None,
        }
    }

    pub(super) fn streams(&self) -> impl Iterator<Item = StreamId> + use<> {
        [self.main, self.err, self.control].into_iter().flatten()
    }

    /// Bytes of heap held, for itself and for what is to run.
    pub(super) fn memory(&self) -> usize {
        let plan = match &self.phase {
            Phase::Gathering { plan: Some(plan), .. } => plan.memory(),
            _ => 0,
        };
        size_of::<Self>() + plan
    }

    /// None of its streams is there.
    pub(super) fn is_nobodys(&self) -> bool {
        self.streams().next().is_none()
    }

    /// All of its streams that have to be there are: it may be asked for.
    pub(super) fn is_complete(&self) -> bool {
        let Phase::Gathering { plan: Some(plan), .. } = &self.phase else { return false };
        plan.with.iter().all(|part| match part {
            Belongs::Err => self.err.is_some(),
            Belongs::Control => self.control.is_some(),
        })
    }

    /// Opens its streams in the guest; returns the command that has it run.
    pub(super) fn begin(&mut self, sides: &mut Sides<'_>, api: Api) -> Result<Command, Refusal> {
        let Phase::Gathering { plan, .. } = std::mem::replace(&mut self.phase, Phase::Asked) else {
            return Err(Refusal::new(Word::FAILED, "it runs already"));
        };
        let Some(Plan { what, mut process, pty, .. }) = plan.map(|plan| *plan) else {
            return Err(Refusal::new(Word::NO_SUCH_KEY, "what is to run did not come"));
        };
        let too_many = |_| Refusal::new(Word::TOO_MANY, "as many streams are open in the guest as may be");
        self.stdio = sides.guest.open().map_err(too_many)?;
        if !process.terminal {
            self.stderr = Some(sides.guest.open().map_err(too_many)?);
        }
        process.stdio = self.stdio.0;
        process.stderr = self.stderr.map_or(0, |stderr| stderr.0);
        self.has_terminal = process.terminal;
        self.is_init = matches!(what, What::Container(_));
        process.id = if self.is_init { INIT.into() } else { format!("vspc{}", self.stdio.0).into() };
        let (command, container) = match &what {
            What::Exec(container) => (Command::exec(container, &process, api), container.clone()),
            What::Container(described) => {
                let wrong = |error: serde_json::Error| Refusal::new(Word::BAD_LINE, error.to_string());
                let container: Value = serde_json::from_slice(described).map_err(wrong)?;
                let command = Command::container(&container, &process, api);
                let id = container.get("id").and_then(Value::as_str).unwrap_or_default();
                (command.map_err(|why| Refusal::new(Word::BAD_LINE, why))?, id.into())
            }
        };
        self.name = ProcessName { container, process: process.id };
        if let Some(Pty { rows: Some(rows), cols: Some(cols), .. }) = pty {
            self.size = Some((rows, cols));
        }
        Ok(command)
    }

    /// The guest runs it. Returns the size that its terminal is to have.
    pub(super) fn started(&mut self, sides: &mut Sides<'_>) -> Option<(u16, u16)> {
        self.phase = Phase::Running;
        for id in self.streams() {
            let _ = sides.agent.write(id, &answer::ok(&answer::Done {}));
        }
        self.size.take()
    }

    /// All of its streams are answered this, and are over.
    pub(super) fn refuse(&mut self, refusal: &Refusal, sides: &mut Sides<'_>) {
        for id in self.streams() {
            end_with(id, &refusal.line(), sides.agent);
        }
        self.forget_streams(sides.guest);
    }

    /// Its streams in the guest carry nothing any more.
    pub(super) fn forget_streams(&mut self, guest: &mut Session) {
        let question = self.pace.question.take().map(|question| question.id);
        for id in [Some(self.stdio), self.stderr, question].into_iter().flatten() {
            let _ = guest.reset(id);
        }
    }

    /// Passes on what it is given as input.
    pub(super) fn feed(&mut self, sides: &mut Sides<'_>) {
        let (Phase::Running, Some(main), false) = (&self.phase, self.main, self.stdin_ended) else { return };
        while self.pace.question.is_none() {
            match sides.agent.received(main) {
                Ok(Received::Bytes(bytes)) => {
                    let bytes = &bytes[..bytes.len().min(STDIN_BURST - self.pace.unsure)];
                    // One that has ended takes none.
                    let taken = sides.guest.write(self.stdio, bytes).unwrap_or(bytes.len());
                    if taken == 0 {
                        return;
                    }
                    let _ = sides.agent.consume(main, taken);
                    self.pace.unsure += taken;
                    if self.pace.unsure >= STDIN_BURST {
                        self.ask_whether_read(ASK_AGAIN, sides);
                    }
                }
                Ok(Received::End) => {
                    self.stdin_ended = true;
                    let _ = sides.guest.finish(self.stdio);
                    return;
                }
                _ => return,
            }
        }
    }

    /// Asks whether its input was handed on, behind all of it.
    fn ask_whether_read(&mut self, wait: Duration, sides: &mut Sides<'_>) {
        let Ok(id) = sides.guest.open() else { return };
        let _ = sides.guest.set_priority(id, Priority::Low);
        let _ = sides.guest.write(id, b"?");
        self.pace.question = Some(Question { id, again: sides.now + wait, wait });
    }

    /// Whether this is the stream of its question.
    pub(super) fn asks_on(&self, id: StreamId) -> bool {
        self.pace.question.is_some_and(|question| question.id == id)
    }

    /// The guest has answered: there is room for another burst.
    pub(super) fn was_read(&mut self, sides: &mut Sides<'_>) {
        self.pace = Pace::default();
        self.feed(sides);
    }

    /// When it is asked again whether its input was read.
    pub(super) fn asks_again_at(&self) -> Option<Instant> {
        self.pace.question.map(|question| question.again)
    }

    /// Asks again, if it is time.
    pub(super) fn ask_again(&mut self, sides: &mut Sides<'_>) {
        if let Some(Question { id, again, wait }) = self.pace.question
            && again <= sides.now
        {
            let _ = sides.guest.reset(id);
            self.pace.question = None;
            self.ask_whether_read((wait * 2).min(ASK_SELDOM), sides);
        }
    }

    /// Passes on what it prints.
    pub(super) fn pour(&mut self, sides: &mut Sides<'_>) {
        if !matches!(self.phase, Phase::Running) || self.is_silent {
            return;
        }
        if let Some(stderr) = self.stderr {
            // Without a stream of its own it goes where standard output goes.
            pour_stream(stderr, self.err.or(self.main), sides, &mut self.passed);
        }
        let has_ended = pour_stream(self.stdio, self.main, sides, &mut self.passed);
        if self.passed >= FAIR {
            (self.blocked, self.passed) = (Duration::ZERO, 0);
        }
        if has_ended && self.stderr.is_none_or(|stderr| sides.guest.received_len(stderr) == 0) {
            self.is_silent = true;
            // The other one ends by itself, behind its process' status where that comes there.
            if let Some(stderr) = self.stderr {
                let _ = sides.guest.reset(stderr);
            }
            for id in self.main.into_iter().chain(self.err) {
                let _ = sides.agent.finish(id);
                let _ = sides.agent.stop_reading(id);
            }
        }
    }

    /// It has ended, with this status.
    pub(super) fn ended(&mut self, status: u8, sides: &mut Sides<'_>) {
        if !std::mem::replace(&mut self.has_ended, true)
            && let Some(control) = self.control
        {
            end_with(control, &Ending::Exit(status).line(), sides.agent);
        }
    }

    /// As much of it waits as may: nobody's bytes are taken from the guest before it is read.
    fn blocks(&self, guest: &Session) -> bool {
        let is_full = |id| guest.received_len(id) >= BUFFER as usize;
        is_full(self.stdio) || self.stderr.is_some_and(is_full)
    }

    /// For so long nobody's bytes were taken from the guest.
    pub(super) fn count_blocked(&mut self, guest: &Session, time: Duration) {
        if self.blocks(guest) {
            self.blocked += time;
        }
    }

    /// How long it may keep all others waiting yet, if it does.
    pub(super) fn patience(&self, guest: &Session) -> Option<Duration> {
        self.blocks(guest).then(|| STALL_LIMIT.saturating_sub(self.blocked))
    }

    /// Nobody wants its output any more.
    pub(super) fn abandon(&mut self, sides: &mut Sides<'_>) {
        (self.main, self.err, self.control) = (None, None, None);
        self.is_silent = true;
        // It is told that its input has ended; the other one would never end by itself.
        let _ = sides.guest.finish(self.stdio);
        let _ = sides.guest.stop_reading(self.stdio);
        let question = self.pace.question.take().map(|question| question.id);
        for id in self.stderr.into_iter().chain(question) {
            let _ = sides.guest.reset(id);
        }
    }

    /// The next command that is said of it, or why there is none; `None`: nothing is said.
    pub(super) fn next_command(&mut self, agent: &mut Session, api: Api) -> Option<Result<Command, Refusal>> {
        let (Phase::Running, Some(control), false) = (&self.phase, self.control, self.has_ended) else {
            return None;
        };
        loop {
            let line = loop {
                if let Some(line) = self.said.line() {
                    break line.map(<[u8]>::to_vec);
                }
                let Ok(Received::Bytes(bytes)) = agent.received(control) else { return None };
                let taken = self.said.take(bytes);
                let _ = agent.consume(control, taken);
            };
            let line = match line {
                Ok(line) => line,
                Err(refusal) => {
                    let _ = agent.stop_reading(control);
                    self.said = LineBuffer::new(vspc_guest::MAX_LINE);
                    return Some(Err(refusal));
                }
            };
            self.said.clear();
            match ControlLine::parse(&line) {
                Ok(ControlLine::Unknown) => {}
                Ok(said) => return Some(self.command(&said, api)),
                Err(refusal) => return Some(Err(refusal)),
            }
        }
    }

    fn command(&self, said: &ControlLine, api: Api) -> Result<Command, Refusal> {
        match said {
            ControlLine::Size { rows, cols } if self.has_terminal => {
                Ok(Command::size(&self.name, self.stdio.0, (*rows, *cols), api))
            }
            ControlLine::Size { .. } => Err(Refusal::new(Word::UNSUPPORTED, "it has no terminal")),
            ControlLine::Signal(name) => {
                let number = signal_number(name);
                let number = number.ok_or_else(|| {
                    Refusal::new(Word::UNSUPPORTED, format!("{name:?} is no signal that may be sent"))
                })?;
                Command::signal(&self.name, number, self.is_init, api).ok_or_else(|| {
                    let message = "a guest of this version sends signals to containers only";
                    Refusal::new(Word::UNSUPPORTED, message)
                })
            }
            ControlLine::Unknown => Err(Refusal::new(Word::UNSUPPORTED, "it is unknown")),
        }
    }
}

/// Whether all of it was passed on, and it has ended. Counts what is passed on.
fn pour_stream(from: StreamId, to: Option<StreamId>, sides: &mut Sides<'_>, passed: &mut usize) -> bool {
    loop {
        match sides.guest.received(from) {
            Ok(Received::Bytes(bytes)) => {
                // One that is gone takes none.
                let taken = to.map_or(bytes.len(), |to| sides.agent.write(to, bytes).unwrap_or(bytes.len()));
                if taken == 0 {
                    return false;
                }
                let _ = sides.guest.consume(from, taken);
                *passed += taken;
            }
            Ok(Received::Pending) => return false,
            Ok(Received::End) | Err(_) => return true,
        }
    }
}

/// A stream's last line.
pub(super) fn end_with(id: StreamId, line: &[u8], agent: &mut Session) {
    let _ = agent.write(id, line);
    let _ = agent.finish(id);
    let _ = agent.stop_reading(id);
}

/// The room that a guest has for a process' input (hyperstart.md §6).
const STDIN_BURST: usize = 512;
/// How long an answer is waited for at first, and at last.
const ASK_AGAIN: Duration = Duration::from_millis(20);
const ASK_SELDOM: Duration = Duration::from_secs(1);
/// What of a stream waits here at most, either way.
pub(super) const BUFFER: u32 = 64 << 10;
/// How long a process may keep all others waiting for so many of its bytes to be read: a move may be behind
/// them.
const STALL_LIMIT: Duration = Duration::from_secs(2);
/// A reader that takes a few bytes each now and then would keep the others waiting for ever.
const FAIR: usize = BUFFER as usize / 4;
/// What the first process of a container is called.
pub(super) const INIT: &str = "init";
