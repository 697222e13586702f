//! `vspc attach`: a console on this terminal.
//!
//! Owns the loop that carries bytes between the terminal and the console, and what is said on the way. Parts:
//! `escape` (what is typed, and what is for the menu), `menu` (its keys), `commands` (what they do), `view`
//! (how output is shown), `screen` (what waits to be written), `place` (where in the output this is),
//! `reconnect` and `record`.

mod commands;
pub(crate) mod escape;
mod menu;
pub(crate) mod place;
pub(crate) mod reconnect;
mod record;
mod screen;
mod view;

use std::io;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use serde_json::{Value, json};
use vspc_core::mux::StreamId;

use self::commands::{Prompt, Question};
use self::escape::{Key, Keys};
use self::place::Place;
use self::reconnect::{Back, Reconnect};
use self::record::Record;
use self::screen::Screen;
use self::view::{Moment, View};
use crate::args::AttachArgs;
use crate::clock;
use crate::connection::{Attached, Connection, Wish};
use crate::endings::{describe, failure};
use crate::failure::{Code, Failure};
use crate::names::{name_of, reference, resolve};
use crate::server::{Config, Server};
use crate::signals::{self, Asked, Signals};
use crate::terminal::{self, Raw, Title};
use vspc_operator::News;

pub(crate) fn run(server: &Server, config: &Config, args: &AttachArgs) -> Result<(), Failure> {
    clock::find_zone();
    let escape = match (args.escape, &config.escape) {
        (Some(escape), _) => escape,
        (None, Some(text)) => text.parse().map_err(Failure::usage)?,
        (None, None) => escape::Escape::default(),
    };
    let record = args.record.as_ref().map(|path| {
        Record::start(path).map_err(|error| Failure::error(format!("{}: {error}", path.display())))
    });
    let mut connection = Connection::open(server)?;
    let console = resolve(&mut connection, &args.console.name)?;
    let lock = args.lock.map(crate::args::Lock::word);
    let size = terminal::size();
    let wish = Wish { console: reference(&console), lock, scrollback: args.scrollback, from: None, size };
    let attached = connection.attach(&wish)?.map_err(|refusal| failure(&refusal))?;
    let mut attach = Attach {
        server: connection.server().clone(),
        lock,
        place: Place::of(&attached.answer),
        console: Value::Null,
        access: Value::Null,
        mode: Value::Null,
        size,
        line: Line::Up(Box::new(connection), attached.stream),
        keys: Keys::new(escape),
        typed: Vec::new(),
        input: Input { open: true, told_read_only: false },
        view: View::new(clock::now()),
        screen: Screen::new(),
        record: record.transpose()?,
        prompt: None,
        asked: Vec::new(),
        detached: None,
        started: clock::now(),
        counts: (0, 0),
        title: None,
        raw: None,
    };
    attach.take_answer(attached.answer);
    let outcome = attach.run();
    attach.leave();
    match outcome {
        Ok(()) => {
            if let Line::Up(connection, _) = attach.line {
                connection.part();
            }
            Ok(())
        }
        Err(End::Failed(failure)) => Err(failure),
        Err(End::Signal(signal)) => {
            drop(attach);
            signals::end_by(signal);
            Ok(())
        }
    }
}

/// A console on this terminal.
struct Attach {
    server: Server,
    /// The mode asked for last, and for when it is attached to again.
    lock: Option<&'static str>,
    /// As the server last described it.
    console: Value,
    /// `write` or `read`.
    access: Value,
    /// The mode that was granted.
    mode: Value,
    /// Of the terminal, as the server knows it.
    size: Option<(u16, u16)>,
    line: Line,
    place: Place,
    keys: Keys,
    /// What the stream has not taken yet.
    typed: Vec<u8>,
    input: Input,
    view: View,
    screen: Screen,
    record: Option<Record>,
    prompt: Option<Prompt>,
    /// Requests whose answers are waited for, and what for.
    asked: Vec<(u64, Question)>,
    /// The reason the server gave for the end of the attach.
    detached: Option<Value>,
    started: vspc_core::time::Instant,
    /// Bytes shown and typed.
    counts: (u64, u64),
    title: Option<Title>,
    raw: Option<Raw>,
}

