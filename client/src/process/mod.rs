//! `vspc exec` and `vspc shell`: a process in a guest, with this program's input, output and errors.
//!
//! Owns the loop between those and the streams of the process, and with which status it ends. Parts: `asked`
//! (what is to run), `outlet` (output on its way), `status` (what a shell sees), `interrupts` (signals).

mod asked;
mod interrupts;
mod outlet;
mod status;

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Stderr, Stdout};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use signal_hook::consts::SIGINT;
use vspc_core::time::Instant;
use vspc_guest::answer::{self, Done};
use vspc_guest::{ControlLine, Ending, Header, Key, LineBuffer, MAX_LINE};

use self::asked::Asked as Wanted;
use self::interrupts::Interrupts;
use self::outlet::Outlet;
use crate::args::{ExecArgs, ShellArgs};
use crate::attach::escape::{Escape, Key as Pressed, Keys};
use crate::clock;
use crate::connection::Connection;
use crate::failure::{Code, Failure};
use crate::guest::{self, Came, Guest, Joined, Trouble};
use crate::output;
use crate::printable::printable;
use crate::server::Config;
use crate::signals::{self, Asked, Signals};
use crate::terminal::{self, Raw};

/// Runs a program in a guest.
pub(crate) fn exec(
    open: impl FnOnce() -> Result<Connection, Failure>,
    config: &Config,
    args: &ExecArgs,
) -> Result<(), Failure> {
    let escape = escape(args.escape, config)?;
    let run = || {
        let mut connection = open()?;
        let guest = Guest::find(&mut connection, &args.console.name)?;
        let key = guest::key()?;
        let wanted = Wanted::exec(args, key);
        Process::start(connection, guest, wanted, escape)?.run()
    };
    run().map_err(status::not_run)
}

/// Runs the guest's shell on this terminal.
pub(crate) fn shell(
    open: impl FnOnce() -> Result<Connection, Failure>,
    config: &Config,
    args: &ShellArgs,
) -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        let name = printable(&args.console.name).into_owned();
        let message = "the standard input is no terminal, and a shell needs one; a script goes to";
        return Err(Failure::usage(format!("{message} vspc exec {name} -- sh")));
    }
    let escape = escape(args.escape, config)?;
    let run = || {
        let mut connection = open()?;
        let guest = Guest::find(&mut connection, &args.console.name)?;
        let wanted = Wanted::shell(guest::key()?);
        Process::start(connection, guest, wanted, escape)?.run()
    };
    run().map_err(status::not_run)
}

fn escape(given: Option<Escape>, config: &Config) -> Result<Escape, Failure> {
    match (given, &config.escape) {
        (Some(escape), _) => Ok(escape),
        (None, Some(text)) => text.parse().map_err(Failure::usage),
        (None, None) => Ok(Escape::default()),
    }
}

/// A process in a guest.
struct Process {
    connection: Connection,
    guest: Guest,
    main: Joined,
    err: Option<Joined>,
    control: Joined,
    /// What it says on `control`.
    line: LineBuffer,
    started: bool,
    /// When the user is told that nobody has answered; `None`: that was said.
    patience: Option<Instant>,
    ending: Option<Ending>,
    input_is_open: bool,
    out: Outlet<Stdout>,
    errors: Outlet<Stderr>,
    interrupts: Interrupts,
    /// Signals that are still to be handled.
    asked: VecDeque<Asked>,
    keys: Keys,
    /// More keys wait for the guest than it is sent at once.
    takes_no_keys: bool,
    has_terminal: bool,
    raw: Option<Raw>,
}

/// Why it is over for this program.
enum End {
    /// It has ended.
    Ended(Ending),
    /// The user has left it.
    Left,
    /// Nobody reads what it prints.
    Unread,
    /// The user has given it up, by this signal.
    GivenUp(i32),
}

/// What poll(2) has found.
#[derive(Default)]
struct Ready {
    signals: bool,
    input: bool,
    out: bool,
    errors: bool,
}

