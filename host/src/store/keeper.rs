//! The thread of a store: it knows what is to be kept, and when it is written.
//!
//! **Owns** the table of what the loop has told, when to write it, and what the backend was last told to
//! keep. Changes that come within [`BATCH`] are one write, and one write is under way at a time. A backend
//! that fails is said so once and tried again every [`RETRY`]; what comes meanwhile is written then.
//! **Refuses to know** how a backend keeps anything.
//!
//! ```text
//! loop ── Message ─▶ table ── BATCH after the first change ─▶ Backend::keep ─▶ Command::Kept ─▶ loop
//! ```

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use vspc_core::concentrator::ConsoleId;

use crate::commands::{Command, Sender, TrySendError};

use super::mirror::{Known, Message, Room, today};
use super::record::{Record, Seen};
use super::{Backend, Grant};

/// Which ports are kept, and how far the store was behind with them, if that is new.
type Report = (Vec<(ConsoleId, u16)>, Option<Duration>);

/// The thread's state.
pub(super) struct Keeper<B> {
    backend: B,
    messages: Receiver<Message>,
    room: Arc<Room>,
    commands: Sender,
    table: HashMap<ConsoleId, Record>,
    /// Whose each port is in the table: never that of two.
    ports: HashMap<u16, ConsoleId>,
    /// The ports that the loop was told to be kept, as far as they have not changed since.
    reported: HashMap<ConsoleId, u16>,
    /// What it is still to be told.
    reports: VecDeque<Report>,
    /// When the table is to be written, if something in it has changed.
    write_at: Option<Instant>,
    /// When the first change came that is not written.
    changed_at: Option<Instant>,
    /// Times have grown since it was written.
    is_stale: bool,
    refresh_at: Instant,
    /// When the backend has something to do by itself.
    tend_at: Option<Instant>,
    /// What the loop is to be told of its ports.
    grants: VecDeque<Grant>,
    is_failing: bool,
}

impl<B: Backend> Keeper<B> {
    pub(super) fn new(backend: B, messages: Receiver<Message>, room: Arc<Room>, commands: Sender) -> Self {
        let tend_at = backend.tend_every().map(|time| Instant::now() + time);
        Self {
            tend_at,
            grants: VecDeque::new(),
            backend,
            messages,
            room,
            commands,
            table: HashMap::new(),
            ports: HashMap::new(),
            reported: HashMap::new(),
            reports: VecDeque::new(),
            write_at: None,
            changed_at: None,
            is_stale: false,
            refresh_at: Instant::now() + REFRESH,
            is_failing: false,
        }
    }

