//! Connections that we make for consoles: to where, and when the next is tried.
//!
//! **Owns** whom a console is forwarded to, by its rule or because its VM asks for it, how far each of these
//! is, and that a target that is down is tried again, soon but not by all at once. **Refuses to know**
//! connections: the engine makes them and tells what became of them.
//!
//! ```text
//!            due, its target has room            connected
//!  Waiting ────────────────────────▶ Dialling ─────────────▶ Joined
//!   ▲   ▲  due, it has none ▶ Queued ─┘  │                     │
//!   │   └────────────────────────────────┘ failed              │
//!   └──────────────────────────────────────────────────────────┘ ended
//!  Off: its console has no VM
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::time::Instant;

use super::id::{ConnId, ConsoleId};
use super::target::Target;

/// Names what a console is forwarded by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct ForwardKey {
    pub(super) console: ConsoleId,
    pub(super) by: By,
}

/// On whose word a console is forwarded.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum By {
    /// That of its rule.
    Rule,
    /// That of its VM, in direction `C`.
    Vm,
}

/// Everything that is forwarded. Each call costs the logarithm of how many those are.
#[derive(Debug, Default)]
pub(super) struct Forwards {
    all: BTreeMap<ForwardKey, Forward>,
    due: BTreeSet<(Instant, ForwardKey)>,
    lanes: BTreeMap<Arc<Target>, Lane>,
    /// Connections that are of no use any more.
    obsolete: Vec<ConnId>,
    is_changed: bool,
}

#[derive(Debug)]
struct Forward {
    target: Arc<Target>,
    stage: Stage,
    /// Times in a row that it was not there, or not for long.
    failures: u32,
    /// That it is down is known.
    is_down: bool,
    /// Up to where its console's output was shown.
    shown: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Off,
    Waiting(Instant),
    Queued,
    Dialling(ConnId),
    Joined(ConnId, Instant),
}

/// The way to one target.
#[derive(Debug, Default)]
struct Lane {
    underway: usize,
    queue: VecDeque<ForwardKey>,
}

impl Forwards {
    /// What a console is forwarded to on this one's word; `None`: nowhere. `has_vm`: it has a VM now.
    pub(super) fn want(&mut self, key: ForwardKey, target: Option<Arc<Target>>, has_vm: bool) {
        if self.all.get(&key).map(|forward| &forward.target) == target.as_ref() {
            return;
        }
        self.forget_one(key);
        let Some(target) = target else { return };
        self.all.insert(key, Forward { target, stage: Stage::Off, failures: 0, is_down: false, shown: 0 });
        if has_vm {
            self.wait_until(key, Instant::ZERO);
        }
    }

    /// To where a console is forwarded on this one's word.
    pub(super) fn target(&self, key: ForwardKey) -> Option<&Arc<Target>> {
        self.all.get(&key).map(|forward| &forward.target)
    }

    /// A console has a VM, or has none any more.
    pub(super) fn follow(&mut self, console: ConsoleId, has_vm: bool) {
        if self.all.is_empty() {
            return;
        }
        for by in [By::Rule, By::Vm] {
            let key = ForwardKey { console, by };
            let Some(forward) = self.all.get_mut(&key) else { continue };
            match (has_vm, forward.stage) {
                (true, Stage::Off) => {
                    forward.failures = 0;
                    self.wait_until(key, Instant::ZERO);
                }
                (false, stage) if stage != Stage::Off => self.set_stage(key, Stage::Off),
                _ => {}
            }
        }
    }

    /// A console is gone.
    pub(super) fn forget(&mut self, console: ConsoleId) {
        for by in [By::Rule, By::Vm] {
            self.forget_one(ForwardKey { console, by });
        }
    }

    /// The next that is to be dialled now, and to where. To be answered by [`dialling`](Self::dialling), or
    /// by [`failed`](Self::failed) without a connection.
    pub(super) fn next_due(&mut self, now: Instant) -> Option<(ForwardKey, Arc<Target>)> {
        loop {
            let &(at, key) = self.due.first()?;
            if at > now {
                return None;
            }
            let target = Arc::clone(self.target(key)?);
            if self.lanes.get(&target).is_none_or(|lane| lane.underway < MOST_AT_ONCE) {
                self.due.pop_first();
                return Some((key, target));
            }
            self.lanes.entry(target).or_default().queue.push_back(key);
            self.set_stage(key, Stage::Queued);
        }
    }

