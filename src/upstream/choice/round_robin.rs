//! The turns of `balance = "round-robin"`, spread as evenly as the weights allow: with the weights 2 and 1, `a b a`.
//!
//! The candidates may differ from one turn to the next, as some are full, drained, or canaries. With each turn, each
//! candidate gains its share of this turn by weight, and the one that has gained the most pays a whole turn. So the
//! gains of all choices add up, and none is taken back because another set had more members.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// The turns that a backend has gained and not had yet; below 0 if it had one early. About 1 at most, since the one
/// with the most has the next turn; a backend that was left out for long has not gained meanwhile.
#[derive(Debug, Default)]
pub struct TurnCredit(AtomicU64);

/// A candidate for the next turn.
#[derive(Clone, Copy, Debug)]
pub struct TurnCandidate<'c> {
    /// Share of the turns relative to the others; above 0.
    pub weight: f64,
    /// Its turns so far.
    pub credit: &'c TurnCredit,
}

/// Lets one choice at a time take a turn of a pool.
#[derive(Debug, Default)]
pub struct RoundRobin(Mutex<()>);

/// The next turn of a pool.
#[derive(Clone, Copy, Debug)]
pub enum RoundRobinTurn<'p> {
    /// It is taken.
    Take(&'p RoundRobin),
    /// It is left to the next request.
    Predict,
}

impl RoundRobinTurn<'_> {
    /// The position of the candidate whose turn it is, the first one among equals; `None` if there is none.
    pub fn next<'c>(
        self,
        candidates: impl Iterator<Item = TurnCandidate<'c>> + Clone,
    ) -> Option<usize> {
        let total: f64 = candidates.clone().map(|candidate| candidate.weight).sum();
        let Self::Take(RoundRobin(lock)) = self else { return first(candidates, total) };
        let _one_at_a_time = lock.lock().unwrap_or_else(PoisonError::into_inner);
        let first = first(candidates.clone(), total)?;
        for (position, candidate) in candidates.enumerate() {
            let paid = if position == first { 1.0 } else { 0.0 };
            candidate.credit.add(candidate.weight / total - paid);
        }
        Some(first)
    }
}

/// The position of the candidate that has gained the most with this turn.
fn first<'c>(candidates: impl Iterator<Item = TurnCandidate<'c>>, total: f64) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    for (position, candidate) in candidates.enumerate() {
        let gained = candidate.credit.get() + candidate.weight / total;
        if best.is_none_or(|(_, most)| gained > most + ROUNDING) {
            best = Some((position, gained));
        }
    }
    best.map(|(position, _)| position)
}

impl TurnCredit {
    fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }

    /// Under the lock of its pool.
    fn add(&self, gain: f64) {
        self.0.store((self.get() + gain).to_bits(), Ordering::Relaxed);
    }
}

/// Credits that differ by less are equal.
const ROUNDING: f64 = 1e-9;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Takes turns among those of these backends that `sets` contain, one after another. Returns how far the turns of
    /// each backend are from the sum of its shares.
    fn deviations(weights: &[u32], sets: &[Vec<bool>]) -> Vec<f64> {
        let turns = RoundRobin::default();
        let credits: Vec<TurnCredit> = weights.iter().map(|_| TurnCredit::default()).collect();
        let mut deviations = vec![0.0; weights.len()];
        for set in sets {
            let members: Vec<usize> = (0..weights.len()).filter(|n| set[*n]).collect();
            let of = |n: &usize| TurnCandidate { weight: weights[*n].into(), credit: &credits[*n] };
            let total: f64 = members.iter().map(|n| f64::from(weights[*n])).sum();
            let candidates = || members.iter().map(of);
            let predicted = RoundRobinTurn::Predict.next(candidates());
            let taken = RoundRobinTurn::Take(&turns).next(candidates());
            assert_eq!(predicted, taken);
            let Some(first) = taken else {
                assert!(members.is_empty());
                continue;
            };
            for n in &members {
                deviations[*n] -= f64::from(weights[*n]) / total;
            }
            deviations[members[first]] += 1.0;
        }
        deviations
    }

    #[test]
    fn alternating_sets_get_even_turns() {
        let (all, some) = (vec![true; 3], vec![false, true, true]);
        let sets: Vec<Vec<bool>> = (0..3000).flat_map(|_| [all.clone(), some.clone()]).collect();
        for deviation in deviations(&[1, 1, 1], &sets) {
            assert!(deviation.abs() <= 1.0, "{deviation} of 6,000 turns");
        }
    }

    proptest! {
        /// Whichever candidates there are at each turn.
        #[test]
        fn turns_follow_the_shares(
            weights in proptest::collection::vec(1u32..50, 6),
            sets in proptest::collection::vec(proptest::collection::vec(any::<bool>(), 6), 1..400),
        ) {
            for deviation in deviations(&weights, &sets) {
                prop_assert!(deviation.abs() < 3.0, "{deviation} of {} turns", sets.len());
            }
        }
    }
}
