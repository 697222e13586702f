//! A console: one serial port of one VM, whatever connection feeds it and whoever looks at it.
//!
//! It outlives both. **Owns** the journal and its readers (out), the uplink (in), the legs, who it belongs to
//! and what is counted. **Refuses to know** connections beyond their ids, and other consoles.

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use crate::admin::lock::{Access, Lock};
use crate::time::Instant;

use super::config::SlowClient;
use super::counters::Counters;
use super::effects::Effects;
use super::event::CloseReason;
use super::fanout::{Fanout, Kind, Limits, Seat};
use super::id::{ConnId, ConsoleId, ListenerId, MoveId};
use super::journal::Pool;
use super::label::Label;
use super::legs::Legs;
use super::rules::RuleId;
use super::tenure::{SETTLED, Tenure};
use super::timers::Timer;
use super::uplink::{Buffers, Uplink};

/// Largest read from one VM, in bytes: its readers are offered those before more is read. Measured: four
/// times 64 KiB costs a busy VM a fifth less processor time per byte; beyond that little is gained, and
/// everybody else would wait longer than the tenth of a millisecond that this takes.
pub const READ_MAX: usize = 256 << 10;

/// The least [`lag_limit`](super::Config::lag_limit) that means anything: a few reads. With less, every busy
/// VM would overtake every client. Less is taken as this.
pub const LEAST_LAG_LIMIT: usize = 4 * READ_MAX;

/// A reader's connection, and which output wakes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ReaderKey {
    pub(super) id: ConnId,
    /// It is inside the process.
    pub(super) is_local: bool,
}

impl ReaderKey {
    pub(super) fn wake(self, fx: &mut Effects) {
        if self.is_local {
            fx.outbox.local(self.id);
        } else {
            fx.outbox.transmit(self.id);
        }
    }
}

/// What a console printed, who reads that, and who of those that came by the admin port may type.
#[derive(Debug)]
struct Audience {
    fanout: Fanout<ReaderKey>,
    lock: Lock<ConnId>,
}

/// One serial port of one VM.
#[derive(Debug)]
pub(super) struct Console {
    pub(super) label: Arc<Label>,
    pub(super) legs: Legs,
    /// Nothing while it has printed nothing and nobody has looked at it.
    audience: Option<Box<Audience>>,
    pub(super) uplink: Uplink,
    pub(super) listener: Option<ListenerId>,
    counters: Option<Box<Counters>>,
    pub(super) tenure: Tenure,
    /// When its VM last printed something.
    pub(super) last_output: Instant,
    /// Its VM is not read until its slowest reader has caught up (`--slow-client wait`).
    pub(super) paused: bool,
    /// What goes over its line are a guest's streams, and text beside them.
    pub(super) has_guest: bool,
    /// What is otherwise here than elsewhere.
    pub(super) rule: RuleId,
    /// Room for output from before the start, in units of [`ROOM_UNIT`]: its own begins behind that.
    room_before: u8,
    /// The client port that a store has reported to be its own also after a restart.
    kept_port: Option<NonZeroU16>,
}

impl Console {
    /// `room_before`: in units of [`ROOM_UNIT`], for [output from before](Self::put_before).
    pub(super) fn new(label: Label, room_before: u8, now: Instant) -> Self {
        Self {
            rule: RuleId::default(),
            room_before,
            label: Arc::new(label),
            legs: Legs::default(),
            audience: None,
            uplink: Uplink::default(),
            listener: None,
            counters: None,
            tenure: Tenure::default(),
            last_output: now,
            paused: false,
            has_guest: false,
            kept_port: None,
        }
    }

    /// What it printed, and who reads that.
    pub(super) fn fanout(&self) -> &Fanout<ReaderKey> {
        self.audience.as_ref().map_or(&UNHEARD, |audience| &audience.fanout)
    }

    pub(super) fn fanout_mut(&mut self) -> &mut Fanout<ReaderKey> {
        &mut self.audience_mut().fanout
    }

    fn audience_mut(&mut self) -> &mut Audience {
        let room = self.room();
        self.audience
            .get_or_insert_with(|| Box::new(Audience { fanout: Fanout::behind(room), lock: Lock::new() }))
    }

    /// How many guest bytes its offsets count up to now.
    pub(super) fn offset(&self) -> u64 {
        self.audience.as_ref().map_or(self.room(), |audience| audience.fanout.journal().guest_head())
    }

