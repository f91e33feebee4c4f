//! Lost backends: tunnels whose backend was removed from their route, does not accept connections any more, or
//! is down by its probe. `route.on_backend_loss` decides whether they stay open, are closed, or are
//! closed after a time.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio::time::interval;
use tracing::warn;
use ws::TerminationReason;

use crate::config::settings::pool::OnBackendLoss;
use crate::control_protocol::Selection;
use crate::proxy::route::Route;
use crate::proxy::snapshot::Snapshot;
use crate::proxy::state::ProxyState;
use crate::sessions::drain_plan::{DrainOutcome, DrainPlan};
use crate::sessions::registry::SessionHandle;
use crate::sys::clock::now;
use crate::upstream::pool::Backend;

/// Closes tunnels of lost backends as configured, until dropped.
pub async fn run(state: Arc<ProxyState>) {
    let mut lost = LostBackends::default();
    let mut poll = interval(POLL_INTERVAL);
    loop {
        poll.tick().await;
        let snapshot = state.snapshot();
        let due = lost.poll(&snapshot, || state.registry.sessions(), now());
        for (backend, sessions) in due {
            let plan = DrainPlan::standard(
                state.net.clone(),
                snapshot.settings.drain,
                TerminationReason::BackendLost,
            );
            let window_ms = plan.window(sessions.len()).as_millis() as u64;
            let (route, id) = (backend.route.to_string(), backend.id.to_string());
            let selection = Selection {
                route: Some(route.clone()),
                backend: Some(id.clone()),
                ..Selection::default()
            };
            let tunnels = sessions.len();
            // If too many drains are in progress, the next poll tries again.
            let Some(closing) = state.drains.start(selection, plan, &sessions) else { continue };
            let cause = if is_down_by_probe(&snapshot, &backend) {
                "is down, its probes fail"
            } else if has_backend(&snapshot, &backend) {
                "does not accept connections"
            } else {
                "was removed from the route"
            };
            warn!(
                route,
                backend = id,
                tunnels,
                window_ms,
                "closing tunnels: the backend {cause} (on_backend_loss)"
            );
            lost.closing.insert(backend, closing);
        }
    }
}

/// A backend that its route has lost.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct LostBackend {
    route: Arc<str>,
    id: Arc<str>,
}

/// The lost backends with open tunnels, and since when each is lost.
#[derive(Debug, Default)]
struct LostBackends {
    since: HashMap<LostBackend, Instant>,
    /// Drains in progress.
    closing: HashMap<LostBackend, JoinHandle<DrainOutcome>>,
}

impl LostBackends {
    /// The tunnels to close now, by backend.
    fn poll(
        &mut self,
        snapshot: &Snapshot,
        sessions: impl FnOnce() -> Vec<Arc<SessionHandle>>,
        now: Instant,
    ) -> Vec<(LostBackend, Vec<Arc<SessionHandle>>)> {
        let closing_routes: HashMap<&str, &Route> = snapshot
            .route_list
            .iter()
            .filter(|route| route.on_backend_loss != OnBackendLoss::Keep)
            .map(|route| (&*route.name, &**route))
            .collect();
        if closing_routes.is_empty() {
            self.since.clear();
            self.closing.drain().for_each(|(_, closing)| closing.abort());
            return Vec::new();
        }
        let mut lost: HashMap<LostBackend, Vec<Arc<SessionHandle>>> = HashMap::new();
        let mut serving = HashSet::new();
        for session in sessions().into_iter().filter(|session| !session.is_closing()) {
            let counts = &session.info.counts;
            let Some(route) = closing_routes.get(&*counts.route.name) else { continue };
            let id = route.pool.backend_with(counts);
            let key = (&*route.name, id.clone());
            if serving.contains(&key) {
                continue;
            }
            if is_serving(route, &id, counts.listed_id()) {
                serving.insert(key);
                continue;
            }
            let backend = LostBackend { route: route.name.clone(), id };
            lost.entry(backend).or_default().push(session);
        }
        self.since.retain(|backend, _| lost.contains_key(backend));
        self.closing.retain(|backend, closing| {
            let recovered = serving.contains(&(&*backend.route, backend.id.clone()));
            if recovered || !closing_routes.contains_key(&*backend.route) {
                // The remaining tunnels stay open.
                closing.abort();
            }
            !closing.is_finished()
        });
        lost.retain(|backend, _| {
            if self.closing.contains_key(backend) {
                return false;
            }
            let delay = closing_routes.get(&*backend.route).map_or(Duration::ZERO, |route| {
                match route.on_backend_loss {
                    // Confirmed by a second poll, as another reload may follow at once.
                    OnBackendLoss::Keep | OnBackendLoss::Drain => POLL_INTERVAL,
                    OnBackendLoss::CloseAfter(time) => time,
                }
            });
            let since = *self.since.entry(backend.clone()).or_insert(now);
            now.duration_since(since) >= delay
        });
        lost.into_iter().collect()
    }
}

/// Whether the backend's route still has it.
fn has_backend(snapshot: &Snapshot, backend: &LostBackend) -> bool {
    find(snapshot, backend).is_some()
}

fn is_down_by_probe(snapshot: &Snapshot, backend: &LostBackend) -> bool {
    find(snapshot, backend).is_some_and(|backend| backend.is_down_by_probe())
}

fn find(snapshot: &Snapshot, backend: &LostBackend) -> Option<Arc<Backend>> {
    let route = snapshot.route_list.iter().find(|route| route.name == backend.route)?;
    route.pool.backends().iter().find(|known| known.id == backend.id).cloned()
}

/// Whether the route still has this backend, which accepts connections and is not down by its probe. Failed
/// responses do not count: a few clients could cause them, and must not close the tunnels of all others. Nor does it
/// count that an address has left the answer for the name `listed`: names lose the addresses of machines that are about
/// to stop before their connections end, and may lose others by mistake.
fn is_serving(route: &Route, id: &str, listed: &str) -> bool {
    let backends = route.pool.backends();
    match backends.iter().find(|backend| *backend.id == *id) {
        Some(backend) => !backend.health.is_ejected() && !backend.is_down_by_probe(),
        None => route.pool.names.iter().any(|name| *name.id == *listed),
    }
}

const POLL_INTERVAL: Duration = Duration::from_secs(1);
