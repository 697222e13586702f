//! The thread that looks through what consoles print.
//!
//! **Owns** the consoles that are watched, when a line that does not end is taken for one, and what is said
//! where output was missed. **Refuses to know** how what it finds is told: that is a command for the loop,
//! which tells it as an event. Where the loop has no room for more, finds wait, so many at the most, and
//! beyond that are dropped and counted.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use vspc_core::concentrator::ConsoleId;

use crate::commands::{Command, Sender, TrySendError};
use crate::outlets::Tally;

use super::Sighting;
use super::console::{Find, Watched};
use super::tap::{charge, numbers};
use super::watch::Watch;
use crate::room::Room;

/// What the loop tells the thread.
#[derive(Debug)]
pub(super) enum Message {
    /// The watches that look at a console from now on, a bit each.
    Watched(ConsoleId, u64),
    /// What it printed, and how much before that is missing.
    Piece { console: ConsoleId, lost: u64, bytes: Bytes },
    /// It is gone, or not watched any more.
    End(ConsoleId),
}

/// The thread's state.
pub(super) struct Watcher {
    watches: Arc<[Watch]>,
    messages: Receiver<Message>,
    room: Arc<Room>,
    commands: Sender,
    consoles: HashMap<ConsoleId, Console>,
    /// Consoles in the middle of a line, and when that is taken for one, unless something follows.
    unended: VecDeque<(Instant, ConsoleId)>,
    /// Finds that the loop had no room for.
    waiting: VecDeque<Sighting>,
    missed: Tally,
    dropped: Tally,
}

struct Console {
    watched: Watched,
    printed_at: Instant,
    is_unended: bool,
}

impl Watcher {
    pub(super) fn new(
        watches: Arc<[Watch]>,
        messages: Receiver<Message>,
        room: Arc<Room>,
        commands: Sender,
    ) -> Self {
        Self {
            watches,
            messages,
            room,
            commands,
            consoles: HashMap::new(),
            unended: VecDeque::new(),
            waiting: VecDeque::new(),
            missed: Tally::default(),
            dropped: Tally::default(),
        }
    }

    /// Runs until the loop's end is gone.
    pub(super) fn run(mut self) {
        loop {
            let now = Instant::now();
            self.take_unended(now);
            self.tell_waiting();
            self.report(now);
            let retry = (!self.waiting.is_empty()).then(|| now + RETRY);
            let unended = self.unended.front().map(|(at, _)| *at);
            let until = [retry, unended, self.missed.due(), self.dropped.due()].into_iter().flatten().min();
            let message = match until {
                Some(until) => self.messages.recv_timeout(until.saturating_duration_since(now)),
                None => self.messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match message {
                Ok(message) => self.take(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Watched(id, watches) => match self.consoles.get_mut(&id) {
                Some(console) => console.watched.change(&self.watches, numbers(watches)),
                None => {
                    let watched = Watched::new(&self.watches, numbers(watches));
                    let console = Console { watched, printed_at: Instant::now(), is_unended: false };
                    self.consoles.insert(id, console);
                }
            },
            Message::Piece { console, lost, bytes } => {
                self.look_through(console, lost, &bytes);
                let size = charge(bytes.len());
                drop(bytes);
                if self.room.give_back(size) {
                    self.commands.nudge();
                }
            }
            Message::End(id) => drop(self.consoles.remove(&id)),
        }
    }

    fn look_through(&mut self, id: ConsoleId, lost: u64, bytes: &[u8]) {
        let now = Instant::now();
        self.missed.gather(lost, now);
        let Some(console) = self.consoles.get_mut(&id) else { return };
        if lost > 0 {
            console.watched.lose(&self.watches);
        }
        console.printed_at = now;
        let mut finds = Vec::new();
        console.watched.print(&self.watches, bytes, now, &mut |find| finds.push(find));
        if console.watched.has_begun() && !console.is_unended {
            console.is_unended = true;
            self.unended.push_back((now + PAUSE, id));
        }
        finds.into_iter().for_each(|find| self.tell(id, find));
    }

    /// Takes lines for such to which nothing was added for a while.
    fn take_unended(&mut self, now: Instant) {
        while let Some(&(at, id)) = self.unended.front().filter(|(at, _)| *at <= now) {
            self.unended.pop_front();
            let Some(console) = self.consoles.get_mut(&id) else { continue };
            let is_quiet_at = console.printed_at + PAUSE;
            if at < is_quiet_at && console.watched.has_begun() {
                self.unended.push_back((is_quiet_at.max(now), id));
                continue;
            }
            console.is_unended = false;
            let mut finds = Vec::new();
            console.watched.pause(&self.watches, now, &mut |find| finds.push(find));
            finds.into_iter().for_each(|find| self.tell(id, find));
        }
    }

    fn tell(&mut self, console: ConsoleId, find: Find) {
        let Find { watch, line, untold } = find;
        let sighting = Sighting { console, watch: self.watches[watch].name.clone(), line, untold };
        match self.waiting.len() < MOST_WAITING {
            true => self.waiting.push_back(sighting),
            false => self.dropped.gather(1, Instant::now()),
        }
        self.tell_waiting();
    }

    fn tell_waiting(&mut self) {
        while let Some(sighting) = self.waiting.pop_front() {
            match self.commands.try_send(Command::Seen(sighting)) {
                Ok(()) => {}
                Err(TrySendError::Full(Command::Seen(sighting))) => {
                    return self.waiting.push_front(sighting);
                }
                // The loop has ended.
                Err(_) => return,
            }
        }
    }

    fn report(&mut self, now: Instant) {
        if let Some(missed) = self.missed.take(now) {
            log::warn!(
                "watches have missed {missed} bytes that consoles printed: they do not get through so much"
            );
        }
        if let Some(dropped) = self.dropped.take(now) {
            log::warn!("{dropped} lines that watches have found were not told: they are too many");
        }
    }
}

/// How long a line may stand still before it is taken for one that has ended: longer than a packet is late,
/// shorter than somebody waits at a prompt.
const PAUSE: Duration = Duration::from_millis(300);

/// How often it is looked whether the loop has room.
const RETRY: Duration = Duration::from_millis(10);

/// How many finds wait for the loop, a kilobyte each: the loop takes 64 each time it goes round.
const MOST_WAITING: usize = 1024;
