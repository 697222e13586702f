//! The loop's end of logs: a witness of each console, whose bytes go to the logs' thread as far as that has
//! room.
//!
//! **Owns** which console's output waits for room: those that wait are served in turn, one piece each, so a
//! VM that prints without end takes no more of a slow disk than others. **Refuses to know** files.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use vspc_core::concentrator::{Concentrator, ConnId, ConsoleId, LocalOptions, LogOrder, LogReader};
use vspc_core::time::Instant;

use super::Settings;
use super::buffers::Buffers;
use super::layout::Subject;
use super::readers::{Reader, Readers};
use super::reading::{Readings, STALLED, Where, failed};
use super::stream::Piece;
use crate::console_rules::Rules;
use crate::room::Room;

/// What the loop tells the thread.
#[derive(Debug)]
pub(super) enum Message {
    /// What a console is called from now on; before its first piece, which has so many guest bytes before it.
    Subject(ConsoleId, Subject, u64),
    /// It has come, and has printed nothing yet that was told: what it had printed before the start may be
    /// given back.
    Come(ConsoleId, Subject),
    /// What it printed.
    Piece(ConsoleId, Piece),
    /// It is gone.
    End(ConsoleId),
    /// Open all files anew.
    Reopen,
    /// Somebody reads its log.
    Where(ConsoleId, Where),
}

/// The room that there is at first. Before the loop takes any there has to be some for a piece and a subject.
pub(super) fn room() -> Room {
    Room::new(ROOM, charge(PIECE) + SUBJECT_COST)
}

/// What a piece takes up of the room: its bytes, and what it costs to keep them.
pub(super) fn charge(bytes: usize) -> usize {
    bytes + PIECE_COST
}

/// What the loop holds of logs; by default of none.
#[derive(Debug, Default)]
pub struct Logs(Option<End>);

#[derive(Debug)]
struct End {
    messages: mpsc::Sender<Message>,
    room: Arc<Room>,
    buffers: Arc<Buffers>,
    readers: Readers,
    /// What consoles' names are hashed with.
    hasher: RandomState,
    /// Those that have something and found no room.
    waiting: VecDeque<ConnId>,
    /// Names are parts of files' names.
    has_names: bool,
    /// Consoles are given back what they had printed before the start.
    gives_back: bool,
    /// Until when those wait whose VM's name is not known yet.
    unnamed: VecDeque<(Instant, ConnId)>,
    /// Who reads logs.
    readings: Readings,
    /// No console comes any more.
    is_stopping: bool,
    /// Which consoles are logged.
    rules: Rules,
}

/// What came of a reader's turn.
enum Turn {
    Idle,
    Took,
}

impl Logs {
    pub(super) fn new(
        messages: mpsc::Sender<Message>,
        (room, buffers): (Arc<Room>, Arc<Buffers>),
        settings: &Settings,
        readings: Readings,
    ) -> Self {
        Self(Some(End {
            messages,
            room,
            buffers,
            readers: Readers::default(),
            hasher: RandomState::new(),
            waiting: VecDeque::new(),
            has_names: settings.layout.has_names(),
            gives_back: settings.restored > 0,
            unnamed: VecDeque::new(),
            readings,
            is_stopping: false,
            rules: Rules::default(),
        }))
    }

    /// A console has come, or has changed. For [`Output::Changed`](vspc_core::concentrator::Output::Changed).
    pub(crate) fn changed(&mut self, engine: &mut Concentrator, id: ConsoleId, now: Instant) {
        // All that it has printed by now is kept still: it has just come.
        self.look_at(engine, id, usize::MAX, now);
    }

    fn look_at(&mut self, engine: &mut Concentrator, id: ConsoleId, scrollback: usize, now: Instant) {
        let Some(end) = &mut self.0 else { return };
        // The reader of one that is gone is closed by the engine.
        let Some(console) = engine.console(id) else { return };
        let (is_logged, subject) = (end.rules.logs(console.label), Subject::of(console.label));
        match end.readers.of(id) {
            // It has been closed if it is not there any more.
            Some(reader) if !is_logged => drop(engine.kick(reader, now)),
            None if !is_logged => {}
            Some(reader) => end.rename(engine, reader, &subject, now),
            None => end.open(engine, id, &subject, scrollback, now),
        }
    }

    /// Logs only the consoles for which these rules say so. A rule may be about names, which are waited for
    /// then.
    pub(crate) fn choose(&mut self, rules: Rules) {
        if let Some(end) = &mut self.0 {
            end.has_names |= rules.choose_logs();
            end.rules = rules;
        }
    }

    /// The same in an engine that has consoles already: those that are new here are logged with what they
    /// print from now on. Costs a look at each.
    pub(crate) fn choose_anew(&mut self, rules: Rules, engine: &mut Concentrator, now: Instant) {
        self.choose(rules);
        let all: Vec<ConsoleId> = engine.consoles().map(|console| console.label.id).collect();
        all.into_iter().for_each(|id| self.look_at(engine, id, 0, now));
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
        let is_known = self.0.as_mut().is_some_and(|end| end.close(id));
        self.end_if_over();
        is_known
    }

