//! How long VMs' connections have held a console's input: in total, and from which address longest.
//!
//! Sums over connections; a host that stores it puts it back after a restart
//! ([`restore`](super::Concentrator::restore)). Knows addresses and times, and nothing of connections.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use crate::time::Instant;

/// What a console remembers of those who held its input. Addresses are in their IPv6 form, the unspecified
/// one standing for none, and times in microseconds: every idle VM has one of these.
#[derive(Debug)]
pub(super) struct Tenure {
    /// In total, without the one who holds it now.
    stayed: u64,
    /// Since when somebody holds it, or, with [`VACANT`] in it, since when nobody does.
    since: u64,
    /// Who holds it now, if that is an address.
    holder: Ipv6Addr,
    /// Who held it first: for most consoles the only one.
    first: Stay,
    /// Others that held it; there only once there is a second.
    others: Option<Box<[Stay; OTHERS]>>,
}

/// For how long an address has held it in total, without its present time.
#[derive(Clone, Copy, Debug)]
struct Stay {
    /// The unspecified one: the place is free.
    address: Ipv6Addr,
    time: u64,
}

impl Default for Tenure {
    fn default() -> Self {
        Self { stayed: 0, since: VACANT, holder: NONE, first: FREE, others: None }
    }
}

impl Tenure {
    /// What was remembered before a restart. All of the time counts as that of `home`: how much of it was
    /// others' is not kept.
    pub(super) fn restored(stayed: Duration, home: Option<IpAddr>) -> Self {
        let stayed = u64::try_from(stayed.as_micros()).unwrap_or(u64::MAX);
        let first = home.map_or(FREE, |home| Stay { address: pack(Some(home)), time: stayed });
        Self { stayed, first, ..Self::default() }
    }

    /// The input passes on: to a connection from an address, if that is one, or to nobody.
    pub(super) fn pass(&mut self, to: Option<Option<IpAddr>>, now: Instant) {
        let time = self.running(now);
        self.stayed = self.stayed.saturating_add(time);
        if self.holder != NONE {
            self.count(self.holder, time);
        }
        self.since = if to.is_some() { now.as_micros() } else { now.as_micros() | VACANT };
        self.holder = pack(to.flatten());
    }

    /// Counts an address's time. Up to four addresses are told apart exactly. Where there are more, the one
    /// with the least time makes room for one that has stayed for longer at once, and what it had is
    /// forgotten. So no address is ever taken to have held it for longer than it has; one that comes for a
    /// short while again and again, beside four that have stayed longer, is not counted.
    fn count(&mut self, address: Ipv6Addr, time: u64) {
        if time == 0 {
            return;
        }
        if let Some(stay) = self.stays_mut().find(|stay| stay.address == address) {
            stay.time = stay.time.saturating_add(time);
            return;
        }
        if self.first.address != NONE && self.others.is_none() {
            self.others = Some(Box::new([FREE; OTHERS]));
        }
        if let Some(least) = self.stays_mut().min_by_key(|stay| stay.time)
            && time > least.time
        {
            *least = Stay { address, time };
        }
    }

    fn stays(&self) -> impl Iterator<Item = &Stay> {
        std::iter::once(&self.first).chain(self.others.iter().flat_map(|others| others.iter()))
    }

    fn stays_mut(&mut self) -> impl Iterator<Item = &mut Stay> {
        std::iter::once(&mut self.first).chain(self.others.iter_mut().flat_map(|others| others.iter_mut()))
    }

    /// For how long the present holder has held it.
    fn running(&self, now: Instant) -> u64 {
        if self.since & VACANT == 0 { now.as_micros().saturating_sub(self.since) } else { 0 }
    }

    /// For how long the present holder has held it, or nobody has.
    pub(super) fn since(&self, now: Instant) -> Duration {
        Duration::from_micros(now.as_micros().saturating_sub(self.since & !VACANT))
    }

    /// For how long whoever holds the input now has held it.
    pub(super) fn held_for(&self, now: Instant) -> Duration {
        Duration::from_micros(self.running(now))
    }

