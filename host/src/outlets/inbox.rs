//! The bounded queue between the loop and a thread that tells others what happens.
//!
//! **Owns** both ends. The loop never waits: an event that finds no room is dropped and counted; a console
//! whose state has changed is remembered by its id, and told of, as it is by then, once there is room. So
//! what is lost is counted, and a VM that is down is never taken for one that is up. **Refuses to know** what
//! the thread does with it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Instant, SystemTime};

use vspc_core::concentrator::{Concentrator, ConsoleId, Event, Severity};

use crate::commands;

use super::kind::Kind;
use super::standing::Standing;

/// What the thread receives.
#[derive(Debug)]
pub(crate) enum Message {
    /// Something has happened: the thread gives the room back by [`Inbox::free`].
    Told(Told),
    /// A command of this process id has ended.
    Ended(u32),
    /// Files are to be opened anew.
    Reopen,
    /// The loop has ended: nothing more is told.
    Close,
}

/// What has happened, and when.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) at: SystemTime,
    pub(crate) what: What,
}

/// What has happened.
#[derive(Debug)]
pub(crate) enum What {
    /// The engine has told an event.
    Event(Box<Event>),
    /// A console's state has changed; `None`: it is gone.
    Console(ConsoleId, Option<Standing>),
    /// How consoles stand: nothing has happened yet.
    Begin(Vec<(ConsoleId, Standing)>),
}

/// Which events a thread is told of. It is told of every console's state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Wanted {
    /// Those of these kinds; of none: those of any.
    Kinds(Vec<Kind>),
    /// Those that are in the log where nobody asks for more.
    Log,
}

/// How much the thread still takes, and what it has missed.
#[derive(Debug)]
struct Room {
    free: AtomicUsize,
    /// The loop has a console's state and found no room.
    is_wanted: AtomicBool,
    dropped: AtomicU64,
}

/// The end that the loop holds.
#[derive(Debug)]
pub(crate) struct Tap {
    /// Says all about whom it is for.
    name: String,
    messages: mpsc::Sender<Message>,
    room: Arc<Room>,
    wanted: Wanted,
    /// Consoles that the thread is to be told of when it has room.
    untold: BTreeSet<ConsoleId>,
}

/// The end that the thread holds.
#[derive(Debug)]
pub(crate) struct Inbox {
    messages: mpsc::Receiver<Message>,
    sender: mpsc::Sender<Message>,
    room: Arc<Room>,
    commands: commands::Sender,
}

/// A queue for this many messages. Of two that have one name either will do.
pub(crate) fn pair(
    name: String,
    wanted: Wanted,
    capacity: usize,
    commands: commands::Sender,
) -> (Tap, Inbox) {
    let (messages, received) = mpsc::channel();
    let room = Arc::new(Room {
        free: AtomicUsize::new(capacity),
        is_wanted: AtomicBool::new(false),
        dropped: AtomicU64::new(0),
    });
    let inbox = Inbox { messages: received, sender: messages.clone(), room: Arc::clone(&room), commands };
    (Tap { name, messages, room, wanted, untold: BTreeSet::new() }, inbox)
}

impl Tap {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Has the thread open its file anew.
    pub(super) fn reopen(&self) {
        // Fails when the thread has ended, with the process.
        let _ = self.messages.send(Message::Reopen);
    }

    /// Tells how all consoles stand, whatever room there is: it is the first that the thread is told.
    pub(super) fn begin(&self, engine: &Concentrator) {
        let ids = engine.consoles().map(|console| console.label.id);
        let all = ids.filter_map(|id| Some((id, Standing::of(engine, id)?))).collect();
        self.send(Told { at: SystemTime::now(), what: What::Begin(all) });
    }

    /// Tells an event, if the thread wants it and has room. Costs a copy of it.
    pub(super) fn event(&mut self, event: &Event, at: SystemTime) {
        let is_wanted = match &self.wanted {
            Wanted::Log => event.severity() > Severity::Debug,
            Wanted::Kinds(kinds) => {
                Kind::of(event).is_some_and(|kind| kinds.is_empty() || kinds.contains(&kind))
            }
        };
        if !is_wanted {
            return;
        }
        match self.has_room() {
            true => self.send(Told { at, what: What::Event(Box::new(event.clone())) }),
            false => drop(self.room.dropped.fetch_add(1, Ordering::Relaxed)),
        }
    }

    /// A console has changed, or has gone.
    pub(super) fn changed(&mut self, engine: &Concentrator, id: ConsoleId, at: SystemTime) {
        if !self.untold.is_empty() || !self.has_room_or_wants_it() {
            self.untold.insert(id);
            return;
        }
        self.send(Told { at, what: What::Console(id, Standing::of(engine, id)) });
    }

