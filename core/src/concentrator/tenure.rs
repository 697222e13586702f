//! How long VMs' connections have held a console's input: in total, and from which address most.
//!
//! Sums over connections; a host that stores it puts it back after a restart
//! ([`restore`](super::Concentrator::restore)). Knows addresses and times, and nothing of connections.

use std::net::IpAddr;
use std::time::Duration;

use crate::time::Instant;

/// What a console remembers of those who held its input.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tenure {
    /// In total, without the one who holds it now.
    stayed: Duration,
    /// Whose total is largest, and by how much it is ahead of all the others' together.
    home: Option<IpAddr>,
    lead: Duration,
    /// Who holds it now, if that is an address, and since when somebody does.
    holder: Option<IpAddr>,
    since: Option<Instant>,
}

impl Tenure {
    /// What was remembered before a restart.
    pub(super) fn restored(stayed: Duration, home: Option<IpAddr>) -> Self {
        Self { stayed, home, lead: stayed, ..Self::default() }
    }

    /// The input passes on: to a connection from `holder`, or to nobody.
    pub(super) fn pass(&mut self, to: Option<Option<IpAddr>>, now: Instant) {
        if let Some(since) = self.since.take() {
            let time = now.duration_since(since);
            self.stayed += time;
            if let Some(holder) = self.holder.take() {
                self.weigh(holder, time);
            }
        }
        if let Some(holder) = to {
            self.since = Some(now);
            self.holder = holder;
        }
    }

    /// Adds to an address's total: one that has more than all others together is found whatever the order.
    fn weigh(&mut self, address: IpAddr, time: Duration) {
        if self.home == Some(address) {
            self.lead += time;
        } else if time > self.lead {
            self.lead = time - self.lead;
            self.home = Some(address);
        } else {
            self.lead -= time;
        }
    }

    /// For how long the input has been held in total, the present holder's time included.
    pub(super) fn stayed(&self, now: Instant) -> Duration {
        self.stayed + self.since.map_or(Duration::ZERO, |since| now.duration_since(since))
    }

    /// The address that has held it for longer than all others together; where there is none, one that may
    /// come close.
    pub(super) fn home(&self) -> Option<IpAddr> {
        self.home.or(self.holder)
    }
}

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
    fn what_was_restored_counts() {
        let mut tenure = Tenure::restored(Duration::from_secs(100), Some(address(1)));
        tenure.pass(Some(Some(address(2))), at(0));
        tenure.pass(None, at(50));
        assert_eq!((tenure.home(), tenure.stayed(at(60))), (Some(address(1)), Duration::from_secs(150)));
    }
}
