//! Token buckets: sixteen bytes each, no timer, refilled by looking at the clock.

use super::limits::RateLimit;
use super::moment::Timestamp;

/// A token bucket, full at first; the rate that fills it comes with each call.
#[derive(Clone, Debug)]
pub(super) struct TokenBucket {
    left: u64,
    /// What came back before is in `left`.
    at: Timestamp,
}

impl TokenBucket {
    pub(super) fn new() -> Self {
        Self { left: u64::MAX, at: Timestamp::START }
    }

    /// Takes one token if there is one.
    #[inline]
    pub(super) fn take(&mut self, rate: &RateLimit, now: Timestamp) -> bool {
        let there = self.tokens(rate, now) > 0;
        self.left -= u64::from(there);
        there
    }

    /// Takes as many as there are, up to this number.
    #[inline]
    pub(super) fn spend(&mut self, tokens: u64) {
        self.left = self.left.saturating_sub(tokens);
    }

    /// How many there are.
    #[inline]
    pub(super) fn tokens(&mut self, rate: &RateLimit, now: Timestamp) -> u64 {
        let elapsed = u128::from(now.nanos_since(self.at));
        if elapsed > 0 {
            let per_second = u128::from(rate.per_second.get());
            let back = elapsed * per_second / NANOS;
            self.left = self.left.saturating_add(narrow(back));
            // The part of a token that is under way is not lost.
            self.at = self.at.after_nanos(narrow((back * NANOS).div_ceil(per_second)));
        }
        self.left = self.left.min(rate.burst.get());
        self.left
    }

    /// When there will be so many, at most the burst.
    pub(super) fn when(&self, rate: &RateLimit, tokens: u64) -> Timestamp {
        let missing = tokens.min(rate.burst.get()).saturating_sub(self.left);
        let nanos = (u128::from(missing) * NANOS).div_ceil(u128::from(rate.per_second.get()));
        self.at.after_nanos(narrow(nanos))
    }
}

fn narrow(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

const NANOS: u128 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::LimitAction;

    fn rate(per_second: u64, burst: u64) -> RateLimit {
        let some = |number| NonZeroU64::new(number).unwrap();
        RateLimit { per_second: some(per_second), burst: some(burst), action: LimitAction::Delay }
    }

    fn at(micros: u64) -> Timestamp {
        Timestamp::at(Duration::from_micros(micros))
    }

    proptest! {
        /// In no stretch of time more than the burst and what came back in it; never fewer than
        /// are there.
        #[test]
        fn no_stretch_of_time_takes_more_than_it_may(
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
                    let next = bucket.when(&rate, 1);
                    prop_assert!(next > at(micros));
                    prop_assert!(bucket.clone().take(&rate, next));
                }
            }
            for (first, from) in taken.iter().enumerate() {
                for (count, until) in taken[first..].iter().enumerate() {
                    let back = (until - from) as f64 * per_second as f64 / 1e6;
                    prop_assert!(count as f64 + 1.0 <= burst as f64 + back + 1.0);
                }
            }
        }

        /// However often it is looked at, as much comes back.
        #[test]
        fn looking_costs_nothing(
            per_second in prop_oneof![1_u64..1000, 1_u64..1 << 40],
            looks in proptest::collection::vec(1_u64..5_000, 1..100),
        ) {
            let rate = rate(per_second, u64::MAX);
            let mut seen = TokenBucket::new();
            seen.spend(u64::MAX);
            let mut unseen = seen.clone();
            let mut micros = 0;
            for look in looks {
                micros += look;
                seen.tokens(&rate, at(micros));
            }
            let (seen, unseen) = (seen.tokens(&rate, at(micros)), unseen.tokens(&rate, at(micros)));
            // A look may cost what comes back in the nanosecond that is rounded up.
            let slack = 100 * (per_second / 1_000_000_000 + 1);
            prop_assert!(seen <= unseen && seen + slack >= unseen, "{seen} {unseen}");
        }
    }

    #[test]
    fn a_full_bucket_has_exactly_its_burst() {
        for (per_second, burst) in [(3, 6), (1, 1), (7, 100), (1_000_000_000, 5), (u64::MAX, 3)] {
            let rate = rate(per_second, burst);
            let mut bucket = TokenBucket::new();
            let now = at(5_000_000);
            assert!((0..burst).all(|_| bucket.take(&rate, now)), "{per_second} {burst}");
            assert!(!bucket.take(&rate, now), "{per_second} {burst}");
        }
    }
}