impl Process {
    fn start(
        mut connection: Connection,
        guest: Guest,
        wanted: Wanted,
        escape: Escape,
    ) -> Result<Self, Failure> {
        let Wanted { header, key, has_terminal } = wanted;
        let mut open = |header: &Header| Joined::open(&mut connection, &guest, header);
        let control = open(&Header::Control { key: Key::clone(&key) })?;
        let err = if has_terminal { None } else { Some(open(&Header::Err { key })?) };
        let main = open(&header)?;
        Ok(Self {
            connection,
            guest,
            main,
            err,
            control,
            line: LineBuffer::new(MAX_LINE),
            started: false,
            patience: Some(clock::now() + PATIENCE),
            ending: None,
            input_is_open: true,
            out: Outlet::new(io::stdout()),
            errors: Outlet::new(io::stderr()),
            interrupts: Interrupts::default(),
            asked: VecDeque::new(),
            keys: Keys::new(escape),
            takes_no_keys: false,
            has_terminal,
            raw: None,
        })
    }

    fn run(mut self) -> Result<(), Failure> {
        let outcome = self.turns();
        if self.raw.take().is_some() && !matches!(outcome, Ok(End::Ended(_))) {
            // What is said next begins a line.
            output::show("\n");
        }
        if !matches!(outcome, Ok(End::Ended(_))) {
            self.main.leave(&mut self.connection);
        }
        let Self { connection, .. } = self;
        connection.part();
        match outcome? {
            End::Ended(ending) => status::of(&ending),
            End::Left => Ok(()),
            End::Unread => Err(Failure::new(Code::Status(status::UNREAD), "")),
            End::GivenUp(signal) => {
                signals::end_by(signal);
                Ok(())
            }
        }
    }

    fn turns(&mut self) -> Result<End, Failure> {
        let mut signals = Signals::take().map_err(|error| Failure::error(error.to_string()))?;
        loop {
            self.turn_streams()?;
            if self.is_over()
                && let Some(ending) = self.ending.take()
            {
                return Ok(End::Ended(ending));
            }
            if !self.started && self.patience.take_if(|until| *until <= clock::now()).is_some() {
                let name = printable(&self.guest.name);
                output::tell(format_args!("{name}: its agent has not answered yet; ^C gives it up"));
            }
            let ready = if self.asked.is_empty() { self.wait(&signals)? } else { Ready::default() };
            if ready.signals {
                self.asked.extend(signals.pending());
            }
            while let Some(asked) = self.asked.pop_front() {
                match asked {
                    Asked::End(signal) if !self.started || self.interrupts.handle(clock::now()) => {
                        return Ok(End::GivenUp(signal));
                    }
                    Asked::End(signal) => self.control_says(&ControlLine::Signal(status::name(signal))),
                    Asked::Stop => self.suspend(&mut signals)?,
                    // A shell may have set the terminal while this was stopped.
                    Asked::Continued => self.reenter(),
                    Asked::Resized => self.tell_size(),
                }
            }
            if ready.input
                && let Some(end) = self.read_input(&mut signals)?
            {
                return Ok(end);
            }
            if ready.out && self.out.write().map_err(|error| Failure::output(&error))?.is_closed() {
                return Ok(End::Unread);
            }
            if ready.errors && self.errors.write().map_err(|error| Failure::output(&error))?.is_closed() {
                // As a program sees it whose standard error nobody reads.
                if let Some(err) = &mut self.err {
                    err.leave(&mut self.connection);
                }
            }
        }
    }

    /// Carries what can be carried between the streams and this side.
    fn turn_streams(&mut self) -> Result<(), Failure> {
        self.connection.turn();
        while let Some(news) = self.connection.poll() {
            let is_known = self.ending.is_some();
            let streams = [Some(&self.main), self.err.as_ref(), (!is_known).then_some(&self.control)];
            if let Some(trouble) = streams.into_iter().flatten().find_map(|stream| stream.lost(&news)) {
                return Err(self.trouble(&trouble));
            }
        }
        let refused = {
            let streams = [Some(&mut self.control), self.err.as_mut(), Some(&mut self.main)];
            let mut streams = streams.into_iter().flatten();
            streams.find_map(|stream| stream.answer::<Done>(&mut self.connection)?.err())
        };
        if let Some(trouble) = refused {
            return Err(self.trouble(&trouble));
        }
        let was_started = self.started;
        self.started = self.main.is_answered() && self.control.is_answered();
        if self.started && !was_started {
            // Until here the terminal has made a signal of ^C, and has kept other keys.
            if self.has_terminal {
                self.enter()?;
            }
            // The window may have become another one meanwhile.
            self.tell_size();
        }
        self.main.hear(&mut self.connection, |bytes| self.out.take(bytes));
        if let Some(err) = &mut self.err {
            err.hear(&mut self.connection, |bytes| self.errors.take(bytes));
        }
        self.hear_control()?;
        for stream in [Some(&mut self.main), self.err.as_mut(), Some(&mut self.control)].into_iter().flatten()
        {
            stream.push(&mut self.connection);
        }
        self.connection.push();
        Ok(())
    }

