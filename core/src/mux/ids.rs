//! Which of the other side's stream numbers are still unused.
//!
//! Numbers are never used twice, yet they need not come in order: stream 2 may speak before stream 1. Owns
//! the highest number seen and the gaps below it, so that a number that was retired is told from one that was
//! never used. Refuses to grow: a peer that leaves more gaps than it may have streams loses the oldest ones.

use std::collections::BTreeMap;

/// The unused numbers of one side. No heap while numbers come in order.
#[derive(Debug)]
pub(super) struct Unused {
    /// Everything from here on is unused.
    next: u64,
    /// Unused ranges below `next`, start to end (exclusive).
    gaps: BTreeMap<u64, u64>,
    max_gaps: usize,
}

impl Unused {
    /// Nothing used; number 0 is nobody's.
    pub(super) fn new(max_gaps: usize) -> Self {
        Self { next: 1, gaps: BTreeMap::new(), max_gaps: max_gaps.max(1) }
    }

    /// Uses `number`; false where it is used already, or too old to be known. Logarithmic in the number of
    /// gaps.
    pub(super) fn take(&mut self, number: u64) -> bool {
        if number >= self.next {
            if number > self.next {
                if self.gaps.len() >= self.max_gaps {
                    self.gaps.pop_first();
                }
                self.gaps.insert(self.next, number);
            }
            self.next = number + 1;
            return true;
        }
        let Some((&start, end)) = self.gaps.range_mut(..=number).next_back() else { return false };
        let (gap_end, behind) = (*end, number + 1);
        if number >= gap_end {
            return false;
        }
        if start == number {
            self.gaps.remove(&start);
        } else {
            *end = number;
        }
        if behind < gap_end {
            if self.gaps.len() >= self.max_gaps {
                self.gaps.pop_first();
            }
            self.gaps.insert(behind, gap_end);
        }
        true
    }

    /// Bytes of heap held.
    pub(super) fn memory(&self) -> usize {
        self.gaps.len() * GAP
    }

    /// The highest number used, 0 for none.
    pub(super) fn highest(&self) -> u64 {
        self.next - 1
    }
}

/// The most heap that an [`Unused`] for so many streams holds.
pub(super) const fn bound(max_gaps: u32) -> u64 {
    (max_gaps as u64 + 1) * GAP as u64 + 1024
}

/// Heap of one gap: a B-tree's nodes are at least five elevenths full.
const GAP: usize = 3 * size_of::<(u64, u64)>() + 16;

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;
    use std::collections::BTreeSet;

    quickcheck! {
        fn a_number_is_used_once(numbers: Vec<u8>) -> bool {
            let mut unused = Unused::new(1000);
            let mut seen = BTreeSet::from([0]);
            numbers.into_iter().all(|number| unused.take(number.into()) == seen.insert(number))
        }

        fn gaps_stay_bounded(numbers: Vec<u64>) -> bool {
            let mut unused = Unused::new(4);
            for number in numbers {
                unused.take(number & !super::super::wire::StreamId::GUEST_BIT);
                assert!(unused.gaps.len() <= 4);
            }
            true
        }
    }

    #[test]
    fn forgotten_gaps_count_as_used() {
        let mut unused = Unused::new(2);
        assert!(unused.take(10) && unused.take(20) && unused.take(30));
        assert!(!unused.take(5), "the oldest gap was given up");
        assert!(unused.take(15) && unused.take(25) && unused.take(31));
        assert_eq!(unused.highest(), 31);
    }
}
