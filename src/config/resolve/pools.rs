//! Pools and their backends.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;

use super::addresses::ListenAddresses;
use super::canary::check_canaries;
use super::choice::{check_backups, check_queue, choice};
use super::defaults::{count, value_or};
use super::names::UniqueNames;
use super::pin::check_cookie_values;
use super::pool_tls::pool_tls;
use super::probe::probe;
use crate::config::schema::ConfigFile;
use crate::config::schema::pool::{BackendItem, PoolTable};
use crate::config::schema::route::RouteTable;
use crate::config::settings::Settings;
use crate::config::settings::pool::{BackendSettings, OnBackendLoss, PoolSettings};
use crate::config::toml::diagnostic::{Location, Problem};
use crate::config::toml::late_diagnostic::LateDiagnostic;
use crate::config::toml::nearest::nearest;
use crate::config::toml::sink::DiagnosticSink;
use crate::config::toml::value::{Located, Parsed};
use crate::config::values::backend_address::BackendAddress;
use crate::config::values::close_reason::BackendLossPolicy;
use crate::config::values::pool::{LookupInterval, PoolChoice, PoolName, SourceAddress};
use crate::config::values::scalars::{Label, OrOff, Weight};

/// The pools that have a name, from which routes choose.
pub(crate) struct Pools<'f> {
    dir: &'f Path,
    addresses: &'f ListenAddresses,
    named: Vec<Arc<PoolSettings>>,
    by_name: HashMap<Arc<str>, usize>,
    /// Whether an error was reported for a table or a name, so that any name may be that of a pool.
    is_incomplete: bool,
}

impl<'f> Pools<'f> {
    /// Converts the tables `[[pool]]`.
    pub(crate) fn new(
        file: &ConfigFile,
        dir: &'f Path,
        addresses: &'f ListenAddresses,
        sink: &mut DiagnosticSink<'_>,
    ) -> Self {
        let tables = file.pools.value().map_or(&[][..], Vec::as_slice);
        let is_incomplete =
            file.pools.is_invalid() || tables.iter().any(|table| table.name.is_invalid());
        let mut pools =
            Self { dir, addresses, named: Vec::new(), by_name: HashMap::new(), is_incomplete };
        let mut names = UniqueNames::default();
        for table in tables {
            pools.add(table, dir, &mut names, sink);
        }
        pools
    }

    /// The pools in the order of the file.
    pub(crate) fn into_named(self) -> Vec<Arc<PoolSettings>> {
        self.named
    }

    /// The pool that a route names, or one of its own backends.
    pub(crate) fn of_route(
        &self,
        route: &RouteTable,
        sink: &mut DiagnosticSink<'_>,
    ) -> Arc<PoolSettings> {
        let Some(Located { value: PoolChoice(Some(name)), location }) = route.pool.located() else {
            let backends = backends(&route.backends, true, self.addresses, sink);
            check_cookie_values(&route.backends, false, sink);
            check_canaries(&route.backends, None, sink);
            return Arc::new(PoolSettings::of_route(backends));
        };
        if !matches!(route.backends, Parsed::Missing) {
            let problem = Problem::new("this route lists backends of its own as well");
            sink.report(
                location,
                problem.help("remove pool, or move the backends to the [[pool]]"),
            );
        }
        let found = self.by_name.get(name).and_then(|index| self.named.get(*index));
        if found.is_none() && !self.is_incomplete {
            sink.report(location, self.unknown(name));
        }
        found.cloned().unwrap_or_else(|| Arc::new(PoolSettings::of_route(Vec::new())))
    }

