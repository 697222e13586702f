//! A console: one serial port of one VM, whatever connection feeds it and whoever looks at it.
//!
//! It outlives both. Holds the journal (out), the uplink (in), who is attached; the engine's part of it
//! here is what concerns readers: waking them, letting go of what nobody needs, and what happens to
//! those who do not keep up.

use std::sync::Arc;
use std::time::Duration;

use crate::telnet::IAC;
use crate::time::Instant;
use crate::vmware::Uuid;

use super::Concentrator;
use super::config::SlowClient;
use super::conn::{Closing, Early, Mode};
use super::counters::Counters;
use super::event::{CloseReason, Label, What};
use super::id::{ConnId, ConsoleId, ListenerId};
use super::journal::Journal;
use super::timers::Timer;
use super::uplink::Uplink;
use super::vmotion::{MoveId, State};

/// Largest read from one VM: its readers are offered those bytes before more is read. An eighth of the
/// default lag limit, so that no healthy reader comes near it.
pub(super) const READ_MAX: usize = 256 << 10;

/// What a VM connection may say before it is known whose it is; then the oldest is dropped and counted.
/// Reading never stops: the UUID may be behind the data.
const EARLY_LIMIT: u64 = 64 << 10;

/// Under `--slow-client wait`, how long a VM waits for one reader: a VMOTION-BEGIN may be behind the
/// bytes not read, and the host waits 5 s for its answer.
const WAIT_LIMIT: Duration = Duration::from_secs(2);

/// What tells consoles apart.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Identity {
    pub(super) uuid: Uuid,
    /// Empty without multi-console.
    pub(super) suffix: Box<str>,
}

/// One connection's worth of a console.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leg {
    /// `None`: its source has ended and the move's target has not taken over yet.
    pub(super) conn: Option<ConnId>,
    pub(super) moving: Option<MoveId>,
}

#[derive(Debug)]
pub(super) struct Console {
    pub(super) label: Arc<Label>,
    /// Oldest first; input goes to the last.
    pub(super) legs: Vec<Leg>,
    pub(super) clients: Vec<ConnId>,
    pub(super) journal: Journal,
    pub(super) uplink: Uplink,
    pub(super) listener: Option<ListenerId>,
    counters: Option<Box<Counters>>,
    pub(super) last_output: Instant,
    /// Its VM is not read until its slowest reader has caught up (`--slow-client wait`).
    pub(super) paused: bool,
    /// It was said that two connections feed it.
    pub(super) legs_told: bool,
}

impl Console {
    pub(super) fn new(label: Label, now: Instant) -> Self {
        Self {
            label: Arc::new(label),
            legs: Vec::new(),
            clients: Vec::new(),
            journal: Journal::default(),
            uplink: Uplink::default(),
            listener: None,
            counters: None,
            last_output: now,
            paused: false,
            legs_told: false,
        }
    }

    /// Counts are kept from the first one on: a VM that has never said anything costs none.
    pub(super) fn count(&mut self) -> &mut Counters {
        self.counters.get_or_insert_default()
    }

    pub(super) fn counters(&self) -> Counters {
        self.counters.as_deref().copied().unwrap_or_default()
    }
}

impl Concentrator {
    /// Takes in what a VM connection printed: a run of wire form with whole pairs.
    pub(super) fn print(&mut self, console: ConsoleId, wire: &[u8], pairs: usize, now: Instant) {
        let Some(printed) = self.consoles.get_mut(console) else { return };
        printed.journal.append(wire, pairs, &mut self.pool);
        printed.count().bytes_from_vm += (wire.len() - pairs) as u64;
        printed.last_output = now;
        self.after_print(console, now);
    }

    /// Takes over what was said before its console was known.
    pub(super) fn adopt_early(&mut self, console: ConsoleId, early: Early, now: Instant) {
        let Some(adopting) = self.consoles.get_mut(console) else { return };
        let before = adopting.journal.guest_head();
        adopting.journal.adopt(early.journal, &mut self.early_pool, &mut self.pool);
        let printed = adopting.journal.guest_head() - before;
        if printed > 0 {
            adopting.count().bytes_from_vm += printed;
            adopting.last_output = now;
            self.after_print(console, now);
        }
    }

    fn after_print(&mut self, console: ConsoleId, now: Instant) {
        self.by_silence.touch(console.index);
        self.trim(console);
        self.wake_readers(console);
        if self.config.slow_client == SlowClient::Wait {
            self.consider_pause(console, now);
        }
        self.trim_memory();
    }

