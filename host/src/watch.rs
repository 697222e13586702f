//! Readers in other threads: what a console prints is carried out of the loop, with credit.
//!
//! **Owns** the two ends of each watch. The loop's end copies what the engine offers, as far as the other
//! thread has room, and never waits; what there is no room for stays in the console's journal, so that a slow
//! disk lags like a slow client, and its stream says where bytes are missing. **Refuses to know** what the
//! other thread does with the bytes.
//!
//! ```text
//! loop:    Output::Local ─▶ Watches::carry ─ read_local ─▶ Piece ─┐  no room: waits for a nudge
//! thread:                   Watch::next ◀──────────────────────────┘  frees room, nudges the loop
//! ```

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::{Arc, OnceLock, mpsc};

use bytes::{Bytes, BytesMut};
use vspc_core::concentrator::{CommandError, Concentrator, ConnId, LocalOptions};
use vspc_core::time::Instant;

use crate::commands::{Command, Sender};

/// A piece of what a console printed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Piece {
    /// How many guest bytes the console had printed before these.
    pub at: u64,
    /// How many guest bytes are missing right before that: this reader did not keep up.
    pub lost: u64,
    /// The guest's bytes; empty where it only reports a gap.
    pub bytes: Bytes,
}

/// The end of a watch that another thread holds.
#[derive(Debug)]
pub struct Watch {
    pieces: mpsc::Receiver<Result<Piece, CommandError>>,
    room: Arc<Room>,
    commands: Sender,
}

/// The end of a watch that the loop holds.
#[derive(Debug)]
pub struct Sink {
    pieces: mpsc::Sender<Result<Piece, CommandError>>,
    room: Arc<Room>,
}

/// How much the thread still takes, as [`charge`] counts it.
#[derive(Debug)]
struct Room {
    free: AtomicUsize,
    /// The loop has something and found no room.
    is_wanted: AtomicBool,
    /// The thread has dropped its end.
    is_gone: AtomicBool,
    /// What tells the loop to look for that, once the watch is the loop's.
    departed: OnceLock<Arc<AtomicBool>>,
}

/// What a piece takes up of the room: its bytes, and what it costs to keep them.
fn charge(bytes: usize) -> usize {
    bytes + PIECE_COST
}

impl Watch {
    /// Asks the loop for what the console called `name` (by its name or UUID) prints. Never waits.
    ///
    /// Up to `room` bytes of memory are held for this thread, at least 64 KiB and one piece's own cost. A
    /// piece takes up its bytes and 128 bytes more, so a VM that prints a byte at a time fills the room as
    /// well. When it is full, what follows stays in the console's journal.
    ///
    /// # Errors
    ///
    /// The loop has too many commands waiting, or has ended.
    pub fn open(
        commands: &Sender,
        name: &str,
        options: LocalOptions,
        room: usize,
    ) -> Result<Self, mpsc::TrySendError<Command>> {
        let (sender, pieces) = mpsc::channel();
        let room = Arc::new(Room {
            free: AtomicUsize::new(room.max(LEAST_ROOM)),
            is_wanted: false.into(),
            is_gone: false.into(),
            departed: OnceLock::new(),
        });
        let sink = Sink { pieces: sender, room: Arc::clone(&room) };
        commands.try_send(Command::Watch { console: name.to_owned(), options, sink })?;
        Ok(Self { pieces, room, commands: commands.clone() })
    }

    /// Waits for the next piece; `None` when the watch has ended.
    ///
    /// # Errors
    ///
    /// There is no such console, or the server is going.
    pub fn next(&self) -> Result<Option<Piece>, CommandError> {
        let Ok(piece) = self.pieces.recv() else { return Ok(None) };
        let piece = piece?;
        self.room.free.fetch_add(charge(piece.bytes.len()), Ordering::AcqRel);
        if self.room.is_wanted.swap(false, Ordering::AcqRel) {
            self.commands.nudge();
        }
        Ok(Some(piece))
    }
}

/// The loop closes the reader, also of a console that prints nothing, or more than there was room for.
impl Drop for Watch {
    fn drop(&mut self) {
        self.room.is_gone.store(true, Ordering::Release);
        // Either this sees where to tell it, or whoever says where sees that it is gone.
        fence(Ordering::SeqCst);
        if let Some(departed) = self.room.departed.get() {
            departed.store(true, Ordering::Release);
        }
        self.commands.nudge();
    }
}

/// All watches of one loop.
#[derive(Debug, Default)]
pub struct Watches {
    sinks: HashMap<ConnId, Sink>,
    /// Those whose thread had no room.
    waiting: Vec<ConnId>,
    /// Some thread has dropped its end.
    departed: Arc<AtomicBool>,
}

