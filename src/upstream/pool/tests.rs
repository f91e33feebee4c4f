use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use proptest::prelude::*;

use super::*;
use crate::client::{ClientAddr, KeyPrefixes};

fn settings(backends: &[(&str, u32)]) -> PoolSettings {
    let one = |(id, weight): &(&str, u32)| BackendSettings {
        id: (*id).into(),
        address: BackendAddress { host: "127.0.0.1".into(), port: 9 },
        weight: NonZeroU32::new(*weight).unwrap(),
    };
    PoolSettings::of_route(backends.iter().map(one).collect())
}

fn pool(backends: &[(&str, u32)]) -> Pool {
    Pool::new(&settings(backends), |_| Default::default())
}

fn key(ip: std::net::IpAddr) -> ClientKey {
    ClientKey::new(&ClientAddr::new(SocketAddr::new(ip, 1)), KeyPrefixes::default())
}

/// 10,000 consecutive addresses in 10.0.0.0/8.
fn v4_keys() -> impl Iterator<Item = ClientKey> {
    (0..10_000).map(|n| key(Ipv4Addr::from_bits(0x0a00_0000 + n).into()))
}

/// 10,000 consecutive /64 networks.
fn v6_keys() -> impl Iterator<Item = ClientKey> {
    (0..10_000u128).map(|n| key(Ipv6Addr::from_bits((0x2001_0db8 << 96) + (n << 64)).into()))
}

fn first(pool: &Pool, key: ClientKey) -> Arc<str> {
    Arc::clone(&pool.order(key)[0].id)
}

fn assert_shares(backends: &[(&str, u32)], keys: impl Iterator<Item = ClientKey>) {
    let pool = pool(backends);
    let mut counts: HashMap<Arc<str>, f64> = HashMap::new();
    for key in keys {
        *counts.entry(first(&pool, key)).or_default() += 1.0;
    }
    let total: u32 = backends.iter().map(|(_, weight)| weight).sum();
    for (id, weight) in backends {
        let share = counts.get(*id).copied().unwrap_or_default() / 100.0;
        let expected = f64::from(*weight) * 100.0 / f64::from(total);
        assert!((share - expected).abs() < 2.0, "{id}: {share} % instead of {expected} %");
    }
}

#[test]
fn shares_follow_the_weights() {
    let ids = ["10.1.0.1:8080", "10.1.0.2:8080", "10.1.0.3:8080", "10.1.0.4:8080"];
    for weights in [[1, 1, 1, 1], [1, 2, 3, 4], [100, 1, 1, 98], [7, 7, 7, 1]] {
        let backends: Vec<(&str, u32)> = ids.into_iter().zip(weights).collect();
        assert_shares(&backends, v4_keys());
        assert_shares(&backends, v6_keys());
    }
    assert_shares(&[("a", 1), ("b", 1)], v4_keys());
    assert_shares(&[("a", 1), ("b", 3)], v6_keys());
}

#[test]
fn second_choice_is_spread_evenly() {
    let pool = pool(&[("a", 1), ("b", 1), ("c", 1)]);
    let second_is_b = v4_keys()
        .map(|key| pool.order(key))
        .filter(|order| &*order[0].id == "a" && &*order[1].id == "b")
        .count();
    assert!((1_467..=1_867).contains(&second_is_b), "{second_is_b} of about 1,667");
}

#[test]
fn hash_never_changes() {
    assert_eq!(hash(&[]), 0xefd0_1f60_ba99_2926);
    assert_eq!(hash(&[b"tide", b"gate"]), 0xc55e_1c4c_d59a_58e2);
    let pool = pool(&[("a", 1), ("b", 2), ("c", 3)]);
    let orders: Vec<String> = (0..6)
        .map(|n| key(Ipv4Addr::new(192, 0, 2, n).into()))
        .chain((0..2).map(|n| key(Ipv6Addr::new(0x2001, 0xdb8, 0, n, 0, 0, 0, 1).into())))
        .map(|key| pool.order(key).iter().map(|b| &*b.id).collect())
        .collect();
    assert_eq!(orders, ["bca", "bca", "bca", "abc", "cba", "bac", "bca", "cba"]);
}

