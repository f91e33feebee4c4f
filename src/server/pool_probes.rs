//! Schedules the probes of `[pool.probe]`: each backend of such a pool is probed at its own times, so that
//! several machines with the same configuration are out of step.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

use crate::proxy::route::Route;
use crate::proxy::snapshot::Snapshot;
use crate::proxy::state::ProxyState;
use crate::upstream::pool::Backend;
use crate::upstream::probe::check;
use crate::upstream::probe::health::{ProbeHealth, ProbeState};

/// The next probe of each backend, by the address of its [`ProbeHealth`].
#[derive(Debug, Default)]
pub struct PoolProbes(HashMap<usize, NextProbe>);

#[derive(Debug)]
struct NextProbe {
    health: Arc<ProbeHealth>,
    at: Instant,
    /// The last one that was started.
    running: Option<AbortHandle>,
}

impl PoolProbes {
    /// Starts the probes that are due within `period`, after which this must be called again, and forgets backends
    /// that are not probed any more. A backend has one probe at a time. A result that may change its state is confirmed
    /// within about one period.
    pub fn start(
        &mut self,
        state: &Arc<ProxyState>,
        snapshot: &Snapshot,
        period: Duration,
        tasks: &mut JoinSet<()>,
    ) {
        let now = Instant::now();
        let probed = probed(snapshot);
        self.0.retain(|key, _| probed.contains_key(key));
        for (key, (route, backend, health)) in probed {
            let interval = health.settings.interval;
            let first = || {
                // The backends of a large pool are not probed all at once.
                let at = now + interval.mul_f64(state.net.random_f64());
                NextProbe { health: health.clone(), at, running: None }
            };
            let next = self.0.entry(key).or_insert_with(first);
            if next.running.as_ref().is_some_and(|probe| !probe.is_finished()) {
                continue;
            }
            // As without a probe, a backend that refused clients is soon tried again.
            let is_refusing = backend.health.is_ejected() && health.state() != ProbeState::Down;
            if health.is_changing() || is_refusing {
                next.at = next.at.min(now + period.mul_f64(state.net.random_f64()));
            }
            if next.at >= now + period {
                continue;
            }
            let at = next.at;
            let jitter = 1.0 + JITTER * (2.0 * state.net.random_f64() - 1.0);
            next.at = at.max(now) + interval.mul_f64(jitter);
            let (net, backend, health) = (state.net.clone(), backend, next.health.clone());
            let (header, limits) =
                (route.forwarding.local_proxy_header(), route.forwarding.response_head);
            next.running = Some(tasks.spawn(async move {
                sleep_until(at).await;
                check(&*net, backend, &health, header, limits).await;
            }));
        }
    }
}

/// The backends that are probed, each once, with the first route that uses it.
fn probed(snapshot: &Snapshot) -> HashMap<usize, (&Route, Arc<Backend>, Arc<ProbeHealth>)> {
    let mut probed = HashMap::new();
    for route in &snapshot.route_list {
        for backend in route.pool.backends() {
            if let Some(health) = backend.probe.clone() {
                probed.entry(Arc::as_ptr(&health).addr()).or_insert((&**route, backend, health));
            }
        }
    }
    probed
}

/// The part of an interval by which the next probe may be earlier or later.
const JITTER: f64 = 0.1;
