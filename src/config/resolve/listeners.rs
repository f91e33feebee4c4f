//! Listeners, the admin listener and the control socket.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use super::address_rules::address_rules;
use super::addresses::ListenAddresses;
use super::defaults::{head_limits, value_or};
use super::names::UniqueNames;
use crate::config::schema::ConfigFile;
use crate::config::schema::listener::ListenerTable;
use crate::config::schema::route::RouteTable;
use crate::config::settings::{ControlSocket, ListenerSettings, Settings};
use crate::config::source_map::AdminValues;
use crate::config::toml::diagnostic::{Location, Problem};
use crate::config::toml::late_diagnostic::LateDiagnostic;
use crate::config::toml::sink::DiagnosticSink;
use crate::config::toml::value::{Located, Parsed};
use crate::config::values::address::AdminAddress;
use crate::config::values::choices::RedirectChoice;
use crate::config::values::patterns::PathPrefix;
use crate::config::values::scalars::{Label, RequestPath};
use crate::config::values::targets::ControlSocketPath;

/// The listeners.
pub(crate) fn listeners(
    file: &ConfigFile,
    addresses: &mut ListenAddresses,
    sink: &mut DiagnosticSink<'_>,
) -> Vec<ListenerSettings> {
    let tables = file.listeners.value().map_or(&[][..], Vec::as_slice);
    if tables.is_empty() && !file.listeners.is_invalid() {
        sink.report_file(
            Problem::new("there is no [[listener]], so no client can connect")
                .help("add\n[[listener]]\naddress = \"0.0.0.0:443\""),
        );
    }
    let certificates =
        file.certificates.value().is_some_and(|tables| !tables.is_empty()) || file.acme.is_present;
    let uses_tls = |table: &&ListenerTable| {
        matches!(table.tls, Parsed::Missing | Parsed::Valid(Located { value: true, .. }))
    };
    if let (Some(table), false, false) =
        (tables.iter().find(uses_tls), certificates, file.certificates.is_invalid())
    {
        let problem = Problem::new("TLS is enabled, but there is no [[certificate]]");
        let help = "add\n[[certificate]]\nchain = \"fullchain.pem\"\nkey = \"privkey.pem\"\n\
                    or [acme] to let tidegate get them from a certificate authority,\n\
                    or write tls = false here if a proxy in front terminates TLS";
        sink.report(&table.location, problem.help(help));
    }
    check_trusted_proxies(file, tables, sink);
    check_health_paths(file, tables, sink);
    tables.iter().filter(uses_tls).for_each(|table| check_redirect(table, sink));
    let mut names = UniqueNames::default();
    tables.iter().filter_map(|table| listener(table, addresses, &mut names, sink)).collect()
}

/// PROXY headers are accepted from trusted proxies only, so without any, every connection would
/// fail.
fn check_trusted_proxies(
    file: &ConfigFile,
    tables: &[ListenerTable],
    sink: &mut DiagnosticSink<'_>,
) {
    if !file.trusted_proxies.is_empty() {
        return;
    }
    let proxied =
        |table: &ListenerTable| table.proxy_protocol.located().filter(|key| key.value).cloned();
    for key in tables.iter().filter_map(proxied) {
        let problem = Problem::new("no proxy is trusted, so every connection would be dropped");
        let help = "list the proxies that connect here:\n\
                    [trusted_proxies]\naddresses = [\"10.0.0.7\"]";
        sink.report(&key.location, problem.help(help));
    }
}

/// Health checks are answered before any route, so a route with the same path would get no requests
/// for it.
fn check_health_paths(file: &ConfigFile, tables: &[ListenerTable], sink: &mut DiagnosticSink<'_>) {
    let health_path = |table: &ListenerTable| table.health_path.located().cloned();
    for Located { value, location } in tables.iter().filter_map(health_path) {
        let Some(RequestPath(health)) = value.0 else { continue };
        let same = |route: &&RouteTable| {
            route.path.value().is_some_and(|path| path.as_str() == health.trim_end_matches('/'))
        };
        if let Some(route) = file.routes.value().and_then(|routes| routes.iter().find(same)) {
            let problem = format!(
                "requests for \"{health}\" are answered as health checks, so {} would not receive them",
                route.location.key
            );
            let help = "choose a path that no route has";
            sink.report(&location, Problem::new(problem).help(help));
        }
    }
}

