//! How long VMs' connections have held a console's input: in total, and from which address most.
//!
//! Sums over connections; a host that stores it puts it back after a restart
//! ([`restore`](super::Concentrator::restore)). Knows addresses and times, and nothing of connections.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use crate::time::Instant;

/// What a console remembers of those who held its input. Addresses are in their IPv6 form, the unspecified
/// one standing for none, and times in microseconds: every idle VM has one of these.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tenure {
    /// In total, without the one who holds it now.
    stayed: u64,
    /// The votes for `home`: its time counts for it, that of others against it.
    lead: u64,
    /// Since when somebody holds it; [`NOBODY`] if nobody does.
    since: u64,
    /// Whoever has held it for more than half of the time. Where nobody has, one of those who have held it:
    /// two numbers tell no more.
    home: Ipv6Addr,
    /// Who holds it now, if that is an address.
    holder: Ipv6Addr,
}

impl Default for Tenure {
    fn default() -> Self {
        Self { stayed: 0, lead: 0, since: NOBODY, home: NONE, holder: NONE }
    }
}

impl Tenure {
    /// What was remembered before a restart.
    pub(super) fn restored(stayed: Duration, home: Option<IpAddr>) -> Self {
        let stayed = u64::try_from(stayed.as_micros()).unwrap_or(u64::MAX);
        Self { stayed, lead: stayed, home: pack(home), ..Self::default() }
    }

    /// The input passes on: to a connection from an address, if that is one, or to nobody.
    pub(super) fn pass(&mut self, to: Option<Option<IpAddr>>, now: Instant) {
        let time = self.running(now);
        self.stayed = self.stayed.saturating_add(time);
        if self.holder != NONE {
            self.weigh(self.holder, time);
        }
        self.since = if to.is_some() { now.as_micros() } else { NOBODY };
        self.holder = pack(to.flatten());
    }

    /// Counts an address's time: a vote of the majority, which is found whatever the order.
    fn weigh(&mut self, address: Ipv6Addr, time: u64) {
        if self.home == address {
            self.lead = self.lead.saturating_add(time);
        } else if time > self.lead {
            self.lead = time - self.lead;
            self.home = address;
        } else {
            self.lead -= time;
        }
    }

    /// For how long the present holder has held it.
    fn running(&self, now: Instant) -> u64 {
        if self.since == NOBODY { 0 } else { now.as_micros().saturating_sub(self.since) }
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
        from != NONE && from == self.home && from != self.holder && self.running(now) < SETTLED
    }

    /// The address that has held it for longer than all others together, without the present holder's time;
    /// where there is none, one of those that have.
    pub(super) fn home(&self) -> Option<IpAddr> {
        let home = if self.home == NONE { self.holder } else { self.home };
        (home != NONE).then(|| IpAddr::V6(home).to_canonical())
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

/// Who has held the input for this long, in microseconds, has it for good: a VM that was started elsewhere
/// and runs. Ten minutes, as where a console that is used for that long does not yield.
pub(super) const SETTLED: u64 = 600_000_000;

/// No engine runs for half a million years.
const NOBODY: u64 = u64::MAX;

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
        assert!(size_of::<Tenure>() <= 56);
    }

    #[test]
    fn stay_is_summed_over_connections_and_a_gap_counts_for_nobody() {
        let mut tenure = Tenure::default();
        tenure.pass(Some(Some(address(1))), at(10));
        tenure.pass(None, at(30));
        tenure.pass(Some(Some(address(1))), at(100));
        assert_eq!(tenure.stayed(at(105)), Duration::from_secs(25));
    }

    #[test]
    fn home_is_where_the_input_was_held_longest() {
        let mut tenure = Tenure::default();
        assert_eq!(tenure.home(), None);
        tenure.pass(Some(Some(address(1))), at(0));
        assert_eq!(tenure.home(), Some(address(1)));
        tenure.pass(Some(Some(address(2))), at(10));
        tenure.pass(Some(Some(address(1))), at(15));
        tenure.pass(None, at(16));
        assert_eq!(tenure.home(), Some(address(1)));
        tenure.pass(Some(Some(address(2))), at(20));
        tenure.pass(None, at(40));
        assert_eq!(tenure.home(), Some(address(2)));
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
        assert_eq!((tenure.home(), tenure.stayed(at(60))), (Some(address(1)), Duration::from_secs(150)));
    }
}