    /// It is being dialled, as this connection.
    pub(super) fn dialling(&mut self, key: ForwardKey, id: ConnId) {
        if let Some(forward) = self.all.get(&key) {
            self.lanes.entry(Arc::clone(&forward.target)).or_default().underway += 1;
            self.set_stage(key, Stage::Dialling(id));
        }
    }

    /// It is there.
    pub(super) fn joined(&mut self, key: ForwardKey, id: ConnId, now: Instant) {
        if self.all.get(&key).is_some_and(|forward| forward.stage == Stage::Dialling(id)) {
            self.set_stage(key, Stage::Joined(id, now));
            if let Some(forward) = self.all.get_mut(&key) {
                forward.is_down = false;
            }
        }
    }

    /// Its connection has ended, or was not to be had (`None`). It is tried again after a while, which
    /// `chance` makes a little longer or shorter. Returns whether that it is down is news.
    pub(super) fn failed(&mut self, key: ForwardKey, id: Option<ConnId>, now: Instant, chance: u32) -> bool {
        let Some(forward) = self.all.get_mut(&key) else { return false };
        let (was_dialled, lasted) = match (forward.stage, id) {
            (Stage::Dialling(its), Some(id)) if its == id => (true, Duration::ZERO),
            (Stage::Joined(its, since), Some(id)) if its == id => (false, now.duration_since(since)),
            (Stage::Waiting(_), None) => (true, Duration::ZERO),
            // It is another's by now, or nobody's.
            _ => return false,
        };
        forward.failures = if lasted >= LASTING { 0 } else { forward.failures.saturating_add(1) };
        let is_news = was_dialled && !std::mem::replace(&mut forward.is_down, was_dialled);
        let pause = (FIRST_PAUSE * (1 << forward.failures.min(10))).min(LONGEST_PAUSE);
        // Three quarters to five quarters of it.
        let pause = pause * 3 / 4 + pause / 2 * (chance % 1024) / 1024;
        self.wait_until(key, now + pause);
        is_news
    }

    /// Its connection ends, and was shown its console's output up to there: the next goes on with that.
    pub(super) fn note_shown(&mut self, key: ForwardKey, id: ConnId, shown: u64) {
        if let Some(forward) = self.all.get_mut(&key)
            && matches!(forward.stage, Stage::Joined(its, _) if its == id)
        {
            forward.shown = shown;
        }
    }

    /// Up to where its console's output was shown.
    pub(super) fn shown(&self, key: ForwardKey) -> u64 {
        self.all.get(&key).map_or(0, |forward| forward.shown)
    }

    /// Whether it is known that this one is down.
    pub(super) fn is_known_down(&self, key: ForwardKey) -> bool {
        self.all.get(&key).is_some_and(|forward| forward.is_down)
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

    fn wait_until(&mut self, key: ForwardKey, at: Instant) {
        self.set_stage(key, Stage::Waiting(at));
        self.due.insert((at, key));
    }

    fn forget_one(&mut self, key: ForwardKey) {
        self.set_stage(key, Stage::Off);
        self.all.remove(&key);
    }

    /// Leaves the stage that it is in, with all that belongs to that.
    fn set_stage(&mut self, key: ForwardKey, stage: Stage) {
        let Some(forward) = self.all.get_mut(&key) else { return };
        self.is_changed = true;
        let target = Arc::clone(&forward.target);
        match (std::mem::replace(&mut forward.stage, stage), stage) {
            (Stage::Off | Stage::Queued, _) => {}
            (Stage::Waiting(at), _) => {
                self.due.remove(&(at, key));
            }
            (Stage::Dialling(id), next) => {
                if next == Stage::Off {
                    self.obsolete.push(id);
                }
                self.leave_lane(&target);
            }
            (Stage::Joined(id, _), next) => {
                if next == Stage::Off {
                    self.obsolete.push(id);
                }
            }
        }
    }

    /// One is not being dialled any more: the next of those that wait for that is due.
    fn leave_lane(&mut self, target: &Arc<Target>) {
        let Some(lane) = self.lanes.get_mut(target) else { return };
        lane.underway = lane.underway.saturating_sub(1);
        while let Some(next) = lane.queue.pop_front() {
            let waits = |forward: &&mut Forward| forward.stage == Stage::Queued && forward.target == *target;
            if let Some(forward) = self.all.get_mut(&next).filter(waits) {
                forward.stage = Stage::Waiting(Instant::ZERO);
                self.due.insert((Instant::ZERO, next));
                return;
            }
        }
        if lane.underway == 0 {
            self.lanes.remove(target);
        }
    }
}

/// How many connections to one target are being made at a time: it is asked no faster than it answers.
const MOST_AT_ONCE: usize = 8;

/// The pause before the second try; each after that is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// No pause is longer: of what is said in the first minute after a target is back, little is missed.
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// A connection that has lasted so long was no failure.
const LASTING: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    const ZERO: Instant = Instant::ZERO;

