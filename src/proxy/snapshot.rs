//! Everything a reload swaps: the settings and what is built from them. Built whole or not at
//! all; what must outlive it (counts, health, rate buckets) is carried over from the previous one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use rustls::server::ProducesTickets;
use ws::SessionPolicy;

use super::route_table::RouteTable;
use crate::admission::concurrency::RouteTunnels;
use crate::admission::origin::OriginRules;
use crate::admission::rate::HandshakeRate;
use crate::config::settings::{
    BackendSettings, Compression, ListenerSettings, OnBackendLoss, RouteSettings, Settings,
    Timeouts,
};
use crate::config::toml::late_diagnostic::LateDiagnostic;
use crate::config::values::patterns::BackendAddress;
use crate::listener::key::{self, ListenerKey};
use crate::proxy::capacity::Capacity;
use crate::sys::memory;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::metrics::handles::{ListenerCounts, RouteCounts};
use crate::telemetry::metrics::process_snapshot::BackendState;
use crate::tls::certs::CertTable;
use crate::tls::terminate::TlsTerminator;
use crate::upstream::admin_override::{AdminOverride, DrainFlag};
use crate::upstream::forwarded_headers::ForwardingPolicy;
use crate::upstream::health::Health;
use crate::upstream::pool::{Backend, Carried, Pool};

/// One configuration in force.
#[derive(Clone)]
pub struct Snapshot {
    /// Counts up from 1.
    pub number: u64,
    /// What it was built from.
    pub settings: Settings,
    /// Caps after descriptors.
    pub capacity: Capacity,
    /// Present if any listener speaks TLS.
    pub tls: Option<TlsTerminator>,
    /// By host and path.
    pub routes: RouteTable<Arc<Route>>,
    /// By name, for counting and for carrying over.
    pub route_list: Vec<Arc<Route>>,
    /// Buckets of the handshake rate.
    pub rate: Arc<HandshakeRate>,
    /// What is counted, across generations.
    pub metrics: Arc<Metrics>,
    /// One for each listener, in their order.
    listener_counts: Vec<Arc<ListenerCounts>>,
    /// What is lawful and may yet be a mistake, but for what changes with time.
    pub static_warnings: Vec<LateDiagnostic>,
}

/// What is found out before anything is built.
pub struct Validated {
    capacity: Capacity,
    tls: Option<TlsTerminator>,
    /// What is lawful and may yet be a mistake.
    warnings: Vec<LateDiagnostic>,
}

/// What a request, and then its session, is held to. A session keeps its route, and nothing else
/// of the generation it began under.
#[derive(Debug)]
pub struct Route {
    /// As in records.
    pub name: Arc<str>,
    /// Whom it welcomes.
    pub origins: OriginRules,
    /// Whether plain HTTP is forwarded.
    pub http: bool,
    /// Its own cap on tunnels.
    pub tunnels_max: Option<usize>,
    /// Its tunnels, across generations.
    pub tunnels: RouteTunnels,
    /// What is counted of it, likewise.
    pub counts: Arc<RouteCounts>,
    /// What happens to compression offers.
    pub compression: Compression,
    /// How backends are spoken to.
    pub forwarding: ForwardingPolicy,
    /// Where it leads.
    pub pool: Pool,
    /// What becomes of tunnels whose backend is lost.
    pub on_backend_loss: OnBackendLoss,
    /// Whether an operator keeps new tunnels away; across generations.
    pub drain: Arc<DrainFlag>,
    /// What its sessions are held to.
    pub terms: Arc<SessionPolicy>,
    /// Deadlines before the tunnel.
    pub timeouts: Timeouts,
}

