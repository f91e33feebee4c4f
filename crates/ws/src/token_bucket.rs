//! Token buckets: sixteen bytes each, without a timer; they are refilled when they are read.

use crate::policy::RateLimit;
use crate::timestamp::Timestamp;

/// A token bucket, initially full. The rate that refills it is passed with each call, so that the
/// bucket need not store it.
#[derive(Clone, Debug)]
pub(crate) struct TokenBucket {
    tokens: u64,
    /// Tokens earned up to this time are included in `tokens`.
    refilled: Timestamp,
}

impl TokenBucket {
    pub(crate) fn new() -> Self {
        Self { tokens: u64::MAX, refilled: Timestamp::START }
    }

    /// Takes one token. Returns false if the bucket is empty.
    #[inline]
    pub(crate) fn take(&mut self, rate: &RateLimit, now: Timestamp) -> bool {
        let available = self.refill(rate, now) > 0;
        self.tokens -= u64::from(available);
        available
    }

    /// Removes `tokens`, or all that are left if there are fewer.
    #[inline]
    pub(crate) fn consume(&mut self, tokens: u64) {
        self.tokens = self.tokens.saturating_sub(tokens);
    }

    /// Adds the tokens earned since the last call and returns the number available.
    #[inline]
    pub(crate) fn refill(&mut self, rate: &RateLimit, now: Timestamp) -> u64 {
        let elapsed = u128::from(now.nanos_since(self.refilled));
        if elapsed > 0 {
            let per_second = u128::from(rate.per_second.get());
            let earned = elapsed * per_second / NANOS_PER_SECOND;
            self.tokens = self.tokens.saturating_add(saturate(earned));
            // The fraction of a token earned so far is kept.
            let spent = (earned * NANOS_PER_SECOND).div_ceil(per_second);
            self.refilled = self.refilled.after_nanos(saturate(spent));
        }
        self.tokens = self.tokens.min(rate.burst.get());
        self.tokens
    }

    /// The time at which `tokens`, capped at the burst, will be available.
    pub(crate) fn available_at(&self, rate: &RateLimit, tokens: u64) -> Timestamp {
        let missing = tokens.min(rate.burst.get()).saturating_sub(self.tokens);
        let nanos =
            (u128::from(missing) * NANOS_PER_SECOND).div_ceil(u128::from(rate.per_second.get()));
        self.refilled.after_nanos(saturate(nanos))
    }
}

fn saturate(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

const NANOS_PER_SECOND: u128 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::policy::LimitAction;

    fn rate(per_second: u64, burst: u64) -> RateLimit {
        let nonzero = |number| NonZeroU64::new(number).unwrap();
        RateLimit {
            per_second: nonzero(per_second),
            burst: nonzero(burst),
            action: LimitAction::Delay,
        }
    }

    fn at(micros: u64) -> Timestamp {
        Timestamp::at(Duration::from_micros(micros))
    }

    proptest! {
        /// No interval yields more than the burst plus the tokens earned in it, and an available
        /// token is never withheld.
        #[test]
        fn no_interval_exceeds_rate_plus_burst(
            per_second in prop_oneof![1_u64..1000, 1_u64..1 << 40],
            burst in 1_u64..1000,
            waits in proptest::collection::vec(0_u64..50_000, 1..300),
        ) {
            let rate = rate(per_second, burst);
            let mut bucket = TokenBucket::new();
            let mut taken: Vec<u64> = Vec::new();
            let mut micros = 0;
            for wait in waits {
                micros += wait;
                if bucket.take(&rate, at(micros)) {
                    taken.push(micros);
                } else {
                    let next = bucket.available_at(&rate, 1);
                    prop_assert!(next > at(micros));
                    prop_assert!(bucket.clone().take(&rate, next));
                }
            }
            for (first, from) in taken.iter().enumerate() {
                for (count, until) in taken[first..].iter().enumerate() {
                    let earned = (until - from) as f64 * per_second as f64 / 1e6;
                    prop_assert!(count as f64 + 1.0 <= burst as f64 + earned + 1.0);
                }
            }
        }

        /// Reading the bucket often does not change how many tokens it earns.
        #[test]
        fn frequent_refills_lose_no_tokens(
            per_second in prop_oneof![1_u64..1000, 1_u64..1 << 40],
            waits in proptest::collection::vec(1_u64..5_000, 1..100),
        ) {
            let rate = rate(per_second, u64::MAX);
            let mut often = TokenBucket::new();
            often.consume(u64::MAX);
            let mut once = often.clone();
            let mut micros = 0;
            for wait in waits {
                micros += wait;
                often.refill(&rate, at(micros));
            }
            let (often, once) = (often.refill(&rate, at(micros)), once.refill(&rate, at(micros)));
            // A refill may lose the tokens of the nanosecond that is rounded up.
            let slack = 100 * (per_second / 1_000_000_000 + 1);
            prop_assert!(often <= once && often + slack >= once, "{often} {once}");
        }
    }

    #[test]
    fn full_bucket_holds_exactly_its_burst() {
        for (per_second, burst) in [(3, 6), (1, 1), (7, 100), (1_000_000_000, 5), (u64::MAX, 3)] {
            let rate = rate(per_second, burst);
            let mut bucket = TokenBucket::new();
            let now = at(5_000_000);
            assert!((0..burst).all(|_| bucket.take(&rate, now)), "{per_second} {burst}");
            assert!(!bucket.take(&rate, now), "{per_second} {burst}");
        }
    }
}
