//! How much may be told: allowances of events that come back with time, one for everybody who is nobody yet,
//! and two for each address.
//!
//! **Owns** the counts, and what was left out. **Refuses to know** what an event is and who is somebody.
//!
//! An address has one allowance for what its newcomers do and one for what those have to tell who have held a
//! console's input for a while: a crowd that comes and goes behind a relay's address does not hide that a VM
//! behind it moves or ends. Both are large: a fleet that connects through one relay is told of whole.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::time::Instant;

use super::admission::Source;

/// A number of events that comes back with time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    burst: u32,
    left: u32,
    /// Up to when `left` has been counted.
    counted: Instant,
}

impl Allowance {
    pub(super) const fn new(burst: u32) -> Self {
        Self { burst, left: burst, counted: Instant::ZERO }
    }

    /// Takes one, if one is left.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        self.refill(now);
        let is_left = self.left > 0;
        self.left -= u32::from(is_left);
        is_left
    }

    fn refill(&mut self, now: Instant) {
        let seconds = now.duration_since(self.counted).as_secs();
        if seconds > 0 {
            self.counted = self.counted + Duration::from_secs(seconds);
            let back = u32::try_from(seconds).unwrap_or(u32::MAX).saturating_mul(PER_SECOND);
            self.left = self.left.saturating_add(back).min(self.burst);
        }
    }

    fn is_full(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.left == self.burst
    }
}

/// Who an event is charged to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Payer {
    pub(super) source: Source,
    /// It is about who has held a console's input for a while.
    pub(super) is_resident: bool,
}

/// The allowances of addresses.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    /// Of those that have told something of late. One that has all of its allowance again has no entry.
    shares: BTreeMap<Source, Share>,
    /// Of all for which there is no room there.
    others: Share,
    /// When entries that are not needed were last looked for.
    swept: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Share {
    newcomers: Allowance,
    residents: Allowance,
    left_out: u32,
}

impl Default for Share {
    fn default() -> Self {
        let whole = Allowance::new(ADDRESS_BURST);
        Self { newcomers: whole, residents: whole, left_out: 0 }
    }
}

impl Addresses {
    /// Whether an event may be told; if not, it is counted. Costs a look at each entry once a second at most.
    pub(super) fn take(&mut self, payer: Payer, now: Instant) -> bool {
        if self.shares.len() >= MOST_ADDRESSES && now >= self.swept + SWEEP {
            self.swept = now;
            self.shares.retain(|_, share| {
                share.left_out > 0 || !share.newcomers.is_full(now) || !share.residents.is_full(now)
            });
        }
        let has_room = self.shares.len() < MOST_ADDRESSES || self.shares.contains_key(&payer.source);
        let share = match has_room {
            true => self.shares.entry(payer.source).or_default(),
            false => &mut self.others,
        };
        let allowance = if payer.is_resident { &mut share.residents } else { &mut share.newcomers };
        let is_left = allowance.take(now);
        share.left_out = share.left_out.saturating_add(u32::from(!is_left));
        is_left
    }

    /// How many events were left out since this was last asked: of the addresses that lost the most, each by
    /// itself; of the rest together, without an address.
    pub(super) fn take_left_out(&mut self) -> Vec<(Option<IpAddr>, u32)> {
        let mut all: Vec<(Option<IpAddr>, u32)> = self
            .shares
            .iter_mut()
            .map(|(source, share)| (source.ip(), std::mem::take(&mut share.left_out)))
            .filter(|&(_, left_out)| left_out > 0)
            .collect();
        all.sort_by_key(|&(_, left_out)| std::cmp::Reverse(left_out));
        let rest = all
            .split_off(all.len().min(TOLD_APART))
            .iter()
            .map(|&(_, left_out)| left_out)
            .fold(std::mem::take(&mut self.others.left_out), u32::saturating_add);
        if rest > 0 {
            all.push((None, rest));
        }
        all
    }
}

/// How many events of an allowance come back each second: a day of them is some 300 MB of log, and a
/// morning's storm is told in full again.
pub(super) const PER_SECOND: u32 = 20;

/// Events that an address may tell at once: a fleet of 9000 VMs behind one relay that loses its connections
/// and comes back, over TLS, and half as much again.
pub(super) const ADDRESS_BURST: u32 = 50_000;

/// Addresses that are told apart: some 100 KiB at most. A data centre has fewer hosts; where a crowd comes
/// from more, those that come last share one allowance.
const MOST_ADDRESSES: usize = 1024;

/// How often entries that are not needed are looked for, where there are as many as there may be.
const SWEEP: Duration = Duration::from_secs(1);

/// Addresses of which it is told by itself how much of theirs was left out.
const TOLD_APART: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn newcomer(n: u32) -> Payer {
        Payer { source: IpAddr::from(n.to_be_bytes()).into(), is_resident: false }
    }

    fn told(addresses: &mut Addresses, payer: Payer, tries: u32, now: Instant) -> u32 {
        (0..tries).map(|_| u32::from(addresses.take(payer, now))).sum()
    }

    #[test]
    fn an_address_has_a_burst_and_then_a_few_a_second_and_takes_nothing_from_others() {
        let mut addresses = Addresses::default();
        let crowd = newcomer(0x0102_0304);
        let now = Instant::from_millis(5000);
        assert_eq!(told(&mut addresses, crowd, 60_000, now), ADDRESS_BURST);
        let later = now + Duration::from_secs(10);
        assert_eq!(told(&mut addresses, crowd, 60_000, later), 10 * PER_SECOND);
        assert_eq!(told(&mut addresses, newcomer(7), 100, later), 100);
        let resident = Payer { is_resident: true, ..crowd };
        assert_eq!(told(&mut addresses, resident, 100, later), 100, "those who stay are told of");
        let left_out = 120_000 - ADDRESS_BURST - 10 * PER_SECOND;
        assert_eq!(addresses.take_left_out(), [(Some(IpAddr::from([1, 2, 3, 4])), left_out)]);
        assert_eq!(addresses.take_left_out(), []);
    }

    #[test]
    fn any_number_of_addresses_costs_no_more_than_the_table() {
        let mut addresses = Addresses::default();
        for n in 0..100_000 {
            assert!(addresses.take(newcomer(n), Instant::ZERO) || n as usize > MOST_ADDRESSES);
        }
        assert_eq!(addresses.shares.len(), MOST_ADDRESSES);
        let left_out = 100_000 - MOST_ADDRESSES as u32 - ADDRESS_BURST;
        assert_eq!(addresses.take_left_out(), [(None, left_out)], "those beyond the table share one");
        // Who has been quiet gives up its entry to the next.
        let later = Instant::ZERO + Duration::from_secs(5);
        assert_eq!(told(&mut addresses, newcomer(200_000), ADDRESS_BURST + 5, later), ADDRESS_BURST);
        assert_eq!(addresses.shares.len(), 1);
    }

    #[test]
    fn only_those_that_lost_most_are_told_of_one_by_one() {
        let mut addresses = Addresses::default();
        for n in 1..=20 {
            told(&mut addresses, newcomer(n), ADDRESS_BURST + n, Instant::ZERO);
        }
        let told = addresses.take_left_out();
        assert_eq!(told.len(), TOLD_APART + 1);
        assert_eq!(told[0], (Some(IpAddr::from([0, 0, 0, 20])), 20));
        assert_eq!(told[TOLD_APART], (None, 1 + 2 + 3 + 4));
    }
}
