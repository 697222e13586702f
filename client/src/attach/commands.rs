//! What the menu does, and what notices say.
//!
//! Owns the words on the screen, questions to the user, and the terminal's modes around what else runs in it.

use std::io::{self, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, waitpid};
use serde_json::{Value, json};

use super::menu::{self, Action};
use super::record::Record;
use super::{Attach, Line};
use crate::clock;
use crate::endings::failure;
use crate::failure::Failure;
use crate::names::{name_of, reference};
use crate::printable::printable;
use crate::signals::{self, Asked, Signals};
use crate::terminal::{self, Raw, Title};
use crate::units;
use crate::who;
use vspc_operator::Refusal;

/// A question to the user, and what was typed so far.
pub(super) struct Prompt {
    about: About,
    typed: Vec<u8>,
}

enum About {
    /// A file's name.
    Record,
    /// y or n.
    Bump,
}

/// What a request was for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Question {
    Who,
    Status,
    Lock(&'static str),
    /// To type again, now that nobody has it locked.
    Return,
    Break,
    Bump,
}

impl Attach {
    /// Makes the terminal the console's.
    pub(super) fn enter(&mut self) -> io::Result<()> {
        self.raw = Raw::enter(&io::stdin())?;
        self.screen.raw = self.raw.is_some();
        if self.raw.is_some() {
            self.title = Title::show(&format!("{} - vspc", name_of(&self.console)));
        }
        Ok(())
    }

    /// Makes it the user's again.
    pub(super) fn leave(&mut self) {
        let was_raw = self.raw.is_some();
        if was_raw && !self.view.is_at_line_start() {
            self.screen.prompt("\r\n");
            self.view.line_ended();
        }
        // A terminal that takes nothing any more is left without that.
        let _ = self.write_if_ready();
        self.title = None;
        self.raw = None;
        self.screen.raw = false;
    }

    pub(super) fn reenter(&mut self) {
        if self.raw.is_some() {
            self.raw = None;
            // A terminal that has gone shows when it is read.
            let _ = self.enter();
        }
    }

    /// Stops as a shell expects it, with the terminal as it was.
    pub(super) fn suspend(&mut self, signals: &mut Signals) -> Result<(), Failure> {
        if self.raw.is_some() && !self.view.is_at_line_start() {
            self.screen.prompt("\r\n");
            self.view.line_ended();
        }
        self.screen.finish().map_err(|error| Failure::output(&error))?;
        let was_raw = self.raw.is_some();
        self.leave();
        signals::stop();
        // The SIGCONT of this stop.
        signals.pending();
        if was_raw {
            self.enter().map_err(|error| Failure::error(format!("cannot set the terminal: {error}")))?;
        }
        Ok(())
    }

    /// What is said first.
    pub(super) fn greet(&mut self) {
        if self.raw.is_some() {
            let (name, escape) = (name_of(&self.console), self.keys.escape());
            let menu = match escape.0 {
                Some(_) => format!("; {escape} ? for help, {escape} . to quit"),
                None => String::new(),
            };
            self.say(&format!("{name}{menu}"));
        }
        self.tell_standing();
    }

    /// What the user should know before typing.
    pub(super) fn tell_standing(&mut self) {
        match self.console["state"].as_str() {
            Some("waiting") => self.say("its VM is not connected; what you type is lost"),
            Some("moving") => self.say("its VM is on its way to another host"),
            _ => {}
        }
        if self.access == "read" {
            let by = self.console["lock"]["by"]
                .as_str()
                .map_or(String::new(), |by| format!("; {by} has it locked"));
            self.say(&format!("you may only watch{by}"));
        }
    }