    fn key(index: u32) -> ForwardKey {
        ForwardKey { console: ConsoleId { index, generation: 1 }, by: By::Rule }
    }

    fn conn(index: u32) -> ConnId {
        ConnId { index, generation: 1 }
    }

    fn target(uri: &str) -> Option<Arc<Target>> {
        Some(Arc::new(uri.parse().unwrap()))
    }

    #[test]
    fn a_target_that_is_down_is_tried_again_within_five_seconds_and_told_of_once() {
        let mut forwards = Forwards::default();
        forwards.want(key(1), target("tcp://a:1"), true);
        let (mut now, mut pauses, mut told) = (ZERO, Vec::new(), 0);
        for at in 0..20 {
            let (due, _) = forwards.next_due(now).expect("it is due");
            forwards.dialling(due, conn(at));
            assert_eq!(forwards.next_due(now), None);
            told += u32::from(forwards.failed(due, Some(conn(at)), now, at * 997));
            let next = forwards.change().flatten().expect("it waits");
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
        let mut forwards = Forwards::default();
        for at in 0..20 {
            forwards.want(key(at), target("tcp://slow:1"), true);
        }
        forwards.want(key(99), target("tcp://other:1"), true);
        let mut dialled = Vec::new();
        while let Some((due, _)) = forwards.next_due(ZERO) {
            forwards.dialling(due, conn(due.console.index));
            dialled.push(due);
        }
        assert_eq!(dialled.len(), MOST_AT_ONCE + 1);
        assert!(dialled.contains(&key(99)));
        // One that is there, and one that is not wanted any more, make room for one each.
        forwards.joined(dialled[0], conn(0), ZERO);
        forwards.want(dialled[1], None, true);
        assert_eq!(forwards.next_obsolete(), Some(conn(1)));
        let mut more = 0;
        while let Some((due, _)) = forwards.next_due(ZERO) {
            forwards.dialling(due, conn(due.console.index));
            more += 1;
        }
        assert_eq!(more, 2);
        // All of the rest come to their turn.
        for at in 0..20 {
            forwards.joined(key(at), conn(at), ZERO);
            while let Some((due, _)) = forwards.next_due(ZERO) {
                forwards.dialling(due, conn(due.console.index));
            }
        }
        let is_there = |at| matches!(forwards.all[&key(at)].stage, Stage::Joined(..));
        assert_eq!((0..20).filter(|&at| at != 1 && is_there(at)).count(), 19);
        forwards.joined(key(99), conn(99), ZERO);
        assert!(forwards.lanes.is_empty(), "nothing is kept of targets that nobody dials");
    }

    #[test]
    fn who_is_forwarded_only_while_its_vm_is_there_is_dialled_at_once_when_that_is_back() {
        let mut forwards = Forwards::default();
        let console = key(1).console;
        forwards.want(key(1), target("tcp://a:1"), false);
        assert_eq!(forwards.next_due(ZERO), None);
        forwards.follow(console, true);
        let (due, _) = forwards.next_due(ZERO).unwrap();
        forwards.dialling(due, conn(1));
        forwards.joined(due, conn(1), ZERO);
        forwards.follow(console, true);
        assert_eq!(forwards.next_obsolete(), None);
        forwards.follow(console, false);
        assert_eq!(forwards.next_obsolete(), Some(conn(1)));
        // Its end is nobody's business any more.
        assert!(!forwards.failed(due, Some(conn(1)), ZERO, 0));
        assert_eq!(forwards.change(), Some(None));
        forwards.follow(console, true);
        assert!(forwards.next_due(ZERO).is_some());
        forwards.forget(console);
        assert!(forwards.all.is_empty() && forwards.due.is_empty());
    }
}
