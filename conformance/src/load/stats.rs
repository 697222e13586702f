//! Latencies and how they are told: percentiles, medians of runs, bytes and durations in words.

use std::time::Duration;

use serde_json::{Value, json};

/// Every sample of one latency, in nanoseconds.
#[derive(Clone, Default, Debug)]
pub(super) struct Samples {
    nanos: Vec<u64>,
    sorted: bool,
}

impl Samples {
    /// Adds one.
    pub(super) fn push(&mut self, sample: Duration) {
        self.nanos.push(u64::try_from(sample.as_nanos()).unwrap_or(u64::MAX));
        self.sorted = false;
    }

    /// How many there are.
    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.nanos.len()
    }

    /// Whether there are none.
    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        self.nanos.is_empty()
    }

    /// The smallest sample that at least `percent` of all do not exceed (nearest rank); zero without samples.
    pub(super) fn percentile(&mut self, percent: f64) -> Duration {
        if !self.sorted {
            self.nanos.sort_unstable();
            self.sorted = true;
        }
        let rank = (percent / 100.0 * self.nanos.len() as f64).ceil() as usize;
        let at = rank.clamp(1, self.nanos.len().max(1)) - 1;
        Duration::from_nanos(self.nanos.get(at).copied().unwrap_or(0))
    }

    /// `p50/p99/max` in words.
    pub(super) fn words(&mut self) -> String {
        let [p50, p99, max] = [50.0, 99.0, 100.0].map(|p| millis(self.percentile(p)));
        format!("p50 {p50} p99 {p99} max {max} ms (n={})", self.len())
    }

    /// The same for machines, in microseconds.
    pub(super) fn json(&mut self) -> Value {
        let [p50, p90, p99, p999, max] = [50.0, 90.0, 99.0, 99.9, 100.0].map(|p| micros(self.percentile(p)));
        json!({"n": self.len(), "p50_us": p50, "p90_us": p90, "p99_us": p99, "p999_us": p999, "max_us": max})
    }
}

/// The middle one (the mean of the two middle ones) of some measurements; 0 without any.
#[must_use]
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// A duration in milliseconds with as many digits as say something.
#[must_use]
pub(super) fn millis(duration: Duration) -> String {
    let ms = duration.as_secs_f64() * 1e3;
    if ms < 10.0 {
        format!("{ms:.3}")
    } else if ms < 1000.0 {
        format!("{ms:.1}")
    } else {
        format!("{ms:.0}")
    }
}

/// A duration in microseconds, to the tenth.
#[must_use]
pub(super) fn micros(duration: Duration) -> f64 {
    (duration.as_nanos() as f64 / 100.0).round() / 10.0
}

/// `value` rounded to `digits` decimals, so that a report is no longer than it is exact.
#[must_use]
pub(super) fn round(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_rank() {
        let mut samples = Samples::default();
        for ms in (1..=200).rev() {
            samples.push(Duration::from_millis(ms));
        }
        assert_eq!(samples.percentile(50.0), Duration::from_millis(100));
        assert_eq!(samples.percentile(99.0), Duration::from_millis(198));
        assert_eq!(samples.percentile(100.0), Duration::from_millis(200));
        assert_eq!(samples.percentile(0.0), Duration::from_millis(1));
        samples.push(Duration::ZERO);
        assert_eq!(samples.percentile(0.0), Duration::ZERO);
    }

    #[test]
    fn no_samples_are_zero_not_a_panic() {
        assert_eq!(Samples::default().percentile(99.0), Duration::ZERO);
        assert!(median(&[]).abs() < f64::EPSILON);
    }

    #[test]
    fn medians() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
    }
}
