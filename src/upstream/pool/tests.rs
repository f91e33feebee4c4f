use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use futures_util::FutureExt as _;
use proptest::prelude::*;
use tokio::time::Instant;

use super::choosing::{ChoiceRequest, NoChoice};
use super::*;
use crate::client::{ClientAddr, ClientKey, KeyPrefixes};
use crate::config::settings::choice::QueueSettings;
use crate::config::settings::probe::{ProbeKind, ProbeSettings};
use crate::net::network::SystemNet;
use crate::reject::RejectReason;
use crate::telemetry::metrics::backend_state::BackendState;
use crate::upstream::choice::key::ChoiceKey;
use crate::upstream::choice::rendezvous::KeyHash;
use crate::upstream::ejection::ResponseKind;
use crate::upstream::probe::health::ProbeState;

fn settings(backends: &[(&str, u32)]) -> PoolSettings {
    let one = |(id, weight): &(&str, u32)| BackendSettings {
        id: (*id).into(),
        address: BackendAddress::Tcp { host: "127.0.0.1".into(), port: 9 },
        is_per_address: false,
        weight: NonZeroU32::new(*weight).unwrap(),
        is_backup: false,
        is_canary: false,
        max_tunnels: None,
        cookie_value: None,
    };
    PoolSettings::of_route(backends.iter().map(one).collect())
}

fn pool(backends: &[(&str, u32)]) -> Pool {
    Pool::new(&settings(backends), Arc::default(), Arc::default(), None, |_, _| Default::default())
}

impl Pool {
    /// The order in which a client tries the backends.
    pub(crate) fn order_for(&self, client: ClientKey) -> Vec<Arc<Backend>> {
        let key = ChoiceKey { hash: KeyHash::of_client(client), is_fallback: false };
        self.predict(&ChoiceRequest { key, pinned: None, is_marked: false }, &SystemNet)
            .unwrap()
            .backends
    }
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
    Arc::clone(&pool.order_for(key)[0].id)
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
        .map(|key| pool.order_for(key))
        .filter(|order| &*order[0].id == "a" && &*order[1].id == "b")
        .count();
    assert!((1_467..=1_867).contains(&second_is_b), "{second_is_b} of about 1,667");
}