    fn hear_control(&mut self) -> Result<(), Failure> {
        loop {
            let came = self.control.hear(&mut self.connection, |bytes| self.line.take(bytes));
            match self.line.line() {
                None if came == Came::End && self.ending.is_none() => {
                    return Err(self.trouble(&Trouble::Reset));
                }
                None => return Ok(()),
                Some(line) => {
                    let line = line.map_err(|refusal| Failure::error(refusal.message))?;
                    if let Some(ending) = Ending::parse(line) {
                        self.ending = Some(ending);
                        self.control.finish();
                    } else if let Err(refusal) = answer::parse::<Done>(line)
                        && !self.has_terminal
                    {
                        output::tell(format_args!("{}: {}", self.guest.name, printable(&refusal.message)));
                    }
                    self.line.clear();
                }
            }
        }
    }

    fn trouble(&self, trouble: &Trouble) -> Failure {
        let mut failure = trouble.failure(&self.guest.name);
        if let Trouble::Guest(refusal) = trouble {
            failure.code = status::refused(refusal);
        } else if self.started {
            failure.message.push_str("; what runs there is hung up");
        }
        failure
    }

    /// Whether it has ended, and all that it has printed was written.
    fn is_over(&self) -> bool {
        self.ending.is_some()
            && self.main.has_heard_all()
            && self.err.as_ref().is_none_or(Joined::has_heard_all)
            && !self.out.is_waiting()
            && !self.errors.is_waiting()
    }

    fn wants_input(&self) -> bool {
        // The user may leave, whatever the guest does.
        if self.raw.is_some() {
            return true;
        }
        self.input_is_open && self.started && self.ending.is_none() && self.main.waiting() < AHEAD
    }

