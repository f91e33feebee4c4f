//! Counters and histograms made of relaxed atomics, so that counting never waits for a scrape and
//! a scrape never waits for counting.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ws::MessageSizes;

/// A fixed array of counters, addressed by index.
#[derive(Debug)]
pub struct Counters<const N: usize>([AtomicU64; N]);

impl<const N: usize> Counters<N> {
    /// Increments the counter at `index`; does nothing if `index` is not below `N`.
    pub fn inc(&self, index: usize) {
        self.add(index, 1);
    }

    /// The value of the counter at `index`; 0 if `index` is not below `N`.
    pub fn get(&self, index: usize) -> u64 {
        self.0.get(index).map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    fn add(&self, index: usize, count: u64) {
        if let Some(counter) = self.0.get(index) {
            counter.fetch_add(count, Ordering::Relaxed);
        }
    }
}

impl<const N: usize> Default for Counters<N> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

/// One number that goes up and, where it counts open items, down.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds 1.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Subtracts 1; for gauges, after a matching [`inc`](Self::inc).
    pub fn dec(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// The current value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The bucket bounds of a [`DurationHistogram`].
pub trait HistogramBounds {
    /// Inclusive upper bounds in nanoseconds, ascending; at most [`BOUNDS_MAX`] of them.
    const NANOS: &'static [u64];
}

/// A histogram of durations with the bucket bounds `B`.
#[derive(Debug)]
pub struct DurationHistogram<B> {
    counts: Counters<{ BOUNDS_MAX + 1 }>,
    nanos: Counter,
    bounds: std::marker::PhantomData<fn() -> B>,
}

impl<B: HistogramBounds> DurationHistogram<B> {
    /// Counts one duration in its bucket and adds it to the sum.
    pub fn observe(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.counts.inc(B::NANOS.partition_point(|bound| *bound < nanos));
        self.nanos.add(nanos);
    }

    /// The current sum and bucket counts, with sum and bounds in seconds.
    pub fn read(&self) -> BucketCounts {
        let bounds = B::NANOS.iter().map(|nanos| *nanos as f64 / 1e9);
        buckets(self.nanos.get() as f64 / 1e9, bounds, |index| self.counts.get(index))
    }
}

impl<B> Default for DurationHistogram<B> {
    fn default() -> Self {
        Self {
            counts: Counters::default(),
            nanos: Counter::default(),
            bounds: std::marker::PhantomData,
        }
    }
}

/// A histogram of message payload sizes.
#[derive(Debug, Default)]
pub struct SizeHistogram {
    counts: Counters<{ MessageSizes::BOUNDS.len() + 1 }>,
    payload: Counter,
}

impl SizeHistogram {
    /// Adds the messages that a session counted since its last report.
    pub fn add(&self, sizes: &MessageSizes) {
        let mut any = false;
        for (index, count) in sizes.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            self.counts.add(index, u64::from(*count));
            any = true;
        }
        if any {
            self.payload.add(sizes.payload);
        }
    }

    /// The current sum and bucket counts, with sum and bounds in bytes.
    pub fn read(&self) -> BucketCounts {
        let bounds = MessageSizes::BOUNDS.iter().map(|bound| *bound as f64);
        buckets(self.payload.get() as f64, bounds, |index| self.counts.get(index))
    }
}

/// The state of a histogram at the time of a scrape.
#[derive(Clone, Debug, PartialEq)]
pub struct BucketCounts {
    /// Sum of all observed values.
    pub sum: f64,
    /// For each bucket its inclusive upper bound and the number of observations in that bucket
    /// alone (not cumulative). The last bound is infinity.
    pub counts: Vec<(f64, u64)>,
}

impl BucketCounts {
    /// Number of observations in all buckets.
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|(_, count)| count).sum()
    }
}

fn buckets(
    sum: f64,
    bounds: impl Iterator<Item = f64>,
    count: impl Fn(usize) -> u64,
) -> BucketCounts {
    let bounds = bounds.chain([f64::INFINITY]);
    let counts = bounds.enumerate().map(|(index, bound)| (bound, count(index))).collect();
    BucketCounts { sum, counts }
}

/// Maximum number of bounds of a [`DurationHistogram`].
pub const BOUNDS_MAX: usize = 15;

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct TenfoldBounds;

    impl HistogramBounds for TenfoldBounds {
        const NANOS: &'static [u64] = &[10, 100];
    }

    #[test]
    fn durations_fall_below_the_first_bound_that_fits() {
        let times = DurationHistogram::<TenfoldBounds>::default();
        for nanos in [0, 10, 11, 100, 101, 1_000_000] {
            times.observe(Duration::from_nanos(nanos));
        }
        let read = times.read();
        let counts: Vec<u64> = read.counts.iter().map(|(_, count)| *count).collect();
        assert_eq!((counts, read.count()), (vec![2, 2, 2], 6));
        assert!((read.sum - 1_000_222e-9).abs() < 1e-12);
        assert_eq!(read.counts[2].0, f64::INFINITY);
    }

    #[test]
    fn sizes_are_counted_in_their_buckets() {
        let counts = SizeHistogram::default();
        let mut sizes = MessageSizes::default();
        for size in [1, 32, 33, 9_000_000] {
            sizes.add(size);
        }
        counts.add(&sizes);
        counts.add(&MessageSizes::default());
        let read = counts.read();
        assert_eq!((read.counts[0], read.counts[1]), ((32.0, 2), (256.0, 1)));
        assert_eq!((read.counts[7].1, read.sum), (1, 9_000_066.0));
    }
}