    fn add(
        &mut self,
        table: &PoolTable,
        dir: &Path,
        names: &mut UniqueNames,
        sink: &mut DiagnosticSink<'_>,
    ) {
        let OrOff(resolve) =
            value_or(&table.resolve, OrOff(Some(LookupInterval(PoolSettings::RESOLVE))));
        let backends = backends(&table.backends, resolve.is_some(), self.addresses, sink);
        check_names(table, &backends, sink);
        let bind = source_addresses(&table.bind, &backends, sink);
        let tls = pool_tls(table, self.dir, sink);
        let choice = choice(&table.choice, dir, sink);
        let cookie = &table.choice.pin.cookie;
        let has_pin =
            cookie.is_invalid() || cookie.value().is_some_and(|cookie| cookie.0.is_some());
        check_cookie_values(&table.backends, has_pin, sink);
        check_queue(&table.choice, &table.backends, sink);
        check_canaries(&table.backends, Some(&table.choice.canary), sink);
        let probe = probe(&table.probe, sink);
        let keep = BackendLossPolicy(OnBackendLoss::Keep);
        let on_backend_loss = value_or(&table.on_backend_loss, keep).0;
        let Some(Located { value: PoolName(name), location }) = table.name.located() else {
            return;
        };
        let owner = &table.location.key;
        names.reserve(name, owner, location, "give each pool its own name", sink);
        self.by_name.entry(name.clone()).or_insert(self.named.len());
        self.named.push(Arc::new(PoolSettings {
            name: Some(name.clone()),
            backends,
            choice,
            on_backend_loss,
            probe,
            tls,
            bind,
            resolve: resolve.map(|LookupInterval(interval)| interval),
        }));
    }

    fn unknown(&self, name: &str) -> Problem {
        let problem = Problem::new(format!("there is no [[pool]] with the name \"{name}\""));
        let names = || self.named.iter().filter_map(|pool| pool.name.as_deref());
        let shown: Vec<String> =
            names().take(NAMES_MAX).map(|name| format!("\"{name}\"")).collect();
        match nearest(name, names()) {
            Some(meant) => problem.help(format!("did you mean \"{meant}\"?")),
            None if shown.is_empty() => problem
                .help(format!("add\n[[pool]]\nname = \"{name}\"\nbackends = [\"127.0.0.1:9001\"]")),
            None if self.named.len() > NAMES_MAX => {
                problem.help(format!("there are {}, and others", shown.join(", ")))
            }
            None => problem.help(format!("write one of {}", shown.join(", "))),
        }
    }
}

impl Settings {
    /// Pools that no route uses, and those whose backends are not verified.
    pub fn pool_warnings(&self) -> Vec<LateDiagnostic> {
        let used: HashSet<&str> =
            self.routes.iter().filter_map(|route| route.pool.name.as_deref()).collect();
        let is_unused =
            |pool: &PoolSettings| !pool.name.as_deref().is_some_and(|name| used.contains(name));
        let pools = self.pools.iter().enumerate().filter(|(_, pool)| is_unused(pool));
        let warning = |(index, pool): (usize, &Arc<PoolSettings>)| {
            let name = pool.name.as_deref().unwrap_or_default();
            let problem = format!(
                "no route uses this pool: write pool = \"{name}\" in a [[route]], or remove it"
            );
            LateDiagnostic { key: format!("pool[{index}].name"), problem }
        };
        let mut warnings: Vec<_> = pools.map(warning).chain(self.unverified_pools()).collect();
        warnings.extend(self.pools.iter().filter_map(|pool| self.differing_proxy_protocol(pool)));
        warnings
    }

    /// The warning that routes of a pool differ about the PROXY protocol: hardly any backend understands connections
    /// with and without it.
    fn differing_proxy_protocol(&self, pool: &PoolSettings) -> Option<LateDiagnostic> {
        let mut routes =
            self.routes.iter().enumerate().filter(|(_, route)| route.pool.name == pool.name);
        let (_, first) = routes.next()?;
        let (index, _) = routes.find(|(_, route)| route.send_proxy != first.send_proxy)?;
        let name = pool.name.as_deref().unwrap_or_default();
        let problem = format!(
            "this differs from route \"{}\", which uses pool \"{name}\" as well: its backends get connections with \
             and without a PROXY header, and probes as those of that route",
            first.name
        );
        Some(LateDiagnostic { key: format!("route[{index}].proxy_protocol"), problem })
    }
}

