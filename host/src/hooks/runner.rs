//! The thread that runs commands for events: so many at once, each for so long.
//!
//! **Owns** which events wait, which commands run and when each is killed, and what is said of those that
//! fail. Commands about one console run one after the other, in the order of its events; those about others
//! do not wait for them. What waits here takes up the queue's room: when commands take too long, the loop
//! finds the queue full, and drops and counts. **Refuses to know** what an event means.
//!
//! ```text
//! Inbox ─ Told ─▶ waiting ── a place is free, none runs for that console ─▶ running ── ended, or killed
//! ```

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use vspc_core::concentrator::ConsoleId;

use crate::outlets::{Entry, Inbox, Message, Standings, Tally, Told, entries, variables};

use super::command::{self, Running};
use super::options::Settings;

/// The thread's state.
pub(super) struct Runner {
    settings: Settings,
    inbox: Inbox,
    standings: Standings,
    waiting: VecDeque<Job>,
    /// By process id.
    running: HashMap<u32, Started>,
    /// Consoles for which a command runs.
    busy: HashSet<ConsoleId>,
    troubles: Tally,
    dropped: Tally,
    /// Once the server has gone: until when commands may run.
    end_at: Option<Instant>,
}

/// A command that is to be run.
struct Job {
    entry: Entry,
    /// With this one all that came in one message has been started.
    is_last: bool,
}

/// A command that runs.
struct Started {
    running: Running,
    entry: Entry,
    kill_at: Option<Instant>,
}

impl Runner {
    pub(super) fn new(settings: Settings, inbox: Inbox) -> Self {
        Self {
            settings,
            inbox,
            standings: Standings::default(),
            waiting: VecDeque::new(),
            running: HashMap::new(),
            busy: HashSet::new(),
            troubles: Tally::default(),
            dropped: Tally::default(),
            end_at: None,
        }
    }

    /// Runs until the loop has ended and the commands with it. For so long after that a command may run that
    /// has been started or waits.
    pub(super) fn run(mut self, patience: Duration) {
        loop {
            self.start_what_may();
            let now = Instant::now();
            self.kill_overdue(now);
            self.report(now);
            let is_idle = self.waiting.is_empty() && self.running.is_empty();
            if self.end_at.is_some_and(|at| is_idle || at <= now) {
                return self.stop();
            }
            match self.inbox.next(self.deadline()) {
                Some(Message::Told(told)) => self.take(told),
                Some(Message::Ended(pid)) => self.reap(pid),
                Some(Message::Close) => self.end_at = Some(Instant::now() + patience),
                Some(Message::Reopen) | None => {}
            }
        }
    }

    fn take(&mut self, told: Told) {
        let kinds = &self.settings.kinds;
        let mut entries = entries(told, &mut self.standings);
        entries.retain(|entry| entry.kind.is_some_and(|kind| kinds.is_empty() || kinds.contains(&kind)));
        if entries.is_empty() {
            return self.inbox.free();
        }
        let last = entries.len() - 1;
        let jobs = entries.into_iter().enumerate();
        self.waiting.extend(jobs.map(|(n, entry)| Job { entry, is_last: n == last }));
    }

    /// Starts commands while there are places. Costs a look at each that waits.
    fn start_what_may(&mut self) {
        let mut nth = 0;
        while self.running.len() < self.settings.jobs && nth < self.waiting.len() {
            if self.waiting[nth].entry.console.is_some_and(|console| self.busy.contains(&console)) {
                nth += 1;
                continue;
            }
            let Some(Job { entry, is_last }) = self.waiting.remove(nth) else { return };
            if is_last {
                self.inbox.free();
            }
            self.start(entry);
        }
    }

    fn start(&mut self, entry: Entry) {
        let started = command::start(&self.settings.program, variables(&entry), &entry.line);
        let watched = started.and_then(|running| {
            let (sender, id) = (self.inbox.sender(), running.id());
            // Fails when this thread has ended, with the process.
            match running.watch(move || drop(sender.send(Message::Ended(id)))) {
                Ok(()) => Ok(running),
                Err(error) => {
                    running.end()?;
                    Err(error)
                }
            }
        });
        match watched {
            Ok(running) => {
                self.busy.extend(entry.console);
                let kill_at = Some(Instant::now() + self.settings.timeout);
                self.running.insert(running.id(), Started { running, entry, kill_at });
            }
            Err(error) => self.complain(&entry, &Trouble::NotStarted(error)),
        }
    }

    fn reap(&mut self, pid: u32) {
        let Some(Started { running, entry, kill_at }) = self.running.remove(&pid) else { return };
        if let Some(console) = entry.console {
            self.busy.remove(&console);
        }
        match running.end() {
            _ if kill_at.is_none() => {}
            Ok(status) if status.success() => {}
            Ok(status) => self.complain(&entry, &Trouble::Failed(status.to_string())),
            Err(error) => self.complain(&entry, &Trouble::Failed(error.to_string())),
        }
    }

    fn kill_overdue(&mut self, now: Instant) {
        let mut killed = Vec::new();
        for started in self.running.values_mut() {
            if started.kill_at.is_some_and(|at| at <= now) {
                started.kill_at = None;
                started.running.kill();
                killed.push(started.entry.clone());
            }
        }
        for entry in killed {
            self.complain(&entry, &Trouble::Killed(self.settings.timeout));
        }
    }

    fn complain(&mut self, entry: &Entry, trouble: &Trouble) {
        if self.troubles.note(Instant::now()) {
            let kind = entry.kind.map_or("", |kind| kind.word());
            log::warn!("--on-event {}, for {kind}: {trouble}", self.settings.program.display());
        }
    }

    fn report(&mut self, now: Instant) {
        self.dropped.gather(self.inbox.take_dropped(), now);
        let program = self.settings.program.display();
        if let Some(count) = self.troubles.take(now) {
            log::warn!("--on-event {program}: {count} more times it failed, was killed or did not start");
        }
        if let Some(count) = self.dropped.take(now) {
            log::warn!(
                "--on-event {program}: it was not run for {count} events: {} run and {} wait",
                self.running.len(),
                self.waiting.len()
            );
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let kills = self.running.values().filter_map(|started| started.kill_at);
        let reports = [self.troubles.due(), self.dropped.due(), self.end_at];
        kills.chain(reports.into_iter().flatten()).min()
    }

    /// The server has gone, and its time is over.
    fn stop(mut self) {
        let killed = self.running.len();
        self.running.values().for_each(|started| started.running.kill());
        for started in self.running.into_values() {
            // A process that was killed ends at once, unless a disk hangs; nobody waits for that for long.
            let _ = started.running.end();
        }
        let waiting = self.waiting.len() as u64;
        let dropped = waiting + self.inbox.take_dropped() + self.dropped.take_all().unwrap_or_default();
        if killed > 0 || dropped > 0 {
            log::warn!(
                "--on-event {}: {killed} were killed at the end, and it was not run for {dropped} events",
                self.settings.program.display()
            );
        }
    }
}

/// What is wrong with a command.
enum Trouble {
    NotStarted(io::Error),
    Failed(String),
    Killed(Duration),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotStarted(error) => write!(f, "it cannot be run: {error}"),
            Self::Failed(how) => write!(f, "it has failed: {how}"),
            Self::Killed(after) => write!(f, "killed: it did not end within {} seconds", after.as_secs()),
        }
    }
}