    /// Says what a notice is about.
    pub(super) fn tell(&mut self, notice: &Value) {
        let text = |key: &str| notice[key].as_str().unwrap_or_default();
        match text("event") {
            "missed" => {
                let bytes = notice["bytes"].as_u64().map_or_else(|| "some".to_owned(), units::bytes);
                self.say(&format!("{bytes} of output were missed here"));
            }
            "state" => {
                self.console["state"] = notice["state"].clone();
                self.console["host"] = notice["host"].clone();
                let at = notice["host"].as_str().map(|host| format!(" at {host}")).unwrap_or_default();
                match text("state") {
                    "connected" => self.say(&format!("its VM is connected{at}")),
                    "moving" => self.say("its VM is moving to another host"),
                    "waiting" => self.say("its VM has disconnected; waiting for it"),
                    other => self.say(&format!("its VM is {other}")),
                }
            }
            "access" => {
                let before = std::mem::replace(&mut self.access, notice["access"].clone());
                // The lock that somebody holds, which may be this client's.
                self.console["lock"] = notice["lock"].clone();
                self.input.told_read_only = false;
                match text("access") {
                    // To watch was the fallback, for as long as somebody else held a lock.
                    "read" if notice["lock"].is_null() && matches!(self.lock, None | Some(FALLBACK)) => {
                        self.request(Question::Return);
                    }
                    access if before == access => {}
                    "read" => self.say("you may only watch now"),
                    _ => self.say("you may type now"),
                }
            }
            "present" => {
                self.console["clients"] = notice["clients"].clone();
            }
            "detached" => self.detached = Some(notice.clone()),
            _ => {}
        }
    }

    /// Does what a key of the menu asks for. `false`: to quit.
    pub(super) fn act(&mut self, key: u8, signals: &mut Signals) -> Result<bool, Failure> {
        let escape = self.keys.escape();
        let Some(action) = menu::action(key, escape) else {
            let key = char::from(key).escape_default();
            self.say(&format!("{escape} {key} does nothing; {escape} ? for help"));
            return Ok(true);
        };
        if self.server.behalf.is_some() && action.touches_this_machine() {
            self.say("not through this door");
            return Ok(true);
        }
        match action {
            Action::Quit => return Ok(false),
            Action::Help => self.screen.lines(&mut self.view, &menu::help(escape)),
            Action::Escape => self.type_(&[key]),
            Action::Break => self.request(Question::Break),
            Action::Who => self.request(Question::Who),
            Action::Status => self.request(Question::Status),
            Action::Lock(mode) => self.request(Question::Lock(mode)),
            // Nobody is asked about what cannot be done.
            Action::Bump if !self.line.carries_many() => self.request(Question::Bump),
            Action::Bump => self.ask(About::Bump, "send everybody else away? (y/n) "),
            Action::Stamps => {
                let stamps = self.view.turn_stamps();
                self.say(stamps.describe());
            }
            Action::Hex => {
                let hex = self.view.turn_hex();
                self.say(if hex { "hexadecimal view" } else { "plain view" });
            }
            Action::Record => match self.record.take() {
                Some(record) => {
                    let bytes = units::bytes(record.bytes);
                    self.say(&format!("recorded {bytes} to {}", record.path.display()));
                }
                None => self.ask(About::Record, "record to which file? "),
            },
            Action::Stty => match terminal::size() {
                Some((rows, columns)) => self.type_(format!("stty rows {rows} cols {columns}\r").as_bytes()),
                None => self.say("this terminal does not tell its size"),
            },
            Action::Pager => self.page(signals)?,
            Action::Suspend => self.suspend(signals)?,
        }
        Ok(true)
    }

    fn request(&mut self, question: Question) {
        let Line::Up(connection, stream) = &mut self.line else {
            return self.say("there is no connection");
        };
        if question == Question::Status && !connection.carries_many() {
            let lines = self.status();
            return self.screen.lines(&mut self.view, &lines);
        }
        let (stream, console) = (stream.number(), reference(&self.console));
        let id = match question {
            Question::Who => connection.request("who", json!({"console": console})),
            Question::Status => connection.request("show", json!({"console": console})),
            Question::Break => connection.request("break", json!({"stream": stream})),
            Question::Return => connection.request("lock", json!({"stream": stream, "mode": FALLBACK})),
            Question::Lock(mode) => connection.request("lock", json!({"stream": stream, "mode": mode})),
            Question::Bump => connection.request("bump", json!({"console": console})),
        };
        self.asked.push((id, question));
    }

