//! The thread that writes events somewhere.
//!
//! **Owns** what waits to be written, when what failed is tried again, and what is said of it. What waits
//! takes up the queue's room. **Refuses to know** what it writes to.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::entry::{Entry, entries};
use super::inbox::{Inbox, Message, Told};
use super::options::Destination;
use super::sink::Sink;
use super::standing::Standings;
use super::tally::Tally;

/// The thread's state.
pub(super) struct Writer {
    name: String,
    sink: Sink,
    inbox: Inbox,
    standings: Standings,
    /// Entries, and whether each is the last of those that came in one message.
    waiting: VecDeque<(Entry, bool)>,
    /// While nothing can be written: when that is tried again, and how long that was waited for.
    failing: Option<(Instant, Duration)>,
    dropped: Tally,
    /// Once the server has gone: until when it is tried.
    end_at: Option<Instant>,
}

impl Writer {
    pub(super) fn new(destination: Destination, inbox: Inbox) -> Self {
        Self {
            name: destination.to_string(),
            sink: Sink::new(destination),
            inbox,
            standings: Standings::default(),
            waiting: VecDeque::new(),
            failing: None,
            dropped: Tally::default(),
            end_at: None,
        }
    }

    /// Runs until the loop has ended and all is written; for so long after that it is tried.
    pub(super) fn run(mut self, patience: Duration) {
        loop {
            self.write();
            self.report(Instant::now());
            if self.end_at.is_some_and(|at| self.waiting.is_empty() || at <= Instant::now()) {
                return self.stop();
            }
            let retry_at = self.failing.map(|(at, _)| at);
            let until = [retry_at, self.dropped.due(), self.end_at].into_iter().flatten().min();
            match self.inbox.next(until) {
                Some(Message::Told(told)) => self.take(told),
                Some(Message::Reopen) => {
                    self.sink.reopen();
                    self.failing = self.failing.map(|(_, pause)| (Instant::now(), pause));
                }
                Some(Message::Close) => self.end_at = Some(Instant::now() + patience),
                Some(Message::Ended(_)) | None => {}
            }
        }
    }

    fn take(&mut self, told: Told) {
        let entries = entries(told, &mut self.standings);
        if entries.is_empty() {
            return self.inbox.free();
        }
        let last = entries.len() - 1;
        self.waiting.extend(entries.into_iter().enumerate().map(|(n, entry)| (entry, n == last)));
    }

    /// Writes what waits, unless that has just failed.
    fn write(&mut self) {
        if self.failing.is_some_and(|(at, _)| Instant::now() < at) {
            return;
        }
        while let Some((entry, is_last)) = self.waiting.front() {
            match self.sink.write(entry) {
                // No datagram is so long: there is no use in trying again.
                Err(error) if Errno::from_io_error(&error) == Some(Errno::MSGSIZE) => {
                    self.dropped.gather(1, Instant::now());
                }
                Err(error) => return self.fail(&error),
                Ok(()) => {}
            }
            if self.failing.take().is_some() {
                log::info!("--events-to {}: events go there again", self.name);
            }
            if *is_last {
                self.inbox.free();
            }
            self.waiting.pop_front();
        }
    }

    fn fail(&mut self, error: &io::Error) {
        let pause = match self.failing {
            Some((_, pause)) => (pause * 2).min(LONGEST_PAUSE),
            None => {
                log::warn!("--events-to {}: {error}; it is tried again", self.name);
                FIRST_PAUSE
            }
        };
        self.failing = Some((Instant::now() + pause, pause));
    }

    fn report(&mut self, now: Instant) {
        self.dropped.gather(self.inbox.take_dropped(), now);
        if let Some(count) = self.dropped.take(now) {
            log::warn!("--events-to {}: {count} events were dropped", self.name);
        }
    }

    fn stop(mut self) {
        let waiting = self.waiting.len() as u64;
        let dropped = waiting + self.inbox.take_dropped() + self.dropped.take_all().unwrap_or_default();
        if dropped > 0 {
            log::warn!("--events-to {}: {dropped} events were dropped at the end", self.name);
        }
    }
}

/// How long what has failed is left alone at first, and at most: twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
