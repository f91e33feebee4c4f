use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::upstream::choice::round_robin::RoundRobin;

const HASH: Method<'static> = Method::Hash { balance_factor: None };

/// Backends with these ids and weights, and the load of each.
struct Backends {
    ids: Vec<Arc<str>>,
    weights: Vec<f64>,
    loads: Vec<usize>,
    credits: Vec<TurnCredit>,
}

impl Backends {
    fn new(backends: &[(&str, u32)]) -> Self {
        Self {
            ids: backends.iter().map(|(id, _)| Arc::from(*id)).collect(),
            weights: backends.iter().map(|(_, weight)| f64::from(*weight)).collect(),
            loads: vec![0; backends.len()],
            credits: backends.iter().map(|_| TurnCredit::default()).collect(),
        }
    }

    fn of_weights(weights: &[u32]) -> Self {
        let ids: Vec<String> = (0..weights.len()).map(|n| format!("backend-{n}")).collect();
        let pairs = ids.iter().map(String::as_str).zip(weights.iter().copied());
        Self::new(&pairs.collect::<Vec<_>>())
    }

    fn candidates(&self) -> Vec<Candidate<'_>> {
        let candidate = |index: usize| Candidate {
            id: &self.ids[index],
            weight: self.weights[index],
            load: self.loads[index],
            credit: &self.credits[index],
            is_backup: false,
            is_ejected: false,
        };
        (0..self.ids.len()).map(candidate).collect()
    }

    /// Opens one more at the backend that comes first; returns its index.
    fn open(&mut self, method: Method<'_>, key: usize) -> usize {
        let first = order(&self.candidates(), method, text_key(key), None).indices[0];
        self.loads[first] += 1;
        first
    }

    fn shares(&self) -> Vec<f64> {
        let total: usize = self.loads.iter().sum();
        self.loads.iter().map(|load| *load as f64 / total as f64).collect()
    }
}

fn text_key(number: usize) -> KeyHash {
    KeyHash::of_text(format!("room-{number}").as_bytes())
}

