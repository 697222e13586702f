//! How often something took how long, or was how large: counts by size, four steps to each doubling.
//!
//! Owns the steps and how they are told. Refuses to know what is measured. A record costs a shift and an
//! addition; nothing is allocated before the first.

use serde::Serialize;

/// Counts by size. Values beyond 2^40 count as that.
#[derive(Clone, Debug, Default)]
pub(super) struct Histogram {
    counts: Option<Box<[u32; STEPS]>>,
    count: u64,
    sum: u64,
    max: u64,
}

/// A histogram as it is told (operator.md §5).
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(super) struct Summary {
    /// How many values there were.
    pub(super) count: u64,
    /// All of them together.
    pub(super) sum: u64,
    /// Half of them are no greater than this, as far as the steps tell.
    pub(super) p50: u64,
    /// Ninety-nine of a hundred are no greater.
    pub(super) p99: u64,
    /// The greatest.
    pub(super) max: u64,
    /// Steps with something in them: the greatest value of each, and how many are in it.
    pub(super) steps: Vec<(u64, u32)>,
}

impl Histogram {
    /// One more value.
    pub(super) fn record(&mut self, value: u64) {
        let counts = self.counts.get_or_insert_with(|| Box::new([0; STEPS]));
        let count = &mut counts[step(value)];
        *count = count.saturating_add(1);
        self.count += 1;
        self.sum = self.sum.saturating_add(value);
        self.max = self.max.max(value);
    }

    /// What there was. Costs a look at each step.
    pub(super) fn summary(&self) -> Summary {
        let counts = self.counts.as_deref().map_or(&[][..], |counts| &counts[..]);
        let filled = counts.iter().enumerate().filter(|(_, count)| **count > 0);
        let steps: Vec<(u64, u32)> = filled.map(|(step, &count)| (top(step), count)).collect();
        let below = |part: u64| {
            let mut left = (self.count * part).div_ceil(100);
            let step = steps.iter().find(|(_, count)| {
                left = left.saturating_sub((*count).into());
                left == 0
            });
            step.map_or(0, |&(top, _)| top.min(self.max))
        };
        Summary { count: self.count, sum: self.sum, p50: below(50), p99: below(99), max: self.max, steps }
    }
}

/// In which step a value is: itself below four, then four steps to each doubling.
fn step(value: u64) -> usize {
    let value = value.min(MOST);
    if value < 4 {
        return value as usize;
    }
    let doubling = value.ilog2();
    let quarter = (value >> (doubling - 2)) & 3;
    4 * (doubling as usize - 1) + quarter as usize
}

/// The greatest value of a step.
fn top(step: usize) -> u64 {
    if step < 4 {
        return step as u64;
    }
    let (doubling, quarter) = (step / 4 + 1, step as u64 % 4);
    ((4 + quarter + 1) << (doubling - 2)) - 1
}

/// Twelve days in microseconds, a tebibyte: more than anything that is measured.
const MOST: u64 = (1 << 40) - 1;

const STEPS: usize = 4 * 39;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_is_in_the_step_whose_greatest_value_is_the_next() {
        for value in (0..5000).chain((12..40).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + 1])) {
            let step = step(value);
            assert!(step < STEPS);
            assert!(top(step) >= value, "{value} is beyond its step");
            assert!(step == 0 || top(step - 1) < value, "{value} belongs to the step before");
            assert!(top(step) - value <= value / 4, "{value} is told as {}", top(step));
        }
        assert_eq!(top(step(u64::MAX)), MOST);
    }

    #[test]
    fn a_summary_tells_what_was_recorded() {
        let mut histogram = Histogram::default();
        let nothing = Summary { count: 0, sum: 0, p50: 0, p99: 0, max: 0, steps: Vec::new() };
        assert_eq!(histogram.summary(), nothing);
        (1..=100).for_each(|value| histogram.record(value));
        let summary = histogram.summary();
        assert_eq!((summary.count, summary.sum, summary.max), (100, 5050, 100));
        assert!((50..=55).contains(&summary.p50), "{summary:?}");
        assert!((99..=100).contains(&summary.p99), "{summary:?}");
        assert_eq!(summary.steps.iter().map(|&(_, count)| count).sum::<u32>(), 100);
    }
}
