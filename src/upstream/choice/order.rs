//! The order in which the backends of a pool are tried, as a function of what is known about them.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use super::rendezvous::KeyHash;
use super::round_robin::{RoundRobinTurn, TurnCandidate, TurnCredit};
use crate::telemetry::metrics::chosen_by::ChosenBy;

/// A backend that may be chosen.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'b> {
    /// Stable name, unique in its pool.
    pub id: &'b Arc<str>,
    /// Share of the keys relative to the other backends; above 0.
    pub weight: f64,
    /// Its open tunnels and requests.
    pub load: usize,
    /// Its turns.
    pub credit: &'b TurnCredit,
    /// Whether it is used only if all others are ejected.
    pub is_backup: bool,
    /// Whether it is tried after those that are not.
    pub is_ejected: bool,
}

/// How the first backend is chosen.
#[derive(Clone, Copy, Debug)]
pub enum Method<'p> {
    /// The one with the highest score for the key. With a balance factor, those that have more than this
    /// multiple of their share of the load come after the others.
    Hash {
        /// 1.25 for 25 % more than the share.
        balance_factor: Option<f64>,
    },
    /// The one with the lowest load for its weight; among equals as by hash.
    LeastConnections,
    /// Each in its turn.
    RoundRobin(RoundRobinTurn<'p>),
    /// The one with the lower load of two that are drawn by weight, with a random key.
    RandomTwo(KeyHash),
}

/// Candidates by index, in the order in which they are tried.
#[derive(Debug, PartialEq, Eq)]
pub struct Order {
    /// Indices into the list of candidates.
    pub indices: Vec<usize>,
    /// Why the first one is the first.
    pub chosen_by: ChosenBy,
}

/// The order in which all candidates are tried, exact for the first eight: backends that are not ejected before backups, and both before
/// those that are ejected. `preferred` comes first if none of them precedes it in this sense, for the reason that it is given with.
pub fn order(
    candidates: &[Candidate<'_>],
    method: Method<'_>,
    key: KeyHash,
    preferred: Option<(usize, ChosenBy)>,
) -> Order {
    let score_key = if let Method::RandomTwo(random) = method { random } else { key };
    let best = candidates.iter().map(Candidate::rank).min().unwrap_or_default();
    let factor = if let Method::Hash { balance_factor } = method { balance_factor } else { None };
    let share = factor.map_or(f64::INFINITY, |factor| load_limit(candidates, best, factor));
    let is_by_load = matches!(method, Method::LeastConnections);
    let places = candidates.iter().enumerate().map(|(index, candidate)| {
        let relative_load = if is_by_load { candidate.relative_load() } else { 0.0 };
        let is_full = candidate.load as f64 >= (share * candidate.weight).ceil();
        let score = score_key.score(candidate.id, candidate.weight);
        Place::new(index, candidate.rank(), is_full, relative_load, score)
    });
    let mut places: Vec<Place> = places.collect();
    sort_first(&mut places, |one, other| {
        let by_key = one.key.cmp(&other.key);
        by_key.then_with(|| candidates[one.index].id.cmp(candidates[other.index].id))
    });
    let mut indices: Vec<usize> = places.iter().map(|place| place.index).collect();
    let preferred =
        preferred.filter(|(index, _)| candidates.get(*index).is_some_and(|of| of.rank() == best));
    let chosen_by = match (preferred, method) {
        (Some((index, reason)), _) => {
            move_to_front(&mut indices, index);
            reason
        }
        (None, Method::Hash { .. }) => {
            let first = places.first().map_or(0, Place::inverse_score);
            let is_before = |place: &Place| {
                candidates[place.index].rank() == best && place.inverse_score() < first
            };
            let is_moved = share.is_finite() && places.iter().any(is_before);
            if is_moved { ChosenBy::BalanceFactor } else { ChosenBy::Hash }
        }
        (None, Method::LeastConnections) => ChosenBy::LeastConnections,
        (None, Method::RoundRobin(turn)) => {
            let of_rank = candidates.iter().enumerate().filter(|(_, of)| of.rank() == best);
            let weighted = of_rank.clone().map(|(_, Candidate { weight, credit, .. })| {
                TurnCandidate { weight: *weight, credit }
            });
            let index = turn.next(weighted).and_then(|position| of_rank.clone().nth(position));
            move_to_front(&mut indices, index.map_or(0, |(index, _)| index));
            ChosenBy::RoundRobin
        }
        (None, Method::RandomTwo(_)) => {
            if let [first, second, ..] = indices[..] {
                let (one, other) = (&candidates[first], &candidates[second]);
                if one.rank() == other.rank() && other.relative_load() < one.relative_load() {
                    indices.swap(0, 1);
                }
            }
            ChosenBy::RandomTwo
        }
    };
    Order { indices, chosen_by }
}

impl Candidate<'_> {
    fn rank(&self) -> (bool, bool) {
        (self.is_ejected, self.is_backup)
    }

    /// The load with one more tunnel, for its weight.
    fn relative_load(&self) -> f64 {
        (self.load + 1) as f64 / self.weight
    }
}