// Requirements: BM23.
#[test]
fn removed_backend_moves_only_its_own_clients() {
    let before = pool(&[("a", 3), ("b", 1), ("c", 2), ("d", 1)]);
    let after = pool(&[("d", 1), ("c", 2), ("a", 3)]);
    for key in v4_keys().chain(v6_keys()) {
        let (old, new) = (first(&before, key), first(&after, key));
        assert!(old == new || &*old == "b", "{key} moved from {old} to {new}");
    }
}

#[test]
fn ejected_backend_is_tried_last_even_after_reload() {
    let now = Instant::now();
    let one = pool(&[("a", 1), ("b", 1)]);
    let fail = || one.backends()[0].health.record_failure(now, now);
    let orders = || -> Vec<String> {
        let order = |key| one.order(key).iter().map(|backend| &*backend.id).collect();
        v4_keys().take(50).map(order).collect()
    };
    let before = orders();
    assert!(!fail() && !fail());
    assert_eq!(orders(), before, "a backend that is down keeps its place until it is ejected");
    assert!(fail());
    let reloaded = Pool::new(&settings(&[("b", 1), ("a", 9)]), |of| {
        let existing = one.backends().iter().find(|backend| backend.id == of.id).unwrap();
        SharedBackendState { health: Arc::clone(&existing.health), ..SharedBackendState::default() }
    });
    for pool in [&one, &reloaded] {
        for key in v4_keys().take(50) {
            let order = pool.order(key);
            assert_eq!([&*order[0].id, &*order[1].id], ["b", "a"]);
        }
    }
    // If no backend is left, all are tried as usual.
    let failures = [(); 3].map(|()| one.backends()[1].health.record_failure(now, now));
    assert_eq!(failures, [false, false, true]);
    assert_eq!(orders(), before);
    one.backends().iter().for_each(|backend| backend.record_connection());
    assert_eq!(orders(), before);
}

#[test]
fn drained_backend_is_skipped_without_moving_other_clients() {
    let pool = pool(&[("a", 1), ("b", 1), ("c", 1)]);
    let before: Vec<_> = v4_keys().take(300).map(|key| (key, first(&pool, key))).collect();
    let a = &pool.backends()[0];
    assert!(a.admin_override.drain.set(true) && !a.admin_override.drain.set(true));
    assert_eq!(a.state(), BackendState::Drained);
    for (key, assigned) in &before {
        let order = pool.order(*key);
        assert!(order.len() == 2 && order.iter().all(|backend| &*backend.id != "a"));
        assert!(&**assigned == "a" || order[0].id == *assigned);
    }
    a.admin_override.drain.set(false);
    assert!(before.iter().all(|(key, assigned)| first(&pool, *key) == *assigned));
}

#[test]
fn admin_weight_replaces_the_configured_weight() {
    let pool = pool(&[("a", 1), ("b", 1)]);
    let share = || v4_keys().filter(|key| &*first(&pool, *key) == "a").count();
    assert!((4_800..5_200).contains(&share()));
    pool.backends()[0].admin_override.set_weight(NonZeroU32::new(3));
    assert!((7_300..7_700).contains(&share()));
    pool.backends()[0].admin_override.set_weight(None);
    assert!((4_800..5_200).contains(&share()));
}

proptest! {
    #[test]
    fn removing_a_backend_keeps_the_remaining_order(
        bits in any::<u32>(),
        weights in proptest::collection::vec(1u32..1000, 2..8),
        removed in any::<prop::sample::Index>(),
    ) {
        let ids: Vec<String> = (0..weights.len()).map(|n| format!("backend-{n}")).collect();
        let all: Vec<(&str, u32)> =
            ids.iter().map(String::as_str).zip(weights.iter().copied()).collect();
        let removed = removed.index(all.len());
        let mut left = all.clone();
        left.remove(removed);
        left.reverse();
        let key = key(Ipv4Addr::from_bits(bits).into());
        let order = |backends: &[(&str, u32)]| -> Vec<Arc<str>> {
            let order = pool(backends).order(key);
            order.iter().map(|backend| Arc::clone(&backend.id)).collect()
        };
        let mut expected = order(&all);
        expected.retain(|id| &**id != all[removed].0);
        prop_assert_eq!(order(&left), expected);
    }
}