impl Watches {
    /// Carries out [`Command::Watch`].
    pub fn open(
        &mut self,
        engine: &mut Concentrator,
        console: &str,
        options: LocalOptions,
        sink: Sink,
        now: Instant,
    ) {
        let found = engine.find(console).next().ok_or(CommandError::NoConsole);
        match found.and_then(|console| engine.open_local(console, options, now)) {
            Ok(id) => {
                let _ = sink.room.departed.set(Arc::clone(&self.departed));
                fence(Ordering::SeqCst);
                if sink.room.is_gone.load(Ordering::Acquire) {
                    self.departed.store(true, Ordering::Release);
                }
                drop(self.sinks.insert(id, sink));
            }
            // If the thread has gone, nobody wants to know.
            Err(error) => drop(sink.pieces.send(Err(error))),
        }
    }

    /// Copies what a reader is offered to its thread, as far as that has room. For
    /// [`Output::Local`](vspc_core::concentrator::Output::Local). One copy and one allocation a piece.
    pub fn carry(&mut self, engine: &mut Concentrator, id: ConnId, now: Instant) {
        let Some(sink) = self.sinks.get(&id) else { return };
        loop {
            let Some(most) = sink.most() else {
                self.waiting.push(id);
                return;
            };
            let mut is_gone = false;
            let sent = engine.read_local(id, now, |chunk| {
                let mut bytes = BytesMut::with_capacity(chunk.len().min(most));
                for run in chunk.runs {
                    bytes.extend_from_slice(&run[..run.len().min(most - bytes.len())]);
                }
                let taken = bytes.len();
                // Before the thread can have it, and give the room back.
                sink.room.free.fetch_sub(charge(taken), Ordering::AcqRel);
                let piece = Piece { at: chunk.at, lost: chunk.lost, bytes: bytes.freeze() };
                is_gone = sink.pieces.send(Ok(piece)).is_err();
                taken
            });
            if is_gone {
                // It has been closed if it is not there any more.
                let _ = engine.kick(id, now);
                return;
            }
            if sent.is_idle() {
                return;
            }
        }
    }

    /// Tries those again whose thread had no room, and closes those whose thread has gone. For when the loop
    /// was woken. In proportion to the number of the first; a look at each watch where a thread has gone.
    pub fn retry(&mut self, engine: &mut Concentrator, now: Instant) {
        if self.departed.swap(false, Ordering::AcqRel) {
            let gone = self.sinks.iter().filter(|(_, sink)| sink.room.is_gone.load(Ordering::Acquire));
            for id in gone.map(|(&id, _)| id).collect::<Vec<_>>() {
                // It has been closed if it is not there any more.
                let _ = engine.kick(id, now);
            }
        }
        for id in std::mem::take(&mut self.waiting) {
            self.carry(engine, id, now);
        }
    }

    /// A reader has ended: its thread finds the end behind what it still has. Returns whether it was one of
    /// these.
    pub fn close(&mut self, id: ConnId) -> bool {
        self.sinks.remove(&id).is_some()
    }
}

impl Sink {
    /// How many bytes the next piece may have. If none, the thread nudges the loop when that changes.
    fn most(&self) -> Option<usize> {
        self.room.most().or_else(|| {
            // The thread may have made room before it could know that it was wanted. A store in place of the
            // swap might become visible to it only after this load, and neither would see the other.
            self.room.is_wanted.swap(true, Ordering::AcqRel);
            self.room.most()
        })
    }
}

impl Room {
    fn most(&self) -> Option<usize> {
        self.free.load(Ordering::Acquire).checked_sub(PIECE_COST).filter(|most| *most > 0)
    }
}

/// What a piece costs beside its bytes: its slot in the channel, its heap block and the counter that
/// [`Bytes`] may add. Rounded up: the room is a bound on memory.
const PIECE_COST: usize = 128;

/// The least room of a thread: the engine offers up to 64 KiB at once, and a thread is not fed crumbs of
/// that.
const LEAST_ROOM: usize = (64 << 10) + PIECE_COST;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands;
    use vspc_core::concentrator::{Config, Identity, Reservation};
    use vspc_core::vmware::Uuid;

    #[test]
    fn a_watch_that_is_dropped_is_closed_though_its_console_prints_nothing() {
        for is_dropped_before in [false, true] {
            let now = Instant::from_millis(1);
            let (sender, mut commands, socket) = commands::pair().unwrap();
            let mut engine = Concentrator::new(Arc::new(Config::default()), [1; 32], now);
            let identity = Identity::of(Uuid::from_bytes([1; 16]));
            let vm = Reservation { name: "vm1".into(), ..Reservation::new(identity) };
            engine.restore(vm, now).unwrap();
            let mut watches = Watches::default();
            let mut watch = Some(Watch::open(&sender, "vm1", LocalOptions::person(), 0).unwrap());
            if is_dropped_before {
                watch = None;
            }
            for command in commands.take(&socket) {
                let Command::Watch { console, options, sink } = command else { panic!("{command:?}") };
                watches.open(&mut engine, &console, options, sink, now);
            }
            watches.retry(&mut engine, now);
            assert_eq!(watches.sinks.len(), 1);
            let clients =
                |engine: &Concentrator| engine.consoles().map(|console| console.clients).sum::<usize>();
            assert_eq!(clients(&engine), usize::from(!is_dropped_before));
            drop(watch);
            watches.retry(&mut engine, now);
            assert_eq!(clients(&engine), 0);
        }
    }
}
