//! Processes in the guest and commands to it, each with the streams that the concentrator has opened for it.
//!
//! Owns which stream is whose, and which answer of the guest's is to what. Refuses to know the lines.
//!
//! `tasks/beginning.rs` has what comes before a process runs.

mod beginning;

use std::collections::BTreeMap;
use std::time::Duration;

use vspc_guest::{Code as Word, LineBuffer, MAX_LINE, Refusal, answer};

use super::command::{Api, Command, Finished, HUP, KILL, NO_CONTAINER, ProcessName};
use super::control::{Control, Ticket};
use super::header::Header;
use super::task::{Phase, Sides, Task, end_with};
use crate::mux::{Session, StreamId};
use crate::time::Instant;

use beginning::next_line;

/// All of one guest.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    /// What the concentrator's streams are.
    roles: BTreeMap<StreamId, Role>,
    tasks: BTreeMap<u64, Task>,
    next: u64,
    /// What was asked of the guest, and for whom.
    asked: BTreeMap<Ticket, For>,
    /// Containers that were made here and run, the oldest first.
    containers: Vec<Box<str>>,
}

/// The ends that tasks are between.
pub(super) struct Ends<'a> {
    pub(super) api: Api,
    pub(super) control: &'a mut Control,
    /// The channel of streams.
    pub(super) guest: &'a mut Session,
    /// Towards the concentrator.
    pub(super) agent: &'a mut Session,
    pub(super) now: Instant,
}

impl Ends<'_> {
    fn sides(&mut self) -> Sides<'_> {
        Sides { guest: self.guest, agent: self.agent, now: self.now }
    }
}

/// What a stream of the concentrator's is.
#[derive(Debug)]
enum Role {
    /// What it is comes in its first line.
    Unread(LineBuffer),
    /// What describes it, behind the line.
    Body(Header, Vec<u8>),
    /// One of a task's.
    Of(u64),
    /// A command was said on it, and is not answered.
    Command,
    /// It was answered, or is over.
    Over,
}

/// Whom an answer is for.
#[derive(Debug)]
enum For {
    Start(u64),
    Command(StreamId),
    /// Who has said something on a `control`.
    Control(StreamId),
    Nobody,
}

impl Tasks {
    /// The concentrator has opened a stream.
    pub(super) fn handle_opened(&mut self, id: StreamId) {
        self.roles.insert(id, Role::Unread(LineBuffer::new(MAX_LINE)));
    }

    /// There is something to read on a stream of the concentrator's.
    pub(super) fn handle_agent_readable(&mut self, id: StreamId, ends: &mut Ends<'_>) {
        match self.roles.get_mut(&id) {
            Some(Role::Unread(line)) => {
                let Some(line) = next_line(ends.agent, id, line) else { return };
                match line.and_then(|line| Header::parse(&line)) {
                    Ok(header) => self.begin(id, header, ends),
                    Err(refusal) => self.refuse(id, &refusal, ends),
                }
            }
            Some(Role::Body(..)) => self.read_body(id, ends),
            Some(&mut Role::Of(task)) => self.hear(task, id, ends),
            Some(Role::Command | Role::Over) => {
                let _ = ends.agent.stop_reading(id);
            }
            None => {}
        }
    }

    /// A stream of the concentrator's takes bytes again.
    pub(super) fn handle_agent_writable(&mut self, id: StreamId, ends: &mut Ends<'_>) {
        if let Some(&Role::Of(task)) = self.roles.get(&id) {
            self.pour(task, ends);
        }
    }