    fn wait(&self, signals: &Signals) -> Result<Ready, Failure> {
        let stdin = io::stdin();
        let mut fds = vec![PollFd::new(signals, PollFlags::IN)];
        let interest = self.connection.interest();
        if !interest.is_empty() {
            fds.push(PollFd::new(&self.connection, interest));
        }
        let input = add(&mut fds, self.wants_input(), PollFd::new(&stdin, PollFlags::IN));
        let out = add(&mut fds, self.out.is_waiting(), PollFd::new(&self.out, PollFlags::OUT));
        let errors = add(&mut fds, self.errors.is_waiting(), PollFd::new(&self.errors, PollFlags::OUT));
        let patience = self.patience.filter(|_| !self.started);
        let deadline = [self.connection.deadline(), patience].into_iter().flatten().min();
        match poll(&mut fds, clock::until(deadline).as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Ready::default()),
            Err(error) => return Err(Failure::error(format!("poll: {error}"))),
        }
        let is_ready = |at: Option<usize>| at.is_some_and(|at| !fds[at].revents().is_empty());
        let signals = is_ready(Some(0));
        Ok(Ready { signals, input: is_ready(input), out: is_ready(out), errors: is_ready(errors) })
    }

    /// Reads once of the input. The user may end it by that.
    fn read_input(&mut self, signals: &mut Signals) -> Result<Option<End>, Failure> {
        let mut buf = [0; 16 * 1024];
        let n = match rustix::io::read(io::stdin(), &mut buf) {
            Ok(n) => n,
            Err(Errno::INTR | Errno::AGAIN) => return Ok(None),
            // The terminal is gone.
            Err(_) if self.raw.is_some() => return Ok(Some(End::Left)),
            Err(error) => return Err(Failure::error(format!("cannot read the input: {error}"))),
        };
        if n == 0 {
            self.input_is_open = false;
            self.main.finish();
            return Ok(self.raw.is_some().then_some(End::Left));
        }
        if self.raw.is_none() {
            self.main.say(&buf[..n]);
            return Ok(None);
        }
        let mut input = &buf[..n];
        while let Some(key) = self.keys.next(&mut input) {
            let escape = self.keys.escape();
            match key {
                Pressed::Typed(bytes) => {
                    if let Some(end) = self.type_keys(bytes) {
                        return Ok(Some(end));
                    }
                }
                Pressed::Menu(b'.' | b'q') => return Ok(Some(End::Left)),
                // By ssh it would be stopped where nobody starts it again.
                Pressed::Menu(b'z') if self.connection.server().behalf.is_none() => self.suspend(signals)?,
                Pressed::Menu(key) if escape.0 == Some(key) => {
                    if let Some(end) = self.type_keys(&[key]) {
                        return Ok(Some(end));
                    }
                }
                Pressed::Menu(_) if self.out.is_waiting() => {}
                Pressed::Menu(_) => {
                    let help = format!("after {escape}: . leaves, z suspends vspc, {escape} types {escape}");
                    self.out.put(format!("\r\n[vspc: {help}]\r\n").as_bytes());
                }
            }
        }
        Ok(None)
    }

    /// Keys for the guest. Where it takes none, ^C throws away those that wait, and the second one within a
    /// second gives it up; once it has ended, the first one does.
    fn type_keys(&mut self, keys: &[u8]) -> Option<End> {
        // What was thrown away made room, which says nothing of the guest.
        self.takes_no_keys = self.main.waiting() >= AHEAD || self.takes_no_keys && self.main.waiting() > 0;
        let interrupts = keys.iter().filter(|&&key| key == INTERRUPT).count();
        if interrupts > 0 && (self.takes_no_keys || self.ending.is_some()) {
            if self.ending.is_some() || (0..interrupts).any(|_| self.interrupts.handle(clock::now())) {
                return Some(End::GivenUp(SIGINT));
            }
            self.main.forget();
            self.main.say(&[INTERRUPT]);
        } else if self.main.waiting() < KEYS {
            self.main.say(keys);
        } else if !self.out.is_waiting() {
            // As a terminal does whose queue is full.
            self.out.put(b"\x07");
        }
        None
    }

    fn control_says(&mut self, line: &ControlLine) {
        self.control.say(&line.line());
    }

    fn tell_size(&mut self) {
        if self.has_terminal
            && self.started
            && let Some((rows, cols)) = terminal::size()
        {
            self.control_says(&ControlLine::Size { rows, cols });
        }
    }

    fn enter(&mut self) -> Result<(), Failure> {
        let raw = Raw::enter(&io::stdin());
        self.raw = raw.map_err(|error| Failure::error(format!("cannot set the terminal: {error}")))?;
        Ok(())
    }

    fn reenter(&mut self) {
        if self.raw.take().is_some() {
            // A terminal that has gone shows when it is read.
            let _ = self.enter();
            self.tell_size();
        }
    }

    /// Stops as a shell expects it, with the terminal as it was.
    fn suspend(&mut self, signals: &mut Signals) -> Result<(), Failure> {
        let was_raw = self.raw.take().is_some();
        signals::stop();
        // The SIGCONT of this stop comes with what was sent meanwhile.
        self.asked.extend(signals.pending().into_iter().filter(|asked| *asked != Asked::Continued));
        if was_raw {
            self.enter()?;
            self.tell_size();
        }
        Ok(())
    }
}

/// Waits for a descriptor as well, if that is wanted; which one of them it is.
fn add<'f>(fds: &mut Vec<PollFd<'f>>, is_wanted: bool, fd: PollFd<'f>) -> Option<usize> {
    is_wanted.then(|| {
        fds.push(fd);
        fds.len() - 1
    })
}

/// What is read of the input ahead of a process that does not read.
const AHEAD: usize = 64 * 1024;
/// How long a guest may be silent before that is told: one that has crashed does not say so.
const PATIENCE: Duration = Duration::from_secs(5);
/// What is typed ahead of it, with what is pasted. Keys have to be read, for one of them may end it.
const KEYS: usize = 1024 * 1024;
/// What ^C types.
const INTERRUPT: u8 = 0x03;