    /// For how long the input has been held in total, the present holder's time included.
    pub(super) fn stayed(&self, now: Instant) -> Duration {
        Duration::from_micros(self.stayed.saturating_add(self.running(now)))
    }

    /// For how long it has been held in total, in microseconds, without whoever holds it now.
    pub(super) fn before(&self) -> u64 {
        self.stayed
    }

    /// Who holds it, if that is an address.
    pub(super) fn last_holder(&self) -> Option<IpAddr> {
        (self.holder != NONE).then(|| IpAddr::V6(self.holder).to_canonical())
    }

    /// Whether a newcomer from this address wins against whoever holds the input now: it comes from home, and
    /// the holder, at another address, has not held it for long.
    pub(super) fn is_homecoming(&self, from: Option<IpAddr>, now: Instant) -> bool {
        let from = pack(from);
        from != NONE && from != self.holder && self.running(now) < SETTLED && from == self.home_address(now)
    }

    /// Whether whoever holds the input has not held it for long.
    pub(super) fn is_young(&self, now: Instant) -> bool {
        self.running(now) < SETTLED
    }

    /// The address that has held it for longest in total. The time of whoever holds it now counts once it
    /// has held it for ten minutes: until then it may be a guest.
    pub(super) fn home(&self, now: Instant) -> Option<IpAddr> {
        let home = self.home_address(now);
        (home != NONE).then(|| IpAddr::V6(home).to_canonical())
    }

    fn home_address(&self, now: Instant) -> Ipv6Addr {
        let running = Some(self.running(now)).filter(|&running| running >= SETTLED).unwrap_or(0);
        let of_holder = Stay { address: self.holder, time: running };
        let stays = self.stays().map(|stay| match stay.address == self.holder {
            true => Stay { time: stay.time.saturating_add(running), ..*stay },
            false => *stay,
        });
        // Of equals the first.
        let longest = stays.chain([of_holder]).reduce(|longest, stay| match stay.time > longest.time {
            true => stay,
            false => longest,
        });
        longest.map(|stay| stay.address).filter(|&address| address != NONE).unwrap_or(self.holder)
    }
}

fn pack(address: Option<IpAddr>) -> Ipv6Addr {
    match address {
        Some(IpAddr::V4(v4)) => v4.to_ipv6_mapped(),
        Some(IpAddr::V6(v6)) => v6,
        None => NONE,
    }
}

const NONE: Ipv6Addr = Ipv6Addr::UNSPECIFIED;

const FREE: Stay = Stay { address: NONE, time: 0 };

/// Addresses beside the first whose time is known: a VM has as many hosts in a small cluster.
const OTHERS: usize = 3;

/// Who has held the input for this long, in microseconds, has it for good: a VM that was started elsewhere
/// and runs. Ten minutes, as where a console that is used for that long does not yield.
pub(super) const SETTLED: u64 = 600_000_000;

