//! The loop: it waits for descriptors and times, and passes on what has happened.
//!
//! Owns the order of things in a turn, and which task has which stream. Refuses to know what tasks do.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd};

use ring::rand::{SecureRandom, SystemRandom};
use rustix::event::{PollFd, PollFlags, Timespec};
use vspc_core::mux::{Event, ResetReason, StreamId};
use vspc_core::time::Instant;
use vspc_guest::{Announcement, Key, Name};

use crate::announcing::Announcing;
use crate::carrier::{Carrier, Place, Turn};
use crate::config::{FACTS_NAME, Settings};
use crate::connection::Listener;
use crate::copy::Ends;
use crate::facts::FactTask;
use crate::facts::local::Desk;
use crate::fatal::Fatal;
use crate::follow::Log;
use crate::opening::{Opened, Opening};
use crate::process::Waiting;
use crate::signals::Signals;
use crate::task::{Ctx, Fate, Interest, Task};
use crate::wire::{Chance, Line, Wire};

/// The agent.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) settings: Settings,
    pub(crate) wire: Wire,
    carrier: Carrier,
    signals: Signals,
    random: SystemRandom,
    started: std::time::Instant,
    pub(crate) now: Instant,
    opening: Opening,
    pub(crate) waiting: Waiting,
    pub(crate) announcing: Announcing,
    pub(crate) things: Vec<Thing>,
    pub(crate) tasks: BTreeMap<u64, Task>,
    next_task: u64,
    /// Which task a stream belongs to.
    owners: BTreeMap<StreamId, u64>,
    awake: BTreeSet<u64>,
    scratch: Vec<u8>,
    pub(crate) listeners: Vec<Listener>,
    desk: Option<Desk>,
    pub(crate) ends: Ends,
}

/// What is announced, in the order of the announcements.
#[derive(Debug)]
pub(crate) enum Thing {
    /// A shell: its key, and its task while it is there.
    Shell(Key, Option<u64>),
    /// A log, or the facts.
    Task(u64),
}

/// Whose a descriptor is.
#[derive(Clone, Copy, Debug)]
enum Owner {
    Carrier,
    Signals,
    Task(u64),
    Listener(usize),
    Desk,
}

impl Agent {
    /// Ready to run.
    pub(crate) fn open(settings: Settings) -> Result<Self, Fatal> {
        let signals = Signals::open().map_err(|error| Fatal::System("wait for signals", error))?;
        let random = SystemRandom::new();
        let number = || -> Result<u64, Fatal> { Ok(u64::from_be_bytes(bytes(&random)?)) };
        let nonce = number()?.to_be_bytes();
        let nonces =
            [[0, 1, 2, 3], [4, 5, 6, 7]].map(|at: [usize; 4]| u32::from_be_bytes(at.map(|at| nonce[at])));
        let chance = Chance { nonces, seed: [number()?, number()?] };
        let mut things = Vec::new();
        let mut announcements = Vec::new();
        for name in settings.shell.iter().flat_map(|shell| &shell.announce) {
            let key = Key::random(bytes(&random)?);
            announcements.push(Announcement::Shell { name: name.clone(), key: key.clone() });
            things.push(Thing::Shell(key, None));
        }
        let mut tasks = BTreeMap::new();
        let facts = Task::Facts(Box::new(FactTask::new(settings.facts.clone())));
        let name = Name::new(FACTS_NAME).map_err(|refusal| Fatal::Refused(refusal.message))?;
        let logs = settings
            .logs
            .iter()
            .map(|log| (Announcement::Log { name: log.name.clone() }, Task::Log(Log::new(log.path.clone()))));
        let all = std::iter::once((Announcement::Facts { name }, facts)).chain(logs);
        for (number, (announcement, task)) in (FACTS..).zip(all) {
            announcements.push(announcement);
            things.push(Thing::Task(number));
            tasks.insert(number, task);
        }
        let next_task = tasks.len() as u64;
        let mut listeners = Vec::new();
        for (name, at) in &settings.listen {
            let fault = |why| Fatal::Options(format!("cannot listen on {at}: {why}"));
            listeners.push(Listener::open(name.clone(), at.clone()).map_err(fault)?);
        }
        let control = settings.control.as_deref();
        let desk = control.map(|path| {
            Desk::open(path).map_err(|error| Fatal::File { path: path.to_owned(), why: error.to_string() })
        });
        let carrier = Carrier::new(settings.line.clone(), settings.speed);
        let now = Instant::ZERO;
        let line = match (settings.sl, settings.is_port) {
            (true, _) => Line::Sl(settings.speed.unwrap_or(0)),
            (false, true) => Line::Slow,
            (false, false) => Line::Fast,
        };
        Ok(Self {
            wire: Wire::new(line, chance, now),
            opening: Opening::new(settings.secret.clone(), settings.pack),
            settings,
            carrier,
            signals,
            random,
            started: std::time::Instant::now(),
            now,
            waiting: Waiting::default(),
            announcing: Announcing::new(announcements),
            things,
            tasks,
            next_task,
            owners: BTreeMap::new(),
            awake: BTreeSet::new(),
            scratch: vec![0; SCRATCH],
            listeners,
            desk: desk.transpose()?,
            ends: Ends::default(),
        })
    }

