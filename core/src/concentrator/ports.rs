//! Client ports: which are given out, which something else holds, which is next.
//!
//! Knows numbers only. A port that cannot be bound (the default range lies inside Linux's ephemeral ports,
//! and TIME_WAIT is enough) is passed over and looked at again after [`PASSED_OVER`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::time::Instant;

use super::config::PortRange;
use super::id::ConsoleId;
use super::rush::Rush;

/// How long a port that could not be bound is left alone: one TIME_WAIT.
const PASSED_OVER: Duration = Duration::from_secs(60);

/// How often consoles without a port try again.
pub(super) const RETRY: Duration = Duration::from_secs(1);

/// A number that stands for a console's identity, for good.
pub(super) type Owner = u64;

/// One bit per port of the range, 8 KiB at most, and about 100 bytes for each free port that somebody has
/// had.
#[derive(Debug)]
pub(super) struct Ports {
    range: PortRange,
    taken: Vec<u64>,
    /// No port below this offset is free.
    hint: usize,
    /// Ports something else holds, oldest first; marked as taken.
    passed_over: VecDeque<(Instant, u16)>,
    /// Of each free port that somebody has had: who that was, and its number in `used`.
    owners: BTreeMap<u16, (Owner, u64)>,
    /// The same by owner.
    owned: BTreeSet<(Owner, u16)>,
    /// The same, the one that was given back first in front.
    used: BTreeSet<(u64, u16)>,
    next: u64,
    /// Of each block of the range whether it is ours; `None`: all are.
    held: Option<BTreeSet<u8>>,
    /// More may be granted than is.
    may_grow: bool,
    /// Ports of blocks that are ours no more, as long as somebody has them.
    strays: BTreeSet<u16>,
    /// Ports that certain consoles have and no others get, in the range or not; whether they are free.
    own: BTreeMap<u16, bool>,
    /// Consoles that have none.
    pub(super) waiting: VecDeque<ConsoleId>,
    /// Consoles whose ports are put off.
    pub(super) rush: Rush,
}

impl Ports {
    /// `by_grant`: none is free before it is granted. `own`: these are not given out but to those who ask for
    /// them.
    pub(super) fn new(range: PortRange, by_grant: bool, own: impl Iterator<Item = u16>) -> Self {
        let count = usize::from(range.last.saturating_sub(range.first)) + 1;
        let by_grant = by_grant && range.first != 0;
        let mut taken = vec![if by_grant { !0 } else { 0 }; count.div_ceil(64)];
        if count % 64 != 0
            && let Some(last) = taken.last_mut()
        {
            *last |= !0 << (count % 64);
        }
        let mut ports = Self {
            range,
            taken,
            hint: 0,
            passed_over: VecDeque::new(),
            owners: BTreeMap::new(),
            owned: BTreeSet::new(),
            used: BTreeSet::new(),
            next: 0,
            held: by_grant.then(BTreeSet::new),
            may_grow: by_grant,
            strays: BTreeSet::new(),
            own: own.map(|port| (port, true)).collect(),
            waiting: VecDeque::new(),
            rush: Rush::default(),
        };
        for port in ports.own.keys() {
            if let Some((word, bit)) = place(range, *port) {
                ports.taken[word] |= bit;
            }
        }
        ports
    }

    /// Takes a port that is given to nobody else. False: it is not free, or not one of those.
    pub(super) fn take_own(&mut self, port: u16) -> bool {
        self.own.get_mut(&port).is_some_and(std::mem::take)
    }

    /// Whether this port is given to nobody but those who ask for it.
    pub(super) fn is_own(&self, port: u16) -> bool {
        self.own.contains_key(&port)
    }

    /// From now on these are the ports that are given to nobody but those who ask for them. Whoever has one
    /// of them has it until it gives it back.
    pub(super) fn change_own(&mut self, own: impl Iterator<Item = u16>) {
        let own: BTreeSet<u16> = own.collect();
        let gone: Vec<u16> = self.own.keys().copied().filter(|port| !own.contains(port)).collect();
        for port in gone {
            if self.own.remove(&port) == Some(true) {
                self.give_back(port);
            } else if self.place(port).is_some() && !self.is_held(port) {
                self.strays.insert(port);
            }
        }
        for port in own {
            if self.own.contains_key(&port) {
                continue;
            }
            let is_free = match self.place(port) {
                None => true,
                Some(_) if !self.is_held(port) => !self.strays.remove(&port),
                Some((word, bit)) => {
                    let is_free = self.taken[word] & bit == 0 || self.owners.contains_key(&port);
                    self.taken[word] |= bit;
                    self.claim(port);
                    is_free
                }
            };
            self.own.insert(port, is_free);
        }
    }

