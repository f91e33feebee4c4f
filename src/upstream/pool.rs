//! The backends of a route. [`choosing`] says which one a request goes to.

mod backend_state;
pub(crate) mod choosing;
mod members;
pub(crate) mod moves;
mod tunnel_backends;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};

use self::members::{Member, members};

use super::admin_override::AdminOverride;
use super::backend_name::ListedName;
use super::backend_tls::{BackendKey, BackendTls};
use super::choice::load::BackendLoad;
use super::choice::pin::PinCookies;
use super::choice::pin_source::PinSource;
use super::choice::state::ChoiceState;
use super::ejection::ResponseHealth;
use super::health::Health;
use super::http1::idle_connections::IdleConnections;
use super::probe::health::ProbeHealth;
use super::resolve::CachedResolver;
use super::source_addresses::SourceAddresses;
use crate::config::settings::choice::{Balance, ChoiceSettings};
use crate::config::settings::pool::{BackendSettings, PoolSettings, PoolTlsSettings};
use crate::config::values::backend_address::BackendAddress;
use crate::telemetry::metrics::handles::BackendCounts;

/// One backend of a pool, as one route uses it.
#[derive(Debug)]
pub struct Backend {
    /// Stable name, unique in its pool. Selection depends on it.
    pub id: Arc<str>,
    /// Host and port to connect to.
    pub address: BackendAddress,
    /// The name that the address belongs to, if the list has a name whose addresses are backends.
    pub listed: Option<Arc<ListedName>>,
    /// The configured weight; [`Backend::effective_weight`] includes the operator's.
    pub weight: NonZeroU32,
    /// Drain and weight set by an operator; kept across reloads.
    pub admin_override: Arc<AdminOverride>,
    /// Kept across reloads.
    pub health: Arc<Health>,
    /// Whether it is used only if the others are ejected.
    pub is_backup: bool,
    /// Whether it serves only canary requests.
    pub is_canary: bool,
    /// Maximum number of its tunnels.
    pub max_tunnels: Option<usize>,
    /// Its tunnels and requests, of all routes that use its pool, if the pool counts them; kept across reloads.
    pub load: Arc<BackendLoad>,
    /// What responses show; kept across reloads.
    pub responses: Arc<ResponseHealth>,
    /// What `[pool.probe]` shows, if there is one; kept across reloads.
    pub probe: Option<Arc<ProbeHealth>>,
    /// Metrics; kept across reloads.
    pub counts: Arc<BackendCounts>,
    /// Connections for further requests; kept across reloads.
    pub idle: Arc<IdleConnections>,
    /// How connections are encrypted; `None` if they are not.
    pub tls: Option<Arc<BackendTls>>,
    /// Where its connections come from; `None` if the system chooses.
    pub sources: Option<Arc<SourceAddresses>>,
    pub(super) resolver: Arc<CachedResolver>,
}

/// The backends of a route, with its own metrics and overrides even if the settings are those of several
/// routes.
#[derive(Clone, Debug)]
pub struct Pool {
    /// Name of the `[[pool]]`; `None` if the route lists the backends itself.
    pub name: Option<Arc<str>>,
    /// TLS to the backends, if they have any.
    pub tls: Option<Arc<PoolTlsSettings>>,
    members: Members,
    /// The names in the list whose addresses are backends.
    pub names: Arc<[Arc<ListedName>]>,
    /// How often these are looked up.
    pub resolve: Option<Duration>,
    settings: Arc<ChoiceSettings>,
    state: Arc<ChoiceState>,
    pins: Option<Arc<PinSource>>,
    sources: Option<Arc<SourceAddresses>>,
    /// Whether something depends on the number of tunnels and requests; otherwise they are not counted.
    is_counting: bool,
}

/// The backends of a pool: fixed unless the list has names, so that others are read at no cost.
#[derive(Clone, Debug)]
enum Members {
    Fixed(Arc<MemberList>),
    Named(Arc<ArcSwap<MemberList>>),
}

/// The backends of a pool at one time.
#[derive(Debug, Default)]
pub struct MemberList {
    backends: Vec<Arc<Backend>>,
    pins: Option<Arc<PinCookies>>,
    /// The answers for the names in the list from which it was made.
    answers: Vec<Arc<[SocketAddr]>>,
}

/// The backends of a pool as they are while this is held.
#[derive(Debug)]
pub enum PoolBackends<'p> {
    /// Those of a list without names.
    Fixed(&'p MemberList),
    /// The present ones of a list with names.
    Named(Guard<Arc<MemberList>>),
}

