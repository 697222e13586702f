//! What a part may ask for without knowing who carries it out: outputs, timers, counts, the end of a
//! connection; and the time.
//!
//! A part is given `&mut Effects` beside its own `&mut self`, so that it needs neither the engine nor its
//! neighbours: a test makes an `Effects` of its own and looks at what is in it.

use std::collections::{BTreeSet, VecDeque};

use crate::time::Instant;

use super::counters::Counters;
use super::event::CloseReason;
use super::histogram::Histogram;
use super::id::{ConnId, ConsoleId};
use super::outbox::Outbox;
use super::timers::Timers;

/// The one place where effects gather.
#[derive(Debug, Default)]
pub(super) struct Effects {
    pub(super) outbox: Outbox,
    pub(super) timers: Timers,
    /// Counts that belong to no console, or to one that was forgotten.
    pub(super) counters: Counters,
    /// The same of consoles that are gone and had a list of who may know of them.
    pub(super) withheld: Counters,
    /// How long things took.
    pub(super) histograms: Histograms,
    /// The latest moment the runtime has told.
    pub(super) now: Instant,
    doomed: VecDeque<(ConnId, CloseReason)>,
    /// Legs that are those of other VMs than the console's that they are at, and how those are called.
    parted: VecDeque<(ConnId, ConsoleId, String)>,
    /// Consoles that have room again for those that were put aside.
    roomy: VecDeque<ConsoleId>,
    /// Consoles whose rule may be another now, and with it their client port.
    ruled: VecDeque<ConsoleId>,
    /// Consoles with a guest that has said something, or whose line takes more.
    guests: BTreeSet<ConsoleId>,
    /// Those of them whose line was lost meanwhile.
    cut: BTreeSet<ConsoleId>,
    /// Consoles that yield, and who needs their ports.
    yielding: VecDeque<(ConsoleId, Option<Newcomer>)>,
}

/// What is measured, of all consoles together; times in microseconds.
#[derive(Debug, Default)]
pub(super) struct Histograms {
    /// From VMOTION-BEGIN to the moment at which the host's socket has taken GOAHEAD.
    pub(super) goahead: Histogram,
    /// From the moment at which something typed came to that at which a VM's socket took some of it; what was
    /// held back by a move among it.
    pub(super) typing: Histogram,
    /// Handshakes of TLS.
    pub(super) handshake: Histogram,
    /// How far readers were behind when they took output, in bytes as they are kept.
    pub(super) lag: Histogram,
    /// The same of logs and whatever else nobody waits for.
    pub(super) log_lag: Histogram,
    /// From a change of what a store keeps to the moment at which it is written.
    pub(super) store_lag: Histogram,
}

/// A console that needs a client port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Newcomer {
    pub(super) console: ConsoleId,
    /// Its VM was told of without a port.
    pub(super) is_late: bool,
}

impl Effects {
    pub(super) fn new(now: Instant) -> Self {
        Self { now, ..Self::default() }
    }

    /// Marks a connection to be closed by `settle`, at the end of the present call, after what is queued for
    /// it. Safe in the middle of a change: nothing is closed now.
    pub(super) fn doom(&mut self, id: ConnId, why: CloseReason) {
        self.doomed.push_back((id, why));
    }

    /// Gives a leg of the console `from` one of its own, as [`doom`](Self::doom) ends one: its VM is called
    /// `name` in full, and is not that console's.
    pub(super) fn part(&mut self, id: ConnId, from: ConsoleId, name: String) {
        self.parted.push_back((id, from, name));
    }

    /// Has those that were put aside take part in their console, as far as that has room, before the present
    /// call returns.
    pub(super) fn take_in(&mut self, at: ConsoleId) {
        self.roomy.push_back(at);
    }

    /// Forgets a console that nobody uses, as [`doom`](Self::doom) ends a connection; then `newcomer` gets a
    /// port.
    pub(super) fn yields(&mut self, id: ConsoleId, newcomer: Option<Newcomer>) {
        self.yielding.push_back((id, newcomer));
    }

    /// Has a console that is called otherwise now be served by the rule for that, before the present call
    /// returns.
    pub(super) fn apply_rule(&mut self, id: ConsoleId) {
        self.ruled.push_back(id);
    }

    /// The next of those.
    pub(super) fn next_ruled(&mut self) -> Option<ConsoleId> {
        self.ruled.pop_front()
    }

    /// Whether a console may get a port before the present call returns.
    pub(super) fn is_newcomer(&self, id: ConsoleId) -> bool {
        self.ruled.contains(&id)
            || self
                .yielding
                .iter()
                .any(|(_, newcomer)| newcomer.is_some_and(|newcomer| newcomer.console == id))
    }

    /// The next console to forget, and who needs its port.
    pub(super) fn next_yielding(&mut self) -> Option<(ConsoleId, Option<Newcomer>)> {
        self.yielding.pop_front()
    }

    /// The next console to take in those that were put aside.
    pub(super) fn next_roomy(&mut self) -> Option<ConsoleId> {
        self.roomy.pop_front()
    }

    /// The next leg to get a console of its own, and which it has now.
    pub(super) fn next_parted(&mut self) -> Option<(ConnId, ConsoleId, String)> {
        self.parted.pop_front()
    }

    /// Has the guest at a console be looked after, before the present call returns.
    pub(super) fn look_after_guest(&mut self, at: ConsoleId) {
        self.guests.insert(at);
    }

    /// The line of a console's guest is another one, and what was under way on it is lost.
    pub(super) fn cut_guest(&mut self, at: ConsoleId) {
        self.cut.insert(at);
        self.guests.insert(at);
    }

    /// The next guest to be looked after, and whether its line was cut.
    pub(super) fn next_guest(&mut self) -> Option<(ConsoleId, bool)> {
        let at = self.guests.pop_first()?;
        Some((at, self.cut.remove(&at)))
    }

    /// Whether there is one.
    pub(super) fn has_guest(&self) -> bool {
        !self.guests.is_empty()
    }

    /// Whether there is one.
    pub(super) fn has_doomed(&self) -> bool {
        !self.doomed.is_empty()
    }

    /// The next connection to end.
    pub(super) fn next_doomed(&mut self) -> Option<(ConnId, CloseReason)> {
        self.doomed.pop_front()
    }
}