    /// Until it is told to stop.
    pub(crate) fn run(mut self) -> Result<(), Fatal> {
        loop {
            self.tick();
            self.handle_timeouts();
            self.handle_events();
            self.step();
            self.transmit();
            let (ready, stop) = self.wait()?;
            self.tick();
            if stop {
                self.stop();
                return Ok(());
            }
            for owner in ready {
                match owner {
                    Owner::Carrier => self.receive(),
                    Owner::Signals => {}
                    Owner::Task(task) => {
                        self.awake.insert(task);
                    }
                    Owner::Listener(listener) => self.accept(listener),
                    Owner::Desk => self.serve(),
                }
            }
        }
    }

    /// Whether the host of this session was let in. While there is no session, nobody is.
    pub(crate) const fn is_let_in(&self) -> bool {
        self.opening.is_in() && self.wire.session.terms().is_some()
    }

    /// Programs of this machine ask for something.
    fn serve(&mut self) {
        if let (Some(desk), Some(Task::Facts(facts))) = (&mut self.desk, self.tasks.get_mut(&FACTS)) {
            desk.step(facts, self.now);
            self.awake.insert(FACTS);
        }
    }

    fn tick(&mut self) {
        let passed = self.started.elapsed().as_micros();
        self.now = Instant::from_micros(u64::try_from(passed).unwrap_or(u64::MAX));
    }

    fn handle_timeouts(&mut self) {
        if self.carrier.handle_timeout(self.now) && matches!(self.settings.line, Place::Device(_)) {
            self.wire.handle_opened();
        }
        self.wire.handle_timeout(self.now);
        // The session may have ended: nothing may be announced to whoever comes next.
        self.handle_events();
        self.refuse_late();
        if self.desk.as_ref().and_then(Desk::deadline).is_some_and(|due| due <= self.now) {
            self.serve();
        }
        if self.is_let_in() {
            self.announcing.handle_timeout(&mut self.wire.session, self.now);
        }
        let session = &self.wire.session;
        let due = |task: &Task| task.deadline(session).is_some_and(|at| at <= self.now);
        self.awake.extend(self.tasks.iter().filter(|(_, task)| due(task)).map(|(id, _)| *id));
    }

    /// What the session has to say.
    fn handle_events(&mut self) {
        if self.wire.take_anew() {
            self.handle_session();
        }
        while let Some(event) = self.wire.session.poll_event() {
            match event {
                Event::Started(_) | Event::Restarted(_) | Event::Closed(_) => self.handle_session(),
                Event::Opened(id) => self.opening.handle_opened(id),
                Event::Readable(id) => self.handle_readable(id),
                Event::Writable(id) | Event::Credit(id) => self.awake.extend(self.owners.get(&id)),
                Event::Reset(id, why) => self.handle_reset(id, why),
                Event::Retired(id) => {
                    self.opening.handle_reset(id);
                    let task = self.owners.remove(&id).and_then(|task| self.tasks.get_mut(&task));
                    if let Some(task) = task {
                        task.handle_retired(id);
                    }
                }
                _ => {}
            }
        }
    }

    /// Another host, or none: nobody is let in, and what the last one has started is over.
    fn handle_session(&mut self) {
        self.opening.handle_session();
        self.announcing.end();
        for (number, task) in &mut self.tasks {
            if let Task::Process(process) = task {
                process.handle_session(self.now);
                self.awake.insert(*number);
            }
        }
    }

