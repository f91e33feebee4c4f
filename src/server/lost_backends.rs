//! Tunnels whose backend was removed from their route or takes no connections any more: the route
//! says whether they go on, are closed, or are closed after a while (`route.on_backend_loss`).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio::time::interval;
use tracing::warn;
use ws::TerminationReason;

use crate::config::settings::OnBackendLoss;
use crate::protocol::Selection;
use crate::proxy::route::Route;
use crate::proxy::snapshot::Snapshot;
use crate::proxy::state::ProxyState;
use crate::sessions::drain_plan::{DrainOutcome, DrainPlan};
use crate::sessions::registry::SessionHandle;
use crate::sys::clock::now;

/// Looks after them until dropped.
pub async fn look_after(gate: Arc<ProxyState>) {
    let mut losses = LostBackends::default();
    let mut look = interval(LOOK_EVERY);
    loop {
        look.tick().await;
        let generation = gate.snapshot();
        let due = losses.look(&generation, || gate.registry.sessions(), now());
        for (loss, lines) in due {
            let course = DrainPlan::standard(
                gate.net.clone(),
                generation.settings.drain,
                TerminationReason::BackendLost,
            );
            let window_ms = course.window(lines.len()).as_millis() as u64;
            let (route, backend) = (loss.route.to_string(), loss.backend.to_string());
            let of = Selection {
                route: Some(route.clone()),
                backend: Some(backend.clone()),
                ..Selection::default()
            };
            let tunnels = lines.len();
            // Without a place for it: at the next look.
            let Some(closing) = gate.drains.start(of, course, &lines) else { continue };
            warn!(route, backend, tunnels, window_ms, "closing the tunnels of a lost backend");
            losses.closing.insert(loss, closing);
        }
    }
}

/// A backend that a route has no more.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct LostBackend {
    route: Arc<str>,
    backend: Arc<str>,
}

/// What was lost, and since when.
#[derive(Debug, Default)]
struct LostBackends {
    since: HashMap<LostBackend, Instant>,
    /// Whose tunnels are being closed.
    closing: HashMap<LostBackend, JoinHandle<DrainOutcome>>,
}

impl LostBackends {
    /// The tunnels that must go by now, by backend.
    fn look(
        &mut self,
        generation: &Snapshot,
        lines: impl FnOnce() -> Vec<Arc<SessionHandle>>,
        now: Instant,
    ) -> Vec<(LostBackend, Vec<Arc<SessionHandle>>)> {
        let minded: HashMap<&str, &Route> = generation
            .route_list
            .iter()
            .filter(|route| route.on_backend_loss != OnBackendLoss::Keep)
            .map(|route| (&*route.name, &**route))
            .collect();
        if minded.is_empty() {
            self.since.clear();
            self.closing.drain().for_each(|(_, closing)| closing.abort());
            return Vec::new();
        }
        let mut lost: HashMap<LostBackend, Vec<Arc<SessionHandle>>> = HashMap::new();
        let mut serving = HashSet::new();
        for line in lines().into_iter().filter(|session| !session.is_closing()) {
            let counts = &line.info.counts;
            let Some(route) = minded.get(&*counts.route.name) else { continue };
            let named = (&*route.name, counts.id.clone());
            if serving.contains(&named) {
                continue;
            }
            if serves(route, &counts.id) {
                serving.insert(named);
                continue;
            }
            let loss = LostBackend { route: route.name.clone(), backend: counts.id.clone() };
            lost.entry(loss).or_default().push(line);
        }
        self.since.retain(|loss, _| lost.contains_key(loss));
        self.closing.retain(|loss, closing| {
            let back = serving.contains(&(&*loss.route, loss.backend.clone()));
            if back || !minded.contains_key(&*loss.route) {
                // Or the route minds no more: whoever is left may stay.
                closing.abort();
            }
            !closing.is_finished()
        });
        lost.retain(|loss, _| {
            if self.closing.contains_key(loss) {
                return false;
            }
            let patience = minded.get(&*loss.route).map_or(Duration::ZERO, |route| {
                match route.on_backend_loss {
                    // Seen twice: a reload may follow another one.
                    OnBackendLoss::Keep | OnBackendLoss::Drain => LOOK_EVERY,
                    OnBackendLoss::CloseAfter(time) => time,
                }
            });
            let since = *self.since.entry(loss.clone()).or_insert(now);
            now.duration_since(since) >= patience
        });
        lost.into_iter().collect()
    }
}

/// Whether a route still has this backend, and it answered when it was last asked.
fn serves(route: &Route, id: &str) -> bool {
    let backend = route.pool.backends().iter().find(|backend| &*backend.id == id);
    backend.is_some_and(|backend| !backend.health.is_failing())
}

const LOOK_EVERY: Duration = Duration::from_secs(1);