#[test]
fn order_of_a_client_never_changes() {
    let pool = pool(&[("a", 1), ("b", 2), ("c", 3)]);
    let orders: Vec<String> = (0..6)
        .map(|n| key(Ipv4Addr::new(192, 0, 2, n).into()))
        .chain((0..2).map(|n| key(Ipv6Addr::new(0x2001, 0xdb8, 0, n, 0, 0, 0, 1).into())))
        .map(|key| pool.order_for(key).iter().map(|b| &*b.id).collect())
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
        let order = |key| one.order_for(key).iter().map(|backend| &*backend.id).collect();
        v4_keys().take(50).map(order).collect()
    };
    let before = orders();
    assert!(!fail() && !fail());
    assert_eq!(orders(), before, "a backend that is down keeps its place until it is ejected");
    assert!(fail());
    let reloaded = Pool::new(
        &settings(&[("b", 1), ("a", 9)]),
        Arc::default(),
        Arc::default(),
        None,
        |of, _| {
            let backends = one.backends();
            let existing = backends.iter().find(|backend| backend.id == of.id).unwrap();
            SharedBackendState {
                health: Arc::clone(&existing.health),
                ..SharedBackendState::default()
            }
        },
    );
    for pool in [&one, &reloaded] {
        for key in v4_keys().take(50) {
            let order = pool.order_for(key);
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

/// A pool of `a` and `b`, whose probes change the state at once, with a slow start of ten seconds.
fn probed_pool() -> Pool {
    let mut settings = settings(&[("a", 1), ("b", 1)]);
    settings.choice.slow_start = Some(Duration::from_secs(10));
    let (kind, time) = (ProbeKind::Tcp, Duration::from_secs(1));
    let (rise, fall) = (NonZeroU32::MIN, NonZeroU32::MIN);
    let probe = ProbeSettings { kind, interval: time, timeout: time, rise, fall };
    Pool::new(&settings, Arc::default(), Arc::default(), None, |_, _| SharedBackendState {
        probe: Some(Arc::new(ProbeHealth::new(probe.clone()))),
        ..SharedBackendState::default()
    })
}

#[test]
fn backend_that_is_down_by_probe_is_not_tried() {
    let pool = probed_pool();
    let [a, b] = [0, 1].map(|index| pool.backends()[index].clone());
    let record = |of: &Backend, result| of.probe.as_ref().unwrap().record(result);
    let refused = || {
        let key = ChoiceKey { hash: KeyHash::of_text(b"any"), is_fallback: false };
        let request = ChoiceRequest { key, pinned: None, is_marked: false };
        pool.predict(&request, &SystemNet).unwrap_err()
    };
    record(&a, Err("refused"));
    for key in v4_keys().take(20) {
        assert!(pool.order_for(key).iter().all(|backend| backend.id == b.id));
    }
    record(&b, Err("refused"));
    assert_eq!(refused(), NoChoice::ProbedDown);
    b.admin_override.drain.set(true);
    assert_eq!(refused(), NoChoice::ProbedDown);
    a.admin_override.drain.set(true);
    assert_eq!(refused(), NoChoice::Drained);
}

#[tokio::test(start_paused = true)]
async fn slow_start_follows_failed_responses_and_probes() {
    let pool = probed_pool();
    let [a, b] = [0, 1].map(|index| pool.backends()[index].clone());
    let weight = |of: &Backend| pool.weight_now(of, Instant::now());
    assert_eq!((weight(&a), weight(&b)), (1.0, 1.0));
    let probe = b.probe.as_ref().unwrap();
    probe.record(Err("refused"));
    assert_eq!(probe.record(Ok(())), Some(ProbeState::Up));
    assert_eq!((weight(&a), weight(&b)), (1.0, 0.01));
    for client in 1..=3 {
        let from = (ResponseKind::Handshake, ClientKey::sample(client));
        let cause = RejectReason::ResponseTimeout;
        a.responses.record_failure(from, cause, false, Instant::now(), || true);
    }
    assert!(a.is_ejected());
    tokio::time::advance(Duration::from_secs(10)).await;
    assert!(a.responses.end_ejection(Instant::now()).is_some());
    assert_eq!((weight(&a), weight(&b)), (0.01, 1.0));
    tokio::time::advance(Duration::from_secs(5)).await;
    assert_eq!(weight(&a), 0.5);
}

#[test]
fn drained_backend_is_skipped_without_moving_other_clients() {
    let pool = pool(&[("a", 1), ("b", 1), ("c", 1)]);
    let before: Vec<_> = v4_keys().take(300).map(|key| (key, first(&pool, key))).collect();
    let a = &pool.backends()[0];
    assert!(a.admin_override.drain.set(true) && !a.admin_override.drain.set(true));
    assert_eq!(a.state(), BackendState::Drained);
    for (key, assigned) in &before {
        let order = pool.order_for(*key);
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
            let order = pool(backends).order_for(key);
            order.iter().map(|backend| Arc::clone(&backend.id)).collect()
        };
        let mut expected = order(&all);
        expected.retain(|id| &**id != all[removed].0);
        prop_assert_eq!(order(&left), expected);
    }
}

/// A handshake that comes when a place has just become free does not precede those that have waited for it.
#[tokio::test(start_paused = true)]
async fn waiting_handshake_precedes_a_new_one() {
    let mut settings = settings(&[("a", 1)]);
    settings.backends[0].max_tunnels = Some(1);
    settings.choice.queue = Some(QueueSettings { length: 9, time: Duration::from_secs(60) });
    let pool =
        Pool::new(&settings, Arc::default(), Arc::default(), None, |_, _| Default::default());
    let key = ChoiceKey { hash: KeyHash::of_text(b"k"), is_fallback: false };
    let request = ChoiceRequest { key, pinned: None, is_marked: false };
    let choose = || Box::pin(pool.choose_or_wait(&request, &SystemNet));
    let first = choose().await.unwrap();
    let (mut second, mut third) = (choose(), choose());
    assert!((&mut second).now_or_never().is_none());
    drop(first);
    assert!((&mut third).now_or_never().is_none());
    let served = second.await.unwrap();
    assert!((&mut third).now_or_never().is_none());
    drop(served);
    third.await.unwrap();
}
