//! The grace period: what is kept of connections that are about to end, each for the same time.
//!
//! Both runtimes keep two kinds of them. Sockets that linger: the engine is done with them, and their peers
//! are given time to end too, because closing a socket with unread input makes the kernel reset the
//! connection, and the reset destroys the text that was just sent. And connections that have failed while
//! their peer's last bytes are still unread, because nobody takes them.
//!
//! It is bounded: when it is full the oldest goes first. It knows no clock; the runtime asks it for its next
//! deadline.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use vspc_core::concentrator::ConnId;
use vspc_core::time::Instant;

/// What is kept of connections that are about to end, by their ids.
#[derive(Debug)]
pub struct Grace<T> {
    kept: HashMap<ConnId, T>,
    /// In the order in which they came, which is the order of their deadlines. Some may be gone already.
    deadlines: VecDeque<(Instant, ConnId)>,
    bound: usize,
}

impl<T> Default for Grace<T> {
    fn default() -> Self {
        Self { kept: HashMap::new(), deadlines: VecDeque::new(), bound: BOUND }
    }
}

impl<T> Grace<T> {
    /// Keeps one more; returns the one that has to go for it, if there is no room. Amortised constant cost.
    pub fn insert(&mut self, id: ConnId, value: T, now: Instant) -> Option<(ConnId, T)> {
        let oldest = if self.kept.len() >= self.bound { self.take_oldest() } else { None };
        if self.deadlines.len() >= self.kept.len() + BOUND {
            self.deadlines.retain(|(_, id)| self.kept.contains_key(id));
        }
        self.kept.insert(id, value);
        self.deadlines.push_back((now + PATIENCE, id));
        oldest
    }

    /// What is kept of this connection.
    pub fn get(&mut self, id: ConnId) -> Option<&mut T> {
        self.kept.get_mut(&id)
    }

    /// Takes one out before its time.
    pub fn remove(&mut self, id: ConnId) -> Option<T> {
        self.kept.remove(&id)
    }

    /// Takes the one that has been kept longest. Sockets that linger are the first to go when descriptors
    /// run out.
    pub fn take_oldest(&mut self) -> Option<(ConnId, T)> {
        while let Some((_, id)) = self.deadlines.pop_front() {
            if let Some(value) = self.kept.remove(&id) {
                return Some((id, value));
            }
        }
        None
    }

    /// Takes the next one whose time is over.
    pub fn take_due(&mut self, now: Instant) -> Option<(ConnId, T)> {
        while let Some(&(at, id)) = self.deadlines.front()
            && at <= now
        {
            self.deadlines.pop_front();
            if let Some(value) = self.kept.remove(&id) {
                return Some((id, value));
            }
        }
        None
    }

    /// When [`take_due`](Self::take_due) may have something.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadlines.front().map(|&(at, _)| at)
    }

    /// Nothing is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Lets any number in: for the server's own end, when everything closes in order and nothing new comes.
    pub fn lift_bound(&mut self) {
        self.bound = usize::MAX;
    }
}

/// How long each is kept: time enough for a peer that is there to end its side, or for a VM to take what was
/// typed, and too short for a peer that has left to be taken for one that is there.
const PATIENCE: Duration = Duration::from_secs(2);

/// How many may be kept at once. Enough for everybody on one host, and no room for a crowd that connects and
/// never closes.
const BOUND: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> ConnId {
        ConnId::from_bits(n as u64)
    }

    #[test]
    fn the_oldest_goes_when_there_is_no_room_or_its_time_is_over() {
        let mut grace = Grace { bound: 2, ..Grace::default() };
        let at = |n| Instant::from_millis(n);
        assert_eq!(grace.insert(id(0), "a", at(0)), None);
        assert_eq!(grace.insert(id(1), "b", at(1)), None);
        assert_eq!(grace.insert(id(2), "c", at(2)), Some((id(0), "a")));
        assert_eq!(grace.deadline(), Some(at(1) + PATIENCE));
        assert_eq!(grace.take_due(at(0) + PATIENCE), None);
        assert_eq!(grace.take_due(at(1) + PATIENCE), Some((id(1), "b")));
        assert_eq!(grace.take_due(at(1) + PATIENCE), None);
        assert_eq!(grace.take_oldest(), Some((id(2), "c")));
        assert_eq!(grace.take_oldest(), None);
        assert!(grace.is_empty());
    }

    #[test]
    fn those_that_end_in_time_leave_nothing_behind() {
        let mut grace = Grace::default();
        for n in 0..10 * BOUND {
            assert_eq!(grace.insert(id(n), n, Instant::ZERO), None);
            assert_eq!(grace.remove(id(n)), Some(n));
        }
        assert!(grace.deadlines.len() <= BOUND);
        assert_eq!(grace.take_due(Instant::ZERO + PATIENCE), None);
        assert_eq!(grace.deadline(), None);
    }

    #[test]
    fn a_server_that_stops_keeps_all() {
        let mut grace = Grace::default();
        grace.lift_bound();
        for n in 0..2 * BOUND {
            assert_eq!(grace.insert(id(n), n, Instant::ZERO), None);
        }
    }
}