    fn handle_readable(&mut self, id: StreamId) {
        if let Some(task) = self.owners.get(&id) {
            self.awake.insert(*task);
            return;
        }
        if id.is_guests() {
            if let Some((which, id, line)) =
                self.announcing.handle_readable(id, &mut self.wire.session, self.now)
            {
                self.handle_taken(which, id, &line);
            }
            return;
        }
        let (random, may) = (&self.random, self.settings.may());
        let welcome = || Some((bytes(random).ok()?, may));
        match self.opening.handle_readable(id, &mut self.wire.session, welcome, self.now) {
            None => {}
            Some(Opened::LetIn) => self.announce(),
            Some(Opened::Header(id, header)) => self.begin(id, header),
        }
    }

    /// Announces everything but shells that the last host has given up and that are not over yet.
    fn announce(&mut self) {
        self.announcing.begin(self.now);
        for task in self.tasks.values() {
            if let Task::Process(process) = task
                && let Some(which) = process.announced
                && process.is_hung_up()
            {
                self.announcing.put_off(which);
            }
        }
    }

    fn handle_reset(&mut self, id: StreamId, why: ResetReason) {
        self.opening.handle_reset(id);
        self.waiting.handle_reset(id);
        self.announcing.handle_reset(id);
        let Some(task) = self.owners.remove(&id) else { return };
        if let Some(it) = self.tasks.get_mut(&task) {
            let (session, scratch) = (&mut self.wire.session, &mut self.scratch[..]);
            match it.handle_reset(id, why, &mut Ctx { session, scratch, now: self.now }) {
                Fate::Over => drop(self.tasks.remove(&task)),
                Fate::Stays => {
                    self.awake.insert(task);
                }
            }
        }
    }

    /// A task that has these streams.
    pub(crate) fn add(&mut self, task: Task, streams: impl IntoIterator<Item = StreamId>) -> u64 {
        let number = self.next_task;
        self.next_task += 1;
        self.tasks.insert(number, task);
        self.give(number, streams);
        number
    }

    /// A task has these streams, too.
    pub(crate) fn give(&mut self, task: u64, streams: impl IntoIterator<Item = StreamId>) {
        self.owners.extend(streams.into_iter().map(|id| (id, task)));
        self.awake.insert(task);
    }

    /// Tasks that something has happened to.
    fn step(&mut self) {
        let awake = std::mem::take(&mut self.awake);
        for number in awake {
            let Some(task) = self.tasks.get_mut(&number) else { continue };
            let (session, scratch) = (&mut self.wire.session, &mut self.scratch[..]);
            if task.step(&mut Ctx { session, scratch, now: self.now }) == Fate::Over {
                self.tasks.remove(&number);
                self.owners.retain(|_, owner| *owner != number);
                self.handle_over(number);
            }
        }
    }

    fn handle_over(&mut self, number: u64) {
        for (which, thing) in self.things.iter_mut().enumerate() {
            if let Thing::Shell(_, task) = thing
                && *task == Some(number)
            {
                *task = None;
                self.announcing.handle_over(which, self.now);
            }
        }
    }

    fn receive(&mut self) {
        for _ in 0..READS {
            let window = self.wire.receive_window().min(self.scratch.len());
            if window == 0 {
                return;
            }
            match self.carrier.read(&mut self.scratch[..window], self.now) {
                Turn::Took(n) => {
                    self.wire.handle_received(&self.scratch[..n], self.now);
                    self.note_taken();
                    self.handle_events();
                    if n < window && self.carrier.gives_all() {
                        // That was all for now; a line that has more is ready again.
                        return;
                    }
                }
                Turn::Waits => return,
                Turn::Gone => return self.handle_reopened(),
            }
        }
    }

    /// The line is gone: so is whoever was let in, before anything else happens.
    fn handle_reopened(&mut self) {
        self.wire.handle_reopened(self.now);
        self.handle_events();
    }

    /// What the host has taken of logs, before the session can end that it has taken it in.
    fn note_taken(&mut self) {
        for task in self.tasks.values_mut() {
            if let Task::Log(log) = task {
                log.note_taken(&self.wire.session);
            }
        }
    }

    fn transmit(&mut self) {
        while self.carrier.is_writable() {
            let (carrier, now) = (&mut self.carrier, self.now);
            let mut turn = Turn::Waits;
            let n = self.wire.transmit_with(now, |runs| {
                turn = carrier.write(runs, now);
                if let Turn::Took(n) = turn { n } else { 0 }
            });
            if turn == Turn::Gone {
                return self.handle_reopened();
            }
            if n == 0 {
                return;
            }
        }
    }

