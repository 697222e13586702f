//! How a process begins: the header of each of its streams, what describes it, and that all of them are there
//! before the guest is asked to start it. Commands are read here too: they begin the same way.

use std::time::Duration;

use serde::Deserialize;
use vspc_guest::{Belongs, Code as Word, Exec, Key, LineBuffer, Refusal, Shell, Welcome, answer};

use super::super::command::{Api, Command, NO_CONTAINER, Process};
use super::super::header::{Header, MAY, check_command};
use super::super::task::{INIT, Phase, Plan, Task, What, end_with};
use super::{Ends, For, Role, Tasks};
use crate::mux::{Received, Session, StreamId};

impl Tasks {
    /// The header of a stream has come.
    pub(super) fn begin(&mut self, id: StreamId, header: Header, ends: &mut Ends<'_>) {
        match header {
            Header::Hello(hello) => {
                // Nobody proves anything: hyperstart knows no keys.
                let line = match Welcome::new(&hello, None, [0; 32]) {
                    Ok(welcome) => welcome.line(&program(ends.api), &MAY, &[]).0,
                    Err(refusal) => refusal.line(),
                };
                end_with(id, &line, ends.agent);
                self.roles.insert(id, Role::Over);
            }
            Header::Exec(exec, container) => {
                let plan = self.plan_exec(exec, container);
                self.join(id, Part::Main(plan.1), &plan.0, ends);
            }
            Header::Shell(Shell { key, pty, with }, container) => {
                let exec = Exec { argv: vec![SHELL.to_owned()], pty: Some(pty), with, ..Exec::new(key) };
                let plan = self.plan_exec(exec, container);
                self.join(id, Part::Main(plan.1), &plan.0, ends);
            }
            Header::Part(Belongs::Err, key) => self.join(id, Part::Err, &key, ends),
            Header::Part(Belongs::Control, key) => self.join(id, Part::Control, &key, ends),
            Header::Container { .. } | Header::Command { .. } => {
                self.roles.insert(id, Role::Body(header, Vec::new()));
                self.read_body(id, ends);
            }
        }
    }

    fn plan_exec(&self, exec: Exec, container: Option<String>) -> (Key, Plan) {
        let container = container.map_or_else(
            || self.containers.first().cloned().unwrap_or_else(|| NO_CONTAINER.into()),
            String::into_boxed_str,
        );
        let mut env = exec.env;
        if let Some(term) = exec.pty.as_ref().and_then(|pty| pty.term.clone()) {
            env.entry("TERM".to_owned()).or_insert(term);
        }
        let terminal = exec.pty.is_some();
        let process = Process { args: exec.argv, env, workdir: exec.cwd, terminal, ..Process::default() };
        (exec.key, Plan { what: What::Exec(container), process, with: exec.with, pty: exec.pty })
    }

    /// What describes a container, or what a command says, has come as far as it has.
    pub(super) fn read_body(&mut self, id: StreamId, ends: &mut Ends<'_>) {
        let Some(Role::Body(header, body)) = self.roles.get_mut(&id) else { return };
        let size = match header {
            Header::Container { size, .. } | Header::Command { size, .. } => *size,
            _ => 0,
        };
        while body.len() < size {
            match ends.agent.received(id) {
                Ok(Received::Bytes(bytes)) => {
                    let taken = bytes.len().min(size - body.len());
                    body.extend_from_slice(&bytes[..taken]);
                    let _ = ends.agent.consume(id, taken);
                }
                Ok(Received::End) => {
                    let refusal = Refusal::new(Word::CUT, "less came than was to come");
                    return self.refuse(id, &refusal, ends);
                }
                _ => return,
            }
        }
        let Some(Role::Body(header, body)) = self.roles.remove(&id) else { return };
        let outcome = match header {
            Header::Container { key, with, .. } => match plan_container(body, with) {
                Ok(plan) => {
                    self.join(id, Part::Main(plan), &key, ends);
                    Ok(())
                }
                Err(error) => Err(Refusal::new(Word::BAD_LINE, error.to_string())),
            },
            Header::Command { code, .. } => check_command(code, &body)
                .map_err(|why| Refusal::new(Word::BAD_LINE, why))
                .and_then(|()| self.ask(Command::new(code, body), For::Command(id), ends))
                .map(|()| drop(self.roles.insert(id, Role::Command))),
            _ => Ok(()),
        };
        if let Err(refusal) = outcome {
            self.refuse(id, &refusal, ends);
        }
    }

