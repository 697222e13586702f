//! Client ports: which are given out, which something else holds, which is next.
//!
//! Knows numbers only. A port that cannot be bound (the default range lies inside Linux's ephemeral ports,
//! and TIME_WAIT is enough) is passed over and looked at again after [`PASSED_OVER`].

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Instant;

use super::config::PortRange;
use super::id::ConsoleId;

/// How long a port that could not be bound is left alone: one TIME_WAIT.
const PASSED_OVER: Duration = Duration::from_secs(60);

/// How often consoles without a port try again.
pub(super) const RETRY: Duration = Duration::from_secs(5);

/// One bit per port of the range. 8 KiB at most.
#[derive(Debug)]
pub(super) struct Ports {
    range: PortRange,
    taken: Vec<u64>,
    /// No port below this offset is free.
    hint: usize,
    /// Ports something else holds, oldest first; marked as taken.
    passed_over: VecDeque<(Instant, u16)>,
    /// Consoles that have none.
    pub(super) waiting: VecDeque<ConsoleId>,
}

impl Ports {
    pub(super) fn new(range: PortRange) -> Self {
        let count = usize::from(range.last.saturating_sub(range.first)) + 1;
        let mut taken = vec![0; count.div_ceil(64)];
        if count % 64 != 0
            && let Some(last) = taken.last_mut()
        {
            *last = !0 << (count % 64);
        }
        Self { range, taken, hint: 0, passed_over: VecDeque::new(), waiting: VecDeque::new() }
    }

    /// Takes the lowest free port. Port 0, a range of its own, stands for whatever the OS chooses.
    pub(super) fn take(&mut self) -> Option<u16> {
        if self.range.first == 0 {
            return Some(0);
        }
        for (at, word) in self.taken.iter_mut().enumerate().skip(self.hint / 64) {
            if *word != !0 {
                let bit = word.trailing_ones() as usize;
                *word |= 1 << bit;
                self.hint = at * 64 + bit + 1;
                return Some(self.range.first + (at * 64 + bit) as u16);
            }
        }
        self.hint = self.taken.len() * 64;
        None
    }

    /// Takes this port. False: it is not free, or not of the range.
    pub(super) fn take_this(&mut self, port: u16) -> bool {
        let Some((word, bit)) = self.place(port) else { return false };
        let was_free = self.taken[word] & bit == 0;
        self.taken[word] |= bit;
        was_free
    }

    /// Whether [`take`](Self::take) would find one. Costs what that costs.
    pub(super) fn has_free(&self) -> bool {
        self.range.first == 0 || self.taken[self.hint / 64..].iter().any(|&word| word != !0)
    }

    /// Gives a port back.
    pub(super) fn give_back(&mut self, port: u16) {
        if let Some((word, bit)) = self.place(port) {
            self.taken[word] &= !bit;
            self.hint = self.hint.min(usize::from(port - self.range.first));
        }
    }

    /// Where the bit of a port is; `None` outside the range.
    fn place(&self, port: u16) -> Option<(usize, u64)> {
        let is_ours = self.range.first != 0 && (self.range.first..=self.range.last).contains(&port);
        is_ours.then(|| {
            let offset = usize::from(port - self.range.first);
            (offset / 64, 1 << (offset % 64))
        })
    }

    /// Something else holds this port: leave it alone for a while.
    pub(super) fn pass_over(&mut self, port: u16, now: Instant) {
        if self.range.first != 0 {
            self.passed_over.push_back((now + PASSED_OVER, port));
        }
    }

    /// Ports that were passed over long enough ago may be tried again.
    pub(super) fn reconsider(&mut self, now: Instant) {
        while let Some(&(until, port)) = self.passed_over.front()
            && until <= now
        {
            self.passed_over.pop_front();
            self.give_back(port);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(first: u16, last: u16) -> Ports {
        Ports::new(PortRange { first, last })
    }

    #[test]
    fn lowest_free_port_first_until_none_is_left() {
        let mut ports = ports(50000, 50129);
        let all: Vec<u16> = std::iter::from_fn(|| ports.take()).collect();
        assert_eq!(all, (50000..=50129).collect::<Vec<_>>());
        ports.give_back(50070);
        ports.give_back(50003);
        assert_eq!([ports.take(), ports.take(), ports.take()], [Some(50003), Some(50070), None]);
    }

    #[test]
    fn a_port_of_the_range_can_be_asked_for_by_number() {
        let mut ports = ports(50000, 50002);
        assert!(ports.take_this(50000));
        assert!(!ports.take_this(50000));
        assert!(!ports.take_this(50003) && !ports.take_this(49999));
        assert_eq!([ports.take(), ports.take()], [Some(50001), Some(50002)]);
        assert!(!ports.has_free());
        ports.give_back(50001);
        assert!(ports.has_free() && ports.take_this(50001));
    }

    #[test]
    fn port_that_something_else_holds_comes_back_after_a_while() {
        let mut ports = ports(65535, 65535);
        assert_eq!(ports.take(), Some(65535));
        ports.pass_over(65535, Instant::ZERO);
        ports.reconsider(Instant::ZERO);
        assert_eq!(ports.take(), None);
        ports.reconsider(Instant::ZERO + PASSED_OVER);
        assert_eq!(ports.take(), Some(65535));
    }
}
