//! A route as requests and sessions use it, built from its settings and from the state that survives a
//! reload.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use ws::SessionPolicy;

use super::maintenance::Maintenance;
use super::shared_backends::SharedBackends;
use crate::admission::concurrency::RouteTunnels;
use crate::admission::origin::OriginRules;
use crate::client::ClientInfo;
use crate::config::address_rules::AddressRules;
use crate::config::settings::pool::{BackendSettings, OnBackendLoss};
use crate::config::settings::{Compression, LogRequests, RequestTimeouts, RouteSettings};
use crate::config::values::field::may_be_forwarded;
use crate::sys::clock::now;
use crate::telemetry::events::{header_dropped, lost_handshake};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::metrics::handles::{BackendCounts, RouteCounts};
use crate::telemetry::once_a_minute::OnceAMinute;
use crate::upstream::admin_override::{AddressOverrides, AdminOverride, DrainFlag};
use crate::upstream::backend_name::ListedName;
use crate::upstream::backends_owner::BackendsOwner;
use crate::upstream::forwarded_headers::ForwardingPolicy;
use crate::upstream::pool::{Pool, SharedBackendState};

/// One route of a snapshot. A session keeps its route until it ends, and nothing else of the snapshot
/// that it started under.
#[derive(Debug)]
pub struct Route {
    /// Name in records, metrics and commands.
    pub name: Arc<str>,
    /// Whether requests are forwarded whose path a server may read as one of another route.
    pub allows_ambiguous_paths: bool,
    /// The clients that are admitted.
    pub addresses: AddressRules,
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
    /// `Strict-Transport-Security` of every response over TLS (RFC 6797); replaces the application's.
    pub hsts: Option<HeaderValue>,
    /// The backends.
    pub pool: Pool,
    /// What happens to tunnels of a lost backend.
    pub on_backend_loss: OnBackendLoss,
    /// Whether requests are answered with 503; the operator's part is kept across reloads.
    pub maintenance: Maintenance,
    /// Whether an operator has drained the route; kept across reloads.
    pub drain: Arc<DrainFlag>,
    /// Generation of the first snapshot that hashes requests as this one does. Keys of earlier tunnels mean nothing.
    pub keys_since: u64,
    /// Limits and timers of the sessions of this route.
    pub policy: Arc<SessionPolicy>,
    /// Timeouts of each request until a tunnel is open.
    pub timeouts: RequestTimeouts,
    log_requests: LogRequests,
    /// Plain requests since the route was built.
    requests_seen: AtomicU32,
    /// Whether a dropped header has been logged.
    underscore_logged: AtomicBool,
    /// When a plain request was last logged that was meant as a handshake; kept across reloads.
    lost_handshake_logged: Arc<OnceAMinute>,
}

impl Route {
    /// Builds a route. `previous` is the route of the same name in the current snapshot; the backends
    /// take what they share from `shared`.
    pub fn build(
        settings: &RouteSettings,
        previous: Option<&Arc<Route>>,
        keys_since: u64,
        shared: &mut SharedBackends,
        metrics: &Metrics,
    ) -> Self {
        let counts = metrics.route(&settings.name);
        let pins = settings.pool.name.as_deref().and_then(|name| shared.pins(name));
        let owner = owner(settings.pool.name.as_ref(), &settings.name);
        let choices = shared.choices(owner.clone());
        let carried_override = |backend: &BackendSettings| match previous {
            Some(route) => route.carried_override(backend),
            None => Arc::default(),
        };
        let listed = |of: &BackendSettings| {
            let (id, name) = (of.id.clone(), choices.names.get(&of.address));
            let admin_override = carried_override(of);
            let addresses =
                previous.and_then(|route| route.carried_addresses(of)).unwrap_or_default();
            Arc::new(ListedName { id, weight: of.weight, admin_override, addresses, name })
        };
        let named = settings.pool.backends.iter().filter(|backend| backend.is_per_address);
        let names = named.map(listed).collect();
        let carried = |backend: &BackendSettings, listed: Option<&ListedName>| SharedBackendState {
            counts: backend_counts(metrics, &counts, backend, listed),
            admin_override: carried_override(backend),
            ..shared.get(backend, listed, &settings.pool, &owner)
        };
        Self {
            name: settings.name.clone(),
            allows_ambiguous_paths: settings.allows_ambiguous_paths,
            addresses: settings.addresses.clone(),
            origins: OriginRules::new(settings.origins.clone()),
            http: settings.http,
            max_tunnels: settings.tunnels,
            tunnels: previous.map(|route| route.tunnels.clone()).unwrap_or_default(),
            compression: settings.compression,
            forwarding: ForwardingPolicy {
                send_proxy: settings.send_proxy,
                send_forwarded: settings.send_forwarded,
                via: settings.via.clone(),
                underscore_headers: settings.underscore_headers.clone(),
                request_headers: settings.request_headers.clone(),
                response_headers: settings.response_headers.clone(),
                response_head: settings.response_head,
            },
            hsts: settings
                .hsts
                .and_then(|age| HeaderValue::try_from(format!("max-age={}", age.as_secs())).ok()),
            pool: Pool::new(&settings.pool, choices, names, pins, carried),
            on_backend_loss: settings.on_backend_loss,
            maintenance: Maintenance::build(
                settings.maintenance_file.as_deref(),
                previous.map(|route| &route.maintenance),
            ),
            drain: previous.map(|route| route.drain.clone()).unwrap_or_default(),
            keys_since,
            policy: settings.policy.clone(),
            timeouts: settings.timeouts,
            log_requests: settings.log_requests,
            requests_seen: AtomicU32::new(0),
            counts,
            underscore_logged: AtomicBool::new(false),
            lost_handshake_logged: previous
                .map(|route| route.lost_handshake_logged.clone())
                .unwrap_or_default(),
        }
    }