    fn handle_children(&mut self) {
        for (number, task) in &mut self.tasks {
            if let Task::Process(process) = task
                && process.handle_child()
            {
                self.awake.insert(*number);
            }
        }
    }

    /// Waits until something happens: whose it is, and whether the agent is to stop.
    fn wait(&mut self) -> Result<(Vec<Owner>, bool), Fatal> {
        let session = &self.wire.session;
        let mut fds: Interest<'_> = Vec::new();
        let mut owners = Vec::new();
        for fd in self.signals.fds() {
            fds.push((fd, PollFlags::IN));
            owners.push(Owner::Signals);
        }
        let reads = self.wire.receive_window() > 0;
        if let Some((fd, flags)) = self.carrier.interest(reads).filter(|(_, flags)| !flags.is_empty()) {
            fds.push((fd, flags));
            owners.push(Owner::Carrier);
        }
        for (number, task) in &self.tasks {
            task.interest(session, &mut fds);
            owners.resize(fds.len(), Owner::Task(*number));
        }
        for (number, listener) in self.listeners.iter().enumerate() {
            if let Some(fd) = listener.interest(self.now) {
                fds.push((fd, PollFlags::IN));
                owners.push(Owner::Listener(number));
            }
        }
        if let Some(desk) = &self.desk {
            desk.interest(&mut fds);
            owners.resize(fds.len(), Owner::Desk);
        }
        let mut polled: Vec<PollFd<'_>> = fds
            .iter()
            .map(|(fd, flags): &(BorrowedFd<'_>, _)| PollFd::from_borrowed_fd(fd.as_fd(), *flags))
            .collect();
        let timeout = self.timeout();
        match rustix::event::poll(&mut polled, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Fatal::System("wait for descriptors", error.into())),
        }
        let ready: Vec<(Owner, PollFlags)> = owners
            .into_iter()
            .zip(&polled)
            .map(|(owner, fd)| (owner, fd.revents()))
            .filter(|(_, flags)| !flags.is_empty())
            .collect();
        if ready
            .iter()
            .any(|(owner, flags)| matches!(owner, Owner::Carrier) && flags.contains(PollFlags::OUT))
        {
            self.carrier.handle_writable();
        }
        let mut stop = false;
        if ready.iter().any(|(owner, _)| matches!(owner, Owner::Signals)) {
            let came = self.signals.take();
            if came.child {
                self.handle_children();
            }
            stop = came.stop;
        }
        Ok((ready.into_iter().map(|(owner, _)| owner).collect(), stop))
    }

    fn timeout(&self) -> Option<Timespec> {
        let session = &self.wire.session;
        let mut due = self.tasks.values().filter_map(|task| task.deadline(session)).min();
        if !self.awake.is_empty() {
            due = Some(Instant::ZERO);
        }
        let announcing = if self.is_let_in() { self.announcing.poll_timeout() } else { None };
        let others = [
            self.carrier.poll_timeout(),
            self.wire.poll_timeout(),
            self.waiting.poll_timeout(),
            announcing,
            self.desk.as_ref().and_then(Desk::deadline),
            self.listeners.iter().filter_map(|listener| listener.poll_timeout(self.now)).min(),
        ];
        let due = others.into_iter().flatten().chain(due).min()?;
        let wait = due.duration_since(self.now);
        Timespec::try_from(wait).ok()
    }

    /// The host is told, and so are the processes.
    fn stop(&mut self) {
        log::info!("stops");
        self.wire.session.close();
        self.transmit();
        for task in self.tasks.values_mut() {
            if let Task::Process(process) = task {
                process.hang_up(self.now);
            }
        }
    }
}

/// Random bytes.
fn bytes<const N: usize>(random: &SystemRandom) -> Result<[u8; N], Fatal> {
    let mut bytes = [0; N];
    let no_random = |_| Fatal::System("make random numbers", std::io::ErrorKind::Unsupported.into());
    random.fill(&mut bytes).map_err(no_random)?;
    Ok(bytes)
}

/// The number of the task that tells facts.
const FACTS: u64 = 0;
/// What is read at a time, of the line or of anything else: more than a block that is packed or unpacked.
const SCRATCH: usize = 4 * vspc_guest::MAX_BLOCK;
/// Reads of the line in a row before others have their turn.
const READS: usize = 4;