    /// Puts what it printed before the start before all else, as much of its end as there is room for; once.
    /// Returns how many bytes that were.
    pub(super) fn put_before(&mut self, guest: &[u8], pool: &mut Pool) -> usize {
        let room = self.room();
        self.fanout_mut().put_before(guest, room, pool)
    }

    /// The offset of the first byte that was printed since the start.
    pub(super) fn starts_at(&self) -> u64 {
        self.room()
    }

    fn room(&self) -> u64 {
        u64::from(self.room_before) * ROOM_UNIT as u64
    }

    /// Who of those that came by the admin port may type.
    pub(super) fn lock(&self) -> &Lock<ConnId> {
        self.audience.as_ref().map_or(&UNLOCKED, |audience| &audience.lock)
    }

    pub(super) fn lock_mut(&mut self) -> &mut Lock<ConnId> {
        &mut self.audience_mut().lock
    }

    /// Its client port, as it is now, is its own also after a restart.
    pub(super) fn is_kept(&self) -> bool {
        self.kept_port.is_some_and(|kept| self.label.port == Some(kept.get()))
    }

    /// A store has reported this port to be kept; `None`: what it has reported does not count any more.
    pub(super) fn note_kept(&mut self, port: Option<u16>) {
        self.kept_port = port.and_then(NonZeroU16::new);
    }

    pub(super) fn id(&self) -> ConsoleId {
        self.label.id
    }

    /// Counts are kept from the first one on: a VM that has never said anything costs none.
    pub(super) fn count(&mut self) -> &mut Counters {
        self.counters.get_or_insert_default()
    }

    pub(super) fn counters(&self) -> Counters {
        self.counters.as_deref().copied().unwrap_or_default()
    }

    /// The clients of this console: sockets and persons inside the process.
    pub(super) fn clients(&self) -> impl Iterator<Item = ConnId> {
        let readers = self.fanout().readers();
        readers.filter(|(_, _, kind)| *kind == Kind::Person).map(|(_, key, _)| key.id)
    }

    /// Whether it is forgotten where there is not room for all: no VM feeds it, and nobody is at it, or only
    /// clients of a VM that was hardly ever there.
    pub(super) fn may_yield(&self) -> bool {
        self.is_unused() || (self.legs.is_empty() && self.tenure.before() < SETTLED)
    }

    /// Nobody feeds it and nobody is at it.
    pub(super) fn is_unused(&self) -> bool {
        self.legs.is_empty() && self.fanout().persons() == 0
    }

    /// Whether what a connection types here reaches the VM, as far as locks go. `is_visitor`: it came by the
    /// admin port.
    pub(super) fn lets_type(&self, id: ConnId, is_visitor: bool, ports_ignore_locks: bool) -> bool {
        match is_visitor {
            true => self.lock().access(id) == Some(Access::Writer),
            false => ports_ignore_locks || self.lock().holder().is_none(),
        }
    }

    /// Takes out the second half of a pair whose first half a connection has, to be given to that one before
    /// anything else: it would take the next command for data.
    pub(super) fn take_half(&mut self, buffers: &mut Buffers) -> Option<(ConnId, u8)> {
        let id = self.legs.holder()?;
        Some((id, self.uplink.take_half(buffers)?))
    }

    /// Somebody holds the input now, at this address, if that is one.
    pub(super) fn input_passes(&mut self, to: Option<IpAddr>, fx: &mut Effects) {
        self.tenure.pass(Some(to), fx.now);
        fx.outbox.changed(self.id());
        if self.has_guest {
            fx.cut_guest(self.id());
        }
        self.wake_input(fx);
    }

    /// Nobody holds the input any more. What was typed waits for somebody to inherit it, or is lost if nobody
    /// can.
    pub(super) fn leave_input(&mut self, buffers: &mut Buffers, fx: &mut Effects) {
        self.tenure.pass(None, fx.now);
        fx.outbox.changed(self.id());
        if !self.legs.is_empty() {
            return;
        }
        if self.has_guest {
            fx.cut_guest(self.id());
        }
        self.drop_input(buffers, fx);
    }

    /// What waits for the VM is lost.
    pub(super) fn drop_input(&mut self, buffers: &mut Buffers, fx: &mut Effects) {
        let (lost, reopened) = self.uplink.clear(buffers);
        if lost > 0 {
            self.count().input_lost += lost as u64;
        }
        if reopened {
            self.reopen_input(fx);
        }
    }

