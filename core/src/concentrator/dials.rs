//! Connections that we make: for consoles and for lines, to where, and when the next is tried.
//!
//! **Owns** whom a console is forwarded to, by its rule or because its VM asks for it, which lines are
//! connected to, how far each of these is, up to where a target has been shown its console's output, and that
//! a target that is down is tried again, soon but not by all at once. **Refuses to know** connections: the
//! engine makes them and tells what became of them.
//!
//! ```text
//!            due, its target has room            connected
//!  Waiting ────────────────────────▶ Dialling ─────────────▶ Joined
//!   ▲   ▲  due, it has none ▶ Queued ─┘  │                     │
//!   │   └────────────────────────────────┘ failed              │
//!   └──────────────────────────────────────────────────────────┘ ended
//!  Off: its console has no VM
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::time::Instant;

use super::fanout::Stand;
use super::id::{ConnId, ConsoleId};
use super::target::Target;

/// What is connected to something.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum DialKey {
    /// A console, on this one's word.
    Console(ConsoleId, By),
    /// A serial line, of those that are configured.
    Line(u16),
}

impl DialKey {
    /// Whose client it is.
    pub(super) fn console(self) -> Option<ConsoleId> {
        match self {
            Self::Console(console, _) => Some(console),
            Self::Line(_) => None,
        }
    }
}

/// On whose word a console is forwarded.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum By {
    /// That of its rule.
    Rule,
    /// That of its VM, in direction `C`.
    Vm,
}

/// Everything that is connected to. Each call costs the logarithm of how many those are.
#[derive(Debug, Default)]
pub(super) struct Dials {
    all: BTreeMap<DialKey, Dial>,
    due: BTreeSet<(Instant, DialKey)>,
    /// By the host that a target is at: eight ports of one that is down are eight that do not answer.
    lanes: BTreeMap<Box<str>, Lane>,
    /// What VMs' connections have asked to be connected to.
    wishes: BTreeMap<ConnId, Arc<Target>>,
    /// Connections that are of no use any more.
    obsolete: Vec<ConnId>,
    /// Those that have ever had to wait for a lane.
    queued: u64,
    is_changed: bool,
}

#[derive(Debug)]
struct Dial {
    target: Arc<Target>,
    stage: Stage,
    /// Times in a row that it was not there, or not for long.
    failures: u32,
    /// That it is down is known.
    is_down: bool,
    /// Its place among those that wait for their lanes, from the first time to the end of that.
    turn: Option<u64>,
    /// When it was last dialled.
    dialled_at: Option<Instant>,
    /// The last that was let in, and since when.
    last: Option<(ConnId, Instant)>,
    /// Up to where its console's output was shown.
    shown: Stand,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Off,
    Waiting(Instant),
    /// In its lane's queue, with this turn.
    Queued(u64),
    Dialling(ConnId),
    Joined(ConnId),
}

/// The way to the targets of one host.
#[derive(Debug, Default)]
struct Lane {
    underway: usize,
    queue: BTreeMap<u64, DialKey>,
}

impl Dials {
    /// What is connected to on this one's word; `None`: nothing. `is_on`: from now on, not only when a VM
    /// [comes](Self::follow). `from`: its console's output counts from there on.
    pub(super) fn want(&mut self, key: DialKey, target: Option<Arc<Target>>, is_on: bool, from: Stand) {
        if self.all.get(&key).map(|dial| &dial.target) == target.as_ref() {
            return;
        }
        self.forget_one(key);
        let Some(target) = target else { return };
        let dial = Dial {
            target,
            stage: Stage::Off,
            failures: 0,
            is_down: false,
            turn: None,
            dialled_at: None,
            last: None,
            shown: from,
        };
        self.all.insert(key, dial);
        if is_on {
            self.wait_until(key, Instant::ZERO);
        }
    }

    /// To where it is connected.
    pub(super) fn target(&self, key: DialKey) -> Option<&Arc<Target>> {
        self.all.get(&key).map(|dial| &dial.target)
    }

    /// A VM's connection asks to be connected to this, or to nothing. It is served while that one holds its
    /// console's input ([`wish`](Self::wish)).
    pub(super) fn wishes(&mut self, id: ConnId, target: Option<Arc<Target>>) {
        match target {
            Some(target) => drop(self.wishes.insert(id, target)),
            None => drop(self.wishes.remove(&id)),
        }
    }

    /// What a VM's connection has asked to be connected to.
    pub(super) fn wish(&self, id: ConnId) -> Option<Arc<Target>> {
        self.wishes.get(&id).cloned()
    }