/// State of a backend that is carried over from the previous snapshot or shared with other routes.
#[derive(Debug, Default)]
pub struct SharedBackendState {
    /// Results of recent connection attempts.
    pub health: Arc<Health>,
    /// Results of recent responses.
    pub responses: Arc<ResponseHealth>,
    /// Results of probes.
    pub probe: Option<Arc<ProbeHealth>>,
    /// Connections that wait for a request.
    pub idle: Arc<IdleConnections>,
    /// Metrics of the backend.
    pub counts: Arc<BackendCounts>,
    /// Drain and weight set by an operator.
    pub admin_override: Arc<AdminOverride>,
    /// How connections are encrypted.
    pub tls: Option<Arc<BackendTls>>,
}

impl Backend {
    fn new(
        of: &Member,
        load: Arc<BackendLoad>,
        sources: Option<Arc<SourceAddresses>>,
        shared: SharedBackendState,
    ) -> Self {
        let Member { settings, listed, .. } = of;
        // A name with one machine is resolved by the lookups of the timer.
        let name = listed.as_ref().filter(|listed| listed.id == settings.id);
        Self {
            id: settings.id.clone(),
            address: settings.address.clone(),
            listed: listed.clone(),
            weight: settings.weight,
            is_backup: settings.is_backup,
            is_canary: settings.is_canary,
            max_tunnels: settings.max_tunnels,
            load,
            admin_override: of.admin_override(shared.admin_override),
            health: shared.health,
            responses: shared.responses,
            probe: shared.probe,
            counts: shared.counts,
            idle: shared.idle,
            tls: shared.tls,
            sources,
            resolver: name.map(|listed| listed.name.resolver.clone()).unwrap_or_default(),
        }
    }

    /// The weight used for selection: the operator's, or else the configured one.
    pub fn effective_weight(&self) -> NonZeroU32 {
        let of_name = || self.listed.as_ref()?.admin_override.weight();
        self.admin_override.weight().or_else(of_name).unwrap_or(self.weight)
    }

    /// Whether an operator has drained this backend, or all of its name.
    pub fn is_draining(&self) -> bool {
        self.admin_override.drain.is_draining() || self.is_name_draining()
    }

    /// Whether an operator has drained all backends of its name.
    pub fn is_name_draining(&self) -> bool {
        self.listed.as_ref().is_some_and(|listed| listed.admin_override.drain.is_draining())
    }

    /// The id in the configuration: its own, or that of the name that its address belongs to.
    pub fn listed_id(&self) -> &Arc<str> {
        self.listed.as_ref().map_or(&self.id, |listed| &listed.id)
    }

    /// The address in the configuration, by which certificates are verified.
    pub fn listed_address(&self) -> &BackendAddress {
        self.listed.as_ref().map_or(&self.address, |listed| &listed.name.address)
    }

    /// What identifies the backend beyond its pool.
    pub fn key(&self) -> BackendKey {
        let tls = self.tls.as_ref().map(|tls| tls.settings.clone());
        let listed = self.listed_address().clone();
        BackendKey { id: self.id.clone(), address: self.address.clone(), listed, tls }
    }
}

impl PoolBackends<'_> {
    /// Their pin cookies, if the pool has a pin cookie.
    pub fn pins(&self) -> Option<&PinCookies> {
        self.list().pins.as_deref()
    }

    /// The answer for the name with this index from which the list was made.
    fn answer(&self, index: usize) -> &[SocketAddr] {
        self.list().answers.get(index).map_or(&[], |answer| answer)
    }

    fn list(&self) -> &MemberList {
        match self {
            Self::Fixed(list) => list,
            Self::Named(list) => list,
        }
    }
}

impl Deref for PoolBackends<'_> {
    type Target = [Arc<Backend>];

    fn deref(&self) -> &Self::Target {
        &self.list().backends
    }
}

impl IntoIterator for PoolBackends<'_> {
    type Item = Arc<Backend>;
    type IntoIter = std::vec::IntoIter<Arc<Backend>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter().cloned().collect::<Vec<_>>().into_iter()
    }
}

impl Pool {
    /// Builds a pool. `state` is that of the same pool in other routes and in the previous snapshot, `names` are those in
    /// the list whose addresses are backends; `carried` returns the state of a backend that already exists in another
    /// route or in the previous snapshot.
    pub fn new(
        settings: &PoolSettings,
        state: Arc<ChoiceState>,
        names: Arc<[Arc<ListedName>]>,
        pins: Option<Arc<PinSource>>,
        carried: impl FnMut(&BackendSettings, Option<&ListedName>) -> SharedBackendState,
    ) -> Self {
        state.canary.settle(&settings.choice.canary);
        let has_maximum = |backend: &BackendSettings| backend.max_tunnels.is_some();
        let is_counting = settings.choice.hash_balance_factor.is_some()
            || matches!(settings.choice.balance, Balance::LeastConnections | Balance::RandomTwo)
            || settings.backends.iter().any(has_maximum);
        let mut pool = Self {
            name: settings.name.clone(),
            tls: settings.tls.clone(),
            members: Members::Fixed(Arc::new(MemberList::default())),
            names,
            resolve: settings.resolve,
            settings: Arc::new(settings.choice.clone()),
            state,
            pins,
            sources: SourceAddresses::new(&settings.bind),
            is_counting,
        };
        let list = pool.list(settings, carried);
        pool.members = match pool.names.is_empty() {
            true => Members::Fixed(Arc::new(list)),
            false => Members::Named(Arc::new(ArcSwap::from_pointee(list))),
        };
        pool
    }