    /// Whether a connection is a log's reader.
    pub(crate) fn has(&self, id: ConnId) -> bool {
        self.0.as_ref().is_some_and(|end| end.readers.get(id).is_some())
    }

    /// Has the thread open all files anew.
    pub(crate) fn reopen(&self) {
        if let Some(end) = &self.0 {
            end.send(Message::Reopen);
        }
    }

    /// Reads a log for an operator. For [`Output::Log`](vspc_core::concentrator::Output::Log).
    pub(crate) fn read(&mut self, engine: &mut Concentrator, order: LogOrder, now: Instant) {
        let Some(end) = &mut self.0 else {
            if let LogOrder::Begin(reader, ..) = order {
                engine.handle_log(reader, failed("the server is shutting down"), true, now);
            }
            return;
        };
        match order {
            LogOrder::Begin(reader, console, query) => {
                if let Some(stalled) = end.readings.make_room(now) {
                    engine.handle_log(stalled, failed(STALLED), true, now);
                }
                let subject = engine.console(console).map(|console| Subject::of(console.label));
                let begun = match subject {
                    Some(subject) => end.readings.begin(reader, subject, *query),
                    None => Err("the console has ended".to_owned()),
                };
                match begun {
                    Ok(wanted) => end.send(Message::Where(console, wanted)),
                    Err(why) => drop(engine.handle_log(reader, failed(&why), true, now)),
                }
            }
            LogOrder::More(reader) => end.readings.more(reader),
            LogOrder::Stop(reader) => end.readings.stop(reader),
        }
    }

    /// Somebody has been given a piece of a log, and takes it or does not.
    pub(crate) fn given(&mut self, reader: LogReader, now: Instant) {
        if let Some(end) = &mut self.0 {
            end.readings.given(reader, now);
        }
    }

    /// A log is read no more.
    pub(crate) fn stop_reading(&mut self, reader: LogReader) {
        if let Some(end) = &mut self.0 {
            end.readings.stop(reader);
        }
    }

    /// A connection has ended: nobody reads logs for it any more.
    pub(crate) fn left(&mut self, conn: ConnId) {
        if let Some(end) = &mut self.0 {
            end.readings.left(conn);
        }
    }

    /// The server is about to stop: no name is waited for any more, and the thread ends once it has all that
    /// consoles have printed.
    pub(crate) fn stop(&mut self, engine: &mut Concentrator, now: Instant) {
        if let Some(end) = &mut self.0 {
            end.is_stopping = true;
            end.give_up_names(engine, None, now);
        }
        self.end_if_over();
    }

    fn end_if_over(&mut self) {
        self.0.take_if(|end| end.is_stopping && end.readers.is_empty());
    }

    /// When [`fire`](Self::fire) has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        Some(self.0.as_ref()?.unnamed.front()?.0)
    }

    /// Logs those without a name whose VM has had its time to tell it.
    pub(crate) fn fire(&mut self, engine: &mut Concentrator, now: Instant) {
        if let Some(end) = &mut self.0 {
            end.give_up_names(engine, Some(now), now);
        }
    }
}

impl End {
    fn open(
        &mut self,
        engine: &mut Concentrator,
        console: ConsoleId,
        subject: &Subject,
        scrollback: usize,
        now: Instant,
    ) {
        let options = LocalOptions::witness().scrollback(scrollback);
        // Fails when the server is going.
        let Ok(id) = engine.open_local(console, options, now) else { return };
        let is_unnamed = self.has_names && subject.name.is_empty();
        if is_unnamed {
            self.unnamed.push_back((now + NAME_PATIENCE, id));
        }
        if !is_unnamed {
            self.tell_of(console, subject);
        }
        let called = self.called(subject);
        let reader = Reader { id, console, called, is_told: false, is_waiting: false, is_unnamed };
        if let Some(gone) = self.readers.insert(reader) {
            self.send(Message::End(gone.console));
        }
    }

    fn rename(&mut self, engine: &mut Concentrator, id: ConnId, subject: &Subject, now: Instant) {
        let called = self.called(subject);
        let Some(reader) = self.readers.get_mut(id) else { return };
        if std::mem::replace(&mut reader.called, called) == called {
            return;
        }
        reader.is_told = false;
        if reader.is_unnamed && !subject.name.is_empty() {
            self.take_for_named(engine, id, now);
        }
    }

    /// Two names are taken for one in one of 2^32 cases: the log goes on under the first then.
    fn called(&self, subject: &Subject) -> u32 {
        self.hasher.hash_one(subject) as u32
    }

    /// A reader waits no more for its console's name.
    fn take_for_named(&mut self, engine: &mut Concentrator, id: ConnId, now: Instant) {
        let Some(reader) = self.readers.get_mut(id) else { return };
        reader.is_unnamed = false;
        let console = reader.console;
        if let Some(label) = engine.console(console).map(|console| console.label) {
            self.tell_of(console, &Subject::of(label));
        }
        self.carry(engine, id, now);
        self.forget_named();
    }