    /// Nobody has asked for anything, and nothing is served that somebody has.
    pub(super) fn knows_no_wish_of(&self, console: ConsoleId) -> bool {
        self.wishes.is_empty() && !self.all.contains_key(&DialKey::Console(console, By::Vm))
    }

    /// A console has a VM, or has none any more.
    pub(super) fn follow(&mut self, console: ConsoleId, has_vm: bool) {
        if self.all.is_empty() {
            return;
        }
        for by in [By::Rule, By::Vm] {
            let key = DialKey::Console(console, by);
            let Some(dial) = self.all.get_mut(&key) else { continue };
            match (has_vm, dial.stage) {
                (true, Stage::Off) => {
                    dial.failures = 0;
                    // A VM that comes and goes has it dialled once a second at most.
                    let at = dial.dialled_at.map_or(Instant::ZERO, |at| at + REDIAL_AFTER);
                    self.wait_until(key, at);
                }
                (false, stage) if stage != Stage::Off => self.set_stage(key, Stage::Off),
                _ => {}
            }
        }
    }

    /// A console is gone.
    pub(super) fn forget(&mut self, console: ConsoleId) {
        for by in [By::Rule, By::Vm] {
            self.forget_one(DialKey::Console(console, by));
        }
    }

    /// The next that is to be dialled now, and to where. To be answered by [`dialling`](Self::dialling), or
    /// by [`failed`](Self::failed) without a connection.
    pub(super) fn next_due(&mut self, now: Instant) -> Option<(DialKey, Arc<Target>)> {
        loop {
            let &(at, key) = self.due.first()?;
            if at > now {
                return None;
            }
            let target = Arc::clone(self.target(key)?);
            if self.lanes.get(target.host()).is_none_or(|lane| lane.underway < MOST_AT_ONCE) {
                self.due.pop_first();
                return Some((key, target));
            }
            self.queued += 1;
            let last = self.queued;
            let number = self.all.get_mut(&key).map_or(last, |dial| *dial.turn.get_or_insert(last));
            self.set_stage(key, Stage::Queued(number));
            self.lanes.entry(target.host().into()).or_default().queue.insert(number, key);
        }
    }

    /// It is being dialled, as this connection.
    pub(super) fn dialling(&mut self, key: DialKey, id: ConnId, now: Instant) {
        if let Some(dial) = self.all.get_mut(&key) {
            (dial.dialled_at, dial.turn) = (Some(now), None);
            self.lanes.entry(dial.target.host().into()).or_default().underway += 1;
            self.set_stage(key, Stage::Dialling(id));
        }
    }

    /// The last that was let in, which may have something to take still.
    pub(super) fn last(&self, key: DialKey) -> Option<ConnId> {
        self.all.get(&key)?.last.map(|(id, _)| id)
    }

    /// It is there, and is let in.
    pub(super) fn joined(&mut self, key: DialKey, id: ConnId, now: Instant) {
        if self.all.get(&key).is_some_and(|dial| dial.stage == Stage::Dialling(id)) {
            self.set_stage(key, Stage::Joined(id));
            if let Some(dial) = self.all.get_mut(&key) {
                dial.last = Some((id, now));
            }
        }
    }

    /// The target of a move that has asked for nothing keeps what its console is connected to.
    pub(super) fn keep_wish(&mut self, console: ConsoleId, id: ConnId) {
        let served = self.target(DialKey::Console(console, By::Vm)).cloned();
        if let Some(served) = served
            && !self.wishes.contains_key(&id)
        {
            self.wishes.insert(id, served);
        }
    }

    /// Its connection has ended, or was not to be had (`None`: there was no room for it). It is tried again
    /// after a while, which `chance` makes a little longer or shorter. Returns whether that it is down is
    /// news: one that does not stay counts as down.
    pub(super) fn failed(&mut self, key: DialKey, id: Option<ConnId>, now: Instant, chance: u32) -> bool {
        let Some(dial) = self.all.get_mut(&key) else { return false };
        let lasted = match (dial.stage, id) {
            (Stage::Dialling(its), Some(id)) if its == id => Duration::ZERO,
            (Stage::Joined(its), Some(id)) if its == id => {
                dial.last.map_or(Duration::ZERO, |(_, since)| now.duration_since(since))
            }
            (Stage::Waiting(_), None) => Duration::ZERO,
            // It is another's by now, or nobody's.
            _ => return false,
        };
        let has_lasted = lasted >= LASTING;
        dial.failures = if has_lasted { 0 } else { dial.failures.saturating_add(1) };
        dial.is_down &= !has_lasted;
        let is_news = !has_lasted && id.is_some() && !std::mem::replace(&mut dial.is_down, true);
        let doublings = dial.failures.saturating_sub(1).min(10);
        let pause = (FIRST_PAUSE * (1 << doublings)).min(LONGEST_PAUSE);
        // Three quarters to five quarters of it.
        let pause = pause * 3 / 4 + pause / 2 * (chance % 1024) / 1024;
        self.wait_until(key, now + pause);
        is_news
    }