/// Converts the addresses from which connections come. Reports those that are listed twice, and those of a family that
/// no backend has.
fn source_addresses(
    given: &Parsed<Vec<Located<SourceAddress>>>,
    backends: &[BackendSettings],
    sink: &mut DiagnosticSink<'_>,
) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for Located { value: SourceAddress(address), location } in given.value().into_iter().flatten() {
        let may_reach = |backend: &BackendSettings| match &backend.address {
            BackendAddress::Tcp { host, .. } => {
                host.parse::<IpAddr>().map_or(true, |to| to.is_ipv6() == address.is_ipv6())
            }
            BackendAddress::Unix(_) => false,
        };
        if addresses.contains(address) {
            let problem = Problem::new(format!("{address} is listed twice"));
            sink.report(location, problem.help("list each address once"));
        } else if !backends.is_empty() && !backends.iter().any(may_reach) {
            let family = if address.is_ipv6() { "IPv6" } else { "IPv4" };
            let problem = format!("no backend of this pool is reached over {family}");
            sink.report(location, Problem::new(problem).help("remove this address"));
        }
        addresses.push(*address);
    }
    addresses
}

/// Reports an interval with which no name is looked up.
fn check_names(table: &PoolTable, backends: &[BackendSettings], sink: &mut DiagnosticSink<'_>) {
    let Some(Located { value: OrOff(Some(LookupInterval(interval))), location }) =
        table.resolve.located()
    else {
        return;
    };
    let is_complete = table.backends.value().is_some_and(|items| items.len() == backends.len());
    let has_names = backends.iter().any(|backend| backend.is_per_address);
    if is_complete && !has_names && *interval != PoolSettings::RESOLVE {
        let problem = "no backend of this pool is a host name without id and cookie_value";
        sink.report(location, Problem::new(problem).help("remove resolve"));
    }
}

fn backends(
    given: &Parsed<Vec<Located<BackendItem>>>,
    resolves: bool,
    addresses: &ListenAddresses,
    sink: &mut DiagnosticSink<'_>,
) -> Vec<BackendSettings> {
    let Some(Located { value: items, location }) = given.located() else {
        return Vec::new();
    };
    if items.is_empty() {
        let problem = Problem::new("the list is empty, so requests could not be forwarded");
        sink.report(location, problem.help("write backends = [\"127.0.0.1:9001\"]"));
    }
    check_backups(given, sink);
    let mut ids = UniqueNames::default();
    let backend = |item: &Located<BackendItem>| backend(item, resolves, addresses, &mut ids, sink);
    items.iter().filter_map(backend).collect()
}

fn backend(
    item: &Located<BackendItem>,
    resolves: bool,
    addresses: &ListenAddresses,
    ids: &mut UniqueNames,
    sink: &mut DiagnosticSink<'_>,
) -> Option<BackendSettings> {
    let Located { value: address, location } = item.value.address.located()?;
    if let Some(own) = addresses.reached_by(address) {
        let problem = Problem::new(format!("{address} is tidegate itself: {}", own.key));
        sink.report(location, problem.help("write the address of the application"));
    }
    let (id, id_place): (Arc<str>, &Location) = match &item.value.id {
        Parsed::Valid(Located { value: Label(id), location }) => (Arc::clone(id), location),
        Parsed::Missing => (address.to_string().into(), location),
        Parsed::Invalid => return None,
    };
    let help = "list a backend once and give it a weight, or give each an id of its own";
    ids.reserve(&id, &item.location.key, id_place, help, sink);
    let cookie_value = value_or(&item.value.cookie_value, OrOff(None)).0.map(|of| of.0);
    // One with a name of its own is one backend.
    let has_own_name = *id != *address.to_string() || cookie_value.is_some();
    Some(BackendSettings {
        id,
        address: address.clone(),
        is_per_address: resolves && address.is_name() && !has_own_name,
        weight: value_or(&item.value.weight, Weight(NonZeroU32::MIN)).0,
        is_backup: value_or(&item.value.backup, false),
        is_canary: value_or(&item.value.canary, false),
        max_tunnels: value_or(&item.value.max_tunnels, OrOff(None)).0.map(count),
        cookie_value,
    })
}

/// Names in one message.
const NAMES_MAX: usize = 5;