    /// Keeps bytes of a connection that has no console, dropping the oldest beyond the limit, or where the
    /// memory for such bytes is used up.
    pub(super) fn print_early(&mut self, id: ConnId, wire: &[u8], pairs: usize) {
        let mut kept = self.keep_early(id, wire, pairs);
        while kept > EARLY_LIMIT || (kept > 0 && self.early_pool.is_over()) {
            let Some(early) =
                self.conns.get_mut(id).and_then(|conn| conn.vm_mut()).and_then(|vm| vm.early.as_mut())
            else {
                return;
            };
            let dropped = early.journal.drop_oldest(&mut self.early_pool).unwrap_or(0) as u64;
            self.retired.early_bytes_dropped += dropped;
            kept -= dropped;
        }
    }

    /// Keeps bytes of a target that has taken over until its source's last bytes are in. If that would be
    /// too many, they are in.
    pub(super) fn print_adopted(&mut self, id: ConnId, wire: &[u8], pairs: usize, now: Instant) {
        let kept = self.keep_early(id, wire, pairs);
        if (kept > self.lag_limit() / 2 || self.early_pool.is_over())
            && let Some(moving) = self.conns.get(id).and_then(|conn| conn.vm()).and_then(|vm| vm.moving)
        {
            self.quiet_timer(moving, now);
        }
    }

    /// Returns how many bytes are kept now.
    fn keep_early(&mut self, id: ConnId, wire: &[u8], pairs: usize) -> u64 {
        let Some(vm) = self.conns.get_mut(id).and_then(|conn| conn.vm_mut()) else { return 0 };
        let journal = &mut vm.early.get_or_insert_default().journal;
        journal.append(wire, pairs, &mut self.early_pool);
        journal.head() - journal.tail()
    }

    /// Wakes every reader of a console.
    pub(super) fn wake_readers(&mut self, console: ConsoleId) {
        let Some(woken) = self.consoles.get(console) else { return };
        for &client in &woken.clients {
            if let Some(conn) = self.conns.get_mut(client) {
                self.outbox.transmit(client, &mut conn.announced);
            }
        }
    }

    /// Lets go of what is beyond the scrollback and nobody needs, and overtakes readers that are behind
    /// by more than the lag limit. Costs one look at each reader.
    pub(super) fn trim(&mut self, console: ConsoleId) {
        let Some(trimmed) = self.consoles.get_mut(console) else { return };
        let journal = &mut trimmed.journal;
        let keep = self.config.scrollback as u64;
        if journal.oldest_end() + keep > journal.head() {
            return;
        }
        let mut needed = journal.head() - keep;
        let oldest_end = journal.oldest_end();
        // Whoever is served last is asked first: while it needs the oldest segment, the others do not
        // matter.
        for &client in trimmed.clients.iter().rev() {
            if needed < oldest_end {
                break;
            }
            if let Some(reader) = self.conns.get(client).and_then(|conn| conn.client())
                && reader.overtaken.is_none()
            {
                needed = needed.min(reader.needs());
            }
        }
        journal.release(needed, &mut self.pool);
        let limit = self.lag_limit();
        while let Some(trimmed) = self.consoles.get(console)
            && trimmed.journal.head() - trimmed.journal.tail() > limit
        {
            self.overtake(console);
        }
    }

    /// Drops the oldest segment of a console's journal. Readers that still needed it skip it, and will be
    /// told when they can take bytes again; or they are disconnected.
    fn overtake(&mut self, console: ConsoleId) {
        let Some(overtaken) = self.consoles.get_mut(console) else { return };
        let end = overtaken.journal.oldest_end();
        let mut readers = Vec::new();
        for &client in &overtaken.clients {
            let Some(conn) = self.conns.get_mut(client) else { continue };
            let Some(reader) =
                conn.client().filter(|reader| reader.overtaken.is_none() && reader.needs() < end)
            else {
                continue;
            };
            let (mut at, jump, is_guest) = (reader.at, reader.jump, reader.mode.is_guest());
            if !is_guest && overtaken.journal.is_mid_pair(at) {
                // The second half of a pair goes with its first, whatever follows.
                conn.control.push_front(IAC);
                at += 1;
            }
            // What was printed before it came is a courtesy: it goes without a word.
            at = jump.map_or(at, |(_, resume)| resume);
            let Some(reader) = conn.client_mut() else { continue };
            reader.at = at;
            reader.jump = None;
            if at < end {
                reader.overtaken = Some(overtaken.journal.guest_at(at));
                readers.push(client);
            }
        }
        overtaken.journal.drop_oldest(&mut self.pool);
        for reader in readers {
            self.judge_overtaken(reader);
        }
    }