    /// Lets the route have the backends at the present addresses of its names. `settings` are those that it was built
    /// from.
    pub fn update_members(
        &self,
        settings: &RouteSettings,
        shared: &mut SharedBackends,
        metrics: &Metrics,
    ) {
        let owner = self.backends_owner();
        self.pool.update(&settings.pool, |backend, listed| SharedBackendState {
            counts: backend_counts(metrics, &self.counts, backend, listed),
            admin_override: self.carried_override(backend),
            ..shared.get(backend, listed, &settings.pool, &owner)
        });
    }

    /// What lists the backends.
    pub fn backends_owner(&self) -> BackendsOwner {
        owner(self.pool.name.as_ref(), &self.name)
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

    /// Whether the plain request that has just arrived is recorded if it succeeds.
    pub fn logs_next_request(&self) -> bool {
        match self.log_requests {
            LogRequests::Off => false,
            LogRequests::OneOf(count) => {
                let before = self.requests_seen.fetch_add(1, Ordering::Relaxed);
                before.wrapping_add(1) % count == 0
            }
        }
    }

    /// Whether an operator has drained the route.
    pub fn is_draining(&self) -> bool {
        self.drain.is_draining()
    }

    /// The operator's settings for a backend after a reload. A weight is kept only if the configured
    /// weight is unchanged.
    fn carried_override(&self, settings: &BackendSettings) -> Arc<AdminOverride> {
        let Some((weight, existing)) = self.pool.admin_override(&settings.id) else {
            return Arc::default();
        };
        if weight == settings.weight {
            return existing;
        }
        let admin_override = AdminOverride::default();
        admin_override.drain.set(existing.drain.is_draining());
        Arc::new(admin_override)
    }

    /// The same for the addresses of a name.
    fn carried_addresses(&self, settings: &BackendSettings) -> Option<Arc<AddressOverrides>> {
        let listed = self.pool.names.iter().find(|listed| listed.id == settings.id)?;
        Some(match listed.weight == settings.weight {
            true => listed.addresses.clone(),
            false => Arc::new(listed.addresses.without_weights()),
        })
    }
}

/// The metrics of a backend, which belongs to the name `listed` if it is at one of its addresses.
fn backend_counts(
    metrics: &Metrics,
    route: &Arc<RouteCounts>,
    backend: &BackendSettings,
    listed: Option<&ListedName>,
) -> Arc<BackendCounts> {
    metrics.backend(route, &backend.id, listed.map(|listed| &listed.id))
}

/// What lists the backends of a route: a pool with a name, or the route itself.
fn owner(pool: Option<&Arc<str>>, route: &Arc<str>) -> BackendsOwner {
    match pool {
        Some(name) => BackendsOwner::Pool(name.clone()),
        None => BackendsOwner::Route(route.clone()),
    }
}
