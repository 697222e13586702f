//! Ends of connections, of which each turn handles a bounded number.
//!
//! An end costs more than anything else a peer can do in a visit: the kernel closes a socket, the engine says
//! goodbye, a line is logged. When thousands leave at one moment those who stay must not wait for all of
//! that, so what is beyond a turn's share waits here, in its order. An end may be in here twice, where a
//! socket was looked at again meanwhile: whoever handles it does nothing the second time.

use std::collections::VecDeque;

use vspc_core::concentrator::{Closed, ConnId};

/// The ends that wait, and what is left of this turn's share.
#[derive(Debug)]
pub struct Departures {
    waiting: VecDeque<(ConnId, Closed)>,
    left: usize,
}

impl Default for Departures {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), left: PER_TURN }
    }
}

impl Departures {
    /// Another turn begins.
    pub fn begin_turn(&mut self) {
        self.left = PER_TURN;
    }

    /// An end was read. True if it is to be handled now; else it waits.
    #[must_use]
    pub fn is_due(&mut self, id: ConnId, how: Closed) -> bool {
        if self.left > 0 && self.waiting.is_empty() {
            self.left -= 1;
            return true;
        }
        self.waiting.push_back((id, how));
        false
    }

    /// The next end that has waited and may be handled in this turn.
    pub fn next_due(&mut self) -> Option<(ConnId, Closed)> {
        self.left = self.left.checked_sub(1)?;
        self.next()
    }

    /// The next end that waits, whatever the turn's share. [`ENDS_PER_NEWCOMER`] are to be handled before a
    /// newcomer is taken in: it must not be refused for the descriptors of connections that have ended.
    pub fn next_before_newcomer(&mut self) -> Option<(ConnId, Closed)> {
        self.next()
    }

    fn next(&mut self) -> Option<(ConnId, Closed)> {
        let next = self.waiting.pop_front();
        if self.waiting.is_empty() {
            // The room of a storm.
            self.waiting = VecDeque::new();
        }
        next
    }

    /// Whether any waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// A VM that comes needs two descriptors: its connection's and its client port's.
pub const ENDS_PER_NEWCOMER: usize = 2;

/// Ends in one turn: about a millisecond.
const PER_TURN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_a_turns_share_waits_in_its_order() {
        let id = |n: u64| ConnId::from_bits(n);
        let mut departures = Departures::default();
        let all = 3 * PER_TURN as u64 / 2;
        let mut handled: Vec<_> =
            (0..all).filter(|&n| departures.is_due(id(n), Closed::Input)).map(id).collect();
        assert_eq!(handled.len(), PER_TURN);
        assert_eq!(departures.next_due(), None);
        departures.begin_turn();
        // One that comes now is behind those that wait.
        assert!(!departures.is_due(id(all), Closed::Input));
        handled.extend(departures.next_before_newcomer().map(|(id, _)| id));
        while let Some((id, _)) = departures.next_due() {
            handled.push(id);
        }
        assert_eq!(handled, (0..=all).map(id).collect::<Vec<_>>());
        assert!(departures.is_empty());
    }
}