    /// One of those is given back. False: it is none.
    fn give_back_own(&mut self, port: u16) -> bool {
        self.own.get_mut(&port).map(|is_free| *is_free = true).is_some()
    }

    /// These blocks are ours from now on. `may_grow`: others may come to be. Costs a look at each port.
    pub(super) fn grant(&mut self, blocks: &[u8], may_grow: bool) {
        self.may_grow = may_grow;
        for &block in blocks {
            if self.held.as_mut().is_some_and(|held| held.insert(block)) {
                for port in ports_of(block) {
                    if !self.strays.remove(&port) {
                        self.give_back(port);
                    }
                }
            }
        }
    }

    /// This block is not ours any more: none of its ports is given out again. Whoever has one has it until
    /// that is given back. Costs a look at each port.
    pub(super) fn revoke(&mut self, block: u8) {
        if !self.held.as_mut().is_some_and(|held| held.remove(&block)) {
            return;
        }
        for port in ports_of(block) {
            let Some((word, bit)) = self.place(port) else { continue };
            let is_owned = self.owners.contains_key(&port);
            if self.taken[word] & bit != 0 && !is_owned {
                self.strays.insert(port);
            }
            self.taken[word] |= bit;
            self.claim(port);
        }
    }

    /// None is free, and that may change without anybody giving one back.
    pub(super) fn may_grow(&self) -> bool {
        self.may_grow
    }

    /// Whether this port is ours to give out.
    fn is_held(&self, port: u16) -> bool {
        self.held.as_ref().is_none_or(|held| held.contains(&block_of(port)))
    }

    /// Takes a free port for a console: the one that it had last, else the lowest that nobody has had, else
    /// the one that has been free for longest, so that who dials a number again does not land on somebody
    /// else's VM. Port 0, a range of its own, stands for whatever the OS chooses.
    pub(super) fn take(&mut self, owner: Owner) -> Option<u16> {
        if self.range.first == 0 {
            return Some(0);
        }
        let own = self.owned.range((owner, 0)..=(owner, u16::MAX)).next().map(|&(_, port)| port);
        if let Some(port) = own.or_else(|| self.take_unused()).or_else(|| Some(self.used.first()?.1)) {
            self.claim(port);
            return Some(port);
        }
        None
    }

    /// Whether [`take`](Self::take) would find one.
    pub(super) fn is_any_free(&self) -> bool {
        self.range.first == 0
            || !self.used.is_empty()
            || self.taken.iter().skip(self.hint / 64).any(|&word| word != !0)
    }

    /// A port that somebody has had is taken again.
    fn claim(&mut self, port: u16) {
        if let Some((owner, number)) = self.owners.remove(&port) {
            self.owned.remove(&(owner, port));
            self.used.remove(&(number, port));
        }
    }

    /// Takes the lowest port that nobody has had.
    fn take_unused(&mut self) -> Option<u16> {
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
        let was_free = (self.taken[word] & bit == 0 || self.owners.contains_key(&port)) && self.is_held(port);
        if was_free {
            self.taken[word] |= bit;
            self.claim(port);
        }
        was_free
    }

    /// Gives a port back that a console had.
    pub(super) fn give_back_of(&mut self, port: u16, owner: Owner) {
        if self.give_back_own(port) {
        } else if !self.is_held(port) {
            self.strays.remove(&port);
        } else if self.place(port).is_some() {
            self.owned.insert((owner, port));
            self.owners.insert(port, (owner, self.next));
            self.used.insert((self.next, port));
            self.next += 1;
        }
    }

    /// Gives a port back that nobody has had.
    pub(super) fn give_back(&mut self, port: u16) {
        if self.give_back_own(port) {
        } else if !self.is_held(port) {
            self.strays.remove(&port);
        } else if let Some((word, bit)) = self.place(port) {
            self.taken[word] &= !bit;
            self.hint = self.hint.min(usize::from(port - self.range.first));
        }
    }