    /// The target of a move feeds this console, and gets what was held back.
    pub(super) fn take_over(
        &mut self,
        moving: MoveId,
        target: ConnId,
        from: Option<IpAddr>,
        fx: &mut Effects,
    ) {
        self.count().vmotions_completed += 1;
        self.legs.take_over(moving, target);
        if self.legs.holder() == Some(target) {
            self.tenure.pass(Some(from), fx.now);
        }
        fx.outbox.changed(self.id());
        self.reopen_line(fx);
    }

    /// A move has ended and left its leg in place: what was held back may go. Returns who feeds the leg, if
    /// that wants the input and stood still until now.
    pub(super) fn release(&mut self, moving: MoveId, fx: &mut Effects) -> Option<ConnId> {
        let claimant = self.legs.release(moving);
        fx.outbox.changed(self.id());
        self.reopen_line(fx);
        claimant
    }

    /// The VM's connection takes `n` bytes of input, wire form.
    pub(super) fn input_taken(&mut self, n: usize, buffers: &mut Buffers, fx: &mut Effects) {
        self.count().bytes_to_vm += n as u64;
        if let Some(since) = self.uplink.take_waiting() {
            fx.histograms.typing.record(fx.now.duration_since(since).as_micros() as u64);
        }
        if self.uplink.took(n, buffers) {
            self.reopen_input(fx);
        }
        if self.has_guest && self.uplink.len() <= GUEST_AHEAD / 2 {
            fx.look_after_guest(self.id());
        }
    }

    /// Tells the connection that input goes to that there is some.
    pub(super) fn wake_input(&self, fx: &mut Effects) {
        if let Some(id) = self.legs.input()
            && !self.uplink.is_empty()
        {
            fx.outbox.transmit(id);
        }
    }

    /// What goes to the VM was held back, and may go: what was typed, and what a guest's session has.
    pub(super) fn reopen_line(&self, fx: &mut Effects) {
        self.wake_input(fx);
        if self.has_guest {
            fx.look_after_guest(self.id());
        }
    }

    /// Has every client read again, beginning one further round the table each time, so that nobody is always
    /// first.
    fn reopen_input(&mut self, fx: &mut Effects) {
        let clients = self.fanout().persons();
        let first = self.uplink.next_turn(clients);
        let in_turn = self.clients().skip(first).chain(self.clients().take(first));
        in_turn.for_each(|id| fx.outbox.receive(id));
    }

    /// Wakes every reader.
    pub(super) fn wake_readers(&self, fx: &mut Effects) {
        self.fanout().readers().for_each(|(_, key, _)| key.wake(fx));
    }

    /// Pauses a VM whose slowest reader has no room for another read.
    pub(super) fn consider_pause(&mut self, limits: Limits, fx: &mut Effects) {
        if !self.paused && self.fanout().slowest_lag() > pause_above(limits) {
            self.paused = true;
            fx.timers.set(Timer::Wait(self.id()), fx.now + WAIT_LIMIT);
        }
    }

    /// Lets a paused VM go on once its slowest reader has taken a quarter of the lag limit.
    pub(super) fn consider_resume(&mut self, limits: Limits, fx: &mut Effects) {
        if !self.paused || self.fanout().slowest_lag() > resume_at(limits) {
            return;
        }
        fx.timers.cancel(Timer::Wait(self.id()));
        self.paused = false;
        self.legs.read().for_each(|id| fx.outbox.receive(id));
    }

    /// Readers that a VM has waited for long enough are disconnected.
    pub(super) fn end_wait(&mut self, limits: Limits, fx: &mut Effects) {
        let limit = resume_at(limits);
        let slow: Vec<ReaderKey> =
            self.fanout().lags().filter(|&(_, lag)| lag > limit).map(|(key, _)| key).collect();
        for key in slow {
            self.lose_reader(key, fx);
        }
        self.consider_resume(limits, fx);
    }

    /// A reader did not keep up and cannot live with a gap.
    pub(super) fn lose_reader(&mut self, key: ReaderKey, fx: &mut Effects) {
        self.count().clients_too_slow += 1;
        fx.doom(key.id, CloseReason::TooSlow);
    }

    /// Gives all of its output back: nobody will read it.
    pub(super) fn clear_output(&mut self, pool: &mut Pool) {
        if let Some(audience) = &mut self.audience {
            audience.fanout.clear(pool);
        }
    }

