//! Everything that a reload replaces: the settings and the state built from them. A snapshot is built
//! completely or not at all. State that must survive (metrics, health, rates) is carried over from
//! the previous snapshot.

mod outside;

use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::ProducesTickets;

use self::outside::{Outside, outside, renewed_certificates, tls_terminator, uncovered};
use super::capacity::Capacity;
use super::local_ports::{self, LocalPorts};
use super::route::Route;
use super::routing_table::RoutingTable;
use super::shared_backends::SharedBackends;
use crate::acme::local_problems::local_problems;
use crate::acme::state::AcmeState;
use crate::admission::rate::ClientRates;
use crate::config::settings::{ListenerSettings, Settings};
use crate::config::toml::late_diagnostic::LateDiagnostic;
use crate::config::trusted_proxies::TrustedProxies;
use crate::downstream::error_pages::ErrorPages;
use crate::listener::key::{self, ListenerKey};
use crate::sys::memory;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::metrics::backend_state::BackendState;
use crate::telemetry::metrics::handles::ListenerCounts;
use crate::telemetry::metrics::process_snapshot::{BackendSnapshot, NameSnapshot};
use crate::tls::certs::CertTable;
use crate::tls::pool::PoolTlsClients;
use crate::tls::terminate::TlsTerminator;
use crate::upstream::backend_name::ListedName;
use crate::upstream::backends_owner::BackendsOwner;
use crate::upstream::choice::pin_keys::PinKeys;
use crate::upstream::http1::idle_connections::IdlePlaces;
use crate::upstream::pool::Backend;

/// The configuration that is in use, and everything built from it.
#[derive(Clone)]
pub struct Snapshot {
    /// Number of the snapshot, from 1.
    pub generation: u64,
    /// The settings that the snapshot was built from.
    pub settings: Settings,
    /// Limits of connections and tunnels, including the limit of file descriptors.
    pub capacity: Capacity,
    /// Present if any listener uses TLS.
    pub tls: Option<TlsTerminator>,
    /// Present if certificates are ordered; shared by all snapshots that order them.
    pub acme: Option<Arc<AcmeState>>,
    /// The bodies of the proxy's own error responses.
    pub error_pages: ErrorPages,
    /// The proxies that may state the client's address.
    pub trusted_proxies: TrustedProxies,
    /// The routes by host and path.
    pub routes: RoutingTable<Arc<Route>>,
    /// The routes in configuration order.
    pub route_list: Vec<Arc<Route>>,
    /// The rates of every client.
    pub client_rates: ClientRates,
    /// Metrics; shared by all snapshots.
    pub metrics: Arc<Metrics>,
    /// The files of pools with TLS, for backends that come later.
    pub(super) pool_tls: Arc<PoolTlsClients>,
    /// One per listener, in configuration order.
    listener_counts: Vec<Arc<ListenerCounts>>,
    /// Warnings about the configuration, except those about expiring certificates.
    pub static_warnings: Vec<LateDiagnostic>,
}

/// The result of all checks that can fail; the rest of a snapshot is built without errors.
pub struct Validated {
    capacity: Capacity,
    tls: Option<TlsTerminator>,
    acme: Option<Arc<AcmeState>>,
    pool_tls: PoolTlsClients,
    /// The bodies of the proxy's own error responses.
    pub error_pages: ErrorPages,
    trusted_proxies: TrustedProxies,
    /// For each pool, if it has a pin cookie.
    pin_keys: Vec<Option<PinKeys>>,
    warnings: Vec<LateDiagnostic>,
}

impl Snapshot {
    /// Builds a snapshot. `previous` is the one that it replaces, `descriptors` the limit of open files.
    ///
    /// # Errors
    /// All problems found by [`Snapshot::validate`].
    pub fn build(
        settings: Settings,
        previous: Option<&Snapshot>,
        ticketer: &Arc<dyn ProducesTickets>,
        descriptors: usize,
    ) -> Result<Self, Vec<LateDiagnostic>> {
        let Validated {
            capacity,
            tls,
            acme,
            pool_tls,
            error_pages,
            trusted_proxies,
            pin_keys,
            warnings,
        } = Self::validate(&settings, previous, ticketer, descriptors)?;
        let metrics = previous.map(|previous| previous.metrics.clone()).unwrap_or_default();
        metrics.remove_unused();
        let mut routes = RoutingTable::default();
        let previous_routes = previous.map_or(&[][..], |previous| &previous.route_list);
        let pool_tls = Arc::new(pool_tls);
        let known = previous.into_iter().flat_map(Self::owned_backends);
        let places = idle_places(&metrics, &capacity);
        let mut shared = SharedBackends::of(known, places, pool_tls.clone());
        for (pool, keys) in settings.pools.iter().zip(&pin_keys) {
            keys.iter().for_each(|keys| shared.add_pins(pool, keys));
        }
        for route in previous_routes {
            shared.keep_choices(route.backends_owner(), route.pool.state());
        }
        let generation = previous.map_or(1, |previous| previous.generation + 1);
        let has_same_clients =
            previous.is_some_and(|previous| previous.settings.client_key == settings.client_key);
        let mut route_list = Vec::new();
        for of in &settings.routes {
            let existing = previous_routes.iter().find(|route| route.name == of.name);
            let hashes_alike = |route: &&Arc<Route>| {
                has_same_clients && route.pool.settings().hash == of.pool.choice.hash
            };
            let keys_since =
                existing.filter(hashes_alike).map_or(generation, |route| route.keys_since);
            let route = Route::build(of, existing, keys_since, &mut shared, &metrics);
            let route = Arc::new(route);
            routes.insert(&of.host, &of.path, of.case_sensitive, route.clone());
            route_list.push(route);
        }
        shared.close_unused();
        let client_rates =
            ClientRates::build(&settings.rates, previous.map(|previous| &previous.client_rates));
        let listener_counts =
            settings.listeners.iter().map(|listener| metrics.listener(&listener.name)).collect();
        Ok(Self {
            generation,
            settings,
            capacity,
            tls,
            acme,
            error_pages,
            trusted_proxies,
            routes,
            route_list,
            client_rates,
            metrics,
            pool_tls,
            listener_counts,
            static_warnings: warnings,
        })
    }

