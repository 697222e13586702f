//! The upgrade backoff: a host whose upgrade to TLS failed is not offered another for a while. One that takes
//! the offer and cannot carry it through would otherwise connect and fail for ever, without a console.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use crate::time::Instant;

use crate::keyed::Keyed;

/// How long a host is not offered TLS after its upgrade failed. Long enough that people see its console,
/// short enough that a host that was put right is found out without anyone's doing.
const BACKOFF: Duration = Duration::from_secs(600);

/// Hosts remembered; the one that failed first is forgotten first. More than the largest fleets have.
const LIMIT: usize = 1024;

#[derive(Debug)]
pub(super) struct UpgradeBackoff {
    until: HashMap<IpAddr, Instant, Keyed>,
    /// By the time they failed. Entries of hosts that have failed again since are passed over: all VMs of a
    /// host fail at once, and must not push out other hosts.
    order: VecDeque<(IpAddr, Instant)>,
}

impl UpgradeBackoff {
    pub(super) fn new(keys: Keyed) -> Self {
        Self { until: HashMap::with_hasher(keys), order: VecDeque::new() }
    }

    /// The upgrade of `host` failed.
    pub(super) fn add(&mut self, host: IpAddr, now: Instant) {
        let until = now + BACKOFF;
        if self.until.insert(host, until) != Some(until) {
            self.order.push_back((host, until));
        }
        if self.order.len() > 2 * LIMIT {
            let latest = &self.until;
            self.order.retain(|(host, until)| latest.get(host) == Some(until));
        }
        while let Some(&(oldest, at)) = self.order.front()
            && (at <= now || self.until.len() > LIMIT)
        {
            self.order.pop_front();
            if self.until.get(&oldest) == Some(&at) {
                self.until.remove(&oldest);
            }
        }
    }

    /// Whether `host` is not to be offered an upgrade.
    pub(super) fn contains(&self, host: IpAddr, now: Instant) -> bool {
        self.until.get(&host).is_some_and(|&until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn host(n: u32) -> IpAddr {
        Ipv4Addr::from_bits(n).into()
    }

    #[test]
    fn host_is_left_alone_for_ten_minutes_after_its_last_failure() {
        let mut backoff = UpgradeBackoff::new(Keyed(1, 2));
        let at = |seconds| Instant::ZERO + Duration::from_secs(seconds);
        backoff.add(host(1), at(0));
        backoff.add(host(1), at(100));
        assert!(backoff.contains(host(1), at(699)));
        assert!(!backoff.contains(host(1), at(700)));
        assert!(!backoff.contains(host(2), at(100)));
    }

    #[test]
    fn no_more_are_remembered_than_the_limit_and_the_oldest_goes() {
        let mut backoff = UpgradeBackoff::new(Keyed(1, 2));
        for n in 0..10 * LIMIT as u32 {
            backoff.add(host(n), Instant::ZERO);
        }
        assert_eq!((backoff.until.len(), backoff.order.len()), (LIMIT, LIMIT));
        assert!(!backoff.contains(host(0), Instant::ZERO));
        assert!(backoff.contains(host(10 * LIMIT as u32 - 1), Instant::ZERO));
    }

    #[test]
    fn host_that_fails_again_and_again_pushes_out_no_other_and_takes_no_more_room() {
        let mut backoff = UpgradeBackoff::new(Keyed(1, 2));
        backoff.add(host(2), Instant::ZERO);
        for n in 0..10 * LIMIT as u64 {
            backoff.add(host(1), Instant::from_millis(n));
            assert!(backoff.order.len() <= 2 * LIMIT);
        }
        assert!(backoff.contains(host(1), Instant::from_millis(10 * LIMIT as u64)));
        assert!(backoff.contains(host(2), Instant::from_millis(10 * LIMIT as u64)));
    }
}
