//! A process and its streams (APPLICATION §3).
//!
//! Owns how it is signalled, hung up and reaped, and when it is over. Refuses to know whether it may be.

mod group;
mod spawn;
mod waiting;

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use rustix::process::{Signal, WaitIdStatus};
use rustix::termios::Winsize;
use vspc_core::mux::{ResetReason, Session, StreamId};
use vspc_core::time::Instant;
use vspc_guest::{Code, ControlLine, Ending, Key, LineBuffer, MAX_LINE, Refusal, SIGNALS};

use crate::flow::{Sink, Source};
use crate::say::{Line, leave, say, take_line};
use crate::task::{Ctx, Fate, Interest};

use group::Group;
pub(crate) use spawn::{Kind, ON_TERMINAL, Recipe, Streams, on_terminal, start};
pub(crate) use waiting::{Ready, Waiting, Wanted};

/// A process that was started.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) key: Key,
    group: Group,
    /// The terminal's end that is ours.
    terminal: Option<Rc<OwnedFd>>,
    main: Option<Main>,
    err: Option<(StreamId, Source)>,
    control: Option<Control>,
    ending: Option<Ending>,
    grace: Grace,
    /// It outlives its main stream: which of the announced shells it is.
    pub(crate) announced: Option<usize>,
}

/// What it has to end in, once it was hung up.
#[derive(Debug)]
enum Grace {
    /// It was not.
    None,
    /// What is left of its group is killed then. Once its leader has ended, it is looked at whether anything
    /// is.
    Until { kill: Instant, look: Instant },
    /// All of it was killed.
    Over,
}

#[derive(Debug)]
struct Main {
    id: StreamId,
    source: Source,
    sink: Sink,
}

#[derive(Debug)]
struct Control {
    id: StreamId,
    line: LineBuffer,
    /// Its last line was said.
    told: bool,
}

impl Process {
    /// Does what can be done.
    pub(crate) fn step(&mut self, ctx: &mut Ctx<'_>) -> Fate {
        if let Grace::Until { kill, .. } = self.grace
            && kill <= ctx.now
        {
            self.group.signal(Signal::KILL);
            self.grace = Grace::Over;
        }
        if let Some(main) = &mut self.main {
            main.sink.pump(ctx.session);
            main.source.pump(ctx.session, ctx.scratch);
        }
        if let Some((_, source)) = &mut self.err {
            source.pump(ctx.session, ctx.scratch);
        }
        self.listen(ctx.session);
        self.tell(ctx.session);
        self.fate(ctx.session, ctx.now)
    }

    /// It may have ended.
    pub(crate) fn handle_child(&mut self) -> bool {
        if self.ending.is_none()
            && let Some(status) = self.group.status()
        {
            self.ending = Some(ending(&status));
            return true;
        }
        false
    }