    /// A connection that was let in ends, and was shown its console's output up to there: the next goes on
    /// with that. One that has not lasted may have read none of it: the next is shown all of it again.
    pub(super) fn note_shown(&mut self, key: DialKey, id: ConnId, shown: Stand, now: Instant) {
        if let Some(dial) = self.all.get_mut(&key)
            && let Some((_, since)) = dial.last.filter(|(last, _)| *last == id)
            && (dial.stage != Stage::Joined(id) || now.duration_since(since) >= LASTING)
        {
            dial.shown = shown;
        }
    }

    /// Up to where its console's output was shown.
    pub(super) fn shown(&self, key: DialKey) -> Stand {
        self.all.get(&key).map_or(Stand::default(), |dial| dial.shown)
    }

    /// Whether it is known that this one is down.
    pub(super) fn is_known_down(&self, key: DialKey) -> bool {
        self.all.get(&key).is_some_and(|dial| dial.is_down)
    }

    /// Whether anything has changed since that was last asked.
    pub(super) fn has_changed(&self) -> bool {
        self.is_changed
    }

    /// When the next is due, once after anything has changed.
    pub(super) fn change(&mut self) -> Option<Option<Instant>> {
        std::mem::take(&mut self.is_changed).then(|| self.due.first().map(|&(at, _)| at))
    }

    /// The next connection that is to end, with what its console still has for it.
    pub(super) fn next_obsolete(&mut self) -> Option<ConnId> {
        self.obsolete.pop()
    }

    fn wait_until(&mut self, key: DialKey, at: Instant) {
        self.set_stage(key, Stage::Waiting(at));
        self.due.insert((at, key));
    }

    fn forget_one(&mut self, key: DialKey) {
        self.set_stage(key, Stage::Off);
        self.all.remove(&key);
    }

    /// Leaves the stage that it is in, with all that belongs to that.
    fn set_stage(&mut self, key: DialKey, stage: Stage) {
        let Some(dial) = self.all.get_mut(&key) else { return };
        self.is_changed = true;
        let target = Arc::clone(&dial.target);
        let before = std::mem::replace(&mut dial.stage, stage);
        if let (Stage::Dialling(id) | Stage::Joined(id), Stage::Off) = (before, stage) {
            self.obsolete.push(id);
        }
        match before {
            Stage::Off | Stage::Joined(_) => return,
            Stage::Waiting(at) => drop(self.due.remove(&(at, key))),
            Stage::Queued(number) => {
                if let Some(lane) = self.lanes.get_mut(target.host()) {
                    lane.queue.remove(&number);
                }
            }
            Stage::Dialling(_) => {
                if let Some(lane) = self.lanes.get_mut(target.host()) {
                    lane.underway = lane.underway.saturating_sub(1);
                }
            }
        }
        self.feed(&target);
    }

    /// If the way to a target has room, the next of those that wait for that is due. Whoever leaves a turn
    /// unused comes by here, too.
    fn feed(&mut self, target: &Target) {
        let Some(lane) = self.lanes.get_mut(target.host()) else { return };
        if lane.underway < MOST_AT_ONCE
            && let Some((_, next)) = lane.queue.pop_first()
            && let Some(dial) = self.all.get_mut(&next)
        {
            dial.stage = Stage::Waiting(Instant::ZERO);
            self.due.insert((Instant::ZERO, next));
        } else if lane.underway == 0 && lane.queue.is_empty() {
            self.lanes.remove(target.host());
        }
    }
}

/// How many connections to one host are being made at a time: it is asked no faster than it answers.
const MOST_AT_ONCE: usize = 8;

/// The pause before the second try; each after that is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// No pause is longer: of what is said in the first minute after a target is back, little is missed.
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// A connection that has lasted so long was no failure.
const LASTING: Duration = Duration::from_secs(10);