    /// Builds the next snapshot with the same settings and the certificates read again. Those that cannot be read
    /// stay as they are.
    ///
    /// # Errors
    /// All problems of the certificate files, if no other certificate has changed.
    pub fn with_certificates(
        &self,
        ticketer: &Arc<dyn ProducesTickets>,
    ) -> Result<Self, Vec<LateDiagnostic>> {
        let certs = self.certs().map(|previous| renewed_certificates(&self.settings, previous));
        let certs = certs.transpose()?.unwrap_or_default();
        let uncovered = uncovered(&self.settings, &certs);
        // A certificate that lost a name must not keep the others from being renewed.
        let uncovered = [uncovered.faults, uncovered.warnings].concat();
        let warnings = [certs.warnings().to_vec(), uncovered].concat();
        let tls = tls_terminator(&self.settings, certs, ticketer, self.acme.as_deref());
        let tls = tls.map_err(|error| vec![error])?;
        Ok(Self { generation: self.generation + 1, tls, static_warnings: warnings, ..self.clone() })
    }

    /// Builds the next snapshot with the same settings and the addresses of trusted proxies read again.
    ///
    /// # Errors
    /// All problems of their files.
    pub fn with_address_files(&self) -> Result<Self, Vec<LateDiagnostic>> {
        let trusted_proxies = TrustedProxies::load(&self.settings.trusted_proxies)?;
        Ok(Self { generation: self.generation + 1, trusted_proxies, ..self.clone() })
    }

    /// The certificates, if any listener uses TLS.
    pub fn certs(&self) -> Option<&CertTable> {
        self.tls.as_ref().map(TlsTerminator::certs)
    }

    /// All warnings about the configuration at `now`, in seconds since 1970.
    pub fn warnings(&self, now: f64) -> Vec<LateDiagnostic> {
        let ends = self.certs().into_iter().flat_map(|certs| certs.needing_warning(now as u64));
        let ends = ends.map(|(state, step)| step.warning(state, now as u64));
        self.static_warnings.iter().cloned().chain(ends).collect()
    }

    /// Whether no certificate has been issued yet, and there is no other.
    pub fn awaits_certificate(&self) -> bool {
        self.certs().is_some_and(CertTable::awaits_first)
    }

    /// Whether every certificate has expired at `now`, in seconds since 1970.
    pub fn has_expired(&self, now: f64) -> bool {
        self.certs().is_some_and(|certs| certs.all_expired(now as u64))
    }

    /// Checks everything outside the configuration file: whether the limits fit the limit of open files,
    /// whether the log targets can be used, the certificates, the error pages and the files of proxy addresses.
    /// Changes nothing. `previous` is the snapshot that would be replaced.
    ///
    /// # Errors
    /// All problems found.
    pub fn validate(
        settings: &Settings,
        previous: Option<&Snapshot>,
        ticketer: &Arc<dyn ProducesTickets>,
        descriptors: usize,
    ) -> Result<Validated, Vec<LateDiagnostic>> {
        let Outside {
            capacity,
            certs,
            pool_tls,
            error_pages,
            trusted_proxies,
            pin_keys,
            mut errors,
        } = outside(settings, previous.and_then(Self::certs), descriptors);
        let mut warnings = pool_tls.warnings().to_vec();
        if let Some(certs) = &certs {
            warnings.extend(certs.warnings().iter().cloned());
            let uncovered = uncovered(settings, certs);
            warnings.extend(uncovered.warnings);
            errors.extend(uncovered.faults);
            let ordered = certs.ordered().iter().map(|of| &*of.certificate);
            warnings.extend(settings.acme_warnings(ordered));
        }
        let acme = settings
            .acme
            .as_ref()
            .map(|_| previous.and_then(|previous| previous.acme.clone()).unwrap_or_default());
        let tls = certs.map(|certs| tls_terminator(settings, certs, ticketer, acme.as_deref()));
        let tls = tls.and_then(|tls| tls.map_err(|error| errors.push(error)).ok());
        match (capacity, tls, error_pages, trusted_proxies, errors.is_empty()) {
            (Some(capacity), Some(tls), Some(error_pages), Some(trusted_proxies), true) => {
                warnings.extend(capacity.memory_warning(memory::limit()));
                warnings.extend(settings.redirect_warnings());
                warnings.extend(settings.origin_warnings());
                warnings.extend(settings.limit_warnings());
                warnings.extend(settings.pool_warnings());
                warnings.extend(local_problems(settings));
                Ok(Validated {
                    capacity,
                    tls,
                    acme,
                    pool_tls,
                    error_pages,
                    trusted_proxies,
                    pin_keys,
                    warnings,
                })
            }
            (_, _, _, _, _) => Err(errors),
        }
    }

