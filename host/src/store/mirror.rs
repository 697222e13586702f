//! The loop's end of a store: what changes in the engine is told to the store's thread, and what was kept is
//! put back when the server starts.
//!
//! **Owns** which consoles the thread has not been told of. Telling never waits: a thread that has no room
//! (its disk hangs) is told later, and then of each console once, as it is by then; so a full queue loses
//! nothing and costs a number for each console that has changed. **Refuses to know** where state is kept.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{SystemTime, UNIX_EPOCH};

use vspc_core::concentrator::{CommandError, Concentrator, ConsoleId, ConsoleView};
use vspc_core::time::Instant;

use super::record::{Record, Seen};
use super::{Grant, Opened};

/// What the loop tells the thread.
#[derive(Debug)]
pub(super) enum Message {
    /// What a console is now; `None`: it is gone.
    One(ConsoleId, Option<Known>),
    /// All consoles there are.
    All(Vec<(ConsoleId, Known)>),
}

/// What the loop knows of a console.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// All but when it was seen last.
    pub(super) record: Record,
    /// That is `record.seen`; otherwise nobody is at it, and the thread knows since when.
    pub(super) is_seen_known: bool,
}

/// How much the thread still takes, and what it wants of the loop.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) free: AtomicUsize,
    /// The loop has something and found no room.
    pub(super) is_wanted: AtomicBool,
    /// The thread wants to be told of all consoles again: times grow without a change.
    pub(super) is_refresh_due: AtomicBool,
}

/// What the loop holds of a store; by default of none, which keeps nothing.
#[derive(Debug, Default)]
pub struct Mirror(Option<End>);

#[derive(Debug)]
struct End {
    messages: mpsc::Sender<Message>,
    room: Arc<Room>,
    /// Consoles that the thread is to be told of when it has room.
    untold: BTreeSet<ConsoleId>,
    /// What was kept before this start, until it is put back.
    kept: Vec<Record>,
    /// The ports that may be given out at first, where that is granted.
    grant: Option<Grant>,
}

impl Mirror {
    pub(super) fn new(messages: mpsc::Sender<Message>, room: Arc<Room>, opened: Opened) -> Self {
        let Opened { kept, grant } = opened;
        Self(Some(End { messages, room, untold: BTreeSet::new(), kept, grant }))
    }

    /// Puts back what was kept before this start: to be called before any VM can have come.
    pub(crate) fn restore(&mut self, engine: &mut Concentrator, now: Instant) {
        let Some(end) = &mut self.0 else { return };
        if let Some(grant) = end.grant.take() {
            grant.take_effect(engine, now);
        }
        let kept = std::mem::take(&mut end.kept);
        let (total, today) = (kept.len(), today());
        // Those that have ports come first: the others must not get them.
        let (mut first, mut last): (Vec<Record>, Vec<Record>) =
            kept.into_iter().partition(|record| record.port.is_some());
        let mut restored = Vec::new();
        let mut moved = 0;
        while let Some(record) = first.pop().or_else(|| last.pop()) {
            match engine.restore(record.reservation(today), now) {
                Ok(id) => restored.push((id, record.seen)),
                Err(CommandError::PortNotFree(_)) => {
                    moved += 1;
                    last.push(Record { port: None, ..record });
                }
                Err(why) => log::warn!("{} is not put back: {why}", record.name),
            }
        }
        let known = restored.into_iter().filter_map(|(id, seen)| {
            let mut known = know(&engine.console(id)?);
            if !known.is_seen_known {
                known = Known { record: Record { seen, ..known.record }, is_seen_known: true };
            }
            Some((id, known))
        });
        end.send(Message::All(known.collect()));
        match total {
            1 => log::info!("1 console is as it was"),
            total => log::info!("{total} consoles are as they were"),
        }
        if moved > 0 {
            log::warn!(
                "{moved} of them lose the port that they had: it is none of this server's client ports any \
                 more"
            );
        }
    }

    /// A console has changed, or has gone. Never waits. Costs a copy of what is kept of it, or, where the
    /// thread has no room, the logarithm of how many it is to be told of.
    pub(crate) fn changed(&mut self, engine: &Concentrator, id: ConsoleId) {
        let Some(end) = &mut self.0 else { return };
        if !end.untold.is_empty() || !end.has_room() {
            end.untold.insert(id);
            return;
        }
        end.tell(engine, id);
    }

    /// Tells the thread what there was no room for, as far as there is now. For when the loop was woken.
    pub(crate) fn retry(&mut self, engine: &Concentrator) {
        let Some(end) = &mut self.0 else { return };
        if end.room.is_refresh_due.swap(false, Ordering::AcqRel) {
            end.untold.extend(engine.consoles().map(|console| console.label.id));
        }
        while !end.untold.is_empty() && end.has_room() {
            if let Some(id) = end.untold.pop_first() {
                end.tell(engine, id);
            }
        }
    }

    /// The server is about to close its ports, which is no change: what there is now is what is kept. Costs a
    /// copy of all that is kept.
    pub(crate) fn freeze(&mut self, engine: &Concentrator) {
        if let Some(end) = self.0.take() {
            let all = engine.consoles().filter(is_kept).map(|console| (console.label.id, know(&console)));
            end.send(Message::All(all.collect()));
        }
    }
}

impl End {
    /// Whether the thread takes another message. If not, it nudges the loop when that changes.
    fn has_room(&self) -> bool {
        let has_room = || self.room.free.load(Ordering::Acquire) > 0;
        has_room() || {
            // The thread may have made room before it could know that it was wanted.
            self.room.is_wanted.swap(true, Ordering::AcqRel);
            has_room()
        }
    }

    fn tell(&self, engine: &Concentrator, id: ConsoleId) {
        self.room.free.fetch_sub(1, Ordering::AcqRel);
        self.send(Message::One(id, engine.console(id).filter(is_kept).map(|console| know(&console))));
    }

    fn send(&self, message: Message) {
        // Fails when the thread has ended, with the process.
        let _ = self.messages.send(message);
    }
}

/// Whether it is kept at all: not what is a stream of an agent's in a VM, unless a rule gives it a port.
fn is_kept(console: &ConsoleView<'_>) -> bool {
    !console.label.of_guest || console.claims.is_some()
}

fn know(console: &ConsoleView<'_>) -> Known {
    let is_used = console.vms > 0 || console.clients > 0;
    let record = Record {
        identity: console.label.identity(),
        name: console.label.name.clone(),
        // A port that is being opened is the console's: it would lose the one it had if this came between.
        port: console.claims.filter(|&port| port != 0),
        shared: console.shared,
        stayed: console.stayed,
        home: console.home,
        seen: Seen::Now,
    };
    Known { record, is_seen_known: is_used }
}

/// Seconds since 1970.
pub(super) fn today() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