/// Nobody holds it. No engine runs for the quarter of a million years that set this bit.
const VACANT: u64 = 1 << 63;

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, n])
    }

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn a_tenure_costs_little() {
        assert!(size_of::<Tenure>() <= 64);
    }

    #[test]
    fn stay_is_summed_over_connections_and_a_gap_counts_for_nobody() {
        let mut tenure = Tenure::default();
        tenure.pass(Some(Some(address(1))), at(10));
        tenure.pass(None, at(30));
        tenure.pass(Some(Some(address(1))), at(100));
        assert_eq!(tenure.stayed(at(105)), Duration::from_secs(25));
    }

    /// Each of `stays` holds the input for so many seconds, one after the other.
    fn after(stays: &[(u8, u64)]) -> (Tenure, Instant) {
        let (mut tenure, mut now) = (Tenure::default(), 0);
        for &(who, seconds) in stays {
            tenure.pass(Some(Some(address(who))), at(now));
            now += seconds;
        }
        tenure.pass(None, at(now));
        (tenure, at(now))
    }

    fn home_after(stays: &[(u8, u64)]) -> Option<IpAddr> {
        let (tenure, now) = after(stays);
        tenure.home(now)
    }

    #[test]
    fn home_is_where_the_input_was_held_longest() {
        assert_eq!(home_after(&[]), None);
        assert_eq!(home_after(&[(1, 10), (2, 5), (1, 1)]), Some(address(1)));
        assert_eq!(home_after(&[(1, 10), (2, 5), (1, 1), (2, 20)]), Some(address(2)));
        let mut tenure = Tenure::default();
        tenure.pass(Some(Some(address(1))), at(0));
        assert_eq!(tenure.home(at(0)), Some(address(1)), "there is no other");
    }

    #[test]
    fn home_is_found_among_three_of_which_none_has_the_majority_whatever_the_order() {
        let mut stays = [(1, 40), (2, 35), (3, 30)];
        for swaps in 0..6 {
            assert_eq!(home_after(&stays), Some(address(1)), "{stays:?}");
            stays.swap(swaps % 2, 2);
            stays.swap(0, swaps % 3);
        }
        assert_eq!(home_after(&[(1, 20), (2, 30), (3, 25), (2, 1), (1, 15), (3, 2)]), Some(address(1)));
        assert_eq!(home_after(&[(1, 9), (2, 10), (3, 8), (4, 9), (1, 2)]), Some(address(1)));
    }

    #[test]
    fn of_many_addresses_those_that_stayed_longest_are_known_and_none_for_longer_than_it_did() {
        let (mut tenure, now) = after(&[(1, 100), (2, 50), (3, 40), (4, 30), (5, 20), (6, 35)]);
        assert_eq!(tenure.home(now), Some(address(1)));
        let known: Vec<u64> = tenure.stays().map(|stay| stay.time / 1_000_000).collect();
        assert_eq!(known, [100, 50, 40, 35], "the fifth had not stayed longer than any, the sixth had");
        // The fifth begins anew, with the time that it has stayed from then on.
        tenure.pass(Some(Some(address(5))), now);
        tenure.pass(None, now + Duration::from_secs(99));
        assert_eq!(tenure.home(now + Duration::from_secs(99)), Some(address(1)));
        for n in 0..200 {
            let from = now + Duration::from_secs(100 + n);
            tenure.pass(Some(Some(address(10 + n as u8))), from);
        }
        assert_eq!(tenure.home(now + Duration::from_secs(300)), Some(address(1)), "a crowd is nobody's home");
    }

    #[test]
    fn whoever_holds_it_is_at_home_once_it_has_held_it_for_longest_and_for_ten_minutes() {
        let mut tenure = Tenure::default();
        tenure.pass(Some(Some(address(1))), at(0));
        tenure.pass(Some(Some(address(2))), at(60));
        assert_eq!(tenure.home(at(60 + 599)), Some(address(1)));
        assert_eq!(tenure.home(at(60 + 600)), Some(address(2)), "it has been there for longer, and stays");
    }

    #[test]
    fn who_comes_home_wins_for_ten_minutes() {
        let mut tenure = Tenure::default();
        let (home, other) = (Some(address(1)), Some(address(2)));
        tenure.pass(Some(home), at(0));
        assert!(!tenure.is_homecoming(home, at(5)), "it holds it");
        assert!(!tenure.is_homecoming(other, at(5)), "that is not home");
        tenure.pass(Some(other), at(100));
        assert!(tenure.is_homecoming(home, at(699)));
        assert!(!tenure.is_homecoming(home, at(700)));
        assert!(!tenure.is_homecoming(None, at(101)));
    }

    #[test]
    fn what_was_restored_counts() {
        let mut tenure = Tenure::restored(Duration::from_secs(100), Some(address(1)));
        tenure.pass(Some(Some(address(2))), at(0));
        tenure.pass(None, at(50));
        assert_eq!(
            (tenure.home(at(60)), tenure.stayed(at(60))),
            (Some(address(1)), Duration::from_secs(150))
        );
        tenure.pass(Some(Some(address(2))), at(60));
        tenure.pass(None, at(111));
        assert_eq!(tenure.home(at(111)), Some(address(2)));
    }
}
