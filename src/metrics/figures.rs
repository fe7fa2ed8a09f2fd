//! What is counted: to add to a figure is an atomic addition, and takes nothing from memory.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const NANOS: f64 = 1e9;

/// A count that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    pub(crate) fn one(&self) {
        self.add(1);
    }

    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// Takes a count that is made elsewhere, and may seem to shrink for a moment there.
    pub(crate) fn reaches(&self, count: u64) -> u64 {
        self.0.fetch_max(count, Ordering::Relaxed).max(count)
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The most bounds that a histogram has.
const MOST: usize = 14;

/// How values are spread. Each is counted under the first bound that it does not exceed.
#[derive(Debug)]
pub(crate) struct Histogram {
    bounds: &'static [f64],
    /// One more than bounds, for what exceeds them all.
    counts: [AtomicU64; MOST + 1],
    /// In billionths.
    sum: AtomicU64,
}

/// A histogram, read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Spread {
    /// Bounds, and how many values do not exceed each.
    pub(crate) upto: Vec<(f64, u64)>,
    pub(crate) count: u64,
    pub(crate) sum: f64,
}

/// Of what takes a moment: 100 µs to 10 s.
pub(crate) const SHORT: &[f64] =
    &[0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 10.0];
/// Of what waits for a model or a tool: 5 ms to 10 min.
pub(crate) const LONG: &[f64] =
    &[0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0];
/// Of how many there are of something.
pub(crate) const MANY: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

impl Histogram {
    /// One with these bounds, in growing order and no more than [`MOST`].
    pub(crate) const fn new(bounds: &'static [f64]) -> Self {
        assert!(bounds.len() <= MOST, "there is no room for so many bounds");
        Self { bounds, counts: [const { AtomicU64::new(0) }; MOST + 1], sum: AtomicU64::new(0) }
    }

    /// Counts a time, in seconds.
    pub(crate) fn took(&self, time: Duration) {
        self.count(time.as_secs_f64(), u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Counts a number of things.
    pub(crate) fn held(&self, things: usize) {
        let things = u32::try_from(things).unwrap_or(u32::MAX);
        self.count(things.into(), u64::from(things) * 1_000_000_000);
    }

    fn count(&self, value: f64, billionths: u64) {
        let at = self.bounds.iter().position(|bound| value <= *bound).unwrap_or(self.bounds.len());
        self.counts[at].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(billionths, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Spread {
        let mut count = 0;
        let mut upto = Vec::with_capacity(self.bounds.len());
        for (bound, here) in self.bounds.iter().zip(&self.counts) {
            count += here.load(Ordering::Relaxed);
            upto.push((*bound, count));
        }
        count += self.counts[self.bounds.len()].load(Ordering::Relaxed);
        #[expect(clippy::cast_precision_loss, reason = "a sum of seconds for people")]
        let sum = self.sum.load(Ordering::Relaxed) as f64 / NANOS;
        Spread { upto, count, sum }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_counts_under_every_bound_that_it_does_not_exceed() {
        let histogram = Histogram::new(&[0.1, 1.0]);
        for millis in [50, 100, 101, 5_000] {
            histogram.took(Duration::from_millis(millis));
        }
        let Spread { upto, count, sum } = histogram.read();
        assert_eq!((upto, count), (vec![(0.1, 2), (1.0, 3)], 4));
        assert!((sum - 5.251).abs() < 1e-9, "{sum}");
    }

    #[test]
    fn a_count_that_is_made_elsewhere_never_shrinks() {
        let counter = Counter::new();
        assert_eq!([counter.reaches(5), counter.reaches(3), counter.reaches(6)], [5, 5, 6]);
    }
}