    /// A stream of the concentrator's is gone; `in_order`: both have said all.
    pub(super) fn handle_gone(&mut self, id: StreamId, in_order: bool, ends: &mut Ends<'_>) {
        let Some(Role::Of(number)) = self.roles.remove(&id) else { return };
        let Some(task) = self.tasks.get_mut(&number) else { return };
        let was_main = task.main == Some(id);
        for own in [&mut task.main, &mut task.err, &mut task.control] {
            if *own == Some(id) {
                *own = None;
            }
        }
        let is_over = match task.phase {
            Phase::Gathering { .. } => task.is_nobodys(),
            // Nobody is there to be told its status.
            Phase::Running => task.is_nobodys() && task.is_silent && !task.is_init && task.kill_at.is_none(),
            Phase::Asked => false,
        };
        if is_over {
            return self.forget(number, ends);
        }
        if in_order {
            return;
        }
        if was_main {
            self.abandon(number, ends);
        } else {
            self.pour(number, ends);
        }
    }

    /// A stream in the guest has something to read, or its end.
    pub(super) fn handle_guest_readable(&mut self, id: StreamId, ends: &mut Ends<'_>) {
        if let Some(task) = self.tasks.values_mut().find(|task| task.asks_on(id)) {
            task.was_read(&mut ends.sides());
        } else if let Some(number) = self.number_of(id) {
            self.pour(number, ends);
        }
    }

    /// A stream in the guest takes bytes again.
    pub(super) fn handle_guest_writable(&mut self, id: StreamId, ends: &mut Ends<'_>) {
        if let Some(task) = self.number_of(id).and_then(|number| self.tasks.get_mut(&number)) {
            task.feed(&mut ends.sides());
        }
    }

    /// A process has ended, as its stream says.
    pub(super) fn handle_guest_exited(&mut self, id: StreamId, status: u8, ends: &mut Ends<'_>) {
        if let Some(number) = self.number_of(id) {
            self.end(number, status, ends);
        }
    }

    /// A process has ended, as the guest says.
    pub(super) fn handle_finished(&mut self, finished: &Finished, ends: &mut Ends<'_>) {
        let found = self.tasks.iter().find(|(_, task)| task.name == finished.name && !task.has_ended);
        if let Some((&number, _)) = found {
            self.end(number, finished.status, ends);
        }
    }

    /// The guest has answered.
    pub(super) fn handle_answer(&mut self, ticket: Ticket, is_done: bool, words: &str, ends: &mut Ends<'_>) {
        let failed = || {
            let why = if words.is_empty() { "the guest did not do it" } else { words };
            Refusal::new(Word::FAILED, why)
        };
        match self.asked.remove(&ticket) {
            None | Some(For::Nobody) => {}
            Some(For::Command(id)) => {
                let line = if is_done { answer::ok(&answer::Done {}) } else { failed().line() };
                end_with(id, &line, ends.agent);
                // It may be gone.
                if let Some(role) = self.roles.get_mut(&id) {
                    *role = Role::Over;
                }
            }
            Some(For::Control(id)) if !is_done => {
                let _ = ends.agent.write(id, &failed().line());
            }
            Some(For::Control(_)) => {}
            Some(For::Start(number)) if is_done => self.started(number, ends),
            Some(For::Start(number)) => self.give_up(number, &failed(), ends),
        }
    }

    /// A deadline may have passed.
    pub(super) fn handle_timeout(&mut self, ends: &mut Ends<'_>) {
        let now = ends.now;
        let late = self
            .tasks
            .iter()
            .filter(|(_, task)| matches!(task.phase, Phase::Gathering { until, .. } if until <= now));
        for number in late.map(|(&number, _)| number).collect::<Vec<_>>() {
            let refusal = Refusal::new(Word::NO_SUCH_KEY, "not all of its streams came");
            self.give_up(number, &refusal, ends);
        }
        self.tasks.values_mut().for_each(|task| task.ask_again(&mut ends.sides()));
        let due = self.tasks.iter().filter(|(_, task)| task.kill_at.is_some_and(|at| at <= now));
        for number in due.map(|(&number, _)| number).collect::<Vec<_>>() {
            self.kill(number, ends);
        }
    }