/// A listener with TLS has nothing to redirect.
fn check_redirect(table: &ListenerTable, sink: &mut DiagnosticSink<'_>) {
    if let Some(Located { value: RedirectChoice(Some(_)), location }) = table.redirect.located() {
        let problem = Problem::new("this listener uses TLS, so there is nothing to redirect");
        let help = "write it in the listener for plain HTTP, which has tls = false";
        sink.report(location, problem.help(help));
    }
}

fn listener(
    table: &ListenerTable,
    addresses: &mut ListenAddresses,
    names: &mut UniqueNames,
    sink: &mut DiagnosticSink<'_>,
) -> Option<ListenerSettings> {
    let Located { value: address, location } = table.address.located()?;
    if let Err((other, holder)) = addresses.insert(*address, location) {
        sink.report(location, conflict(*address, other, &holder));
    }
    let name = match &table.name {
        Parsed::Valid(Located { value: Label(name), location }) => {
            names.reserve(
                name,
                &table.location.key,
                location,
                "give each listener its own name",
                sink,
            );
            Arc::clone(name)
        }
        Parsed::Missing | Parsed::Invalid => {
            names.unique(&address.to_string(), &table.location.key)
        }
    };
    let health_path = table.health_path.value().and_then(|path| path.0.clone());
    let tls = value_or(&table.tls, true);
    Some(ListenerSettings {
        name,
        address: *address,
        tls,
        // Without TLS, clients cannot choose.
        http2: value_or(&table.http2, tls),
        proxy_protocol: value_or(&table.proxy_protocol, false),
        health_path: health_path.map(|path| path.0),
        request_head: head_limits(&table.request_head_size, &table.request_head_fields),
        redirect: value_or(&table.redirect, RedirectChoice(None)).0,
        redirect_except: match table.redirect_except.value() {
            Some(paths) => paths.iter().map(|path| path.value.clone()).collect(),
            None => PathPrefix::parse(ACME_PATH).into_iter().collect(),
        },
        addresses: address_rules(&table.addresses, sink),
    })
}

impl Settings {
    /// Listeners for plain HTTP on its own port that neither redirect to TLS nor say that they do not, and a
    /// redirect to TLS without a listener for it.
    pub fn redirect_warnings(&self) -> Vec<LateDiagnostic> {
        let is_unprotected = |(index, listener): &(usize, &ListenerSettings)| {
            let key = format!("listener[{index}].redirect");
            !listener.tls
                && listener.address.port() == HTTP_PORT
                && listener.redirect.is_none()
                && self.source_map.line(&key).is_none()
        };
        let unprotected = self.listeners.iter().enumerate().filter(is_unprotected);
        let warning = |(index, _)| LateDiagnostic {
            key: format!("listener[{index}].address"),
            problem: format!(
                "port {HTTP_PORT} serves plain HTTP, which anyone on the path can read and change: add \
                 redirect = \"https\", or redirect = \"off\" if that is meant"
            ),
        };
        unprotected.map(warning).chain(self.redirect_without_target()).collect()
    }

    /// A redirect to TLS that no listener and no proxy in front accepts.
    fn redirect_without_target(&self) -> Option<LateDiagnostic> {
        let index = self.listeners.iter().position(|listener| listener.redirect.is_some())?;
        let uses_tls = self.listeners.iter().any(|listener| listener.tls);
        let proxies = &self.trusted_proxies;
        let has_proxy = !proxies.networks.is_empty() || !proxies.files.is_empty();
        (!uses_tls && !has_proxy).then(|| LateDiagnostic {
            key: format!("listener[{index}].redirect"),
            problem: "requests are redirected to https, but no listener uses TLS: add a [[listener]] \
                      with address = \"0.0.0.0:443\", or [trusted_proxies] if a proxy in front terminates TLS"
                .to_owned(),
        })
    }
}

