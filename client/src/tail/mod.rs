//! `vspc tail`: what consoles print, one as it is, several as lines with the name before each.
//!
//! Owns which consoles are followed, also after a server went away, and when a line is shown. What is left
//! out of one is `plain`'s.

mod plain;

use std::io::{self, Write};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, poll};
use rustix::io::Errno;
use serde_json::{Value, json};
use vspc_core::mux::StreamId;
use vspc_core::time::Instant;

use self::plain::plain;
use crate::args::TailArgs;
use crate::attach::place::Place;
use crate::attach::reconnect::{FIRST_PAUSE, LONGEST_PAUSE, attach_again, resume};
use crate::clock;
use crate::connection::{Attached, Connection, Wish};
use crate::endings::{describe, failure};
use crate::failure::{Code, Failure};
use crate::names::{name_of, reference, resolve};
use crate::output;
use crate::printable::printable;
use crate::terminal;
use crate::units;
use vspc_operator::News;

pub(crate) fn run(mut connection: Connection, args: &TailArgs) -> Result<(), Failure> {
    let mut consoles = Vec::new();
    for name in &args.names {
        let console = resolve(&mut connection, name)?;
        if !consoles.iter().any(|known| reference(known) == reference(&console)) {
            consoles.push(console);
        }
    }
    if args.all && !connection.carries_many() {
        consoles = connection.list(None, usize::MAX)?;
    }
    let mut tail = Tail {
        connections: vec![connection],
        sources: Vec::new(),
        asked: Vec::new(),
        scrollback: args.scrollback,
        alone: consoles.len() == 1 && !args.all,
        width: 0,
        colour: terminal::may_colour(&io::stdout()),
        names: Vec::new(),
        absent: Vec::new(),
        refused: Vec::new(),
        all: args.all,
        look_at: clock::now() + LOOK,
    };
    if args.all {
        tail.subscribe();
    }
    for console in &consoles {
        tail.attach(console)?;
    }
    tail.run()
}

struct Tail {
    connections: Vec<Connection>,
    sources: Vec<Source>,
    /// Attaches that were not answered yet: the id of the answer, the stream, the console.
    asked: Vec<(u64, StreamId, Value)>,
    scrollback: u64,
    /// There is one console only, whose output is shown as it is.
    alone: bool,
    /// Of the longest name.
    width: usize,
    colour: bool,
    /// Of the consoles so far: the place of each is its colour.
    names: Vec<String>,
    /// Consoles that were not there when the server was connected to again.
    absent: Vec<Value>,
    /// Consoles that this client was not let to, which is said once.
    refused: Vec<String>,
    /// All consoles are followed.
    all: bool,
    /// When a server that tells of no consoles is asked for them.
    look_at: Instant,
}

/// A console that is followed.
struct Source {
    connection: usize,
    stream: StreamId,
    console: Value,
    place: Place,
    name: String,
    colour: usize,
    line: Vec<u8>,
    /// When the line that has begun is shown as it is.
    due: Option<Instant>,
    /// A line that had no end was shown: an end alone ends it, and is no line of its own.
    was_cut: bool,
    detached: bool,
}

impl Tail {
    fn attach(&mut self, console: &Value) -> Result<(), Failure> {
        let wish = self.wish(console);
        let at = self.spare_connection(self.sources.len())?;
        match self.connections[at].attach(&wish)? {
            Ok(Attached { stream, answer }) => self.add(at, stream, console, &answer),
            Err(refusal) if self.alone => return Err(failure(&refusal)),
            Err(refusal) => {
                self.refused.push(reference(console));
                tell(&name_of(console), &failure(&refusal).message);
            }
        }
        Ok(())
    }

    /// The connection for one more console than the first `used` sources. vSPC.py's protocol takes one for
    /// each.
    fn spare_connection(&mut self, used: usize) -> Result<usize, Failure> {
        if self.connections[0].carries_many() {
            return Ok(0);
        }
        if let Some(free) = self.free_connection(used) {
            return Ok(free);
        }
        let another = Connection::open(self.connections[0].server())?;
        self.connections.push(another);
        Ok(self.connections.len() - 1)
    }

