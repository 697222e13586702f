//! Programs of this machine that set facts and ask for the host's: one line each way on a unix socket.
//!
//! Owns the socket in the agent ([`Desk`]), and the commands that talk to it. Refuses to know facts.

use std::fs::Permissions;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::PollFlags;
use serde_json::{Value, json};
use vspc_core::time::Instant;
use vspc_guest::{Code, LineBuffer, MAX_FACT_LINE, Refusal, answer};

use super::FactTask;
use crate::connection::forget;
use crate::fatal::Fatal;
use crate::task::Interest;

/// The socket, and who is at it.
#[derive(Debug)]
pub(crate) struct Desk {
    path: PathBuf,
    listener: UnixListener,
    visitors: Vec<Visitor>,
}

#[derive(Debug)]
struct Visitor {
    socket: UnixStream,
    line: LineBuffer,
    answer: Vec<u8>,
    until: Instant,
}

impl Desk {
    /// For the agent's own user.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        forget(path)?;
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(Self { path: path.to_owned(), listener, visitors: Vec::new() })
    }

    /// What to wait for.
    pub(crate) fn interest<'a>(&'a self, into: &mut Interest<'a>) {
        if self.visitors.len() < VISITORS {
            into.push((self.listener.as_fd(), PollFlags::IN));
        }
        let wants = |visitor: &'a Visitor| -> (BorrowedFd<'a>, PollFlags) {
            let flags = if visitor.answer.is_empty() { PollFlags::IN } else { PollFlags::OUT };
            (visitor.socket.as_fd(), flags)
        };
        into.extend(self.visitors.iter().map(wants));
    }

    /// When [`Desk::step`] is to be called at the latest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.visitors.iter().map(|visitor| visitor.until).min()
    }

    /// Lets people in, and answers them.
    pub(crate) fn step(&mut self, facts: &mut FactTask, now: Instant) {
        while self.visitors.len() < VISITORS {
            let Ok((socket, _)) = self.listener.accept() else { break };
            if socket.set_nonblocking(true).is_ok() {
                let line = LineBuffer::new(MAX_FACT_LINE);
                self.visitors.push(Visitor { socket, line, answer: Vec::new(), until: now + PATIENCE });
            }
        }
        self.visitors.retain_mut(|visitor| visitor.until > now && visitor.step(facts));
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Visitor {
    /// Whether it stays.
    fn step(&mut self, facts: &mut FactTask) -> bool {
        let mut bytes = [0; 4096];
        while self.answer.is_empty() {
            match self.socket.read(&mut bytes) {
                Ok(0) => return false,
                Ok(n) => {
                    self.line.take(&bytes[..n]);
                    if let Some(line) = self.line.line() {
                        let said = line.and_then(|line| serve(line, facts));
                        self.answer = match said {
                            Ok(holds) => answer::ok(&holds),
                            Err(refusal) => refusal.line(),
                        };
                    }
                }
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
        match self.socket.write(&self.answer) {
            Ok(n) => {
                self.answer.drain(..n);
                !self.answer.is_empty()
            }
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        }
    }
}

fn serve(line: &[u8], facts: &mut FactTask) -> Result<Value, Refusal> {
    let bad = || Refusal::new(Code::BAD_LINE, "set and to, unset, get or list");
    let asked: Value = serde_json::from_slice(line).map_err(|_| bad())?;
    let text = |name: &str| asked.get(name).and_then(Value::as_str);
    if let (Some(key), Some(value)) = (text("set"), text("to")) {
        facts.set(key, value)?;
        Ok(json!({}))
    } else if let Some(key) = text("unset") {
        facts.unset(key);
        Ok(json!({}))
    } else if let Some(key) = text("get") {
        Ok(json!({ "value": facts.host().get(key) }))
    } else if asked.get("list").is_some() {
        Ok(json!({ "facts": facts.host().iter().collect::<std::collections::BTreeMap<_, _>>() }))
    } else {
        Err(bad())
    }
}

/// Asks the agent that runs.
fn ask(socket: &Path, question: &Value) -> Result<Value, Fatal> {
    let fault = |error: io::Error| Fatal::Refused(format!("{}: {error}", socket.display()));
    let mut stream = UnixStream::connect(socket).map_err(fault)?;
    stream.write_all(format!("{question}\n").as_bytes()).map_err(fault)?;
    let mut line = Vec::new();
    BufReader::new(stream).read_until(b'\n', &mut line).map_err(fault)?;
    answer::parse(&line).map_err(|refusal| Fatal::Refused(refusal.message))
}

/// `publish`: tells the host facts of this machine.
pub(crate) fn publish(socket: &Path, facts: &[String]) -> Result<(), Fatal> {
    for fact in facts {
        let split = fact.split_once('=');
        let (key, value) = split.ok_or_else(|| Fatal::Options(format!("{fact:?} is not KEY=VALUE")))?;
        ask(socket, &json!({ "set": key, "to": value }))?;
    }
    Ok(())
}

/// `unpublish`: takes them back.
pub(crate) fn unpublish(socket: &Path, keys: &[String]) -> Result<(), Fatal> {
    keys.iter().try_for_each(|key| ask(socket, &json!({ "unset": key })).map(drop))
}

/// `get`: prints what the host has told.
pub(crate) fn get(socket: &Path, key: Option<&str>) -> Result<(), Fatal> {
    let mut out = io::stdout().lock();
    let told = |error| Fatal::System("write the output", error);
    let Some(key) = key else {
        let answer = ask(socket, &json!({ "list": true }))?;
        for (key, value) in answer["facts"].as_object().into_iter().flatten() {
            writeln!(out, "{key}={}", value.as_str().unwrap_or_default()).map_err(told)?;
        }
        return Ok(());
    };
    let answer = ask(socket, &json!({ "get": key }))?;
    let value = answer["value"].as_str();
    let value = value.ok_or_else(|| Fatal::Refused(format!("the host has told nothing of {key:?}")))?;
    writeln!(out, "{value}").map_err(told)
}

/// People at the socket at a time; others wait.
const VISITORS: usize = 16;
/// What one of them has for a question and its answer.
const PATIENCE: Duration = Duration::from_secs(5);