    /// Runs until the loop has dropped its end; what has changed by then is written.
    pub(super) fn run(mut self) {
        loop {
            let has_reports = !self.reports.is_empty() || !self.grants.is_empty();
            let report_at = has_reports.then(|| Instant::now() + REPORT_AGAIN);
            let wake_at = [self.write_at, self.tend_at, report_at]
                .into_iter()
                .flatten()
                .fold(self.refresh_at, Instant::min);
            match self.messages.recv_timeout(wake_at.saturating_duration_since(Instant::now())) {
                Ok(message) => self.take(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            while let Ok(message) = self.messages.try_recv() {
                self.take(message);
                if self.write_at.is_some_and(|at| at <= Instant::now()) {
                    break;
                }
            }
            if self.room.is_wanted.swap(false, Ordering::AcqRel) {
                self.commands.nudge();
            }
            let now = Instant::now();
            if self.refresh_at <= now {
                self.refresh_at = now + REFRESH;
                if self.is_stale {
                    self.write_at.get_or_insert(now);
                }
                self.room.is_refresh_due.store(true, Ordering::Release);
                self.commands.nudge();
            }
            if self.tend_at.is_some_and(|at| at <= now) {
                self.tend();
            }
            if self.write_at.is_some_and(|at| at <= now) {
                self.write();
            }
            self.report();
        }
        if self.write_at.is_some() || self.is_stale {
            self.write();
        }
        self.backend.close();
    }

    /// Has the backend do what it does from time to time. While it fails, a write finds out when it does no
    /// more.
    fn tend(&mut self) {
        self.tend_at = self.backend.tend_every().map(|time| Instant::now() + time);
        if self.is_failing {
            return;
        }
        match self.backend.tend() {
            Ok(true) => {}
            Ok(false) => self.write_at = Some(Instant::now()),
            Err(error) => self.fail(&error),
        }
        self.grants.extend(self.backend.take_grant());
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::One(id, known) => {
                self.room.free.fetch_add(1, Ordering::AcqRel);
                match known {
                    Some(known) => self.put(id, known),
                    None => self.remove(id),
                }
            }
            Message::All(all) => {
                let known: HashMap<ConsoleId, Known> = all.into_iter().collect();
                let gone = self.table.keys().filter(|id| !known.contains_key(*id)).copied();
                for id in gone.collect::<Vec<_>>() {
                    self.remove(id);
                }
                known.into_iter().for_each(|(id, known)| self.put(id, known));
            }
        }
    }

    fn put(&mut self, id: ConsoleId, known: Known) {
        let mut record = known.record;
        let before = self.table.get(&id);
        if !known.is_seen_known {
            record.seen = match before.map(|before| before.seen) {
                Some(Seen::At(seen)) => Seen::At(seen),
                Some(Seen::Now) | None => Seen::At(today()),
            };
        }
        if before.is_some_and(|before| before.is_as_good_as(&record)) {
            self.is_stale |= before.is_some_and(|before| before.stayed != record.stayed);
            self.table.insert(id, record);
            return;
        }
        if before.and_then(|before| before.port) != record.port {
            self.release_port(id);
            if let Some(port) = record.port {
                // Whoever had it has it no more, also if the word of that is still to come.
                if let Some(other) = self.ports.insert(port, id)
                    && let Some(other_record) = self.table.get_mut(&other)
                {
                    other_record.port = None;
                    self.reported.remove(&other);
                }
            }
        }
        self.table.insert(id, record);
        self.note_change();
    }

    fn remove(&mut self, id: ConsoleId) {
        self.release_port(id);
        if self.table.remove(&id).is_some() {
            self.note_change();
        }
    }

    /// Something is to be written, with what comes meanwhile.
    fn note_change(&mut self) {
        let now = Instant::now();
        self.write_at.get_or_insert(now + BATCH);
        self.changed_at.get_or_insert(now);
    }

    fn release_port(&mut self, id: ConsoleId) {
        self.reported.remove(&id);
        if let Some(port) = self.table.get(&id).and_then(|record| record.port)
            && self.ports.get(&port) == Some(&id)
        {
            self.ports.remove(&port);
        }
    }

    fn write(&mut self) {
        let mut records: Vec<&Record> = self.table.values().collect();
        records.sort_by_cached_key(|record| {
            let identity = &record.identity;
            let port = record.port.map_or(u32::MAX, u32::from);
            (port, identity.uuid, identity.suffix.clone(), identity.clone.clone())
        });
        match self.backend.keep(&records) {
            Ok(()) => {
                (self.write_at, self.is_stale) = (None, false);
                if std::mem::take(&mut self.is_failing) {
                    log::info!("the state is kept again, all of it");
                }
                self.note_kept();
            }
            Err(error) => self.fail(&error),
        }
        self.grants.extend(self.backend.take_grant());
    }

    fn fail(&mut self, error: &io::Error) {
        self.write_at = Some(Instant::now() + RETRY);
        if !std::mem::replace(&mut self.is_failing, true) {
            log::error!(
                "the state cannot be kept: {error}; what is not kept yet is lost if the server stops now. It \
                 is tried again every second"
            );
        }
    }

    /// All that is in the table is kept: the loop is to be told what it does not know of that.
    fn note_kept(&mut self) {
        let kept = self.table.iter().filter_map(|(&id, record)| Some((id, record.port?)));
        let news: Vec<_> = kept.filter(|(id, port)| self.reported.get(id) != Some(port)).collect();
        self.reported.extend(news.iter().copied());
        let mut reports: Vec<_> = news.chunks(REPORTED_AT_ONCE).map(|news| (news.to_vec(), None)).collect();
        if let Some(changed) = self.changed_at.take() {
            match reports.last_mut() {
                Some(last) => last.1 = Some(changed.elapsed()),
                None => reports.push((Vec::new(), Some(changed.elapsed()))),
            }
        }
        self.reports.extend(reports);
    }

    /// Tells the loop, as far as it has room for commands: which ports it has before which are kept.
    fn report(&mut self) {
        while let Some(command) = self.next_command() {
            match self.commands.try_send(command) {
                Ok(()) => {}
                Err(TrySendError::Full(Command::Kept(report, lag))) => {
                    return self.reports.push_front((report, lag));
                }
                Err(TrySendError::Full(Command::Ports(grant))) => return self.grants.push_front(grant),
                // The loop has ended.
                Err(_) => {
                    self.reports.clear();
                    self.grants.clear();
                }
            }
        }
    }

    fn next_command(&mut self) -> Option<Command> {
        let grant = self.grants.pop_front().map(Command::Ports);
        grant.or_else(|| self.reports.pop_front().map(|(report, lag)| Command::Kept(report, lag)))
    }
}

/// How long a change waits for others that are written together with it. A VM's port is to be kept a tenth of
/// a second after it was given; half of that is left for the disk.
pub(super) const BATCH: Duration = Duration::from_millis(50);

/// How often a backend that fails is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// How often the loop is asked for times that have grown. What a server that is killed has not kept of them
/// is twice that, at most.
const REFRESH: Duration = Duration::from_secs(300);

/// How long a report waits for a loop whose queue was full.
const REPORT_AGAIN: Duration = Duration::from_millis(10);

/// Consoles in one report: the loop is not kept for longer than some tens of microseconds by one.
const REPORTED_AT_ONCE: usize = 256;