    /// When [`Self::handle_timeout`] is to be called at the latest.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let due = |task: &Task| match task.phase {
            Phase::Gathering { until, .. } => [Some(until), None],
            _ => [task.kill_at, task.asks_again_at()],
        };
        self.tasks.values().flat_map(due).flatten().min()
    }

    /// For so long those that do not read have kept all others waiting.
    pub(super) fn count_blocked(&mut self, guest: &Session, time: Duration) {
        self.tasks.values_mut().for_each(|task| task.count_blocked(guest, time));
    }

    /// How long until one of those has done so for as long as it may.
    pub(super) fn patience(&self, guest: &Session) -> Option<Duration> {
        self.tasks.values().filter_map(|task| task.patience(guest)).min()
    }

    /// Abandons the processes whose readers have kept all others waiting for as long as they may.
    pub(super) fn drop_stalled(&mut self, ends: &mut Ends<'_>) {
        let is_stalled = |task: &Task| task.patience(ends.guest).is_some_and(|left| left.is_zero());
        let stalled = self.tasks.iter().filter(|(_, task)| is_stalled(task));
        for number in stalled.map(|(&number, _)| number).collect::<Vec<_>>() {
            if let Some(task) = self.tasks.get(&number) {
                for id in task.streams() {
                    let _ = ends.agent.reset(id);
                    self.roles.insert(id, Role::Over);
                }
            }
            self.abandon(number, ends);
        }
    }

    /// Bytes of heap held.
    pub(super) fn memory(&self) -> usize {
        let bodies = self.roles.values().map(|role| match role {
            Role::Body(_, body) => body.capacity(),
            _ => 0,
        });
        bodies.chain(self.tasks.values().map(Task::memory)).sum::<usize>()
            + self.roles.len() * size_of::<(StreamId, Role)>()
            + self.asked.len() * size_of::<(Ticket, For)>()
    }

    /// All of it is over, and what still comes on its streams is nobody's. Returns what may go on running in
    /// the guest and can be killed.
    pub(super) fn end_all(&mut self, guest: &mut Session) -> Vec<(ProcessName, bool)> {
        let mut tasks = std::mem::take(&mut self.tasks);
        self.roles.clear();
        self.asked.clear();
        self.containers.clear();
        tasks.retain(|_, task| !matches!(task.phase, Phase::Gathering { .. }));
        tasks.values_mut().for_each(|task| task.forget_streams(guest));
        let runs = |task: &Task| !task.has_ended && can_be_signalled(&task.name);
        tasks.into_values().filter(runs).map(|task| (task.name, task.is_init)).collect()
    }

    /// Sends a signal, and does not care what comes of it. Fails where it is to be tried again.
    fn signal(
        &mut self,
        to: &ProcessName,
        signal: u8,
        is_init: bool,
        ends: &mut Ends<'_>,
    ) -> Result<(), Refusal> {
        let command = Command::signal(to, signal, is_init, ends.api).filter(|_| can_be_signalled(to));
        command.map_or(Ok(()), |command| self.ask(command, For::Nobody, ends))
    }

    /// Who a process was for has gone long ago: it is killed where that can be done, and is nobody's.
    fn kill(&mut self, number: u64, ends: &mut Ends<'_>) {
        let Some(task) = self.tasks.get(&number) else { return };
        let (name, is_init) = (task.name.clone(), task.is_init);
        if self.signal(&name, KILL, is_init, ends).is_ok() {
            self.containers.retain(|container| !is_init || *container != name.container);
            self.forget(number, ends);
        } else if let Some(task) = self.tasks.get_mut(&number) {
            task.kill_at = Some(ends.now + KILL_AFTER);
        }
    }

    fn ask(&mut self, command: Command, of: For, ends: &mut Ends<'_>) -> Result<(), Refusal> {
        let too_many = |_| Refusal::new(Word::TOO_MANY, "as many commands wait for the guest as may");
        let ticket = ends.control.ask(command).map_err(too_many)?;
        self.asked.insert(ticket, of);
        Ok(())
    }

    fn number_of(&self, id: StreamId) -> Option<u64> {
        let is_its = |task: &Task| task.stdio == id || task.stderr == Some(id);
        self.tasks.iter().find(|(_, task)| is_its(task)).map(|(&number, _)| number)
    }

    fn refuse(&mut self, id: StreamId, refusal: &Refusal, ends: &mut Ends<'_>) {
        end_with(id, &refusal.line(), ends.agent);
        self.roles.insert(id, Role::Over);
    }

    /// It does not run, for this reason.
    fn give_up(&mut self, number: u64, refusal: &Refusal, ends: &mut Ends<'_>) {
        let Some(mut task) = self.tasks.remove(&number) else { return };
        for id in task.streams() {
            self.roles.insert(id, Role::Over);
        }
        task.refuse(refusal, &mut ends.sides());
    }

    /// One of a process' streams says something.
    fn hear(&mut self, number: u64, id: StreamId, ends: &mut Ends<'_>) {
        let Some(task) = self.tasks.get_mut(&number) else { return };
        if task.main == Some(id) {
            return task.feed(&mut ends.sides());
        }
        if task.control != Some(id) {
            let _ = ends.agent.stop_reading(id);
            return;
        }
        while let Some(task) = self.tasks.get_mut(&number)
            && let Some(said) = task.next_command(ends.agent, ends.api)
        {
            if let Err(refusal) = said.and_then(|command| self.ask(command, For::Control(id), ends)) {
                let _ = ends.agent.write(id, &refusal.line());
            }
        }
    }

    fn pour(&mut self, number: u64, ends: &mut Ends<'_>) {
        let Some(task) = self.tasks.get_mut(&number) else { return };
        task.pour(&mut ends.sides());
        self.forget_if_over(number, ends);
    }

    fn end(&mut self, number: u64, status: u8, ends: &mut Ends<'_>) {
        let Some(task) = self.tasks.get_mut(&number) else { return };
        if matches!(task.phase, Phase::Asked) {
            // Its streams are to hear first that it runs.
            task.early = Some(status);
            return;
        }
        task.kill_at = None;
        task.ended(status, &mut ends.sides());
        if task.is_init {
            let container = &task.name.container;
            self.containers.retain(|other| other != container);
        }
        self.pour(number, ends);
    }

    fn forget_if_over(&mut self, number: u64, ends: &mut Ends<'_>) {
        if self.tasks.get(&number).is_some_and(|task| task.has_ended && task.is_silent) {
            self.forget(number, ends);
        }
    }

    fn forget(&mut self, number: u64, ends: &mut Ends<'_>) {
        let Some(mut task) = self.tasks.remove(&number) else { return };
        for id in task.streams() {
            self.roles.insert(id, Role::Over);
        }
        task.forget_streams(ends.guest);
    }

    /// Who a process was for has gone: it is hung up.
    fn abandon(&mut self, number: u64, ends: &mut Ends<'_>) {
        let Some(task) = self.tasks.get_mut(&number) else { return };
        for id in task.streams() {
            let _ = ends.agent.finish(id);
            self.roles.insert(id, Role::Over);
        }
        match task.phase {
            Phase::Gathering { .. } => drop(self.tasks.remove(&number)),
            // It is hung up once it runs.
            Phase::Asked => {
                (task.main, task.err, task.control) = (None, None, None);
                for id in [Some(task.stdio), task.stderr].into_iter().flatten() {
                    let _ = ends.guest.stop_reading(id);
                }
            }
            Phase::Running => {
                task.abandon(&mut ends.sides());
                task.kill_at = Some(ends.now + KILL_AFTER);
                let (name, is_init, has_ended) = (task.name.clone(), task.is_init, task.has_ended);
                if has_ended {
                    self.forget(number, ends);
                } else {
                    // What is not hung up is killed later.
                    let _ = self.signal(&name, HUP, is_init, ends);
                }
            }
        }
    }
}

/// A guest does not find those beside its init (hyperstart.md §5).
fn can_be_signalled(name: &ProcessName) -> bool {
    &*name.container != NO_CONTAINER
}

/// How long a process that was hung up has before it is killed (APPLICATION §3).
const KILL_AFTER: Duration = Duration::from_secs(10);