    /// A connection that the first `used` sources do not have.
    fn free_connection(&self, used: usize) -> Option<usize> {
        let is_free = |at: &usize| self.sources[..used].iter().all(|source| source.connection != *at);
        (0..self.connections.len()).find(is_free)
    }

    fn wish(&self, console: &Value) -> Wish {
        let lock = Some("read-only");
        Wish { console: reference(console), lock, scrollback: self.scrollback, from: None, size: None }
    }

    fn add(&mut self, connection: usize, stream: StreamId, console: &Value, answer: &Value) {
        let name = name_of(console);
        self.width = self.width.max(name.chars().count());
        let colour = self.names.iter().position(|known| *known == name).unwrap_or_else(|| {
            self.names.push(name.clone());
            self.names.len() - 1
        });
        self.sources.push(Source {
            connection,
            stream,
            console: console.clone(),
            place: Place::of(answer),
            name,
            colour,
            line: Vec::new(),
            due: None,
            was_cut: false,
            detached: false,
        });
    }

    /// Has the server tell of consoles that come. One that cannot is asked, see [`Tail::look`].
    fn subscribe(&mut self) {
        if self.connections[0].carries_many() {
            self.connections[0].request("subscribe", json!({"to": "consoles"}));
        }
    }

    /// The server went away: waits until it is there again, and goes on where the output broke off.
    fn come_back(&mut self, why: &str) -> Result<(), Failure> {
        output::tell(format_args!("{why}; reconnecting"));
        self.absent.extend(std::mem::take(&mut self.asked).into_iter().map(|(_, _, console)| console));
        let mut pause = FIRST_PAUSE;
        loop {
            match self.connect_again() {
                Ok(()) => break,
                Err(failure) if failure.code == Code::NoConnection => thread::sleep(pause),
                Err(failure) => return Err(failure),
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        output::tell("connected again");
        if self.all || !self.absent.is_empty() {
            self.subscribe();
        }
        Ok(())
    }

    /// Connects anew for all sources; those whose console is not there become absent. When it fails in the
    /// middle, all of it can be done again.
    fn connect_again(&mut self) -> Result<(), Failure> {
        self.connections = vec![Connection::open(self.connections[0].server())?];
        let mut place = 0;
        while place < self.sources.len() {
            let at = self.spare_connection(place)?;
            let source = &mut self.sources[place];
            let (epoch, offset) = (source.place.epoch.as_str(), source.place.offset);
            let wish = resume(&source.console, Some("read-only"), epoch, offset);
            match attach_again(&mut self.connections[at], &source.console, &wish)? {
                Ok((Attached { stream, mut answer }, resumed)) => {
                    if !resumed {
                        tell(&source.name, "some of what was printed meanwhile may be lost");
                    }
                    (source.connection, source.stream, source.place) = (at, stream, Place::of(&answer));
                    source.console = answer["console"].take();
                    place += 1;
                }
                Err(refusal) => {
                    tell(&source.name, &failure(&refusal).message);
                    self.absent.push(self.sources.remove(place).console);
                }
            }
        }
        Ok(())
    }

    /// Whether consoles may come of which the server will not tell by itself.
    fn looks(&self) -> bool {
        !self.connections[0].carries_many() && (self.all || !self.absent.is_empty())
    }

    /// Asks a server that tells of no consoles which there are.
    fn look(&mut self) -> Result<(), Failure> {
        self.look_at = clock::now() + LOOK;
        // That the server is gone shows where a console's own connection ends, or the next time.
        let Ok(mut asked) = Connection::open(self.connections[0].server()) else { return Ok(()) };
        let consoles = asked.list(None, usize::MAX).unwrap_or_default();
        // A connection knows the consoles that there were when it was opened.
        match self.free_connection(self.sources.len()) {
            Some(free) => self.connections[free] = asked,
            None => self.connections.push(asked),
        }
        for console in consoles {
            match self.appear(0, &console) {
                Err(failure) if failure.code == Code::NoConnection => break,
                outcome => outcome?,
            }
        }
        Ok(())
    }

    fn run(mut self) -> Result<(), Failure> {
        loop {
            for at in 0..self.connections.len() {
                while let Some(news) = self.connections[at].poll() {
                    self.take(at, news)?;
                }
            }
            self.show_due()?;
            if self.looks() && self.look_at <= clock::now() {
                self.look()?;
                continue;
            }
            let waits = self.all || !self.asked.is_empty() || !self.absent.is_empty();
            if self.sources.is_empty() && !waits {
                return Err(Failure::new(Code::NoSuchConsole, "there is nothing left to follow"));
            }
            self.wait()?;
            self.connections.iter_mut().for_each(Connection::turn);
        }
    }

    fn wait(&self) -> Result<(), Failure> {
        let wanted = self.connections.iter().filter(|connection| !connection.interest().is_empty());
        let mut fds: Vec<PollFd<'_>> =
            wanted.map(|connection| PollFd::new(connection, connection.interest())).collect();
        let due = self.sources.iter().filter_map(|source| source.due);
        let look = self.looks().then_some(self.look_at);
        let deadline = self.connections.iter().filter_map(Connection::deadline).chain(due).chain(look).min();
        match poll(&mut fds, clock::until(deadline).as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(Failure::error(format!("poll: {error}"))),
        }
    }

    fn take(&mut self, at: usize, news: News) -> Result<(), Failure> {
        match news {
            News::Readable(stream) => self.read(at, stream)?,
            News::Reset(stream) => self.end(at, stream),
            News::Answer(id, outcome) => {
                let Some(place) = self.asked.iter().position(|(of, ..)| *of == id) else {
                    return outcome.map(drop).map_err(|refusal| failure(&refusal));
                };
                let (_, stream, console) = self.asked.swap_remove(place);
                match outcome {
                    Ok(answer) => {
                        self.add(at, stream, &console, &answer);
                        // The answer may come behind the first output.
                        self.read(at, stream)?;
                    }
                    Err(refusal) => tell(&name_of(&console), &failure(&refusal).message),
                }
            }
            News::Notice(notice) => self.notice(at, &notice)?,
            News::Over(ending) => self.come_back(&describe(&ending))?,
            News::Writable(_) => {}
        }
        Ok(())
    }

    fn notice(&mut self, at: usize, notice: &Value) -> Result<(), Failure> {
        if notice["event"] == "console" {
            return self.appear(at, &notice["console"]);
        }
        let is_it =
            |source: &&mut Source| source.connection == at && notice["stream"] == source.stream.number();
        let Some(source) = self.sources.iter_mut().find(is_it) else { return Ok(()) };
        match (notice["event"].as_str(), notice["state"].as_str(), notice["reason"].as_str()) {
            (Some("missed"), ..) => {
                let bytes = units::bytes(notice["bytes"].as_u64().unwrap_or(0));
                tell(&source.name, &format!("{bytes} of output were missed"));
                source.place.note(notice.clone());
            }
            (Some("state"), Some(state), _) => tell(&source.name, &format!("its VM is {}", printable(state))),
            (Some("detached"), _, reason) => {
                source.detached = true;
                tell(&source.name, &format!("the end: {}", printable(reason.unwrap_or("?"))));
            }
            _ => {}
        }
        Ok(())
    }

    /// A console is there: perhaps one that is waited for.
    fn appear(&mut self, at: usize, console: &Value) -> Result<(), Failure> {
        let is_it = |other: &Value| other["uuid"] == console["uuid"] && other["name"] == console["name"];
        let absent = self.absent.iter().position(is_it);
        let id = reference(console);
        let known = self.sources.iter().any(|source| reference(&source.console) == id)
            || self.asked.iter().any(|(_, _, asked)| reference(asked) == id)
            || self.refused.contains(&id);
        if known || absent.is_none() && !self.all {
            return Ok(());
        }
        if !self.connections[at].carries_many() {
            self.attach(console)?;
            absent.map(|place| self.absent.swap_remove(place));
            return Ok(());
        }
        let wish = self.wish(console);
        if let Some((answer, stream)) = self.connections[at].request_attach(&wish) {
            self.asked.push((answer, stream, console.clone()));
            absent.map(|place| self.absent.swap_remove(place));
        }
        Ok(())
    }

    fn read(&mut self, at: usize, stream: StreamId) -> Result<(), Failure> {
        let is_it = |source: &Source| source.connection == at && source.stream == stream;
        let Some(place) = self.sources.iter().position(is_it) else { return Ok(()) };
        let source = &mut self.sources[place];
        let ended = self.connections[at].read(stream, usize::MAX, |bytes| {
            source.place.shown(bytes.len());
            source.line.extend_from_slice(bytes);
        });
        while source.place.due().is_some() {}
        if self.alone {
            let output = std::mem::take(&mut source.line);
            print(&output)?;
        } else {
            let mut shown = Vec::new();
            let whole = source.line.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
            let lines: Vec<u8> = source.line.drain(..whole).collect();
            for line in lines.split_inclusive(|&byte| byte == b'\n') {
                let was_cut = std::mem::take(&mut self.sources[place].was_cut);
                if !(was_cut && line.iter().all(|byte| b"\r\n".contains(byte))) {
                    self.show(&self.sources[place], line, &mut shown);
                }
            }
            print(&shown)?;
            let source = &mut self.sources[place];
            let now = clock::now();
            source.due = match source.line.len() {
                0 => None,
                LINE.. => Some(now),
                _ => Some(now + PAUSE),
            };
        }
        if ended {
            self.end(at, stream);
        }
        Ok(())
    }

    /// Shows lines that have begun and do not go on.
    fn show_due(&mut self) -> Result<(), Failure> {
        let now = clock::now();
        let mut shown = Vec::new();
        for place in 0..self.sources.len() {
            if self.sources[place].due.is_some_and(|due| due <= now) {
                let line = std::mem::take(&mut self.sources[place].line);
                self.sources[place].due = None;
                self.sources[place].was_cut = true;
                self.show(&self.sources[place], &line, &mut shown);
            }
        }
        if shown.is_empty() { Ok(()) } else { print(&shown) }
    }

    fn show(&self, source: &Source, line: &[u8], shown: &mut Vec<u8>) {
        let (name, width) = (&source.name, self.width);
        let prefix = match self.colour {
            true => format!("\x1b[{}m{name:width$} |\x1b[0m ", 31 + source.colour % 6),
            false => format!("{name:width$} | "),
        };
        shown.extend_from_slice(prefix.as_bytes());
        shown.extend_from_slice(plain(line).as_bytes());
        shown.push(b'\n');
    }

    fn end(&mut self, at: usize, stream: StreamId) {
        let is_it = |source: &Source| source.connection == at && source.stream == stream;
        let Some(place) = self.sources.iter().position(is_it) else { return };
        let source = self.sources.remove(place);
        let mut shown = Vec::new();
        if !source.line.is_empty() {
            self.show(&source, &source.line, &mut shown);
        }
        // A failure shows with the next line.
        let _ = print(&shown);
        if !source.detached {
            tell(&source.name, "the end");
        }
    }
}

/// Says something about a console, beside its output.
fn tell(name: &str, text: &str) {
    output::tell(format_args!("{name}: {text}"));
}

fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| Failure::output(&error))
}

/// How often a server that tells of no consoles is asked for them.
const LOOK: Duration = Duration::from_secs(3);
/// How long a line that has begun is waited for: a prompt has no end.
const PAUSE: Duration = Duration::from_millis(500);
/// A line is shown in pieces of this length at the least.
const LINE: usize = 4096;