    /// A stream is one of a process'.
    pub(super) fn join(&mut self, id: StreamId, part: Part, key: &Key, ends: &mut Ends<'_>) {
        // One that was left has no key any more.
        let is_its = |task: &Task| task.key == *key && task.kill_at.is_none();
        let found = self.tasks.iter().find(|(_, task)| is_its(task)).map(|(&number, _)| number);
        // The others have streams in the guest, of which there are so many.
        let counts = |task: &&Task| task.is_init || !task.is_nobodys();
        if found.is_none() && self.tasks.values().filter(counts).count() >= MOST_TASKS {
            let refusal = Refusal::new(Word::TOO_MANY, "as many processes run in the guest as may");
            return self.refuse(id, &refusal, ends);
        }
        let number = found.unwrap_or_else(|| {
            self.next += 1;
            self.tasks.insert(self.next, Task::new(key.clone(), ends.now + GATHER_WITHIN));
            self.next
        });
        let Some(task) = self.tasks.get_mut(&number) else { return };
        let runs = matches!(task.phase, Phase::Running);
        let in_use = Refusal::new(Word::IN_USE, "there is such a stream already");
        let outcome = match (part, &mut task.phase) {
            (Part::Main(new), Phase::Gathering { plan, .. }) if task.main.is_none() => {
                let has_terminal = new.process.terminal;
                if has_terminal && (task.err.is_some() || new.with.contains(&Belongs::Err)) {
                    Err(Refusal::new(Word::BAD_LINE, "with a terminal there is no err"))
                } else {
                    *plan = Some(Box::new(new));
                    task.main = Some(id);
                    Ok(())
                }
            }
            (Part::Err, Phase::Gathering { plan, .. }) if task.err.is_none() => {
                if plan.as_ref().is_some_and(|plan| plan.process.terminal) {
                    Err(Refusal::new(Word::BAD_LINE, "with a terminal there is no err"))
                } else {
                    task.err = Some(id);
                    Ok(())
                }
            }
            (Part::Err, Phase::Asked | Phase::Running) if task.err.is_none() => {
                Err(Refusal::new(Word::NO_SUCH_KEY, "it has begun without"))
            }
            (Part::Control, _) if task.control.is_none() && !task.has_ended => {
                task.control = Some(id);
                Ok(())
            }
            _ => Err(in_use),
        };
        if let Err(refusal) = outcome {
            return self.refuse(id, &refusal, ends);
        }
        self.roles.insert(id, Role::Of(number));
        if runs {
            let _ = ends.agent.write(id, &answer::ok(&answer::Done {}));
            self.hear(number, id, ends);
        } else if task.is_complete() {
            self.start(number, ends);
        }
    }

    /// All of its streams are there.
    fn start(&mut self, number: u64, ends: &mut Ends<'_>) {
        let Some(task) = self.tasks.get_mut(&number) else { return };
        let api = ends.api;
        let command = task.begin(&mut ends.sides(), api);
        let outcome = command.and_then(|command| self.ask(command, For::Start(number), ends));
        if let Err(refusal) = outcome {
            self.give_up(number, &refusal, ends);
        }
    }

    pub(super) fn started(&mut self, number: u64, ends: &mut Ends<'_>) {
        let Some(task) = self.tasks.get_mut(&number) else { return };
        let size = task.started(&mut ends.sides());
        let (name, stdio, is_init) = (task.name.clone(), task.stdio.0, task.is_init);
        let (is_left, control, early) = (task.main.is_none(), task.control, task.early.take());
        if let Some(status) = early {
            // It has ended already.
            self.end(number, status, ends);
        } else if is_init {
            self.containers.push(name.container.clone());
        }
        if let Some(size) = size.filter(|_| early.is_none()) {
            let _ = self.ask(Command::size(&name, stdio, size, ends.api), For::Nobody, ends);
        }
        if is_left {
            return self.abandon(number, ends);
        }
        if let Some(task) = self.tasks.get_mut(&number) {
            task.feed(&mut ends.sides());
        }
        if let Some(control) = control {
            self.hear(number, control, ends);
        }
        self.pour(number, ends);
    }
}

/// Which of a process' streams one is.
pub(super) enum Part {
    Main(Plan),
    Err,
    Control,
}

/// What describes it is kept as it came: as a tree it would be tens of times as large.
fn plan_container(described: Vec<u8>, with: Vec<Belongs>) -> serde_json::Result<Plan> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Container {
        process: Own,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Own {
        terminal: bool,
    }
    let terminal = serde_json::from_slice::<Container>(&described)?.process.terminal;
    let process = Process { id: INIT.into(), terminal, ..Process::default() };
    Ok(Plan { what: What::Container(described.into()), process, with, pty: None })
}

/// What the guest says that it is.
fn program(api: Api) -> String {
    format!("hyperstart (API {})", api.number())
}

/// The next line of a stream, or why there is none; `None`: it has not come.
pub(super) fn next_line(
    agent: &mut Session,
    id: StreamId,
    buffer: &mut LineBuffer,
) -> Option<Result<Vec<u8>, Refusal>> {
    loop {
        match agent.received(id) {
            Ok(Received::Bytes(bytes)) => {
                let taken = buffer.take(bytes);
                let _ = agent.consume(id, taken);
                if let Some(line) = buffer.line() {
                    return Some(line.map(<[u8]>::to_vec));
                }
            }
            Ok(Received::End) => {
                return Some(Err(Refusal::new(Word::BAD_LINE, "the stream has no header")));
            }
            _ => return None,
        }
    }
}

/// What a shell is: the guest does not say which it has.
const SHELL: &str = "/bin/sh";
/// Processes at a time, and those that are not yet: as many streams as an operator may open, three for each.
const MOST_TASKS: usize = 64;
/// How long a process is waited with for its streams (APPLICATION §3).
const GATHER_WITHIN: Duration = Duration::from_secs(60);
