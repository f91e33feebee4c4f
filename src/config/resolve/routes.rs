//! Routes and their backends.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use ws::SessionPolicy;

use super::addresses::Addresses;
use super::headers::headers;
use super::names::UniqueNames;
use super::terms::terms;
use crate::config::resolve::{count, value_or};
use crate::config::schema::ConfigFile;
use crate::config::schema::route::{BackendItem, RouteTable};
use crate::config::settings::{BackendSettings, Compression, OnBackendLoss, RouteSettings};
use crate::config::toml::diagnostic::{KeyPath, Problem};
use crate::config::toml::findings::DiagnosticSink;
use crate::config::toml::reader::{Located, Parsed};
use crate::config::values::close_reason::BackendLossPolicy;
use crate::config::values::origin::{OriginRule, RULES};
use crate::config::values::patterns::{HostPattern, PathPrefix};
use crate::config::values::scalars::{Label, OrOff};

/// The route table as settings, and what routes are held to that say nothing.
pub(crate) fn routes(
    file: &ConfigFile,
    addresses: &Addresses,
    findings: &mut DiagnosticSink<'_>,
) -> (Vec<RouteSettings>, Arc<SessionPolicy>) {
    let tables = file.routes.value().map_or(&[][..], Vec::as_slice);
    if tables.is_empty() && !file.routes.is_faulty() {
        findings.whole(Problem::new("there is no [[route]], so nothing would be served").help(
            "add\n[[route]]\nhost = \"chat.example.com\"\norigins = [\"same-origin\"]\n\
             backends = [\"127.0.0.1:9001\"]",
        ));
    }
    let common = Arc::new(terms(file, None, findings));
    let shared = Arc::clone(&common);
    let mut table =
        Routes { addresses, common: shared, names: UniqueNames::default(), served: HashMap::new() };
    let routes = tables.iter().filter_map(|route| table.add(file, route, findings)).collect();
    (routes, common)
}

/// What the routes so far have in common, and what is no longer free.
struct Routes<'f> {
    addresses: &'f Addresses,
    common: Arc<SessionPolicy>,
    names: UniqueNames,
    served: HashMap<(HostPattern, PathPrefix), &'f str>,
}

impl<'f> Routes<'f> {
    fn add(
        &mut self,
        file: &ConfigFile,
        route: &'f RouteTable,
        findings: &mut DiagnosticSink<'_>,
    ) -> Option<RouteSettings> {
        let terms = terms(file, Some(route), findings);
        let terms = if terms == *self.common { Arc::clone(&self.common) } else { Arc::new(terms) };
        let origins = origins(route, findings);
        let backends = backends(route, self.addresses, findings);
        let request_headers = headers(&route.request_headers, findings);
        let response_headers = headers(&route.response_headers, findings);

        let host = route.host.value()?;
        let path = value_or(&route.path, PathPrefix::root());
        if !route.path.is_faulty() {
            self.serve(route, host, &path, findings);
        }
        let name = match &route.name {
            Parsed::Here(Located { value: Label(name), place }) => {
                let help = "give each route its own name";
                self.names.take(name, &route.place.key, place, help, findings);
                Arc::clone(name)
            }
            Parsed::Absent | Parsed::Faulty => {
                let path = route.path.value().map_or("", PathPrefix::as_str);
                self.names.free(&format!("{host}{path}"), &route.place.key)
            }
        };
        Some(RouteSettings {
            name,
            host: host.clone(),
            path,
            origins,
            http: value_or(&route.http, true),
            tunnels: value_or(&route.tunnels, OrOff(None)).0.map(count),
            compression: value_or(&route.compression, Compression::Inspect),
            backends,
            on_backend_loss: value_or(
                &route.on_backend_loss,
                BackendLossPolicy(OnBackendLoss::Keep),
            )
            .0,
            send_proxy: value_or(&route.proxy_protocol, false),
            send_forwarded: value_or(&route.forwarded, false),
            request_headers,
            response_headers,
            terms,
        })
    }

    fn serve(
        &mut self,
        route: &'f RouteTable,
        host: &HostPattern,
        path: &PathPrefix,
        findings: &mut DiagnosticSink<'_>,
    ) {
        let Some(other) = self.served.insert((host.clone(), path.clone()), &route.place.key) else {
            return;
        };
        let place = route.path.place().or(route.host.place()).unwrap_or(&route.place);
        let wrong = Problem::new(format!(
            "host \"{host}\" and path \"{}\" are served by {other} already",
            path.as_str()
        ));
        findings
            .fault(place, wrong.help("give one of them another path, or list all backends in one"));
    }
}

fn origins(route: &RouteTable, findings: &mut DiagnosticSink<'_>) -> Vec<OriginRule> {
    let Some(Located { value: rules, place }) = route.origins.here() else {
        return Vec::new();
    };
    if rules.is_empty() {
        findings.fault(
            place,
            Problem::new("no origin is listed, so no page could connect").help(RULES),
        );
    }
    if let (Some(any), true) =
        (rules.iter().find(|rule| rule.value == OriginRule::Any), rules.len() > 1)
    {
        findings.fault(
            &any.place,
            Problem::new("\"*\" admits everybody, so the other origins mean nothing")
                .help("leave \"*\" out, or write origins = [\"*\"] alone"),
        );
    }
    rules.iter().map(|rule| rule.value.clone()).collect()
}

fn backends(
    route: &RouteTable,
    addresses: &Addresses,
    findings: &mut DiagnosticSink<'_>,
) -> Vec<BackendSettings> {
    let Some(Located { value: items, place }) = route.backends.here() else {
        return Vec::new();
    };
    if items.is_empty() {
        let wrong = Problem::new("no backend is listed, so the route leads nowhere");
        findings.fault(place, wrong.help("write backends = [\"127.0.0.1:9001\"]"));
    }
    let mut ids = UniqueNames::default();
    let backend = |item: &Located<BackendItem>| backend(item, addresses, &mut ids, findings);
    items.iter().filter_map(backend).collect()
}

fn backend(
    item: &Located<BackendItem>,
    addresses: &Addresses,
    ids: &mut UniqueNames,
    findings: &mut DiagnosticSink<'_>,
) -> Option<BackendSettings> {
    let Located { value: address, place } = item.value.address.here()?;
    if let Some(own) = addresses.reached_by(address) {
        let wrong = Problem::new(format!("{address} is tidegate itself: {}", own.key));
        findings.fault(place, wrong.help("write the address of the application"));
    }
    let (id, id_place): (Arc<str>, &KeyPath) = match &item.value.id {
        Parsed::Here(Located { value: Label(id), place }) => (Arc::clone(id), place),
        Parsed::Absent => (address.to_string().into(), place),
        Parsed::Faulty => return None,
    };
    let help = "list a backend once and give it a weight, or give each an id of its own";
    ids.take(&id, &item.place.key, id_place, help, findings);
    Some(BackendSettings {
        id,
        address: address.clone(),
        weight: value_or(&item.value.weight, NonZeroU32::MIN),
    })
}