    /// Where the bit of a port is; `None` outside the range.
    fn place(&self, port: u16) -> Option<(usize, u64)> {
        place(self.range, port)
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

fn place(range: PortRange, port: u16) -> Option<(usize, u64)> {
    let is_ours = range.first != 0 && (range.first..=range.last).contains(&port);
    is_ours.then(|| {
        let offset = usize::from(port - range.first);
        (offset / 64, 1 << (offset % 64))
    })
}

/// In how many ports at once the right to give them out is granted.
pub const BLOCK: u16 = 256;

fn block_of(port: u16) -> u8 {
    (port / BLOCK) as u8
}

fn ports_of(block: u8) -> impl Iterator<Item = u16> {
    let first = u16::from(block) * BLOCK;
    first..=first + (BLOCK - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(first: u16, last: u16) -> Ports {
        Ports::new(PortRange { first, last }, false, std::iter::empty())
    }

    #[test]
    fn where_ports_are_granted_no_other_is_given_out() {
        let block = |n: u8| u16::from(n) * BLOCK;
        let mut ports =
            Ports::new(PortRange { first: block(3) - 2, last: block(5) }, true, std::iter::empty());
        assert!(ports.may_grow() && ports.take(1).is_none() && !ports.take_this(block(3)));
        ports.grant(&[2, 3], true);
        assert_eq!([0; 3].map(|_| ports.take(1)), [Some(block(3) - 2), Some(block(3) - 1), Some(block(3))]);
        ports.grant(&[3, 5], false);
        assert!(!ports.may_grow());
        assert!(ports.take_this(block(5)) && !ports.take_this(block(4)));
        // Block 3 goes to somebody else while two have ports of it and a third has left one.
        assert!(ports.take_this(block(3) + 7) && ports.take_this(block(3) + 8));
        ports.give_back_of(block(3) + 7, 9);
        ports.revoke(3);
        assert_eq!(ports.take(9), None);
        ports.give_back_of(block(3), 1);
        assert_eq!(ports.take(1), None, "not ours to give out again");
        ports.grant(&[3], false);
        assert_eq!(ports.take(2), Some(block(3)));
        assert!(!ports.take_this(block(3) + 8), "somebody has had it all the time");
        ports.give_back(block(3) + 8);
        assert!(ports.take_this(block(3) + 8));
    }

    #[test]
    fn lowest_free_port_first_until_none_is_left() {
        let mut ports = ports(50000, 50129);
        let all: Vec<u16> = std::iter::from_fn(|| ports.take(1)).collect();
        assert_eq!(all, (50000..=50129).collect::<Vec<_>>());
        ports.give_back(50070);
        ports.give_back(50003);
        assert_eq!([0; 3].map(|_| ports.take(1)), [Some(50003), Some(50070), None]);
    }

    #[test]
    fn a_console_gets_the_port_it_last_had_and_others_the_one_free_for_longest() {
        let mut ports = ports(50000, 50002);
        for n in 1..=3 {
            assert_eq!(ports.take(n), Some(49999 + n as u16));
        }
        for n in [2, 1, 3] {
            ports.give_back_of(49999 + n as u16, n);
        }
        assert_eq!(ports.take(3), Some(50002));
        assert_eq!(ports.take(4), Some(50001), "free for longest");
        assert_eq!(ports.take(2), Some(50000), "its own is another's now");
        assert_eq!(ports.take(1), None);
    }

    #[test]
    fn a_port_of_the_range_can_be_asked_for_by_number() {
        let mut ports = ports(50000, 50002);
        assert!(ports.take_this(50000));
        assert!(!ports.take_this(50000));
        assert!(!ports.take_this(50003) && !ports.take_this(49999));
        assert_eq!([0; 2].map(|_| ports.take(1)), [Some(50001), Some(50002)]);
        ports.give_back(50001);
        assert!(ports.take_this(50001) && !ports.take_this(50001));
        ports.give_back_of(50002, 1);
        assert!(ports.take_this(50002));
        assert_eq!(ports.take(1), None);
    }

    #[test]
    fn a_port_of_ones_own_is_given_to_nobody_else_and_may_lie_outside_the_range() {
        let mut ports = Ports::new(PortRange { first: 50000, last: 50002 }, false, [50001, 7001].into_iter());
        assert_eq!([0; 3].map(|_| ports.take(1)), [Some(50000), Some(50002), None]);
        assert!(!ports.take_this(50001) && !ports.take_own(50000));
        for port in [50001, 7001] {
            assert!(ports.take_own(port) && !ports.take_own(port));
            ports.give_back_of(port, 1);
            assert!(ports.take_own(port));
            ports.give_back(port);
        }
        assert_eq!(ports.take(1), None);
        assert!(ports.take_own(7001));
    }

    #[test]
    fn port_that_something_else_holds_comes_back_after_a_while() {
        let mut ports = ports(65535, 65535);
        assert_eq!(ports.take(1), Some(65535));
        ports.pass_over(65535, Instant::ZERO);
        ports.reconsider(Instant::ZERO);
        assert_eq!(ports.take(1), None);
        ports.reconsider(Instant::ZERO + PASSED_OVER);
        assert_eq!(ports.take(1), Some(65535));
    }
}
