//! Records how the responses of a backend end, and ejects it if too many of them fail.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::ejection::{EjectionRefused, ResponseKind};
use super::pool::{Backend, Pool};
use crate::client::ClientKey;
use crate::reject::RejectReason;
use crate::sys::clock::now;
use crate::telemetry::events::{backend_ejected, backend_not_ejected, backend_silent};

impl Pool {
    /// Records the response of a backend of this pool to a client: valid, or failed for this reason. The
    /// backend may be ejected because of it.
    pub fn record_response(
        &self,
        backend: &Backend,
        kind: ResponseKind,
        client: ClientKey,
        response: Result<(), RejectReason>,
    ) {
        let now = Instant::now();
        let cause = match response {
            Ok(()) => return backend.responses.record_success(kind, client, now),
            Err(cause) if is_of_backend(&cause) => cause,
            Err(_) => return,
        };
        let has_tunnels = backend.responses.has_tunnels();
        // Two backends of a pool must not be ejected on the same count.
        let _one_at_a_time = EJECTING.lock().unwrap_or_else(PoisonError::into_inner);
        let may_eject = || self.may_eject(backend);
        let (id, route) = (&backend.id, &backend.counts.route.name);
        let health = &backend.responses;
        match health.record_failure((kind, client), cause, has_tunnels, now, may_eject) {
            Some(Ok(ejection)) => {
                backend.counts.ejections.inc();
                backend_ejected(id, route, &cause, ejection.clients, ejection.time);
            }
            Some(Err(EjectionRefused)) if self.backends().len() > 1 => {
                if health.refusal_logged.is_due(now.into_std()) {
                    backend_not_ejected(id, route, &cause);
                }
            }
            Some(Err(EjectionRefused)) | None => {}
        }
    }

    /// Records that a client left after a backend of this pool had not responded to its handshake for `waited`, and logs it
    /// at most once a minute.
    pub fn record_silence(&self, backend: &Backend, client: ClientKey, waited: Duration) {
        let cause = RejectReason::ResponseTimeout;
        self.record_response(backend, ResponseKind::Handshake, client, Err(cause));
        if backend.responses.silence_logged.is_due(now()) {
            backend_silent(&backend.id, &backend.counts.route.name, waited);
        }
    }

    /// Whether at most half of the pool is ejected with this backend, and another one is available.
    fn may_eject(&self, backend: &Backend) -> bool {
        let backends = self.backends();
        let others = || backends.iter().filter(|other| other.id != backend.id);
        let ejected = others().filter(|other| other.responses.is_ejected()).count();
        (ejected + 1) * 2 <= backends.len() && others().any(|other| other.state().is_available())
    }
}

/// Whether a request failed because of the backend that it was sent to. A client that sends its request slowly,
/// or leaves, is none of it; and how long a plain request may take is the application's. With TLS 1.3 a backend rejects
/// the certificate of tidegate only once the request is on its way.
fn is_of_backend(reason: &RejectReason) -> bool {
    matches!(
        reason,
        RejectReason::BackendHandshakeInvalid(_)
            | RejectReason::ResponseTimeout
            | RejectReason::BackendTls(_)
    )
}

static EJECTING: Mutex<()> = Mutex::new(());

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::upstream::pool::SharedBackendState;
    use crate::upstream::scripted::{pool_of, pool_with};

    const TIMEOUT: RejectReason = RejectReason::ResponseTimeout;

    /// Lets handshakes of several clients with a backend fail; returns whether it is ejected.
    fn fail(pool: &Pool, index: usize) -> bool {
        let backend = &pool.backends()[index];
        for client in 1..=3 {
            pool.record_response(
                backend,
                ResponseKind::Handshake,
                ClientKey::sample(client),
                Err(TIMEOUT),
            );
        }
        backend.is_ejected()
    }

    // Requirements: BM22.
    #[test]
    fn at_most_half_of_a_pool_is_ejected() {
        for (backends, expected) in [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (6, 3)] {
            let pool = pool_of(backends);
            let ejected = (0..backends).filter(|index| fail(&pool, *index)).count();
            assert_eq!(ejected, expected, "of {backends}");
            let counted: u64 = pool.backends().iter().map(|b| b.counts.ejections.get()).sum();
            assert_eq!(counted as usize, expected);
        }
    }

    #[test]
    fn last_available_backend_is_not_ejected() {
        let pool = pool_of(4);
        let now = Instant::now();
        pool.backends()[1].health.record_failure(now, now);
        pool.backends()[2].admin_override.drain.set(true);
        assert!(fail(&pool, 3));
        assert!(!fail(&pool, 0), "no other one is up");
    }

    #[test]
    fn ejected_backend_is_tried_last_and_down() {
        let pool = pool_of(3);
        let key = ClientKey::sample(1);
        let first = pool.order_for(key)[0].clone();
        let index = pool.backends().iter().position(|b| b.id == first.id).unwrap();
        assert!(fail(&pool, index));
        assert_eq!(pool.order_for(key)[2].id, first.id);
        assert_eq!(first.state().as_str(), "down");
        let problem = first.problem().unwrap();
        assert!(problem.contains("timeout waiting for the backend's response"), "{problem}");
    }

    /// A pool of two backends as another route uses it.
    fn other_route(pool: &Pool) -> Pool {
        let mut backends = pool.backends().into_iter();
        pool_with(2, |_| SharedBackendState {
            responses: backends.next().unwrap().responses.clone(),
            counts: Arc::default(),
            ..SharedBackendState::default()
        })
    }

    #[tokio::test(start_paused = true)]
    async fn tunnels_of_every_route_show_other_clients() {
        for is_open in [false, true] {
            let pool = pool_of(2);
            let other = other_route(&pool);
            if is_open {
                pool.backends()[0].counts.tunnel_opened();
            }
            let fail = || {
                let (backend, client) = (&other.backends()[0], ClientKey::sample(1));
                other.record_response(backend, ResponseKind::Handshake, client, Err(TIMEOUT));
            };
            for _ in 0..4 {
                fail();
                tokio::time::advance(Duration::from_secs(10)).await;
            }
            assert_eq!(pool.backends()[0].is_ejected(), !is_open);
        }
    }

    #[test]
    fn failures_that_a_client_causes_do_not_count() {
        let pool = pool_of(2);
        for reason in [
            RejectReason::BodyTimeout,
            RejectReason::BackendIdleTimeout,
            RejectReason::RequestInvalid("the request body ended early"),
            RejectReason::ClientDisconnected,
            RejectReason::LocalPorts,
        ] {
            for client in 0..9 {
                let (backend, client) = (&pool.backends()[0], ClientKey::sample(client));
                pool.record_response(backend, ResponseKind::Plain, client, Err(reason));
            }
        }
        assert!(!pool.backends()[0].is_ejected());
    }
}