    /// Whether a name has got other addresses since the list of backends was made.
    pub fn is_outdated(&self) -> bool {
        let Members::Named(list) = &self.members else { return false };
        let list = list.load();
        self.names.iter().zip(&list.answers).any(|(of, answer)| of.name.answer() != *answer)
    }

    /// Replaces the backends by those at the present addresses of the names, for the settings that the pool was built
    /// from. Those that stay are kept as they are.
    pub fn update(
        &self,
        settings: &PoolSettings,
        carried: impl FnMut(&BackendSettings, Option<&ListedName>) -> SharedBackendState,
    ) {
        if let Members::Named(members) = &self.members {
            members.store(Arc::new(self.list(settings, carried)));
        }
    }

    fn list(
        &self,
        settings: &PoolSettings,
        mut carried: impl FnMut(&BackendSettings, Option<&ListedName>) -> SharedBackendState,
    ) -> MemberList {
        let answers: Vec<_> = self.names.iter().map(|listed| listed.name.answer()).collect();
        let found = members(&settings.backends, &self.names, &answers);
        let previous = self.backends();
        self.share_loads(&found, &answers, &previous);
        let previous: HashMap<_, _> = previous.iter().map(|of| (of.id.clone(), of)).collect();
        let build = |member: &Member| {
            let load = self.state.load_of(&member.load_id);
            let known = previous.get(&member.settings.id).copied();
            known.filter(|of| Arc::ptr_eq(&of.load, &load)).cloned().unwrap_or_else(|| {
                let shared = carried(&member.settings, member.listed.as_deref());
                shared.responses.add_route(&shared.counts);
                Arc::new(Backend::new(member, load, self.sources.clone(), shared))
            })
        };
        let backends = found.iter().map(build).collect();
        self.settle_overrides(&found);
        let settings: Vec<_> = found.into_iter().map(|member| member.settings).collect();
        let pins = self.pins.as_ref().map(|pins| pins.cookies(&settings));
        MemberList { backends, pins, answers }
    }

    /// The configuration key that lists the backends.
    pub fn backends_key(&self) -> &'static str {
        if self.name.is_some() { "pool.backends" } else { "route.backends" }
    }

    /// Whether certificates of the backends are verified; `None` without TLS.
    pub fn is_verified(&self) -> Option<bool> {
        self.tls.as_ref().map(|tls| !tls.insecure_skip_verify)
    }

    /// The configuration key that limits the tunnels of a backend.
    pub fn max_tunnels_key(&self) -> &'static str {
        match self.name {
            Some(_) => "pool.backends.max_tunnels",
            None => "route.backends.max_tunnels",
        }
    }

    /// All backends in configuration order, those of one name by address.
    pub fn backends(&self) -> PoolBackends<'_> {
        match &self.members {
            Members::Fixed(list) => PoolBackends::Fixed(list),
            Members::Named(list) => PoolBackends::Named(list.load()),
        }
    }

    /// The configured weight, and what an operator set, of the backend with this id, of all backends of the name with
    /// this id, or of the address with this id, which is the only one of a name or has left its answer.
    pub fn admin_override(&self, id: &str) -> Option<(NonZeroU32, Arc<AdminOverride>)> {
        let named = self.names.iter().find(|listed| *listed.id == *id);
        let named = named.map(|listed| (listed.weight, listed.admin_override.clone()));
        named
            .or_else(|| {
                let backends = self.backends();
                let backend = backends.iter().find(|backend| *backend.id == *id);
                backend.map(|backend| (backend.weight, backend.admin_override.clone()))
            })
            .or_else(|| self.names.iter().find_map(|of| Some((of.weight, of.addresses.find(id)?))))
    }

    /// The weight that the backend with this id has, or each of the name with this id.
    pub fn effective_weight(&self, id: &str) -> Option<NonZeroU32> {
        let backends = self.backends();
        if let Some(backend) = backends.iter().find(|backend| *backend.id == *id) {
            return Some(backend.effective_weight());
        }
        let (weight, admin_override) = self.admin_override(id)?;
        Some(admin_override.weight().unwrap_or(weight))
    }

    /// Whether the list has this id: that of a backend, or of a name whose addresses are backends.
    pub fn is_listed(&self, id: &str) -> bool {
        self.admin_override(id).is_some()
    }

    /// How the pool chooses.
    pub fn settings(&self) -> &ChoiceSettings {
        &self.settings
    }

    /// The part of the pool that a reload keeps.
    pub fn state(&self) -> &Arc<ChoiceState> {
        &self.state
    }
}

#[cfg(test)]
mod tests;