    /// An answer came.
    pub(super) fn take_reply(&mut self, id: u64, outcome: Result<Value, Refusal>) {
        let Some(at) = self.asked.iter().position(|(of, _)| *of == id) else { return };
        let (_, question) = self.asked.swap_remove(at);
        let mut answer = match outcome {
            Ok(answer) => answer,
            // Without the right to type there is nothing to return to.
            Err(_) if question == Question::Return => return,
            Err(refusal) => return self.say(&failure(&refusal).message),
        };
        match question {
            Question::Who => self.screen.lines(&mut self.view, &who::lines(&answer)),
            Question::Break => self.say("break sent"),
            Question::Bump => self.say(&format!("{} sent away", answer["bumped"])),
            Question::Return => {
                self.access = answer["access"].take();
                self.mode = answer["lock"].take();
                self.input.told_read_only = false;
                if self.access != "read" {
                    self.say("you may type now");
                }
            }
            Question::Lock(mode) => {
                self.lock = Some(mode);
                self.access = answer["access"].take();
                self.mode = answer["lock"].take();
                self.input.told_read_only = false;
                self.say(match mode {
                    "write" => "nobody else may type now",
                    "exclusive" => "you are alone here now",
                    _ => "others may type as well now",
                });
            }
            Question::Status => {
                self.console = answer["console"].take();
                let lines = self.status();
                self.screen.lines(&mut self.view, &lines);
            }
        }
    }

    fn status(&self) -> Vec<String> {
        let console = &self.console;
        let text = |key: &str| printable(console[key].as_str().unwrap_or("?")).into_owned();
        let span = |key: &str| console[key].as_u64().map(|ms| units::span(Duration::from_millis(ms)));
        let bytes = |key: &str| units::bytes(console[key].as_u64().unwrap_or(0));
        let since = span("since_ms").unwrap_or_default();
        let at = console["host"].as_str().map(|host| format!(" at {}", printable(host))).unwrap_or_default();
        let idle =
            span("idle_ms").map_or("never printed".to_owned(), |idle| format!("last printed {idle} ago"));
        let lock = match (console["lock"]["mode"].as_str(), console["lock"]["by"].as_str()) {
            (Some(mode), by) => format!("{mode} lock of {}", by.unwrap_or("?")),
            (None, _) => "no lock".to_owned(),
        };
        let here = units::span(clock::now().duration_since(self.started));
        let mut lines = vec![format!("{}  {}  port {}", name_of(console), text("uuid"), console["port"])];
        // vSPC.py's protocol tells no more.
        if console["state"].is_string() {
            let (state, out, typed) = (text("state"), bytes("out"), bytes("in"));
            lines.push(format!("  VM: {state} for {since}{at}, {idle}, out {out}, in {typed}"));
            lines.push(format!("  clients: {}, {}", console["clients"], printable(&lock)));
        }
        lines.push(format!(
            "  you: {} ({}), here for {here}, shown {}, typed {}",
            if self.access == "read" { "may watch" } else { "may type" },
            printable(self.mode.as_str().unwrap_or("?")),
            units::bytes(self.counts.0),
            units::bytes(self.counts.1)
        ));
        if let Line::Up(connection, _) = &self.line {
            let greeting = connection.greeting();
            let word = |key: &str| greeting[key].as_str().map(printable);
            let mut line = format!("  server: {}", self.server);
            if let Some(server) = word("server") {
                line.push_str(&format!(" ({server})"));
            }
            if let (Some(rights), Some(name)) = (word("rights"), word("as")) {
                line.push_str(&format!(", {rights} as {name}"));
            }
            lines.push(line);
        }
        if let Some(record) = &self.record {
            let bytes = units::bytes(record.bytes);
            lines.push(format!("  recording to {}: {bytes}", printable(&record.path.to_string_lossy())));
        }
        lines
    }

    fn ask(&mut self, about: About, question: &str) {
        if !self.view.is_at_line_start() {
            self.screen.prompt("\r\n");
        }
        self.screen.prompt(&format!("vspc: {question}"));
        self.view.line_ended();
        self.prompt = Some(Prompt { about, typed: Vec::new() });
    }

