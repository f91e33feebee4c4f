//! Routes.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;

use ws::SessionPolicy;

use super::address_rules::address_rules;
use super::defaults::{count, head_limits, optional_file, value_or};
use super::headers::{check_hsts, headers, underscore_headers};
use super::names::UniqueNames;
use super::policy::session_policy;
use super::pools::Pools;
use super::process::request_timeouts;
use super::scope::KeyScope;
use crate::config::schema::ConfigFile;
use crate::config::schema::route::RouteTable;
use crate::config::settings::{
    Compression, ListenerSettings, LogRequests, RouteSettings, Settings,
};
use crate::config::toml::diagnostic::Problem;
use crate::config::toml::late_diagnostic::LateDiagnostic;
use crate::config::toml::sink::DiagnosticSink;
use crate::config::toml::value::{Located, Parsed};
use crate::config::values::choices::{AmbiguousPaths, CheckUtf8};
use crate::config::values::close_reason::BackendLossPolicy;
use crate::config::values::origin_rule::{OriginRule, RULES};
use crate::config::values::patterns::{HostPattern, PathPrefix};
use crate::config::values::scalars::{Label, OrOff};
use crate::http::path::folded;

/// The routes, and the session policy of routes without limits of their own.
pub(crate) fn routes(
    file: &ConfigFile,
    dir: &Path,
    pools: &Pools<'_>,
    sink: &mut DiagnosticSink<'_>,
) -> (Vec<RouteSettings>, Arc<SessionPolicy>) {
    let tables = file.routes.value().map_or(&[][..], Vec::as_slice);
    if tables.is_empty() && !file.routes.is_invalid() {
        sink.report_file(Problem::new("there is no [[route]], so nothing would be served").help(
            "add\n[[route]]\nhost = \"chat.example.com\"\norigins = [\"same-origin\"]\n\
             backends = [\"127.0.0.1:9001\"]",
        ));
    }
    let top_level_policy = Arc::new(session_policy(file, None, sink));
    let shared = Arc::clone(&top_level_policy);
    let mut table = Routes {
        dir,
        pools,
        top_level_policy: shared,
        names: UniqueNames::default(),
        served: HashMap::new(),
    };
    let routes = tables.iter().filter_map(|route| table.add(file, route, sink)).collect();
    (routes, top_level_policy)
}

/// State shared by the conversion of all routes: the folder of the file, the policy of the top-level tables, and names and patterns in use.
struct Routes<'f> {
    dir: &'f Path,
    pools: &'f Pools<'f>,
    top_level_policy: Arc<SessionPolicy>,
    names: UniqueNames,
    /// By host and folded path.
    served: HashMap<(HostPattern, String), Vec<ServedPath<'f>>>,
}

/// A path of a host that a route serves.
struct ServedPath<'f> {
    path: PathPrefix,
    case_sensitive: bool,
    by: &'f str,
}

impl<'f> Routes<'f> {
    fn add(
        &mut self,
        file: &ConfigFile,
        route: &'f RouteTable,
        sink: &mut DiagnosticSink<'_>,
    ) -> Option<RouteSettings> {
        let policy = session_policy(file, Some(route), sink);
        let policy = if policy == *self.top_level_policy {
            Arc::clone(&self.top_level_policy)
        } else {
            Arc::new(policy)
        };
        check_utf8(route, sink);
        let addresses = address_rules(&route.addresses, sink);
        let origins = origins(route, sink);
        let pool = self.pools.of_route(route, sink);
        let request_headers = headers(&route.request_headers, sink);
        let response_headers = headers(&route.response_headers, sink);
        check_hsts(&route.hsts, &response_headers, sink);
        let underscore_headers =
            underscore_headers(&route.underscore_headers, &request_headers, sink);

        let host = route.host.value()?;
        let path = value_or(&route.path, PathPrefix::root());
        if !route.path.is_invalid() {
            self.reserve_pattern(route, host, &path, sink);
        }
        let name = match &route.name {
            Parsed::Valid(Located { value: Label(name), location }) => {
                let help = "give each route its own name";
                self.names.reserve(name, &route.location.key, location, help, sink);
                Arc::clone(name)
            }
            Parsed::Missing | Parsed::Invalid => {
                let path = route.path.value().map_or("", PathPrefix::as_str);
                self.names.unique(&format!("{host}{path}"), &route.location.key)
            }
        };
        Some(RouteSettings {
            name,
            host: host.clone(),
            path,
            case_sensitive: value_or(&route.case_sensitive, true),
            allows_ambiguous_paths: value_or(
                &route.ambiguous_paths,
                AmbiguousPaths { are_allowed: false },
            )
            .are_allowed,
            addresses,
            origins,
            http: value_or(&route.http, true),
            log_requests: value_or(&route.log_requests, LogRequests::OneOf(NonZeroU32::MIN)),
            tunnels: value_or(&route.tunnels, OrOff(None)).0.map(count),
            compression: value_or(&route.compression, Compression::Inspect),
            pool: pool.clone(),
            on_backend_loss: value_or(
                &route.on_backend_loss,
                BackendLossPolicy(pool.on_backend_loss),
            )
            .0,
            maintenance_file: optional_file(&route.maintenance_file, self.dir),
            send_proxy: value_or(&route.proxy_protocol, false),
            send_forwarded: value_or(&route.forwarded, false),
            via: value_or(&route.via, OrOff(None)).0.map(|name| name.0),
            hsts: value_or(&route.hsts, OrOff(None)).0.map(|age| age.0),
            underscore_headers,
            request_headers,
            response_headers,
            response_head: head_limits(&route.response_head_size, &route.response_head_fields),
            timeouts: request_timeouts(&KeyScope::new(
                Some(&route.timeouts),
                &file.timeouts.requests,
            )),
            policy,
        })
    }