/// The address of the admin listener; `None` if it is off.
pub(crate) fn admin(
    file: &ConfigFile,
    addresses: &mut ListenAddresses,
    sink: &mut DiagnosticSink<'_>,
) -> Option<SocketAddr> {
    let given = &file.admin;
    if !value_or(&given.enabled, true) {
        return None;
    }
    let Some(Located { value: AdminAddress(address), location }) = given.address.located() else {
        let location = Location { key: "admin.address".to_owned(), ..Location::default() };
        if let (Err((_, holder)), false) = (
            addresses.insert(ADMIN_DEFAULT, &location),
            given.address.is_invalid() || given.enabled.is_invalid(),
        ) {
            let problem =
                Problem::new(format!("the admin listener is on {ADMIN_DEFAULT} by default"));
            sink.report(&holder, problem.help("choose another port, or set admin.address"));
        }
        return Some(ADMIN_DEFAULT);
    };
    if let Err((other, holder)) = addresses.insert(*address, location) {
        sink.report(location, conflict(*address, other, &holder));
    }
    let may_be_public = given.public.is_invalid() || value_or(&given.public, false);
    if !address.ip().is_loopback() && !may_be_public {
        let problem = Problem::new(format!("{address} can be reached from other machines"));
        let help = format!(
            "it has no authentication: write \"127.0.0.1:{}\", or set public = true in [admin]",
            address.port()
        );
        sink.report(location, problem.help(help));
    }
    Some(*address)
}

/// The values of `[admin]`, also if the admin listener is off.
pub(crate) fn admin_values(file: &ConfigFile) -> AdminValues {
    AdminValues {
        address: value_or(&file.admin.address, AdminAddress(ADMIN_DEFAULT)).0,
        public: value_or(&file.admin.public, false),
    }
}

fn conflict(address: SocketAddr, other: SocketAddr, holder: &Location) -> Problem {
    if address == other {
        return Problem::new(format!("{address} is already used by {}", holder.key))
            .help("give each listener its own address");
    }
    // One of the two is the unspecified address of its family.
    let unspecified = if address.ip().is_unspecified() { address } else { other };
    let family = if unspecified.is_ipv4() { "IPv4" } else { "IPv6" };
    Problem::new(format!("{address} overlaps with {} = {other}", holder.key)).help(format!(
        "{} covers every {family} address of this machine: give one of them another port, or \
         remove one",
        unspecified.ip()
    ))
}

const ADMIN_DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9180);

/// The location of the control socket.
pub(crate) fn control(
    file: &ConfigFile,
    dir: &Path,
    sink: &mut DiagnosticSink<'_>,
) -> ControlSocket {
    let Some(Located { value: ControlSocketPath(socket), location }) =
        file.control.socket.located()
    else {
        return ControlSocket::Auto;
    };
    let ControlSocket::At(path) = socket else { return socket.clone() };
    let path = dir.join(path);
    let length = path.as_os_str().len();
    if length > SOCKET_PATH_MAX {
        let problem = format!(
            "the socket path {} is {length} bytes long; the maximum is {SOCKET_PATH_MAX}",
            path.display()
        );
        sink.report(location, Problem::new(problem).help("choose a shorter path"));
    }
    ControlSocket::At(path)
}

/// The default port of `http` (RFC 9110 4.2.1).
const HTTP_PORT: u16 = 80;
/// Where certificate authorities look for the answer to an HTTP-01 challenge (RFC 8555 8.3).
const ACME_PATH: &str = "/.well-known/acme-challenge";
/// Below the 107 bytes of unix(7), since a process id is appended while the socket is created.
const SOCKET_PATH_MAX: usize = 96;
