//! A latency histogram with a relative error of 1/64.

const SUB_BITS: u32 = 6;
const SUB: u64 = 1 << SUB_BITS;
const BUCKETS: usize = (64 - SUB_BITS as usize) * SUB as usize;

pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS + SUB as usize], total: 0 }
    }
}

impl Histogram {
    pub fn add(&mut self, nanos: u64) {
        let bucket = match nanos.checked_ilog2() {
            Some(log) if log > SUB_BITS => {
                let shift = log - SUB_BITS;
                (u64::from(shift) * SUB + (nanos >> shift)) as usize
            }
            Some(_) | None => nanos as usize,
        };
        self.counts[bucket] += 1;
        self.total += 1;
    }

    /// A quantile in microseconds; `None` if the histogram is empty.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let rank = (self.total as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if *count > 0 && seen >= rank {
                return Some(middle(bucket as u64) / 1e3);
            }
        }
        None
    }
}

fn middle(bucket: u64) -> f64 {
    if bucket < 2 * SUB {
        return bucket as f64;
    }
    let shift = bucket / SUB - 1;
    let low = (bucket - shift * SUB) << shift;
    low as f64 + (1u64 << shift) as f64 / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantile_error_is_at_most_one_64th() {
        for value in [0, 1, 127, 128, 1_000, 123_456, 9_876_543_210, u64::MAX] {
            let mut histogram = Histogram::default();
            histogram.add(value);
            let found = histogram.quantile(0.5).unwrap() * 1e3;
            assert!((found - value as f64).abs() <= value as f64 / 64.0, "{value}: {found}");
        }
        let mut histogram = Histogram::default();
        (1..=1000).for_each(|micros| histogram.add(micros * 1000));
        let p99 = histogram.quantile(0.99).unwrap();
        assert!((p99 - 990.0).abs() < 990.0 / 64.0, "{p99}");
        assert_eq!(Histogram::default().quantile(0.5), None);
    }
}
