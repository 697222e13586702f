//! The loop's end of watches: a witness of each console that is watched, whose bytes go to the watches'
//! thread as far as that has room.
//!
//! **Owns** which consoles are watched, and which output waits for room: those that wait are served in turn,
//! one piece each. A console that no watch is about has no witness and costs nothing. **Refuses to know**
//! what is looked for.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc;

use bytes::BytesMut;
use vspc_core::concentrator::{Concentrator, ConnId, ConsoleId, LocalOptions};
use vspc_core::time::Instant;

use super::watch::Watch;
use super::watcher::Message;
use crate::room::Room;

/// The room that there is at first; before the loop takes any, there has to be some for a piece.
pub(super) fn room() -> Room {
    Room::new(ROOM, charge(PIECE))
}

/// What a piece takes up of the room: its bytes, and what it costs to keep them.
pub(super) fn charge(bytes: usize) -> usize {
    bytes + PIECE_COST
}

/// The numbers of the watches whose bits these are.
pub(super) fn numbers(watches: u64) -> impl Iterator<Item = usize> {
    (0..u64::BITS as usize).filter(move |number| watches >> number & 1 == 1)
}

/// What the loop holds of watches; by default there are none.
#[derive(Debug, Default)]
pub struct Watching(Option<End>);

#[derive(Debug)]
struct End {
    watches: Arc<[Watch]>,
    messages: mpsc::Sender<Message>,
    room: Arc<Room>,
    readers: HashMap<ConnId, Reader>,
    /// The witness of a console that is watched, and the watches that are about it.
    by_console: HashMap<ConsoleId, (ConnId, u64)>,
    /// Those that have something and found no room.
    waiting: VecDeque<ConnId>,
}

#[derive(Debug)]
struct Reader {
    console: ConsoleId,
    is_waiting: bool,
}

impl Watching {
    pub(super) fn new(watches: Arc<[Watch]>, messages: mpsc::Sender<Message>, room: Arc<Room>) -> Self {
        let (readers, by_console) = (HashMap::new(), HashMap::new());
        Self(Some(End { watches, messages, room, readers, by_console, waiting: VecDeque::new() }))
    }

    /// Takes the place of others, in an engine that has consoles already: what they print from now on is
    /// looked through. Costs a look at each console.
    pub(crate) fn replace(&mut self, new: Self, engine: &mut Concentrator, now: Instant) {
        let old = std::mem::replace(self, new);
        for (id, _) in old.0.into_iter().flat_map(|end| end.by_console.into_values()) {
            // It has been closed if it is not there any more.
            let _ = engine.kick(id, now);
        }
        if let Some(end) = &mut self.0 {
            let all: Vec<ConsoleId> = engine.consoles().map(|console| console.label.id).collect();
            all.into_iter().for_each(|id| end.changed(engine, id, 0, now));
        }
    }

    /// A console has come, or has changed. For [`Output::Changed`](vspc_core::concentrator::Output::Changed).
    pub(crate) fn changed(&mut self, engine: &mut Concentrator, id: ConsoleId, now: Instant) {
        if let Some(end) = &mut self.0 {
            // All that it has printed by now is kept still, if it has just come, or told its name.
            end.changed(engine, id, usize::MAX, now);
        }
    }

    /// Copies what a reader is offered to the thread, as far as that has room. Returns whether it is one of
    /// these. For [`Output::Local`](vspc_core::concentrator::Output::Local). One copy and one allocation a
    /// piece.
    pub(crate) fn carry(&mut self, engine: &mut Concentrator, id: ConnId, now: Instant) -> bool {
        self.0.as_mut().is_some_and(|end| end.carry(engine, id, now))
    }

    /// Tries those again for which the thread had no room. For when the loop was woken.
    pub(crate) fn retry(&mut self, engine: &mut Concentrator, now: Instant) {
        if let Some(end) = &mut self.0 {
            end.retry(engine, now);
        }
    }

    /// A reader has ended. Returns whether it was one of these.
    pub(crate) fn close(&mut self, id: ConnId) -> bool {
        self.0.as_mut().is_some_and(|end| end.close(id))
    }

