//! The cells under all metrics: relaxed atomics, so that counting never waits for a scrape, nor a
//! scrape for it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ws::MessageSizes;

/// Counters that stand in a row, each at a place of its own.
#[derive(Debug)]
pub struct Counters<const N: usize>([AtomicU64; N]);

impl<const N: usize> Counters<N> {
    /// One more at this place; a place that does not exist is nobody's.
    pub fn add_one(&self, place: usize) {
        self.add(place, 1);
    }

    /// The count at this place.
    pub fn get(&self, place: usize) -> u64 {
        self.0.get(place).map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    fn add(&self, place: usize, count: u64) {
        if let Some(counter) = self.0.get(place) {
            counter.fetch_add(count, Ordering::Relaxed);
        }
    }
}

impl<const N: usize> Default for Counters<N> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

/// A number that may be counted up.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn add_one(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// One less, for what is open.
    pub fn take_one(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// As it stands.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How a histogram's times are put into buckets: upper bounds in nanoseconds, ascending.
pub trait HistogramBounds {
    /// At most [`TIMES_MAX`].
    const NANOS: &'static [u64];
}

/// Times by bucket.
#[derive(Debug)]
pub struct DurationHistogram<B> {
    counts: Counters<{ TIMES_MAX + 1 }>,
    nanos: Counter,
    bounds: std::marker::PhantomData<fn() -> B>,
}

impl<B: HistogramBounds> DurationHistogram<B> {
    /// One more.
    pub fn observe(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.counts.add_one(B::NANOS.partition_point(|bound| *bound < nanos));
        self.nanos.add(nanos);
    }

    /// Their sum in seconds, and how many are in each bucket, by its bound in seconds.
    pub fn read(&self) -> BucketCounts {
        let bounds = B::NANOS.iter().map(|nanos| *nanos as f64 / 1e9);
        buckets(self.nanos.get() as f64 / 1e9, bounds, |place| self.counts.get(place))
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

/// Messages by size.
#[derive(Debug, Default)]
pub struct SizeCounts {
    counts: Counters<{ MessageSizes::BOUNDS.len() + 1 }>,
    payload: Counter,
}

impl SizeCounts {
    /// So many more of each.
    pub fn add(&self, sizes: &MessageSizes) {
        let mut any = false;
        for (place, count) in sizes.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            self.counts.add(place, u64::from(*count));
            any = true;
        }
        if any {
            self.payload.add(sizes.payload);
        }
    }

    /// Their sum in bytes, and how many are in each bucket, by its bound in bytes.
    pub fn read(&self) -> BucketCounts {
        let bounds = MessageSizes::BOUNDS.iter().map(|bound| *bound as f64);
        buckets(self.payload.get() as f64, bounds, |place| self.counts.get(place))
    }
}

/// A histogram as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct BucketCounts {
    /// Of all that was observed.
    pub sum: f64,
    /// How many observations are at most as large as the bound, and above the one before.
    pub counts: Vec<(f64, u64)>,
}

impl BucketCounts {
    /// How many observations there are.
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
    BucketCounts { sum, counts: bounds.enumerate().map(|(at, bound)| (bound, count(at))).collect() }
}

/// Most bounds of a histogram of times.
pub const TIMES_MAX: usize = 15;

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct TenfoldBounds;

    impl HistogramBounds for TenfoldBounds {
        const NANOS: &'static [u64] = &[10, 100];
    }

    #[test]
    fn a_time_counts_under_the_first_bound_that_holds_it() {
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
    fn sizes_arrive_in_their_buckets() {
        let counts = SizeCounts::default();
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