    /// Tells of the consoles that there was no room for, as far as there is now.
    pub(super) fn retry(&mut self, engine: &Concentrator) {
        while !self.untold.is_empty() && self.has_room_or_wants_it() {
            if let Some(id) = self.untold.pop_first() {
                let what = What::Console(id, Standing::of(engine, id));
                self.send(Told { at: SystemTime::now(), what });
            }
        }
    }

    /// Tells of no console any more: the server is about to close them all, which is no change of theirs.
    /// Those that there was no room for count as dropped.
    pub(super) fn freeze(&mut self) {
        let untold = std::mem::take(&mut self.untold).len();
        self.room.dropped.fetch_add(untold as u64, Ordering::Relaxed);
    }

    fn has_room(&self) -> bool {
        self.room.free.load(Ordering::Acquire) > 0
    }

    /// Whether there is room. If not, the thread nudges the loop when that changes.
    fn has_room_or_wants_it(&self) -> bool {
        self.has_room() || {
            // The thread may have made room before it could know that it was wanted.
            self.room.is_wanted.swap(true, Ordering::AcqRel);
            self.has_room()
        }
    }

    fn send(&self, told: Told) {
        self.room.free.fetch_sub(1, Ordering::AcqRel);
        // Fails when the thread has ended, with the process.
        let _ = self.messages.send(Message::Told(told));
    }
}

/// The loop has ended.
impl Drop for Tap {
    fn drop(&mut self) {
        self.freeze();
        let _ = self.messages.send(Message::Close);
    }
}

impl Inbox {
    /// Waits for the next message, at most until then; `None`: it is then.
    pub(crate) fn next(&self, until: Option<Instant>) -> Option<Message> {
        let Some(until) = until else {
            // This end holds a sender too, so that the queue cannot be closed.
            return self.messages.recv().ok();
        };
        self.messages.recv_timeout(until.saturating_duration_since(Instant::now())).ok()
    }

    /// What was told is done with: there is room for another.
    pub(crate) fn free(&self) {
        self.room.free.fetch_add(1, Ordering::AcqRel);
        if self.room.is_wanted.swap(false, Ordering::AcqRel) {
            self.commands.nudge();
        }
    }

    /// How many events were dropped since this was last asked.
    pub(crate) fn take_dropped(&self) -> u64 {
        self.room.dropped.swap(0, Ordering::Relaxed)
    }

    /// What else may wake the thread.
    pub(crate) fn sender(&self) -> mpsc::Sender<Message> {
        self.sender.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use vspc_core::concentrator::{Config, EventKind, Identity, Reservation};
    use vspc_core::vmware::Uuid;

    use crate::outlets::tests::event;

    fn attached(clients: usize) -> Event {
        event(EventKind::ClientAttached { clients })
    }

    #[test]
    fn events_without_room_are_counted_and_states_are_told_later_as_they_are_by_then() {
        let now = vspc_core::time::Instant::ZERO;
        let mut engine = Concentrator::new(Arc::new(Config::default()), [1; 32], now);
        let identity = Identity::of(Uuid::from_bytes([1; 16]));
        let vm = Reservation { name: "vm1".into(), ..Reservation::new(identity) };
        let id = engine.restore(vm, now).unwrap();
        let (sender, mut commands, woken) = commands::pair().unwrap();
        let (mut tap, inbox) = pair("test".to_owned(), Wanted::Kinds(Vec::new()), 2, sender);
        for clients in 0..10_000 {
            tap.event(&attached(clients), SystemTime::UNIX_EPOCH);
            tap.changed(&engine, id, SystemTime::UNIX_EPOCH);
        }
        assert_eq!(tap.untold.len(), 1, "a number for each console is all that waits");
        let dropped = inbox.take_dropped();
        assert_eq!(dropped, 9_999);
        for _ in 0..2 {
            assert!(matches!(inbox.next(None), Some(Message::Told(_))));
            inbox.free();
        }
        assert!((&woken).read_is_due(), "the loop is told that there is room");
        assert!(commands.take(&woken).is_empty());
        tap.retry(&engine);
        assert!(tap.untold.is_empty());
        let Some(Message::Told(Told { what: What::Console(told, Some(_)), .. })) = inbox.next(None) else {
            panic!("no state");
        };
        assert_eq!(told, id);
        drop(tap);
        assert!(matches!(inbox.next(None), Some(Message::Close)));
    }

    trait ReadIsDue {
        fn read_is_due(&mut self) -> bool;
    }

    impl ReadIsDue for &std::os::unix::net::UnixStream {
        fn read_is_due(&mut self) -> bool {
            use rustix::event::{PollFd, PollFlags, Timespec, poll};
            let patience = Timespec { tv_sec: 0, tv_nsec: 0 };
            poll(&mut [PollFd::new(*self, PollFlags::IN)], Some(&patience)) == Ok(1)
        }
    }
}