    /// Those that wait for no name any more leave their places to others, and wake nobody when their time is
    /// over.
    fn forget_named(&mut self) {
        let waits = |id| self.readers.get(id).is_some_and(|reader| reader.is_unnamed);
        while self.unnamed.front().is_some_and(|&(_, id)| !waits(id)) {
            self.unnamed.pop_front();
        }
    }

    /// A console has come, and its name is known or will not be.
    fn tell_of(&self, console: ConsoleId, subject: &Subject) {
        if self.gives_back {
            self.send(Message::Come(console, subject.clone()));
        }
    }

    fn give_up_names(&mut self, engine: &mut Concentrator, until: Option<Instant>, now: Instant) {
        while let Some(&(at, id)) = self.unnamed.front() {
            if until.is_some_and(|until| until < at) {
                return;
            }
            self.unnamed.pop_front();
            if self.readers.get(id).is_some_and(|reader| reader.is_unnamed) {
                self.take_for_named(engine, id, now);
            }
        }
        // A fleet that came at once has left room for all of it.
        self.unnamed = VecDeque::new();
    }

    fn carry(&mut self, engine: &mut Concentrator, id: ConnId, now: Instant) -> bool {
        loop {
            let Some(reader) = self.readers.get_mut(id) else { return false };
            if reader.is_waiting || reader.is_unnamed {
                return true;
            }
            if !self.waiting.is_empty() || !self.room.is_there() {
                reader.is_waiting = true;
                self.waiting.push_back(id);
                return true;
            }
            match self.give_turn(engine, id, now) {
                Turn::Idle => return true,
                Turn::Took => {}
            }
        }
    }

    fn retry(&mut self, engine: &mut Concentrator, now: Instant) {
        while let Some(&id) = self.waiting.front() {
            if !self.room.is_there() {
                return;
            }
            self.waiting.pop_front();
            match self.give_turn(engine, id, now) {
                Turn::Took => self.waiting.push_back(id),
                Turn::Idle => {
                    if let Some(reader) = self.readers.get_mut(id) {
                        reader.is_waiting = false;
                    }
                }
            }
        }
    }

    /// Takes a piece of what a reader is offered. There is room for it.
    fn give_turn(&mut self, engine: &mut Concentrator, id: ConnId, now: Instant) -> Turn {
        let Some(reader) = self.readers.get_mut(id) else { return Turn::Idle };
        let console = reader.console;
        let Some(label) = engine.console(console).map(|console| console.label) else { return Turn::Idle };
        let subject = (!reader.is_told).then(|| Subject::of(label));
        let (mut piece, mut begins) = (None, 0);
        let sent = engine.read_local(id, now, |chunk| {
            let mut bytes = self.buffers.take(chunk.len().min(PIECE));
            for run in chunk.runs {
                bytes.extend_from_slice(&run[..run.len().min(PIECE - bytes.len())]);
            }
            let taken = bytes.len();
            begins = chunk.at - chunk.lost;
            piece = Some(Piece { at: chunk.at, bytes: Bytes::from(bytes), time: SystemTime::now() });
            taken
        });
        let Some(piece) = piece.filter(|_| !sent.is_idle()) else { return Turn::Idle };
        reader.is_told = true;
        if let Some(subject) = subject {
            self.room.take(SUBJECT_COST);
            self.send(Message::Subject(console, subject, begins));
        }
        self.room.take(charge(piece.bytes.len()));
        self.send(Message::Piece(console, piece));
        Turn::Took
    }

    fn close(&mut self, id: ConnId) -> bool {
        let Some(reader) = self.readers.remove(id) else { return false };
        // Also of one that has printed nothing: somebody may wait for its log to grow.
        self.send(Message::End(reader.console));
        true
    }

    fn send(&self, message: Message) {
        // Fails when the thread has ended, with the process.
        let _ = self.messages.send(message);
    }
}

/// How many bytes the queue to the thread holds, for all consoles together: a sixth of a second of a VM that
/// prints as fast as one can, for which a thread on a busy machine may have to wait, and more than a thousand
/// that print a line each. When it is full, what follows stays in the journals.
const ROOM: usize = 64 << 20;

/// The longest piece: what the engine offers at once. Less would have it look for where the rest begins.
const PIECE: usize = 288 << 10;

/// What a piece costs beside its bytes: its slot in the channel, its heap block and a counter.
const PIECE_COST: usize = 192;

/// What a subject costs: a name of 128 characters, a suffix, a copy's name.
pub(super) const SUBJECT_COST: usize = 2 << 10;

/// How long a log waits for the name of a VM that has told its UUID: for as long as the engine does before it
/// asks, and a little more. Until then what it prints stays in its journal.
const NAME_PATIENCE: Duration = Duration::from_secs(3);