impl Snapshot {
    /// Builds a generation under this limit of descriptors; all faults at once.
    pub fn build(
        settings: Settings,
        previous: Option<&Snapshot>,
        ticketer: &Arc<dyn ProducesTickets>,
        descriptors: usize,
    ) -> Result<Self, Vec<LateDiagnostic>> {
        let Validated { capacity, tls, warnings } =
            Self::validate(&settings, ticketer, descriptors)?;
        let metrics = previous.map(|previous| previous.metrics.clone()).unwrap_or_default();
        metrics.remove_unused();
        let mut routes = RouteTable::default();
        let mut healths = healths(previous);
        let mut route_list = Vec::new();
        for of in &settings.routes {
            let same = |route: &&Arc<Route>| route.name == of.name;
            let before = previous.and_then(|previous| previous.route_list.iter().find(same));
            let route =
                Arc::new(Route::build(of, &settings.timeouts, before, &mut healths, &metrics));
            routes.insert(&of.host, of.path.clone(), route.clone());
            route_list.push(route);
        }
        let (per_second, burst) =
            (settings.rates.handshakes_per_client, settings.rates.handshakes_burst);
        let rate = previous
            .map(|previous| previous.rate.clone())
            .filter(|rate| rate.has_quota(per_second, burst))
            .unwrap_or_else(|| Arc::new(HandshakeRate::new(per_second, burst)));
        let number = previous.map_or(1, |previous| previous.number + 1);
        let listener_counts =
            settings.listeners.iter().map(|listener| metrics.listener(&listener.name)).collect();
        Ok(Self {
            number,
            settings,
            capacity,
            tls,
            routes,
            route_list,
            rate,
            metrics,
            listener_counts,
            static_warnings: warnings,
        })
    }

    /// The same configuration with its certificates as they lie there now; all faults at once.
    pub fn with_certificates(
        &self,
        ticketer: &Arc<dyn ProducesTickets>,
    ) -> Result<Self, Vec<LateDiagnostic>> {
        let (tls, warnings) = tls_terminator(&self.settings, ticketer)?;
        Ok(Self { number: self.number + 1, tls, static_warnings: warnings, ..self.clone() })
    }

    /// The certificates, if any listener shows them.
    pub fn certs(&self) -> Option<&CertTable> {
        self.tls.as_ref().map(TlsTerminator::certs)
    }

    /// What is lawful and may yet be a mistake, `now` being the time of day.
    pub fn warnings(&self, now: f64) -> Vec<LateDiagnostic> {
        let ends = self.certs().into_iter().flat_map(|certs| certs.expiring(now as u64));
        let ends = ends.map(|(state, step)| step.warning(state, now as u64));
        self.static_warnings.iter().cloned().chain(ends).collect()
    }

    /// Whether clients refuse every certificate there is, `now` being the time of day.
    pub fn has_expired(&self, now: f64) -> bool {
        self.certs().is_some_and(|certs| certs.all_expired(now as u64))
    }

    /// All that may fail: whether the caps fit under this limit of descriptors, and certificates
    /// and all else outside the file are as they must be. Changes nothing.
    pub fn validate(
        settings: &Settings,
        ticketer: &Arc<dyn ProducesTickets>,
        descriptors: usize,
    ) -> Result<Validated, Vec<LateDiagnostic>> {
        let mut errors = Vec::new();
        let listeners = settings.listeners.len();
        let capacity = Capacity::new(&settings.concurrency, listeners, descriptors)
            .map_err(|error| errors.push(error))
            .ok();
        errors.extend(settings.check_access_log_target());
        let tls = tls_terminator(settings, ticketer).map_err(|more| errors.extend(more)).ok();
        match (capacity, tls, errors.is_empty()) {
            (Some(capacity), Some((tls, mut warnings)), true) => {
                warnings.extend(capacity.memory_warning(memory::limit()));
                Ok(Validated { capacity, tls, warnings })
            }
            (_, _, _) => Err(errors),
        }
    }

    /// The listener behind a door, unless it was removed.
    pub fn listener(&self, door: ListenerKey) -> Option<&ListenerSettings> {
        key::listener_keys(&self.settings.listeners)
            .find(|(key, _)| *key == door)
            .map(|(_, found)| found)
    }

    /// The listeners, each with what is counted of it.
    pub fn listeners(&self) -> impl Iterator<Item = (&ListenerSettings, &Arc<ListenerCounts>)> {
        self.settings.listeners.iter().zip(&self.listener_counts)
    }

