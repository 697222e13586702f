//! Lines that we connect to and that do not stay: a program that fails at once, a port that is closed as soon
//! as it is open.
//!
//! **Owns** what the log says of them: the first time all of it, and then nothing until the line has stayed
//! for a while. Each time between would be three lines that tell nothing new. **Refuses to know** when the
//! engine tries again, and who else is told what happens.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use vspc_core::concentrator::{Address, ConnId, Event, EventKind, Target};
use vspc_core::time::Instant;

/// What the log has not been told of lines.
#[derive(Debug, Default)]
pub(crate) struct Unsettled {
    /// Lines that are there, and have not stayed for long yet.
    fresh: BTreeMap<Arc<Target>, Fresh>,
    /// Lines that went like that the last time.
    brief: BTreeSet<Arc<Target>>,
    /// When each has stayed; also those that are gone meanwhile.
    due: VecDeque<(Instant, Arc<Target>, ConnId)>,
}

/// A line that has come.
#[derive(Debug)]
struct Fresh {
    conn: ConnId,
    /// What the log is told once it has stayed.
    held: Vec<Event>,
}

impl Unsettled {
    /// Something happened. Returns whether the log is told now.
    pub(crate) fn is_told(&mut self, event: &Event, now: Instant) -> bool {
        let (Some(Address::Target(target)), Some(conn)) = (&event.peer, event.conn) else { return true };
        match &event.kind {
            EventKind::VmConnected => {
                self.due.push_back((now + LASTING, Arc::clone(target), conn));
                self.fresh.insert(Arc::clone(target), Fresh { conn, held: Vec::new() });
            }
            EventKind::VmIdentified => {}
            EventKind::VmDisconnected(_) => {
                let is_its = self.fresh.get(target).is_some_and(|fresh| fresh.conn == conn);
                let is_brief = is_its && self.fresh.remove(target).is_some();
                return !is_brief || self.brief.insert(Arc::clone(target));
            }
            _ => return true,
        }
        let fresh = self.fresh.get_mut(target).filter(|fresh| fresh.conn == conn);
        match fresh {
            Some(fresh) if self.brief.contains(target) => {
                fresh.held.push(event.clone());
                false
            }
            _ => true,
        }
    }

    /// When [`settle`](Self::settle) has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.due.front().map(|&(at, ..)| at)
    }

    /// What the log is told now of lines that have stayed.
    pub(crate) fn settle(&mut self, now: Instant) -> Vec<Event> {
        let mut told = Vec::new();
        while self.deadline().is_some_and(|at| at <= now) {
            let Some((_, target, conn)) = self.due.pop_front() else { break };
            if self.fresh.get(&target).is_some_and(|fresh| fresh.conn == conn) {
                told.extend(self.fresh.remove(&target).into_iter().flat_map(|fresh| fresh.held));
                self.brief.remove(&target);
            }
        }
        told
    }
}

/// How long a line has to stay: as long as it has to for the engine, which then tries again at once.
const LASTING: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outlets::tests::event;
    use vspc_core::concentrator::{CloseReason, LinePlace};

    const START: Instant = Instant::from_millis(1);

    /// Lines, and what the log is told of them.
    #[derive(Default)]
    struct Rig {
        unsettled: Unsettled,
        told: Vec<EventKind>,
    }

    impl Rig {
        fn happens(&mut self, line: &str, conn: u64, kind: EventKind, now: Instant) {
            let mut event = event(kind.clone());
            event.conn = Some(ConnId::from_bits(1 << 32 | conn));
            let Ok(LinePlace::Dial(target)) = line.parse() else { panic!("{line} is not connected to") };
            event.peer = Some(Address::Target(target));
            if self.unsettled.is_told(&event, now) {
                self.told.push(kind);
            }
        }

        fn comes(&mut self, line: &str, conn: u64, now: Instant) {
            self.happens(line, conn, EventKind::VmConnected, now);
            self.happens(line, conn, EventKind::VmIdentified, now);
        }

        fn goes(&mut self, line: &str, conn: u64, now: Instant) {
            self.happens(line, conn, GONE, now);
        }

        /// What was told since this was last asked.
        fn told(&mut self, now: Instant) -> Vec<EventKind> {
            let settled = self.unsettled.settle(now).into_iter().map(|event| event.kind);
            let told = std::mem::take(&mut self.told);
            told.into_iter().chain(settled).collect()
        }
    }

    const GONE: EventKind = EventKind::VmDisconnected(CloseReason::PeerClosed);
    const THERE: [EventKind; 2] = [EventKind::VmConnected, EventKind::VmIdentified];

    #[test]
    fn a_line_that_does_not_stay_is_told_of_once_and_again_when_it_has_stayed() {
        let mut rig = Rig::default();
        for conn in 0..5 {
            rig.comes("exec:false", conn, START);
            rig.goes("exec:false", conn, START);
        }
        assert_eq!(rig.told(START), [&THERE[..], &[GONE]].concat());
        rig.comes("exec:false", 5, START);
        assert!(rig.told(START + LASTING / 2).is_empty());
        assert_eq!(rig.unsettled.deadline(), Some(START + LASTING));
        assert_eq!(rig.told(START + LASTING), THERE);
        assert_eq!(rig.unsettled.deadline(), None);
        rig.goes("exec:false", 5, START + LASTING);
        rig.comes("exec:false", 6, START + LASTING);
        assert_eq!(rig.told(START + LASTING), [&[GONE], &THERE[..]].concat(), "it is well again");
    }

    #[test]
    fn lines_and_their_connections_are_not_taken_for_others() {
        let mut rig = Rig::default();
        rig.comes("exec:false", 0, START);
        rig.goes("exec:false", 0, START);
        rig.told(START);
        rig.comes("exec:true", 1, START);
        assert_eq!(rig.told(START), THERE);
        // The time of one that is gone is not that of the next.
        rig.comes("exec:false", 2, START);
        rig.goes("exec:false", 2, START);
        rig.comes("exec:false", 3, START + LASTING / 2);
        assert!(rig.told(START + LASTING).is_empty());
        assert_eq!(rig.told(START + LASTING * 2), THERE);
        // What else happens on it is told at once.
        rig.happens("exec:false", 3, EventKind::ConsoleExpired, START);
        assert_eq!(rig.told(START), [EventKind::ConsoleExpired]);
    }
}
