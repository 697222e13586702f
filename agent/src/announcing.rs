//! How streams begin that the agent opens: what is announced, and what the host answers (APPLICATION §1).
//!
//! Owns for each thing that is announced whether it is due, asked for, on or refused. Refuses to know what
//! it is.

use std::time::Duration;

use vspc_core::mux::{Session, StreamId};
use vspc_core::time::Instant;
use vspc_guest::{Announcement, LineBuffer, MAX_LINE, Name, Refusal};

use crate::say::{Line, leave, say, take_line};

/// All that is announced in each session.
#[derive(Debug)]
pub(crate) struct Announcing {
    items: Vec<Item>,
}

#[derive(Debug)]
struct Item {
    announcement: Announcement,
    state: State,
    /// How often in a row it has ended soon after it was taken.
    short: u32,
    taken_at: Instant,
}

#[derive(Debug)]
enum State {
    /// To be announced at this time.
    Due(Instant),
    Asked(StreamId, LineBuffer),
    /// The host takes it.
    On(StreamId),
    /// Once what is left of it is over.
    Later,
    /// Not in this session.
    Off,
}

/// The host takes something: which, on which stream, and its answer.
pub(crate) type Taken = (usize, StreamId, Vec<u8>);

impl Announcing {
    /// These, in this order.
    pub(crate) fn new(announcements: Vec<Announcement>) -> Self {
        let item = |announcement| Item { announcement, state: State::Off, short: 0, taken_at: Instant::ZERO };
        Self { items: announcements.into_iter().map(item).collect() }
    }

    /// Which of them has this name.
    pub(crate) fn position(&self, name: &Name) -> Option<usize> {
        self.items.iter().position(|item| item.announcement.name() == name)
    }

    /// A host was let in: everything is announced.
    pub(crate) fn begin(&mut self, now: Instant) {
        for item in &mut self.items {
            item.state = State::Due(now);
        }
    }

    /// The thing is there and of no use any more: it is announced once it is over.
    pub(crate) fn put_off(&mut self, which: usize) {
        if let Some(item) = self.items.get_mut(which) {
            item.state = State::Later;
        }
    }

    /// The session is over.
    pub(crate) fn end(&mut self) {
        for item in &mut self.items {
            item.state = State::Off;
        }
    }

    /// The thing has ended, and comes again.
    pub(crate) fn handle_over(&mut self, which: usize, now: Instant) {
        let Some(item) = self.items.get_mut(which) else { return };
        item.short = if now.duration_since(item.taken_at) < LONG { item.short + 1 } else { 0 };
        // Where the host is asked about it, it may take the next one on the same stream.
        if !matches!(item.state, State::Off | State::Asked(..)) {
            item.state = State::Due(now + AGAIN * (1 << item.short.min(MOST)));
        }
    }

    /// A stream is gone: what was announced on it is not announced again in this session.
    pub(crate) fn handle_reset(&mut self, id: StreamId) {
        for item in &mut self.items {
            if matches!(item.state, State::Asked(stream, _) | State::On(stream) if stream == id) {
                item.state = State::Off;
            }
        }
    }

    /// Announces what is due.
    pub(crate) fn handle_timeout(&mut self, session: &mut Session, now: Instant) {
        for item in &mut self.items {
            if !matches!(item.state, State::Due(due) if due <= now) {
                continue;
            }
            let Ok(id) = session.open_announced() else {
                item.state = State::Due(now + AGAIN);
                continue;
            };
            say(session, id, &item.announcement.line());
            item.state = State::Asked(id, LineBuffer::new(MAX_LINE));
        }
    }

    /// When [`Announcing::handle_timeout`] is to be called.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let due = |item: &Item| if let State::Due(due) = item.state { Some(due) } else { None };
        self.items.iter().filter_map(due).min()
    }

    /// Bytes came on a stream of the agent's: whether it was asked about, and was taken.
    pub(crate) fn handle_readable(
        &mut self,
        id: StreamId,
        session: &mut Session,
        now: Instant,
    ) -> Option<Taken> {
        let is_asked = |item: &Item| matches!(item.state, State::Asked(stream, _) if stream == id);
        let which = self.items.iter().position(is_asked)?;
        let item = &mut self.items[which];
        let State::Asked(_, buffer) = &mut item.state else { return None };
        let refused = |why: &Refusal| {
            log::info!("{} is not wanted: {why}", item.announcement.name().as_str());
        };
        match take_line(session, id, buffer) {
            Line::Part => None,
            Line::Whole(Ok(line)) => {
                match vspc_guest::answer::parse::<vspc_guest::answer::Done>(&line) {
                    Ok(_) => {
                        item.state = State::On(id);
                        item.taken_at = now;
                        return Some((which, id, line));
                    }
                    Err(why) => refused(&why),
                }
                item.state = State::Off;
                leave(session, id);
                None
            }
            Line::Whole(Err(_)) | Line::End => {
                item.state = State::Off;
                leave(session, id);
                None
            }
        }
    }
}

/// What has ended comes again after so long, and each time later, up to a minute: a shell that cannot start
/// must not fill the line;
const AGAIN: Duration = Duration::from_millis(500);
/// the most doublings of it.
const MOST: u32 = 7;
/// What has lasted so long had begun well.
const LONG: Duration = Duration::from_secs(10);