    /// What is counted of the listener behind a door.
    pub fn listener_counts(&self, door: ListenerKey) -> Option<&Arc<ListenerCounts>> {
        let mut keys = key::listener_keys(&self.settings.listeners);
        keys.position(|(key, _)| key == door).and_then(|place| self.listener_counts.get(place))
    }

    /// Every backend of every route, and whether it is up.
    pub fn backend_states(&self, now: Instant) -> Vec<BackendState> {
        let backends = self.route_list.iter().flat_map(|route| route.pool.backends());
        let state = |backend: &Arc<Backend>| {
            let up = backend.takes(now.into());
            BackendState { counts: backend.counts.clone(), up }
        };
        backends.map(state).collect()
    }

    /// Backends that are up, and all of them; a backend that several routes share counts once.
    pub fn backends(&self, now: Instant) -> (usize, usize) {
        let mut up_by_id = HashMap::new();
        for route in &self.route_list {
            for backend in route.pool.backends() {
                up_by_id.insert(backend.id.clone(), backend.takes(now.into()));
            }
        }
        (up_by_id.values().filter(|up| **up).count(), up_by_id.len())
    }
}

impl Route {
    fn build(
        of: &RouteSettings,
        timeouts: &Timeouts,
        before: Option<&Arc<Route>>,
        healths: &mut HealthByBackend,
        metrics: &Metrics,
    ) -> Self {
        let counts = metrics.route(&of.name);
        let known = |backend: &BackendSettings| {
            let whose = (backend.id.clone(), backend.address.clone());
            Carried {
                health: healths.entry(whose).or_default().clone(),
                counts: metrics.backend(&counts, &backend.id),
                standing: before.map(|route| standing(route, backend)).unwrap_or_default(),
            }
        };
        Self {
            name: of.name.clone(),
            origins: OriginRules::new(of.origins.clone()),
            http: of.http,
            tunnels_max: of.tunnels,
            tunnels: before.map(|route| route.tunnels.clone()).unwrap_or_default(),
            compression: of.compression,
            forwarding: ForwardingPolicy {
                send_proxy: of.send_proxy,
                send_forwarded: of.send_forwarded,
                request_headers: of.request_headers.clone(),
                response_headers: of.response_headers.clone(),
            },
            pool: Pool::new(&of.backends, known),
            on_backend_loss: of.on_backend_loss,
            drain: before.map(|route| route.drain.clone()).unwrap_or_default(),
            terms: of.policy.clone(),
            timeouts: *timeouts,
            counts,
        }
    }
}

/// What an operator decided about a backend; of its weight only as long as the file says the same.
fn standing(before: &Route, backend: &BackendSettings) -> Arc<AdminOverride> {
    let same = |known: &&Arc<Backend>| known.id == backend.id;
    let Some(known) = before.pool.backends().iter().find(same) else {
        return Arc::default();
    };
    if known.weight == backend.weight {
        return known.standing.clone();
    }
    let standing = AdminOverride::default();
    standing.away.set(known.standing.away.is_away());
    Arc::new(standing)
}

/// What is known of each backend, whichever routes lead to it.
type HealthByBackend = HashMap<(Arc<str>, BackendAddress), Arc<Health>>;

fn healths(previous: Option<&Snapshot>) -> HealthByBackend {
    let routes = previous.map_or(&[][..], |previous| &previous.route_list);
    let backends = routes.iter().flat_map(|route| route.pool.backends());
    backends.map(|b| ((b.id.clone(), b.address.clone()), b.health.clone())).collect()
}

fn tls_terminator(
    settings: &Settings,
    ticketer: &Arc<dyn ProducesTickets>,
) -> Result<(Option<TlsTerminator>, Vec<LateDiagnostic>), Vec<LateDiagnostic>> {
    let certs = CertTable::load(&settings.certificates)?;
    let mut warnings = certs.warnings().to_vec();
    if !settings.listeners.iter().any(|listener| listener.tls) {
        return Ok((None, warnings));
    }
    warnings.extend(certs.uncovered(&settings.routes));
    TlsTerminator::new(certs, ticketer.clone()).map(|tls| (Some(tls), warnings)).map_err(|error| {
        vec![LateDiagnostic { key: "listener".into(), problem: error.to_string() }]
    })
}