    /// Whether a connection is a watch's reader.
    pub(crate) fn has(&self, id: ConnId) -> bool {
        self.0.as_ref().is_some_and(|end| end.readers.contains_key(&id))
    }
}

impl End {
    fn changed(&mut self, engine: &mut Concentrator, id: ConsoleId, scrollback: usize, now: Instant) {
        // The reader of one that is gone is closed by the engine.
        let Some(console) = engine.console(id) else { return };
        let about = self.watches.iter().enumerate().filter(|(_, watch)| watch.consoles.means(console.label));
        let watches = about.fold(0, |bits, (number, _)| bits | 1 << number);
        match self.by_console.get(&id).copied() {
            None if watches == 0 => {}
            None => {
                let options = LocalOptions::witness().scrollback(scrollback);
                // Fails when the server is going.
                let Ok(reader) = engine.open_local(id, options, now) else { return };
                self.send(Message::Watched(id, watches));
                self.readers.insert(reader, Reader { console: id, is_waiting: false });
                self.by_console.insert(id, (reader, watches));
            }
            Some((reader, _)) if watches == 0 => {
                // It has been closed if it is not there any more.
                let _ = engine.kick(reader, now);
            }
            Some((_, known)) if known == watches => {}
            Some((reader, _)) => {
                self.by_console.insert(id, (reader, watches));
                self.send(Message::Watched(id, watches));
            }
        }
    }

    fn carry(&mut self, engine: &mut Concentrator, id: ConnId, now: Instant) -> bool {
        loop {
            let Some(reader) = self.readers.get_mut(&id) else { return false };
            if reader.is_waiting {
                return true;
            }
            if !self.waiting.is_empty() || !self.room.is_there() {
                reader.is_waiting = true;
                self.waiting.push_back(id);
                return true;
            }
            if !self.give_turn(engine, id, now) {
                return true;
            }
        }
    }

    fn retry(&mut self, engine: &mut Concentrator, now: Instant) {
        while let Some(&id) = self.waiting.front() {
            if !self.room.is_there() {
                return;
            }
            self.waiting.pop_front();
            if self.give_turn(engine, id, now) {
                self.waiting.push_back(id);
            } else if let Some(reader) = self.readers.get_mut(&id) {
                reader.is_waiting = false;
            }
        }
    }

    /// Takes a piece of what a reader is offered. There is room for it. Returns whether there was any.
    fn give_turn(&mut self, engine: &mut Concentrator, id: ConnId, now: Instant) -> bool {
        let Some(console) = self.readers.get(&id).map(|reader| reader.console) else { return false };
        let mut piece = None;
        let sent = engine.read_local(id, now, |chunk| {
            let mut bytes = BytesMut::with_capacity(chunk.len().min(PIECE));
            for run in chunk.runs {
                bytes.extend_from_slice(&run[..run.len().min(PIECE - bytes.len())]);
            }
            let taken = bytes.len();
            piece = Some((chunk.lost, bytes.freeze()));
            taken
        });
        let Some((lost, bytes)) = piece.filter(|_| !sent.is_idle()) else { return false };
        self.room.take(charge(bytes.len()));
        self.send(Message::Piece { console, lost, bytes });
        true
    }

    fn close(&mut self, id: ConnId) -> bool {
        let Some(reader) = self.readers.remove(&id) else { return false };
        if self.by_console.get(&reader.console).is_some_and(|(its, _)| *its == id) {
            self.by_console.remove(&reader.console);
            self.send(Message::End(reader.console));
        }
        true
    }

    fn send(&self, message: Message) {
        // Fails when the thread has ended, with the process.
        let _ = self.messages.send(message);
    }
}

/// What may wait for the thread, in bytes: a tenth of a second of a VM that prints 40 MB/s.
const ROOM: usize = 4 << 20;

/// The largest piece: as much as the loop reads at once from a VM.
const PIECE: usize = 64 << 10;

/// What a piece costs besides its bytes.
const PIECE_COST: usize = 128;