    /// The errors outside the file that do not depend on its other errors: limits of this machine, the target
    /// of access records, and certificates.
    pub fn errors_outside(settings: &Settings, descriptors: usize) -> Vec<LateDiagnostic> {
        outside(settings, None, descriptors).errors
    }

    /// The settings of a listener, unless a reload has removed it.
    pub fn listener(&self, key: ListenerKey) -> Option<&ListenerSettings> {
        key::listener_keys(&self.settings.listeners)
            .find(|(existing, _)| *existing == key)
            .map(|(_, listener)| listener)
    }

    /// The listeners with their metrics.
    pub fn listeners(&self) -> impl Iterator<Item = (&ListenerSettings, &Arc<ListenerCounts>)> {
        self.settings.listeners.iter().zip(&self.listener_counts)
    }

    /// The metrics of a listener.
    pub fn listener_counts(&self, key: ListenerKey) -> Option<&Arc<ListenerCounts>> {
        let mut keys = key::listener_keys(&self.settings.listeners);
        keys.position(|(existing, _)| existing == key)
            .and_then(|index| self.listener_counts.get(index))
    }

    /// Every backend of every route, with its state.
    pub fn backend_snapshots(&self) -> Vec<BackendSnapshot> {
        let snapshot = |(backend, ports): (Arc<Backend>, Option<LocalPorts>)| BackendSnapshot {
            counts: backend.counts.clone(),
            state: backend.state(),
            local_ports_left: ports.map(|ports| ports.left),
        };
        let backends = self.backends().collect();
        local_ports::with_ports(backends, &self.open_tunnels()).map(snapshot).collect()
    }

    /// Every name whose addresses are backends, for each route.
    pub fn name_snapshots(&self) -> Vec<NameSnapshot> {
        let routes = self.route_list.iter();
        let names = routes.flat_map(|route| route.pool.names.iter().map(move |of| (route, of)));
        let snapshot = |(route, listed): (&Arc<Route>, &Arc<ListedName>)| NameSnapshot {
            route: route.name.clone(),
            name: listed.id.clone(),
            addresses: listed.name.answer().len(),
            lookups: [0, 1].map(|index| listed.name.lookups[index].get()),
        };
        names.map(snapshot).collect()
    }

    /// The state of each backend by its id. A backend of several routes counts once, with its best state.
    pub fn backend_states(&self) -> HashMap<Arc<str>, BackendState> {
        let mut states = HashMap::new();
        for backend in self.backends() {
            let state = backend.state();
            let best = states.entry(backend.id.clone()).or_insert(state);
            *best = state.min(*best);
        }
        states
    }

    /// Why there is no backend for new tunnels; `None` if there is one.
    pub fn unavailable_cause(&self) -> Option<&'static str> {
        if self.backends().any(|backend| backend.is_available()) {
            return None;
        }
        let is_all = |is: fn(&Arc<Backend>) -> bool| self.backends().all(|backend| is(&backend));
        Some(if is_all(|backend| backend.state() == BackendState::Drained) {
            "every backend is drained"
        } else if is_all(|backend| backend.lookup_failure().is_some()) {
            "no name of a backend resolves"
        } else if is_all(|backend| backend.state() != BackendState::Drained) {
            "every backend is down"
        } else {
            "every backend is down or drained"
        })
    }

    /// Every backend of every route.
    pub fn backends(&self) -> impl Iterator<Item = Arc<Backend>> {
        self.route_list.iter().flat_map(|route| route.pool.backends())
    }

    /// Every backend of every route, with what lists it.
    pub(super) fn owned_backends(&self) -> impl Iterator<Item = (BackendsOwner, Arc<Backend>)> {
        self.route_list.iter().flat_map(|route| {
            route.pool.backends().into_iter().map(|backend| (route.backends_owner(), backend))
        })
    }

    /// The places for idle connections to backends.
    pub(super) fn idle_places(&self) -> IdlePlaces {
        idle_places(&self.metrics, &self.capacity)
    }
}

fn idle_places(metrics: &Metrics, capacity: &Capacity) -> IdlePlaces {
    IdlePlaces {
        occupied: metrics.idle_backend_connections.clone(),
        closing: metrics.closing_backend_connections.clone(),
        max: capacity.idle_backend_connections,
    }
}
