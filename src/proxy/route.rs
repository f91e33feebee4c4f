//! A route as requests and sessions use it, built from its settings and from the state that survives a
//! reload.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper::HeaderMap;
use hyper::header::HeaderName;
use ws::SessionPolicy;

use crate::admission::concurrency::RouteTunnels;
use crate::admission::origin::OriginRules;
use crate::client::ClientInfo;
use crate::config::settings::{
    BackendSettings, Compression, OnBackendLoss, RequestTimeouts, RouteSettings,
};
use crate::config::values::field::may_be_forwarded;
use crate::config::values::patterns::BackendAddress;
use crate::sys::clock::now;
use crate::telemetry::events::{header_dropped, lost_handshake};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::metrics::handles::RouteCounts;
use crate::telemetry::once_a_minute::OnceAMinute;
use crate::upstream::admin_override::{AdminOverride, DrainFlag};
use crate::upstream::forwarded_headers::ForwardingPolicy;
use crate::upstream::health::Health;
use crate::upstream::pool::{Backend, Pool, SharedBackendState};

/// One route of a snapshot. A session keeps its route until it ends, and nothing else of the snapshot
/// that it started under.
#[derive(Debug)]
pub struct Route {
    /// Name in records, metrics and commands.
    pub name: Arc<str>,
    /// Allowed values of `Origin`.
    pub origins: OriginRules,
    /// Whether plain HTTP is forwarded.
    pub http: bool,
    /// Maximum number of open tunnels of this route.
    pub max_tunnels: Option<usize>,
    /// Count of open tunnels; kept across reloads.
    pub tunnels: RouteTunnels,
    /// Metrics; kept across reloads.
    pub counts: Arc<RouteCounts>,
    /// How offers of permessage-deflate are handled.
    pub compression: Compression,
    /// How requests are forwarded to backends.
    pub forwarding: ForwardingPolicy,
    /// The backends.
    pub pool: Pool,
    /// What happens to tunnels of a lost backend.
    pub on_backend_loss: OnBackendLoss,
    /// Whether an operator has drained the route; kept across reloads.
    pub drain: Arc<DrainFlag>,
    /// Limits and timers of the sessions of this route.
    pub policy: Arc<SessionPolicy>,
    /// Timeouts of each request until a tunnel is open.
    pub timeouts: RequestTimeouts,
    /// Whether a dropped header has been logged.
    underscore_logged: AtomicBool,
    /// When a plain request was last logged that was meant as a handshake; kept across reloads.
    lost_handshake_logged: Arc<OnceAMinute>,
}

impl Route {
    /// Builds a route. `previous` is the route of the same name in the current snapshot; the backends
    /// take their health from `healths`.
    pub fn build(
        settings: &RouteSettings,
        previous: Option<&Arc<Route>>,
        healths: &mut BackendHealths,
        metrics: &Metrics,
    ) -> Self {
        let counts = metrics.route(&settings.name);
        let carried = |backend: &BackendSettings| SharedBackendState {
            health: healths.get(backend),
            counts: metrics.backend(&counts, &backend.id),
            admin_override: previous
                .map(|route| route.carried_override(backend))
                .unwrap_or_default(),
        };
        Self {
            name: settings.name.clone(),
            origins: OriginRules::new(settings.origins.clone()),
            http: settings.http,
            max_tunnels: settings.tunnels,
            tunnels: previous.map(|route| route.tunnels.clone()).unwrap_or_default(),
            compression: settings.compression,
            forwarding: ForwardingPolicy {
                send_proxy: settings.send_proxy,
                send_forwarded: settings.send_forwarded,
                underscore_headers: settings.underscore_headers.clone(),
                request_headers: settings.request_headers.clone(),
                response_headers: settings.response_headers.clone(),
                response_head: settings.response_head,
            },
            pool: Pool::new(&settings.backends, carried),
            on_backend_loss: settings.on_backend_loss,
            drain: previous.map(|route| route.drain.clone()).unwrap_or_default(),
            policy: settings.policy.clone(),
            timeouts: settings.timeouts,
            counts,
            underscore_logged: AtomicBool::new(false),
            lost_handshake_logged: previous
                .map(|route| route.lost_handshake_logged.clone())
                .unwrap_or_default(),
        }
    }

    /// Logs a plain request that was evidently meant as a handshake, at most once a minute. `detail` says
    /// what is wrong with it.
    pub fn log_lost_handshake(&self, client: &ClientInfo, detail: &'static str) {
        if self.lost_handshake_logged.is_due(now()) {
            lost_handshake(&self.name, client, detail);
        }
    }

    /// Counts the headers of a request that are not forwarded because of an underscore in their names,
    /// and returns the names. The first one that the operator could allow is logged.
    pub fn underscores_dropped<'h>(&self, headers: &'h HeaderMap) -> Vec<&'h HeaderName> {
        let dropped = headers.keys().filter(|name| self.forwarding.drops_underscore(name));
        let dropped: Vec<&HeaderName> = dropped.collect();
        if dropped.is_empty() {
            return dropped;
        }
        self.counts.headers_dropped.add(dropped.len() as u64);
        if let Some(name) = dropped.iter().find(|name| may_be_forwarded(name))
            && !self.underscore_logged.swap(true, Ordering::Relaxed)
        {
            header_dropped(&self.name, name.as_str());
        }
        dropped
    }

    /// Whether an operator has drained the route.
    pub fn is_draining(&self) -> bool {
        self.drain.is_draining()
    }

    /// The operator's settings for a backend after a reload. A weight is kept only if the configured
    /// weight is unchanged.
    fn carried_override(&self, settings: &BackendSettings) -> Arc<AdminOverride> {
        let is_same = |backend: &&Arc<Backend>| backend.id == settings.id;
        let Some(existing) = self.pool.backends().iter().find(is_same) else {
            return Arc::default();
        };
        if existing.weight == settings.weight {
            return existing.admin_override.clone();
        }
        let admin_override = AdminOverride::default();
        admin_override.drain.set(existing.is_draining());
        Arc::new(admin_override)
    }
}

/// The health of all backends by id and address, shared by the routes that use them.
#[derive(Debug, Default)]
pub struct BackendHealths(HashMap<(Arc<str>, BackendAddress), Arc<Health>>);

impl BackendHealths {
    /// Collects the health of the backends of these routes.
    pub fn of(routes: &[Arc<Route>]) -> Self {
        let backends = routes.iter().flat_map(|route| route.pool.backends());
        Self(backends.map(|b| ((b.id.clone(), b.address.clone()), b.health.clone())).collect())
    }

    /// The health of a backend; a new one if the backend is new.
    fn get(&mut self, backend: &BackendSettings) -> Arc<Health> {
        let key = (backend.id.clone(), backend.address.clone());
        self.0.entry(key).or_default().clone()
    }
}