    /// Starts the clock of a console that nobody uses any more, or stops it. One that runs goes on: a witness
    /// that comes or goes does not make it young again.
    pub(super) fn consider_expiry(&self, expire: Duration, fx: &mut Effects) {
        let timer = Timer::Expire(self.id());
        if !self.is_unused() {
            fx.timers.cancel(timer);
        } else if !fx.timers.is_set(timer) {
            fx.timers.set(timer, fx.now + expire);
        }
    }

    /// The clock that runs, if one does, ends as if it had been set by the second time and not by the first.
    pub(super) fn change_expiry(&self, from: Duration, to: Duration, fx: &mut Effects) {
        let timer = Timer::Expire(self.id());
        if from != to
            && let Some(at) = fx.timers.deadline(timer)
        {
            // One that was to be never is counted from now on.
            let run = from.saturating_sub(at.duration_since(fx.now));
            let run = if at == fx.now + from { Duration::ZERO } else { run };
            fx.timers.set(timer, fx.now + to.saturating_sub(run));
        }
    }

    /// Whether this reader can live with a gap in its stream.
    pub(super) fn may_skip(kind: Kind, is_raw: bool, slow: SlowClient) -> bool {
        kind == Kind::Witness || (slow != SlowClient::Disconnect && !is_raw)
    }

    /// A reader leaves its seat. Returns whether it is owed the second half of a pair.
    pub(super) fn detach_reader(&mut self, seat: Seat, fx: &mut Effects) -> bool {
        fx.outbox.changed(self.id());
        self.fanout_mut().detach(seat)
    }

    /// Fails a debug build where what is kept twice does not agree.
    #[cfg(any(debug_assertions, test))]
    pub(super) fn check_invariants(&self) {
        self.fanout().check_invariants();
        self.legs.check_invariants();
        assert!(!self.paused || self.fanout().persons() > 0, "{} waits for nobody", self.id());
    }
}

/// Under `--slow-client wait`, the lag of the slowest reader above which a VM is paused, in bytes: below it
/// one more read fits, and what a segment is rounded to, before that reader is overtaken.
fn pause_above(limits: Limits) -> u64 {
    limits.lag - 2 * READ_MAX as u64
}

/// The lag of the slowest reader at which a paused VM goes on: far enough below [`pause_above`] that a VM is
/// not stopped and started with each read, and never below 0, because the lag limit is at least
/// [`LEAST_LAG_LIMIT`].
fn resume_at(limits: Limits) -> u64 {
    pause_above(limits) - limits.lag / 4
}

/// How much of what a guest is sent waits for its VM's socket at most: beyond that its session decides still
/// what goes first.
pub(super) const GUEST_AHEAD: usize = 128 << 10;

/// In what steps room is made for output from before the start.
pub(super) const ROOM_UNIT: usize = 16 << 10;

/// Nobody came by the admin port.
static UNLOCKED: Lock<ConnId> = Lock::new();

/// A console that has printed nothing, and at which nobody is.
static UNHEARD: Fanout<ReaderKey> = Fanout::behind(0);

/// Under `--slow-client wait`, how long a VM waits for one reader: a VMOTION-BEGIN may be behind the
/// bytes not read, and the host waits 5 s for its answer.
const WAIT_LIMIT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vmware::Uuid;

    #[test]
    fn a_guest_whose_line_was_held_back_is_looked_after_when_it_is_not_any_more() {
        let label = Label {
            id: ConsoleId { index: 3, generation: 1 },
            uuid: Uuid::from_bytes([1; 16]),
            suffix: "".into(),
            clone: Box::default(),
            name: String::new(),
            port: None,
            of_guest: false,
        };
        let mut fx = Effects::default();
        let mut console = Console::new(label, 0, fx.now);
        console.reopen_line(&mut fx);
        assert_eq!(fx.next_guest(), None, "there is none");
        console.has_guest = true;
        // Its session may have what nobody has typed: of that the uplink knows nothing.
        assert!(console.uplink.is_empty());
        console.reopen_line(&mut fx);
        assert_eq!(fx.next_guest(), Some((console.id(), false)));
        console.release(MoveId { index: 0, generation: 1 }, &mut fx);
        assert_eq!(fx.next_guest(), Some((console.id(), false)));
    }
}