    /// What it waits for.
    pub(crate) fn interest<'a>(&'a self, session: &Session, into: &mut Interest<'a>) {
        if let Some(main) = &self.main {
            main.source.interest(session, into);
            main.sink.interest(into);
        }
        if let Some((_, source)) = &self.err {
            source.interest(session, into);
        }
    }

    /// When it is to be stepped.
    pub(crate) const fn deadline(&self) -> Option<Instant> {
        match self.grace {
            Grace::Until { look, .. } if self.ending.is_some() => Some(look),
            Grace::Until { kill, .. } => Some(kill),
            Grace::None | Grace::Over => None,
        }
    }

    /// One of its streams is gone.
    pub(crate) fn handle_reset(&mut self, id: StreamId, why: ResetReason, ctx: &mut Ctx<'_>) {
        if self.main.as_ref().is_some_and(|main| main.id == id) {
            self.main = None;
            // A shell that was announced stays while the line is away.
            if self.announced.is_none() || why == ResetReason::Remote {
                self.hang_up(ctx.now);
            }
        } else if self.err.as_ref().is_some_and(|(err, _)| *err == id) {
            self.err = None;
        } else if self.control.as_ref().is_some_and(|control| control.id == id) {
            self.control = None;
        }
    }

    /// One of its streams has ended in good order: another session's may have its number.
    pub(crate) fn handle_retired(&mut self, id: StreamId) {
        self.main.take_if(|main| main.id == id);
        self.err.take_if(|(err, _)| *err == id);
        self.control.take_if(|control| control.id == id);
    }

    /// The session is over, and with it what was started in it; a shell that was announced stays.
    pub(crate) fn handle_session(&mut self, now: Instant) {
        (self.main, self.err, self.control) = (None, None, None);
        if self.announced.is_none() {
            self.hang_up(now);
        }
    }

    /// A `control` came for it.
    pub(crate) fn join(&mut self, id: StreamId) -> Result<(), Refusal> {
        if self.control.is_some() {
            return Err(Refusal::new(Code::IN_USE, "the process has a control already"));
        }
        self.control = Some(Control { id, line: LineBuffer::new(MAX_LINE), told: false });
        Ok(())
    }

    /// The next session's stream of an announced shell.
    pub(crate) fn attach(&mut self, id: StreamId) {
        if let Some(terminal) = &self.terminal {
            self.main = Some(spawn::terminal_flow(id, terminal));
        }
    }

    /// The agent ends, or nobody is there any more.
    pub(crate) fn hang_up(&mut self, now: Instant) {
        self.main = None;
        self.err = None;
        self.terminal = None;
        if matches!(self.grace, Grace::None) {
            log::debug!("{:?}: hung up", self.group);
            self.group.signal(Signal::HUP);
            // One that is stopped would not hear it.
            self.group.signal(Signal::CONT);
            self.grace = Grace::Until { kill: now + GRACE, look: now };
        }
    }

    /// Whether it was hung up: nobody can be connected to it any more.
    pub(crate) const fn is_hung_up(&self) -> bool {
        !matches!(self.grace, Grace::None)
    }

    /// Signals its group.
    fn signal(&self, signal: Signal) {
        // At a terminal it is the job in the foreground that hears of INT and its like.
        let foreground = self.terminal.as_ref().and_then(|fd| rustix::termios::tcgetpgrp(fd).ok());
        if let Some(group) = foreground.filter(|_| signal != Signal::HUP && signal != Signal::KILL) {
            let _ = rustix::process::kill_process_group(group, signal);
            return;
        }
        self.group.signal(signal);
    }

    /// Reads what is said on `control`.
    fn listen(&mut self, session: &mut Session) {
        while let Some(control) = &mut self.control {
            let outcome = match take_line(session, control.id, &mut control.line) {
                Line::Part | Line::End => return,
                Line::Whole(Err(refusal)) => {
                    say(session, control.id, &refusal.line());
                    let _ = session.stop_reading(control.id);
                    return;
                }
                Line::Whole(Ok(line)) => ControlLine::parse(&line).and_then(|line| self.obey(&line)),
            };
            if let (Err(refusal), Some(control)) = (outcome, &self.control) {
                // Where there is no room for it, nobody reads what is refused.
                say(session, control.id, &refusal.line());
            }
        }
    }

    fn obey(&self, line: &ControlLine) -> Result<(), Refusal> {
        match line {
            ControlLine::Signal(name) => {
                let signal = SIGNALS.iter().position(|known| known == name).map(|at| NUMBERS[at]);
                let unknown = || Refusal::new(Code::UNSUPPORTED, format!("{name:?} is no signal here"));
                self.signal(signal.ok_or_else(unknown)?);
            }
            ControlLine::Size { rows, cols } => {
                let no_terminal = || Refusal::new(Code::UNSUPPORTED, "the process has no terminal");
                let terminal = self.terminal.as_ref().ok_or_else(no_terminal)?;
                let size = Winsize { ws_row: *rows, ws_col: *cols, ws_xpixel: 0, ws_ypixel: 0 };
                rustix::termios::tcsetwinsize(terminal, size)
                    .map_err(|error| Refusal::system("the terminal's size", &error.into()))?;
            }
            ControlLine::Unknown => {}
        }
        Ok(())
    }

    /// Says on `control` how it ended.
    fn tell(&mut self, session: &mut Session) {
        if let (Some(ending), Some(control)) = (&self.ending, &mut self.control)
            && !control.told
            && say(session, control.id, &ending.line())
        {
            control.told = true;
            leave(session, control.id);
        }
    }

    /// Whether it was hung up and something of it is left.
    fn is_dying(&mut self, now: Instant) -> bool {
        let Grace::Until { kill, look } = &mut self.grace else { return false };
        if self.ending.is_some() && *look <= now {
            if !self.group.has_others() {
                self.grace = Grace::Over;
                return false;
            }
            *look = (now + LOOK).min(*kill);
        }
        true
    }

    fn fate(&mut self, session: &mut Session, now: Instant) -> Fate {
        let has_output = self.main.as_ref().is_some_and(|main| !main.source.is_over())
            || self.err.as_ref().is_some_and(|(_, source)| !source.is_over());
        let has_news = self.control.as_ref().is_some_and(|control| !control.told);
        if self.is_dying(now) || self.ending.is_none() || has_output || has_news {
            return Fate::Stays;
        }
        if let Some(main) = &mut self.main {
            main.sink.stop(session);
            leave(session, main.id);
        }
        self.group.reap();
        Fate::Over
    }
}

fn ending(status: &WaitIdStatus) -> Ending {
    if let Some(code) = status.exit_status() {
        return Ending::Exit(u8::try_from(code).unwrap_or(u8::MAX));
    }
    let number = status.terminating_signal().unwrap_or_default();
    let mut names = NUMBERS.into_iter().zip(SIGNALS).chain(DEADLY);
    let name = names.find(|(signal, _)| signal.as_raw() == number);
    Ending::Killed(name.map_or_else(|| number.to_string(), |(_, name)| name.to_owned()))
}

/// The signals of [`SIGNALS`], in its order.
const NUMBERS: [Signal; SIGNALS.len()] = [
    Signal::HUP,
    Signal::INT,
    Signal::QUIT,
    Signal::KILL,
    Signal::USR1,
    Signal::USR2,
    Signal::TERM,
    Signal::CONT,
    Signal::STOP,
    Signal::TSTP,
    Signal::WINCH,
];

/// Signals that a process dies of, and is not sent.
const DEADLY: [(Signal, &str); 8] = [
    (Signal::ILL, "ILL"),
    (Signal::TRAP, "TRAP"),
    (Signal::ABORT, "ABRT"),
    (Signal::BUS, "BUS"),
    (Signal::FPE, "FPE"),
    (Signal::SEGV, "SEGV"),
    (Signal::PIPE, "PIPE"),
    (Signal::ALARM, "ALRM"),
];

/// What a process has to end in, once it was hung up.
const GRACE: Duration = Duration::from_secs(10);
/// How often it is looked at what is left of one whose leader has ended.
const LOOK: Duration = Duration::from_millis(200);