    /// Disconnects a reader that was overtaken, unless it may skip or may yet turn out to be one that may.
    /// Not left until it takes bytes again: it may never do so.
    pub(super) fn judge_overtaken(&mut self, id: ConnId) {
        let Some(reader) = self.conns.get(id).and_then(|conn| conn.client()) else { return };
        let may_stay = match reader.mode {
            _ if self.config.slow_client == SlowClient::Disconnect => false,
            Mode::Raw { .. } => false,
            Mode::Undecided | Mode::Telnet | Mode::Local => true,
        };
        if reader.overtaken.is_some() && !may_stay {
            let console = reader.console;
            self.count_in(console).clients_too_slow += 1;
            let now = self.now;
            self.close(id, CloseReason::TooSlow, now);
        }
    }

    /// Keeps all journals within their common memory: the longest silent gives first.
    fn trim_memory(&mut self) {
        while self.pool.is_over()
            && let Some(index) = self.by_silence.longest_silent()
        {
            match self.consoles.id_at(index) {
                Some(console)
                    if self.consoles.get(console).is_some_and(|c| c.journal.tail() < c.journal.head()) =>
                {
                    self.overtake(console);
                }
                _ => self.by_silence.remove(index),
            }
        }
    }

    /// Brings a reader that was overtaken back into the journal. Called when it can take bytes again.
    /// Undecided readers wait until it is known what they are.
    pub(super) fn catch_up(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id).filter(|conn| conn.closing != Some(Closing::Farewell)) else {
            return;
        };
        let Some(reader) = conn.client() else { return };
        let (Some(since), mode, console) = (reader.overtaken, reader.mode, reader.console) else { return };
        let Some(read) = self.consoles.get_mut(console) else { return };
        if mode == Mode::Undecided {
            return;
        }
        let at = read.journal.resume_at(self.config.scrollback as u64);
        let missed = read.journal.guest_at(at) - since;
        read.count().bytes_skipped += missed;
        let notice = format!("\r\n[vspc: {missed} bytes skipped, this client did not keep up]\r\n");
        if mode == Mode::Telnet {
            conn.control.buffer().extend_from_slice(notice.as_bytes());
        }
        if let Some(reader) = conn.client_mut() {
            reader.at = at;
            reader.overtaken = None;
        }
        self.tell(id, What::ReaderSkipped(missed));
    }

    /// How far the slowest reader of a console is behind.
    fn slowest_lag(&self, console: ConsoleId) -> u64 {
        let Some(read) = self.consoles.get(console) else { return 0 };
        let lag = |&client: &ConnId| {
            let reader = self.conns.get(client)?.client()?;
            reader.overtaken.is_none().then(|| read.journal.head() - reader.needs())
        };
        read.clients.iter().filter_map(lag).max().unwrap_or(0)
    }

    /// Pauses a VM whose slowest reader has no room for another read.
    fn consider_pause(&mut self, console: ConsoleId, now: Instant) {
        if self.slowest_lag(console) + 2 * READ_MAX as u64 <= self.lag_limit() {
            return;
        }
        if let Some(paused) = self.consoles.get_mut(console)
            && !paused.paused
        {
            paused.paused = true;
            self.timers.set(Timer::Wait(console), now + WAIT_LIMIT);
        }
    }

    /// Lets a paused VM go on once its slowest reader has freed a quarter of the ring.
    pub(super) fn consider_resume(&mut self, console: ConsoleId) {
        if !self.consoles.get(console).is_some_and(|console| console.paused)
            || self.slowest_lag(console) > self.lag_limit() / 4 * 3
        {
            return;
        }
        self.timers.cancel(Timer::Wait(console));
        let Some(resumed) = self.consoles.get_mut(console) else { return };
        resumed.paused = false;
        let legs = resumed.legs.clone();
        for leg in legs {
            let source = leg.moving.and_then(|id| self.moves.get(id)).and_then(|moved| moved.source);
            for id in leg.conn.into_iter().chain(source) {
                if let Some(conn) = self.conns.get_mut(id) {
                    self.outbox.receive(id, &mut conn.announced);
                }
            }
        }
    }

    /// Readers that a VM has waited for long enough are disconnected.
    pub(super) fn end_wait(&mut self, console: ConsoleId, now: Instant) {
        let Some(waiting) = self.consoles.get(console) else { return };
        let limit = self.lag_limit() / 4 * 3;
        let head = waiting.journal.head();
        for client in waiting.clients.clone() {
            let behind = self
                .conns
                .get(client)
                .and_then(|conn| conn.client())
                .map_or(0, |reader| head - reader.needs());
            if behind > limit {
                if let Some(console) = self.consoles.get_mut(console) {
                    console.count().clients_too_slow += 1;
                }
                self.close(client, CloseReason::TooSlow, now);
            }
        }
        self.consider_resume(console);
    }

    /// How far a reader may fall behind: the lag limit, but no less than a few reads.
    pub(super) fn lag_limit(&self) -> u64 {
        self.config.lag_limit.max(self.config.scrollback).max(4 * READ_MAX) as u64
    }

    /// The connection that input goes to now; `None` while it is held or there is no VM.
    pub(super) fn input_leg(&self, console: ConsoleId) -> Option<ConnId> {
        let leg = self.consoles.get(console)?.legs.last()?;
        match leg.moving.and_then(|id| self.moves.get(id)).map(|moved| moved.state) {
            None | Some(State::Adopting | State::Over) => leg.conn,
            Some(State::Begun | State::Away | State::AwayOrphan | State::Peered | State::PeeredOrphan) => {
                None
            }
        }
    }

    /// Tells the connection that input goes to that there is some.
    pub(super) fn wake_input(&mut self, console: ConsoleId) {
        if let Some(id) = self.input_leg(console)
            && self.consoles.get(console).is_some_and(|console| !console.uplink.is_empty())
            && let Some(conn) = self.conns.get_mut(id)
        {
            self.outbox.transmit(id, &mut conn.announced);
        }
    }

    /// A VM's queue has room again: its clients are read, the one after the last first.
    pub(super) fn reopen_input(&mut self, console: ConsoleId) {
        let Some(reopened) = self.consoles.get_mut(console) else { return };
        let turn = reopened.clients.len().min(1);
        reopened.clients.rotate_left(turn);
        for &client in &reopened.clients {
            if let Some(conn) = self.conns.get_mut(client) {
                self.outbox.receive(client, &mut conn.announced);
            }
        }
    }

    /// Input is about to go to another connection: the one that has taken half a pair gets the other half
    /// before anything else, or it would take the next command for data.
    pub(super) fn finish_input(&mut self, console: ConsoleId) {
        if let Some(finished) = self.consoles.get_mut(console)
            && let Some(id) = finished.legs.last().and_then(|leg| leg.conn)
            && let Some(conn) = self.conns.get_mut(id)
            && let Some(half) = finished.uplink.take_half(&mut self.buffers)
        {
            conn.control.push_front(half);
            self.wake(id);
        }
    }

    /// A leg of a console has gone. What was meant for it goes to the next, or is lost with the last.
    pub(super) fn remove_leg(&mut self, console: ConsoleId, index: usize, now: Instant) {
        let was_last = self.consoles.get(console).is_some_and(|console| index + 1 == console.legs.len());
        if was_last {
            self.finish_input(console);
        }
        let Some(losing) = self.consoles.get_mut(console) else { return };
        losing.legs.remove(index);
        if losing.legs.is_empty() {
            let (lost, reopened) = losing.uplink.clear(&mut self.buffers);
            if lost > 0 {
                losing.count().input_lost += lost as u64;
            }
            if reopened {
                self.reopen_input(console);
            }
            self.consider_expiry(console, now);
        } else if was_last {
            self.wake_input(console);
        }
    }

    /// Starts or stops the clock of a console that nobody uses.
    pub(super) fn consider_expiry(&mut self, console: ConsoleId, now: Instant) {
        let Some(considered) = self.consoles.get(console) else { return };
        if considered.legs.is_empty() && considered.clients.is_empty() {
            self.timers.set(Timer::Expire(console), now + self.config.vm_expire);
        } else {
            self.timers.cancel(Timer::Expire(console));
        }
    }

    pub(super) fn expire(&mut self, id: ConsoleId) {
        self.tell_console(id, What::ConsoleExpired);
        self.close_port(id);
        let Some(mut console) = self.consoles.remove(id) else { return };
        self.by_silence.remove(id.index);
        console.journal.clear(&mut self.pool);
        self.retired += console.counters();
        let identity = Identity { uuid: console.label.uuid, suffix: console.label.suffix.as_str().into() };
        self.by_identity.remove(&identity);
    }
}