fn ids(candidates: &[Candidate<'_>], order: &Order) -> String {
    order.indices.iter().map(|index| &**candidates[*index].id).collect()
}

/// What every process must compute for these keys, now and in each later version.
#[test]
fn orders_of_text_keys_never_change() {
    let backends = Backends::new(&[("a", 1), ("b", 2), ("c", 3)]);
    let candidates = backends.candidates();
    let orders: Vec<String> =
        (0..8).map(|n| ids(&candidates, &order(&candidates, HASH, text_key(n), None))).collect();
    assert_eq!(orders, ORDERS);
}

const ORDERS: [&str; 8] = ["cab", "bca", "acb", "abc", "bca", "bac", "bac", "bac"];

#[test]
fn shares_follow_the_weights_with_every_method() {
    let turns = RoundRobin::default();
    let bounded = Method::Hash { balance_factor: Some(1.1) };
    for method in
        [HASH, bounded, Method::LeastConnections, Method::RoundRobin(RoundRobinTurn::Take(&turns))]
    {
        let mut backends = Backends::of_weights(&[1, 2, 3, 4]);
        (0..10_000).for_each(|key| {
            backends.open(method, key);
        });
        for (share, expected) in backends.shares().into_iter().zip([0.1, 0.2, 0.3, 0.4]) {
            assert!((share - expected).abs() < 0.02, "{method:?}: {share}, not {expected}");
        }
    }
}

#[test]
fn least_connections_takes_the_lowest_load_for_the_weight() {
    let mut backends = Backends::new(&[("a", 1), ("b", 1), ("c", 2)]);
    backends.loads = vec![3, 2, 6];
    let candidates = backends.candidates();
    let found = order(&candidates, Method::LeastConnections, text_key(0), None);
    assert_eq!(
        (ids(&candidates, &found).as_str(), found.chosen_by),
        ("bca", ChosenBy::LeastConnections)
    );
}

#[test]
fn round_robin_spreads_turns_evenly() {
    let turns = RoundRobin::default();
    let mut backends = Backends::new(&[("a", 1), ("b", 1), ("c", 1), ("d", 1)]);
    let sequence = |backends: &Backends, members: &[usize], count| -> String {
        let all = backends.candidates();
        let candidates: Vec<_> = members.iter().map(|member| all[*member]).collect();
        let next = |key| {
            let method = Method::RoundRobin(RoundRobinTurn::Take(&turns));
            let found = order(&candidates, method, text_key(key), None);
            assert_eq!(found.chosen_by, ChosenBy::RoundRobin);
            ids(&candidates, &found).remove(0)
        };
        (0..count).map(next).collect()
    };
    assert_eq!(sequence(&backends, &[0, 1, 2], 6), "abcabc");
    backends.weights[0] = 5.0;
    assert_eq!(sequence(&backends, &[0, 1, 2], 7), "aabacaa");
    backends.weights[0] = 1.0;
    // A backend that comes takes its turns, not those of the past.
    assert_eq!(sequence(&backends, &[0, 3], 4), "adad");
    // So does one that was left out.
    assert_eq!(sequence(&backends, &[0, 1, 2, 3], 8), "abcdabcd");
}

#[test]
fn random_two_stays_near_the_mean() {
    let mut backends = Backends::of_weights(&[1; 20]);
    for key in 0..20_000 {
        let random = KeyHash::of_text(&(key as u64).to_le_bytes());
        backends.open(Method::RandomTwo(random), 0);
    }
    let most = backends.loads.iter().max().unwrap();
    // One at random would be near 1,000 + 3 * sqrt(1,000).
    assert!((1_000..1_010).contains(most), "{most}");
}

#[test]
fn ejected_backends_come_last_and_backups_before_them() {
    let backends = Backends::new(&[("a", 1), ("b", 1), ("c", 1), ("d", 1)]);
    let mut candidates = backends.candidates();
    candidates[0].is_backup = true;
    candidates[1].is_ejected = true;
    candidates[2].is_ejected = true;
    candidates[2].is_backup = true;
    let turns = RoundRobin::default();
    for method in [
        HASH,
        Method::Hash { balance_factor: Some(1.5) },
        Method::LeastConnections,
        Method::RoundRobin(RoundRobinTurn::Take(&turns)),
        Method::RandomTwo(text_key(3)),
    ] {
        for key in 0..20 {
            let preferred = Some((key % 3, ChosenBy::Affinity));
            let found = order(&candidates, method, text_key(key), preferred);
            assert_eq!(ids(&candidates, &found), "dabc", "{method:?}");
            assert_ne!(found.chosen_by, ChosenBy::Affinity);
        }
    }
    candidates[3].is_ejected = true;
    let found = order(&candidates, HASH, text_key(0), Some((0, ChosenBy::Affinity)));
    assert_eq!((&ids(&candidates, &found)[..1], found.chosen_by), ("a", ChosenBy::Affinity));
}

#[test]
fn weight_grows_with_the_time_since_the_recovery() {
    let at =
        |seconds| ramped(50.0, Some(Duration::from_secs_f64(seconds)), Duration::from_secs(10));
    assert_eq!([0.0, 0.05, 5.0, 10.0, 99.0].map(at), [0.5, 0.5, 25.0, 50.0, 50.0]);
    assert_eq!(ramped(50.0, None, Duration::from_secs(10)), 50.0);
}

#[test]
fn ramp_moves_each_key_at_most_once() {
    let mut backends = Backends::of_weights(&[10, 10, 10]);
    for key in 0..500 {
        let mut firsts = Vec::new();
        for step in 1..=100 {
            backends.weights[1] = f64::from(step) / 10.0;
            firsts.push(order(&backends.candidates(), HASH, text_key(key), None).indices[0]);
        }
        firsts.dedup();
        assert!(firsts.len() == 1 || (firsts.len() == 2 && firsts[1] == 1), "{firsts:?}");
    }
}

proptest! {
    #[test]
    fn no_backend_exceeds_the_balance_factor(
        weights in proptest::collection::vec(1u32..20, 1..12),
        keys in proptest::collection::vec(0usize..40, 1..300),
        percent in 101u32..300,
    ) {
        let factor = f64::from(percent) / 100.0;
        let mut backends = Backends::of_weights(&weights);
        let total_weight: f64 = backends.weights.iter().sum();
        for (opened, key) in keys.iter().enumerate() {
            let first = backends.open(Method::Hash { balance_factor: Some(factor) }, *key);
            let share = (opened + 1) as f64 * backends.weights[first] / total_weight;
            // The rounding of the share may differ in the last bit.
            prop_assert!(backends.loads[first] as f64 <= (factor * share + 1e-9).ceil());
        }
    }

    #[test]
    fn balance_factor_moves_only_keys_of_full_backends(
        loads in proptest::collection::vec(0usize..50, 2..8),
        key in 0usize..1000,
    ) {
        let mut backends = Backends::of_weights(&vec![1; loads.len()]);
        backends.loads = loads;
        let candidates = backends.candidates();
        let plain = order(&candidates, HASH, text_key(key), None);
        let bounded =
            order(&candidates, Method::Hash { balance_factor: Some(1.25) }, text_key(key), None);
        let total: usize = backends.loads.iter().sum();
        let limit = (1.25 * (total + 1) as f64 / candidates.len() as f64).ceil();
        let has_room = |index: &&usize| (backends.loads[**index] as f64) < limit;
        let expected: Vec<usize> = plain.indices.iter().filter(has_room).copied().collect();
        prop_assert_eq!(&bounded.indices[..expected.len()], &expected[..]);
        let moved = bounded.indices[0] != plain.indices[0];
        prop_assert_eq!(bounded.chosen_by == ChosenBy::BalanceFactor, moved);
    }

    #[test]
    fn order_contains_each_candidate_once(
        weights in proptest::collection::vec(1u32..1000, 0..10),
        flags in proptest::collection::vec(any::<(bool, bool)>(), 10),
        key in any::<usize>(),
        preferred in proptest::option::of(0usize..12),
    ) {
        let backends = Backends::of_weights(&weights);
        let mut candidates = backends.candidates();
        for (candidate, (is_backup, is_ejected)) in candidates.iter_mut().zip(flags) {
            (candidate.is_backup, candidate.is_ejected) = (is_backup, is_ejected);
        }
        let turns = RoundRobin::default();
        let preferred = preferred.map(|index| (index, ChosenBy::Affinity));
        for method in [
            HASH,
            Method::Hash { balance_factor: Some(1.01) },
            Method::LeastConnections,
            Method::RoundRobin(RoundRobinTurn::Take(&turns)),
            Method::RandomTwo(text_key(key)),
        ] {
            let mut found = order(&candidates, method, text_key(key), preferred).indices;
            found.sort_unstable();
            prop_assert_eq!(found, (0..weights.len()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn backend_that_leaves_moves_only_its_own_keys(
        weights in proptest::collection::vec(1u32..100, 2..10),
        removed in any::<prop::sample::Index>(),
    ) {
        let backends = Backends::of_weights(&weights);
        let all = backends.candidates();
        let removed = removed.index(all.len());
        let mut left = all.clone();
        left.remove(removed);
        left.reverse();
        let mut moved = BTreeMap::<bool, usize>::new();
        for key in 0..100 {
            let mut expected = ids(&all, &order(&all, HASH, text_key(key), None));
            expected = expected.replace(&*all[removed].id.clone(), "");
            let found = ids(&left, &order(&left, HASH, text_key(key), None));
            *moved.entry(found != expected).or_default() += 1;
        }
        prop_assert_eq!(moved.get(&true), None);
    }
}