/// How soon a target is dialled again whose VM has left and come back.
const REDIAL_AFTER: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    const ZERO: Instant = Instant::ZERO;

    fn key(index: u32) -> DialKey {
        DialKey::Console(ConsoleId { index, generation: 1 }, By::Rule)
    }

    fn number(key: DialKey) -> u32 {
        key.console().unwrap().index
    }

    fn conn(index: u32) -> ConnId {
        ConnId { index, generation: 1 }
    }

    fn target(uri: &str) -> Option<Arc<Target>> {
        Some(Arc::new(uri.parse().unwrap()))
    }

    #[test]
    fn a_target_that_is_down_is_tried_again_within_five_seconds_and_told_of_once() {
        let mut dials = Dials::default();
        dials.want(key(1), target("tcp://a:1"), true, Stand::default());
        let (mut now, mut pauses, mut told) = (ZERO, Vec::new(), 0);
        for at in 0..20 {
            let (due, _) = dials.next_due(now).expect("it is due");
            dials.dialling(due, conn(at), now);
            assert_eq!(dials.next_due(now), None);
            told += u32::from(dials.failed(due, Some(conn(at)), now, at * 997));
            let next = dials.change().flatten().expect("it waits");
            pauses.push(next.duration_since(now));
            now = next;
        }
        assert_eq!(told, 1);
        assert!(pauses[0] <= Duration::from_millis(125), "{pauses:?}");
        assert!(pauses.iter().all(|pause| *pause <= Duration::from_secs(5)), "{pauses:?}");
        assert!(pauses[15..].windows(2).any(|two| two[0] != two[1]), "not all at one moment: {pauses:?}");
    }

    #[test]
    fn so_many_of_one_target_are_dialled_at_a_time_and_others_do_not_wait_for_them() {
        let mut dials = Dials::default();
        for at in 0..20 {
            dials.want(key(at), target("tcp://slow:1"), true, Stand::default());
        }
        dials.want(key(99), target("tcp://other:1"), true, Stand::default());
        let mut dialled = Vec::new();
        while let Some((due, _)) = dials.next_due(ZERO) {
            dials.dialling(due, conn(number(due)), ZERO);
            dialled.push(due);
        }
        assert_eq!(dialled.len(), MOST_AT_ONCE + 1);
        assert!(dialled.contains(&key(99)));
        // One that is there, and one that is not wanted any more, make room for one each.
        dials.joined(dialled[0], conn(0), ZERO);
        dials.want(dialled[1], None, true, Stand::default());
        assert_eq!(dials.next_obsolete(), Some(conn(1)));
        let mut more = 0;
        while let Some((due, _)) = dials.next_due(ZERO) {
            dials.dialling(due, conn(number(due)), ZERO);
            more += 1;
        }
        assert_eq!(more, 2);
        // All of the rest come to their turn.
        for at in 0..20 {
            dials.joined(key(at), conn(at), ZERO);
            while let Some((due, _)) = dials.next_due(ZERO) {
                dials.dialling(due, conn(number(due)), ZERO);
            }
        }
        let is_there = |at| matches!(dials.all[&key(at)].stage, Stage::Joined(..));
        assert_eq!((0..20).filter(|&at| at != 1 && is_there(at)).count(), 19);
        dials.joined(key(99), conn(99), ZERO);
        assert!(dials.lanes.is_empty(), "nothing is kept of targets that nobody dials");
    }

    #[test]
    fn who_is_forwarded_only_while_its_vm_is_there_is_dialled_at_once_when_that_is_back() {
        let mut dials = Dials::default();
        let console = key(1).console().unwrap();
        dials.want(key(1), target("tcp://a:1"), false, Stand::default());
        assert_eq!(dials.next_due(ZERO), None);
        dials.follow(console, true);
        let (due, _) = dials.next_due(ZERO).unwrap();
        dials.dialling(due, conn(1), ZERO);
        dials.joined(due, conn(1), ZERO);
        dials.follow(console, true);
        assert_eq!(dials.next_obsolete(), None);
        dials.follow(console, false);
        assert_eq!(dials.next_obsolete(), Some(conn(1)));
        // Its end is nobody's business any more.
        assert!(!dials.failed(due, Some(conn(1)), ZERO, 0));
        assert_eq!(dials.change(), Some(None));
        dials.follow(console, true);
        assert!(dials.next_due(ZERO).is_none() && dials.next_due(ZERO + REDIAL_AFTER).is_some());
        dials.forget(console);
        assert!(dials.all.is_empty() && dials.due.is_empty());
    }
}
