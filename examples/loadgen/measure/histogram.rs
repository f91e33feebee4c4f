//! Latencies, within 1/64 of their value.

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

    /// In microseconds; none if nothing was added.
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
