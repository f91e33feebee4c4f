use super::ResponseKind::{Handshake, Plain};
use super::*;

const SECOND: Duration = Duration::from_secs(1);
const TIMEOUT: RejectReason = RejectReason::ResponseTimeout;

/// Records a failed handshake of this client; returns whether the backend is ejected because of it.
fn fails(health: &ResponseHealth, client: u8, now: Instant) -> bool {
    fails_with(health, client, now, false)
}

fn fails_with(health: &ResponseHealth, client: u8, now: Instant, has_tunnels: bool) -> bool {
    let from = (Handshake, ClientKey::sample(client));
    health.record_failure(from, TIMEOUT, has_tunnels, now, || true).is_some()
}

fn succeeds(health: &ResponseHealth, kind: ResponseKind, client: u8, now: Instant) {
    health.record_success(kind, ClientKey::sample(client), now);
}

// Requirements: BM25.
#[test]
fn failures_of_several_clients_eject() {
    let (health, now) = (ResponseHealth::default(), Instant::now());
    assert!(!fails(&health, 1, now) && !fails(&health, 2, now));
    assert!(!health.is_ejected());
    assert!(fails(&health, 3, now));
    let ejection = health.ejection().unwrap();
    assert_eq!((ejection.clients, ejection.cause, ejection.time), (3, TIMEOUT, EJECTION_MIN));
    assert!(health.is_ejected());
    assert!(!fails(&health, 4, now), "it is ejected once");
}

#[test]
fn one_client_never_ejects_what_others_use() {
    for kind in [Handshake, Plain] {
        let (health, start) = (ResponseHealth::default(), Instant::now());
        for second in 0..300 {
            let now = start + second * SECOND;
            assert!(!fails(&health, 1, now), "second {second}");
            if second % 30 == 5 {
                succeeds(&health, kind, 2, now);
            }
        }
    }
    let (health, start) = (ResponseHealth::default(), Instant::now());
    for second in 0..300 {
        assert!(!fails_with(&health, 1, start + second * SECOND, true), "tunnels are open");
    }
}

#[test]
fn only_client_ejects_after_ten_seconds() {
    let (health, start) = (ResponseHealth::default(), Instant::now());
    for second in 0..10 {
        assert!(!fails(&health, 1, start + second * SECOND));
    }
    assert!(fails(&health, 1, start + 10 * SECOND));
}

#[test]
fn more_clients_must_fail_than_succeed() {
    let (health, now) = (ResponseHealth::default(), Instant::now());
    assert!(!fails(&health, 1, now));
    [2, 3, 4].into_iter().for_each(|client| succeeds(&health, Handshake, client, now));
    assert!(!fails(&health, 5, now) && !fails(&health, 6, now));
    // The last response to a client counts.
    assert!(fails(&health, 2, now));
}

#[test]
fn pages_do_not_make_up_for_handshakes() {
    let (health, now) = (ResponseHealth::default(), Instant::now());
    for client in 1..3 {
        assert!(!fails(&health, client, now));
        (1..9).for_each(|client| succeeds(&health, Plain, client, now));
    }
    assert!(fails(&health, 3, now));
}

#[test]
fn old_failures_do_not_count() {
    let (health, start) = (ResponseHealth::default(), Instant::now());
    for client in 0..20 {
        assert!(!fails(&health, client, start + u32::from(client) * 61 * SECOND), "{client}");
    }
}

#[test]
fn success_is_recorded_only_after_a_failure() {
    let (health, start) = (ResponseHealth::default(), Instant::now());
    succeeds(&health, Handshake, 1, start);
    assert!(health.lock().handshakes.0.is_empty());
    fails(&health, 1, start);
    assert!(health.is_watched.load(Ordering::Relaxed));
    succeeds(&health, Plain, 2, start + SECOND);
    assert!(health.is_watched.load(Ordering::Relaxed), "the failure may still lead to an ejection");
    succeeds(&health, Plain, 2, start + 121 * SECOND);
    assert!(!health.is_watched.load(Ordering::Relaxed));
}

#[test]
fn number_of_clients_is_bounded() {
    let (health, now) = (ResponseHealth::default(), Instant::now());
    fails_with(&health, 0, now, true);
    (1..=255).for_each(|client| succeeds(&health, Handshake, client, now));
    assert!(health.lock().handshakes.0.len() <= CLIENTS_MAX);
}

#[test]
fn repeated_ejections_double_and_are_forgotten() {
    let (health, mut now) = (ResponseHealth::default(), Instant::now());
    let mut eject = |wait: Duration| {
        now += wait;
        let ejected = [1, 2, 3].map(|client| fails(&health, client, now));
        assert_eq!(ejected, [false, false, true]);
        let ejection = health.ejection().unwrap();
        assert_eq!(health.end_ejection(ejection.until - SECOND), None);
        now = ejection.until;
        assert_eq!(health.end_ejection(now), Some(ejection));
        assert!(!health.is_ejected() && health.is_returning());
        ejection.time.as_secs()
    };
    let times = [(); 7].map(|()| eject(SECOND));
    assert_eq!(times, [10, 20, 40, 80, 160, 300, 300]);
    assert_eq!(eject(299 * SECOND), 300);
    assert_eq!(eject(300 * SECOND), 10, "it has served for as long as it was ejected");
    assert_eq!(eject(119 * SECOND), 20);
    assert_eq!(eject(120 * SECOND), 10);
    succeeds(&health, Plain, 1, now);
    assert!(!health.is_returning());
}