    /// What is typed is for the question. `false`: the user had enough.
    pub(super) fn answer_prompt(&mut self, input: &mut &[u8]) -> Result<bool, Failure> {
        let Some(mut prompt) = self.prompt.take() else { return Ok(true) };
        while let Some((&key, rest)) = input.split_first() {
            *input = rest;
            match (key, &prompt.about) {
                // Ctrl-C, Esc, or the escape character: no answer.
                (0x03 | 0x1b, _) => return Ok(self.close_prompt()),
                (key, _) if Some(key) == self.keys.escape().0 => return Ok(self.close_prompt()),
                (b'y' | b'Y', About::Bump) => {
                    self.screen.prompt("y\r\n");
                    self.request(Question::Bump);
                    return Ok(true);
                }
                (_, About::Bump) => return Ok(self.close_prompt()),
                (b'\r' | b'\n', About::Record) => {
                    self.screen.prompt("\r\n");
                    self.start_record(&String::from_utf8_lossy(&prompt.typed));
                    return Ok(true);
                }
                (0x7f | 0x08, About::Record) => {
                    // A character of several bytes goes as a whole.
                    while prompt.typed.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
                    self.screen.prompt("\x08 \x08");
                }
                (0x15, About::Record) => {
                    prompt.typed.clear();
                    self.screen.prompt("\r\x1b[Kvspc: record to which file? ");
                }
                (0..0x20, About::Record) => {}
                (key, About::Record) => {
                    prompt.typed.push(key);
                    if let Ok(text) = std::str::from_utf8(&prompt.typed)
                        && let Some(last) = text.chars().next_back()
                    {
                        self.screen.prompt(last.encode_utf8(&mut [0; 4]));
                    }
                }
            }
        }
        self.prompt = Some(prompt);
        Ok(true)
    }

    fn close_prompt(&mut self) -> bool {
        self.screen.prompt("\r\n");
        self.say("left as it is");
        true
    }

    fn start_record(&mut self, path: &str) {
        let path = path.trim();
        if path.is_empty() {
            return self.say("left as it is");
        }
        match Record::start(Path::new(path)) {
            Ok(record) => {
                self.record = Some(record);
                self.say(&format!("recording to {path}"));
            }
            Err(error) => self.say(&format!("{path}: {error}")),
        }
    }

    /// Shows the history in the user's pager. The console waits meanwhile.
    fn page(&mut self, signals: &mut Signals) -> Result<(), Failure> {
        self.screen.finish().map_err(|error| Failure::output(&error))?;
        let history = self.screen.history();
        self.leave();
        let pager = std::env::var("PAGER").ok().filter(|pager| !pager.trim().is_empty());
        let mut command = Command::new("sh");
        command.arg("-c").arg(pager.as_deref().unwrap_or("less")).stdin(Stdio::piped());
        if std::env::var_os("LESS").is_none() {
            command.env("LESS", "-R");
        }
        let outcome = command.spawn().and_then(|mut child| {
            if let Some(mut input) = child.stdin.take() {
                // A pager that is left early reads no further.
                let _ = input.write_all(&history);
            }
            wait_for(&child)
        });
        // Ctrl-C was the pager's.
        let is_ours = |asked: &Asked| matches!(asked, Asked::End(_)) && !asked.is_key();
        let ended = signals.pending().into_iter().find(is_ours);
        self.enter().map_err(|error| Failure::error(format!("cannot set the terminal: {error}")))?;
        if let Err(error) = outcome {
            self.say(&format!("cannot start the pager: {error}"));
        }
        if let Some(Asked::End(signal)) = ended {
            self.leave();
            signals::end_by(signal);
        }
        self.say("back at the console");
        Ok(())
    }
}

/// Waits for the end of the pager. When it is stopped, so is this program: a shell that started both as one
/// job waits for that.
fn wait_for(pager: &Child) -> io::Result<()> {
    let pid = Pid::from_child(pager);
    loop {
        match waitpid(Some(pid), WaitOptions::UNTRACED) {
            Ok(Some((_, status))) if status.stopped() => signals::stop(),
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// What is asked for where the user asks for nothing (operator.md §6).
const FALLBACK: &str = "free-for-all-fallback";