/// The way to the console.
enum Line {
    Up(Box<Connection>, StreamId),
    Down(Box<Reconnect>),
    /// The console has ended, or this client was sent away.
    Ended,
}

impl Line {
    /// Whether the operator protocol is spoken.
    fn carries_many(&self) -> bool {
        matches!(self, Self::Up(connection, _) if connection.carries_many())
    }
}

struct Input {
    open: bool,
    /// The user knows that typing has no effect.
    told_read_only: bool,
}

/// Why an attach ends, other than that the user had enough.
enum End {
    Failed(Failure),
    Signal(i32),
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Attach {
    fn run(&mut self) -> Result<(), End> {
        let mut signals = Signals::take().map_err(|error| Failure::error(error.to_string()))?;
        self.enter().map_err(|error| Failure::error(format!("cannot set the terminal: {error}")))?;
        self.greet();
        loop {
            self.wait(&signals)?;
            for asked in signals.pending() {
                match asked {
                    Asked::End(signal) => return Err(End::Signal(signal)),
                    Asked::Stop => self.suspend(&mut signals)?,
                    // A shell may have set the terminal while this was stopped.
                    Asked::Continued => {
                        self.reenter();
                        self.tell_size();
                    }
                    Asked::Resized => self.tell_size(),
                }
            }
            let goes_on = self.turn_input(&mut signals)?;
            // Also what was typed last still leaves.
            self.turn_line()?;
            if !goes_on {
                return Ok(());
            }
            if self.screen.is_waiting() {
                // What is there is written at once where that does not block.
                self.write_if_ready()?;
            }
            if matches!(self.line, Line::Ended) {
                self.screen.finish().map_err(|error| Failure::output(&error))?;
                return self.ended().map_err(End::Failed);
            }
        }
    }

    fn wait(&self, signals: &Signals) -> Result<(), Failure> {
        let stdin = io::stdin();
        let mut fds = vec![PollFd::new(signals, PollFlags::IN)];
        if self.wants_input() {
            fds.push(PollFd::new(&stdin, PollFlags::IN));
        }
        if self.screen.is_waiting() {
            fds.push(PollFd::new(&self.screen, PollFlags::OUT));
        }
        let deadline = match &self.line {
            Line::Up(connection, _) => {
                let interest = connection.interest();
                // A socket that nothing is wanted of would still tell that its peer has gone.
                if !interest.is_empty() {
                    fds.push(PollFd::new(&**connection, interest));
                }
                connection.deadline()
            }
            Line::Down(reconnect) => {
                fds.extend(reconnect.fd().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
                reconnect.deadline()
            }
            Line::Ended => None,
        };
        match poll(&mut fds, clock::until(deadline).as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(Failure::error(format!("poll: {error}"))),
        }
    }

    fn wants_input(&self) -> bool {
        let room = if self.raw.is_some() { TYPED_AHEAD } else { PIPED_AHEAD };
        self.input.open && self.typed.len() < room
    }

    fn write_if_ready(&mut self) -> Result<(), Failure> {
        let mut fds = [PollFd::new(&self.screen, PollFlags::OUT)];
        let now = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
        if poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0) {
            self.screen.write().map_err(|error| Failure::output(&error))?;
        }
        Ok(())
    }

    /// Reads what was typed. `false`: the user had enough.
    fn turn_input(&mut self, signals: &mut Signals) -> Result<bool, Failure> {
        let stdin = io::stdin();
        let now = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
        let ready = self.wants_input()
            && poll(&mut [PollFd::new(&stdin, PollFlags::IN)], Some(&now)).is_ok_and(|ready| ready > 0);
        if !ready {
            return Ok(true);
        }
        let mut buf = [0; 4096];
        let n = match rustix::io::read(&stdin, &mut buf) {
            Ok(n) => n,
            Err(Errno::INTR | Errno::AGAIN) => return Ok(true),
            // The terminal is gone.
            Err(_) if self.raw.is_some() => return Ok(false),
            Err(error) => return Err(Failure::error(format!("cannot read the input: {error}"))),
        };
        if n == 0 {
            self.input.open = false;
            return Ok(self.raw.is_none());
        }
        if self.raw.is_none() {
            self.type_(&buf[..n]);
            return Ok(true);
        }
        let mut input = &buf[..n];
        while !input.is_empty() {
            if self.prompt.is_some() {
                if !self.answer_prompt(&mut input)? {
                    return Ok(false);
                }
                continue;
            }
            match self.keys.next(&mut input) {
                Some(Key::Typed(bytes)) => self.type_(bytes),
                Some(Key::Menu(key)) if !self.act(key, signals)? => return Ok(false),
                Some(Key::Menu(_)) | None => {}
            }
        }
        Ok(true)
    }

    /// Types at the console, if this client may.
    fn type_(&mut self, bytes: &[u8]) {
        if !matches!(self.line, Line::Up(..)) {
            // Nobody knows what the console will ask for when it is there again.
            return;
        }
        if self.access == "read" {
            if !self.input.told_read_only {
                self.input.told_read_only = true;
                let escape = self.keys.escape();
                // vSPC.py's protocol has no word for it.
                let lock = match self.line.carries_many() {
                    true => format!("; {escape} l asks for the write lock"),
                    false => String::new(),
                };
                self.say(&format!("you may only watch{lock}"));
            }
            return;
        }
        self.typed.extend_from_slice(bytes);
    }

    fn turn_line(&mut self) -> Result<(), Failure> {
        if let Line::Down(reconnect) = &mut self.line {
            let attempts = reconnect.attempts();
            match reconnect.turn() {
                None => {}
                Some(Ok(back)) => self.come_back(*back),
                Some(Err(failure)) if failure.code == Code::Refused => return Err(failure),
                Some(Err(failure)) if attempts == 0 => {
                    self.say(&format!("{failure}; trying again until it works"));
                }
                Some(Err(_)) => {}
            }
            return Ok(());
        }
        let Line::Up(connection, stream) = &mut self.line else { return Ok(()) };
        let stream = *stream;
        // What was received may have made room for what was typed.
        connection.turn();
        let n = connection.write(stream, &self.typed);
        self.counts.1 += n as u64;
        self.typed.drain(..n);
        if !self.input.open && self.typed.is_empty() {
            connection.finish(stream);
        }
        connection.push();
        let mut ended = false;
        while let Line::Up(connection, _) = &mut self.line
            && let Some(news) = connection.poll()
        {
            match news {
                News::Answer(id, outcome) => self.take_reply(id, outcome),
                News::Notice(notice) if notice["stream"] == stream.number() => self.place.note(notice),
                News::Reset(of) if of == stream => ended = true,
                News::Over(ending) => {
                    self.show_output(stream);
                    self.lose(&describe(&ending));
                    return Ok(());
                }
                _ => {}
            }
        }
        if self.show_output(stream) || ended {
            while let Some(notice) = self.place.last() {
                self.tell(&notice);
            }
            self.finish_stream();
        }
        Ok(())
    }

    /// Shows what has come, as far as the screen takes it, and the notices at their places. Returns whether
    /// the stream has ended.
    fn show_output(&mut self, stream: StreamId) -> bool {
        let mut ended = false;
        loop {
            while let Some(notice) = self.place.due() {
                self.tell(&notice);
            }
            let Line::Up(connection, _) = &mut self.line else { return false };
            let most = self.screen.room().min(self.place.until_notice());
            let now = Moment { at: clock::now(), of_day: clock::of_day() };
            let (mut shown, mut taken) = (Vec::new(), Vec::new());
            let (view, offset) = (&mut self.view, self.place.offset);
            ended = connection.read(stream, most, |bytes| {
                view.show(bytes, offset + taken.len() as u64, now, &mut shown);
                taken.extend_from_slice(bytes);
            }) || ended;
            if taken.is_empty() {
                return ended;
            }
            self.screen.show(&shown);
            self.place.shown(taken.len());
            self.counts.0 += taken.len() as u64;
            if let Some(record) = &mut self.record
                && let Err(error) = record.write(&taken)
            {
                let path = record.path.display().to_string();
                self.record = None;
                self.say(&format!("recording ended: {path}: {error}"));
            }
        }
    }

    /// The stream has ended; the notice before it told why (operator.md §6).
    fn finish_stream(&mut self) {
        let reason = self.detached.as_ref().and_then(|notice| notice["reason"].as_str()).unwrap_or_default();
        match reason {
            "shutting-down" => self.lose("the server is shutting down"),
            "lagged" => self.lose("the output was not taken fast enough"),
            _ => self.line = Line::Ended,
        }
    }

    /// What an ended attach means for the exit code.
    fn ended(&self) -> Result<(), Failure> {
        let name = name_of(&self.console);
        let Some(notice) = &self.detached else {
            return Err(Failure::error(format!("the server has ended the connection to {name}")));
        };
        let text = |key: &str| notice[key].as_str().map(crate::printable::printable);
        let by = text("by").map(|by| format!(" by {by}")).unwrap_or_default();
        let message = text("message").map(|message| format!(": {message}")).unwrap_or_default();
        Err(match notice["reason"].as_str() {
            Some("expired") => Failure::new(Code::NoSuchConsole, format!("the console {name} has ended")),
            Some("kicked" | "bumped") => {
                Failure::new(Code::Refused, format!("you were sent away from {name}{by}{message}"))
            }
            Some("no-right") => Failure::new(Code::Refused, format!("you may not use {name} any more")),
            reason => Failure::error(format!("the attach to {name} has ended: {}", reason.unwrap_or("?"))),
        })
    }

    /// The connection is gone: come back to where it broke off.
    fn lose(&mut self, why: &str) {
        self.say(&format!("{why}; reconnecting"));
        self.typed.clear();
        self.asked.clear();
        self.detached = None;
        let wish = reconnect::resume(&self.console, self.lock, &self.place.epoch, self.place.offset);
        // What the server is told when this comes back.
        self.size = wish.size;
        self.line = Line::Down(Box::new(Reconnect::new(&self.server, self.console.clone(), wish)));
    }

    fn come_back(&mut self, back: Back) {
        let Back { connection, attached: Attached { stream, answer }, resumed } = back;
        self.place = Place::of(&answer);
        self.take_answer(answer);
        self.line = Line::Up(Box::new(connection), stream);
        self.tell_size();
        let news = if resumed { "" } else { "; some of what was printed meanwhile may be lost" };
        self.say(&format!("connected again{news}"));
        self.tell_standing();
    }

    /// Tells the server how large the terminal is, if that has changed: a shell of a guest's is as large.
    fn tell_size(&mut self) {
        let Line::Up(connection, stream) = &mut self.line else { return };
        let size = terminal::size();
        if let Some((rows, cols)) = size
            && size != self.size
            && connection.has("resize")
        {
            // There is nothing to be said of an answer.
            let fields = json!({"stream": stream.number(), "size": {"rows": rows, "cols": cols}});
            connection.request("resize", fields);
            self.size = size;
        }
    }

    fn take_answer(&mut self, mut answer: Value) {
        self.console = answer["console"].take();
        self.access = answer["access"].take();
        self.input.told_read_only = false;
        self.mode = answer["lock"].take();
    }

    fn say(&mut self, text: &str) {
        self.screen.notice(&mut self.view, text);
    }
}

/// What may be typed ahead of a VM that does not read. A terminal is read far ahead, so that the menu works;
/// beyond this it is not read until the VM does.
const TYPED_AHEAD: usize = 1024 * 1024;
/// The same for a pipe, which can wait.
const PIPED_AHEAD: usize = 64 * 1024;