/// A candidate while the order is determined.
struct Place {
    /// What the order follows, the smallest first, as integers: comparing them is several times as fast as
    /// comparing the parts.
    key: (u64, u64),
    index: usize,
}

impl Place {
    /// Ejected and backup count most, then whether the backend is full, its load, and its score.
    fn new(
        index: usize,
        (is_ejected, is_backup): (bool, bool),
        is_full: bool,
        relative_load: f64,
        score: f64,
    ) -> Self {
        let flags = [is_ejected, is_backup, is_full].map(u64::from);
        let flags = flags.into_iter().fold(0, |flags, flag| flags << 1 | flag) << 61;
        // The bits of numbers that are not negative are ordered as the numbers are.
        Self { key: (flags | relative_load.to_bits() >> 3, !score.to_bits()), index }
    }

    /// Smaller for a higher score.
    fn inverse_score(&self) -> u64 {
        self.key.1
    }
}

/// Sorts the first [`SORTED_MAX`] in their place. The order of the others does not matter: the time for all
/// attempts is halved with each, and sorting a hundred takes as long as all else that is done here.
fn sort_first(places: &mut [Place], compare: impl Fn(&Place, &Place) -> Ordering) {
    if places.len() > SORTED_MAX {
        places.select_nth_unstable_by(SORTED_MAX, &compare);
    }
    let first = places.len().min(SORTED_MAX);
    places.get_mut(..first).unwrap_or_default().sort_unstable_by(compare);
}

/// The load that a candidate of this rank may have, for each unit of its weight (Mirrokni, Thorup and
/// Zadimoghaddam 2016). The tunnel that is about to open counts, so that some candidate is always below.
fn load_limit(candidates: &[Candidate<'_>], rank: (bool, bool), factor: f64) -> f64 {
    let of_rank = || candidates.iter().filter(|candidate| candidate.rank() == rank);
    let load: usize = of_rank().map(|candidate| candidate.load).sum();
    let weights: f64 = of_rank().map(|candidate| candidate.weight).sum();
    factor * (load + 1) as f64 / weights
}

fn move_to_front(indices: &mut [usize], index: usize) {
    if let Some(place) = indices.iter().position(|other| *other == index)
        && let Some(before) = indices.get_mut(..=place)
    {
        before.rotate_right(1);
    }
}

/// The weight of a backend that recovered this long ago, if it gets its clients back over `slow_start`. It
/// grows in proportion to the time, from a hundredth.
pub fn ramped(weight: f64, recovered: Option<Duration>, slow_start: Duration) -> f64 {
    let part = recovered.map_or(1.0, |ago| ago.as_secs_f64() / slow_start.as_secs_f64());
    weight * part.clamp(RAMP_START, 1.0)
}

/// Backends whose order is exact.
const SORTED_MAX: usize = 8;
/// The part of its weight with which a backend comes back.
const RAMP_START: f64 = 0.01;

#[cfg(test)]
mod tests;