    fn reserve_pattern(
        &mut self,
        route: &'f RouteTable,
        host: &HostPattern,
        path: &PathPrefix,
        sink: &mut DiagnosticSink<'_>,
    ) {
        let case_sensitive = value_or(&route.case_sensitive, true);
        let served = self.served.entry((host.clone(), folded(path.as_str()))).or_default();
        let is_same = |other: &&ServedPath<'_>| {
            other.path == *path || !(case_sensitive && other.case_sensitive)
        };
        let other = served.iter().find(is_same).map(|other| other.by);
        served.push(ServedPath { path: path.clone(), case_sensitive, by: &route.location.key });
        let Some(other) = other else { return };
        let location = route.path.location().or(route.host.location()).unwrap_or(&route.location);
        let problem = Problem::new(format!(
            "host \"{host}\" and path \"{}\" are already served by {other}",
            path.as_str()
        ));
        sink.report(
            location,
            problem.help("give one of them another path, or list all backends in one"),
        );
    }
}

impl Settings {
    /// Entries of `origins` that look like the address of a page but that no browser sends, and those that
    /// admit more pages than meant.
    pub fn origin_warnings(&self) -> Vec<LateDiagnostic> {
        let routes = self.routes.iter().enumerate();
        let entries = routes.flat_map(|(route, settings)| {
            let entries = settings.origins.iter().enumerate();
            entries.map(move |(index, rule)| (format!("route[{route}].origins[{index}]"), rule))
        });
        let entries = entries
            .filter_map(|(key, rule)| Some(LateDiagnostic { key, problem: rule.warning()? }));
        entries.chain(self.rebinding_warnings()).collect()
    }

    /// Routes for which the owner of any name is of the same origin. Without TLS, a page can have its own name
    /// resolved to the address of this listener, and then sends that name in `Host` and `Origin`.
    fn rebinding_warnings(&self) -> impl Iterator<Item = LateDiagnostic> {
        let is_open = |listener: &ListenerSettings| {
            let is_plain = !listener.tls && listener.redirect.is_none();
            is_plain && !listener.proxy_protocol && listener.addresses.allow.is_empty()
        };
        let listener = self.listeners.iter().find(|listener| is_open(listener));
        let routes = self.routes.iter().enumerate();
        let is_concerned = |route: &RouteSettings| {
            route.host == HostPattern::Any && route.origins.contains(&OriginRule::SameOrigin)
        };
        let concerned = routes.filter(move |(_, route)| is_concerned(route));
        concerned.filter_map(move |(index, _)| {
            let address = listener?.address;
            let problem = format!(
                "\"same-origin\" with host = \"*\" admits any website on the listener {address}, which has no \
                 TLS: its owner can let its name resolve to this machine (DNS rebinding); write the name under \
                 which clients connect, as in host = \"chat.example.com\", or the origins of the pages instead of \
                 \"same-origin\""
            );
            Some(LateDiagnostic { key: format!("route[{index}].origins"), problem })
        })
    }
}

/// The content of compressed messages is not known, so a client could avoid the check.
fn check_utf8(route: &RouteTable, sink: &mut DiagnosticSink<'_>) {
    let strips = route.compression.value() == Some(&Compression::Strip);
    if let Some(Located { value: CheckUtf8(true), location }) = route.utf8.located()
        && !strips
        && !route.compression.is_invalid()
    {
        let problem =
            Problem::new("compressed messages are not checked, so clients must not compress");
        sink.report(location, problem.help("add compression = \"strip\" to this route"));
    }
}

fn origins(route: &RouteTable, sink: &mut DiagnosticSink<'_>) -> Vec<OriginRule> {
    let Some(Located { value: rules, location }) = route.origins.located() else {
        return Vec::new();
    };
    if rules.is_empty() {
        sink.report(
            location,
            Problem::new("the list is empty, so no page can connect").help(RULES),
        );
    }
    if let (Some(any), true) =
        (rules.iter().find(|rule| rule.value == OriginRule::Any), rules.len() > 1)
    {
        sink.report(
            &any.location,
            Problem::new("\"*\" allows any origin, so the other entries have no effect")
                .help("remove \"*\", or write origins = [\"*\"]"),
        );
    }
    rules.iter().map(|rule| rule.value.clone()).collect()
}
