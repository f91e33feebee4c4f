//! Listeners and the admin listener.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use super::addresses::Addresses;
use super::names::UniqueNames;
use crate::config::resolve::value_or;
use crate::config::schema::ConfigFile;
use crate::config::schema::listener::ListenerTable;
use crate::config::schema::route::RouteTable;
use crate::config::settings::{ControlSocket, ListenerSettings};
use crate::config::toml::diagnostic::{KeyPath, Problem};
use crate::config::toml::findings::DiagnosticSink;
use crate::config::toml::reader::{Located, Parsed};
use crate::config::values::address::AdminAddress;
use crate::config::values::scalars::{Label, RequestPath};
use crate::config::values::targets::ControlSocketPath;
use crate::config::written::AdminLines;

/// Where clients come in.
pub(crate) fn listeners(
    file: &ConfigFile,
    addresses: &mut Addresses,
    findings: &mut DiagnosticSink<'_>,
) -> Vec<ListenerSettings> {
    let tables = file.listeners.value().map_or(&[][..], Vec::as_slice);
    if tables.is_empty() && !file.listeners.is_faulty() {
        findings.whole(
            Problem::new("there is no [[listener]], so nobody could connect")
                .help("add\n[[listener]]\naddress = \"0.0.0.0:443\""),
        );
    }
    let certificates = file.certificates.value().is_some_and(|tables| !tables.is_empty());
    let speaks_tls = |table: &&ListenerTable| {
        matches!(table.tls, Parsed::Absent | Parsed::Here(Located { value: true, .. }))
    };
    if let (Some(table), false, false) =
        (tables.iter().find(speaks_tls), certificates, file.certificates.is_faulty())
    {
        let wrong = Problem::new("it speaks TLS, and there is no [[certificate]]");
        let help = "add\n[[certificate]]\nchain = \"fullchain.pem\"\nkey = \"privkey.pem\"\n\
                    or write tls = false here, if whatever stands in front of it speaks TLS";
        findings.fault(&table.place, wrong.help(help));
    }
    someone_is_trusted(file, tables, findings);
    health_beside_routes(file, tables, findings);
    let mut names = UniqueNames::default();
    tables.iter().filter_map(|table| listener(table, addresses, &mut names, findings)).collect()
}

/// A PROXY header is taken from trusted proxies only: without any, nobody could come in.
fn someone_is_trusted(
    file: &ConfigFile,
    tables: &[ListenerTable],
    findings: &mut DiagnosticSink<'_>,
) {
    let addresses = &file.trusted_proxies.addresses;
    if addresses.is_faulty() || addresses.value().is_some_and(|list| !list.is_empty()) {
        return;
    }
    let proxied =
        |table: &ListenerTable| table.proxy_protocol.here().filter(|at| at.value).cloned();
    for at in tables.iter().filter_map(proxied) {
        let wrong = Problem::new("no proxy is trusted, so every connection would be dropped");
        let help = "list the proxies that connect here:\n\
                    [trusted_proxies]\naddresses = [\"10.0.0.7\"]";
        findings.fault(&at.place, wrong.help(help));
    }
}

/// Health is answered before any route, so that a route of that path would never be asked.
fn health_beside_routes(
    file: &ConfigFile,
    tables: &[ListenerTable],
    findings: &mut DiagnosticSink<'_>,
) {
    let set = |table: &ListenerTable| table.health_path.here().cloned();
    for Located { value, place } in tables.iter().filter_map(set) {
        let Some(RequestPath(health)) = value.0 else { continue };
        let same = |route: &&RouteTable| {
            route.path.value().is_some_and(|path| path.as_str() == health.trim_end_matches('/'))
        };
        if let Some(route) = file.routes.value().and_then(|routes| routes.iter().find(same)) {
            let wrong =
                format!("\"{health}\" is {}.path, which would never be asked", route.place.key);
            let help = "health is answered before any route: choose a path that none has";
            findings.fault(&place, Problem::new(wrong).help(help));
        }
    }
}

fn listener(
    table: &ListenerTable,
    addresses: &mut Addresses,
    names: &mut UniqueNames,
    findings: &mut DiagnosticSink<'_>,
) -> Option<ListenerSettings> {
    let Located { value: address, place } = table.address.here()?;
    if let Err((other, holder)) = addresses.take(*address, place) {
        findings.fault(place, clash(*address, other, &holder));
    }
    let name = match &table.name {
        Parsed::Here(Located { value: Label(name), place }) => {
            names.take(name, &table.place.key, place, "give each listener its own name", findings);
            Arc::clone(name)
        }
        Parsed::Absent | Parsed::Faulty => names.free(&address.to_string(), &table.place.key),
    };
    let health_path = table.health_path.value().and_then(|path| path.0.clone());
    Some(ListenerSettings {
        name,
        address: *address,
        tls: value_or(&table.tls, true),
        proxy_protocol: value_or(&table.proxy_protocol, false),
        health_path: health_path.map(|path| path.0),
    })
}

/// The admin listener; `None` if it is switched off.
pub(crate) fn admin(
    file: &ConfigFile,
    addresses: &mut Addresses,
    findings: &mut DiagnosticSink<'_>,
) -> Option<SocketAddr> {
    let given = &file.admin;
    if !value_or(&given.enabled, true) {
        return None;
    }
    let Some(Located { value: AdminAddress(address), place }) = given.address.here() else {
        let place = KeyPath { key: "admin.address".to_owned(), ..KeyPath::default() };
        if let (Err((_, holder)), false) =
            (addresses.take(ADMIN, &place), given.address.is_faulty() || given.enabled.is_faulty())
        {
            let wrong = Problem::new(format!("the admin listener is on {ADMIN} by default"));
            findings.fault(&holder, wrong.help("choose another port, or set admin.address"));
        }
        return Some(ADMIN);
    };
    if let Err((other, holder)) = addresses.take(*address, place) {
        findings.fault(place, clash(*address, other, &holder));
    }
    let may_be_public = given.public.is_faulty() || value_or(&given.public, false);
    if !address.ip().is_loopback() && !may_be_public {
        let wrong = Problem::new(format!("{address} can be reached from other machines"));
        let help = format!(
            "it asks for no password: write \"127.0.0.1:{}\", or say public = true in [admin]",
            address.port()
        );
        findings.fault(place, wrong.help(help));
    }
    Some(*address)
}

/// The same, whether it is there or not.
pub(crate) fn admin_written(file: &ConfigFile) -> AdminLines {
    AdminLines {
        address: value_or(&file.admin.address, AdminAddress(ADMIN)).0,
        public: value_or(&file.admin.public, false),
    }
}

fn clash(address: SocketAddr, other: SocketAddr, holder: &KeyPath) -> Problem {
    let wrong = Problem::new(format!("{address} is taken by {}", holder.key));
    if address == other {
        return wrong.help("give each listener its own address");
    }
    // One of the two is every address of its family.
    let every = if address.ip().is_unspecified() { address } else { other };
    wrong.help(format!("{every} already means every address of this machine"))
}

const ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9180);

/// Where orders are taken.
pub(crate) fn control(
    file: &ConfigFile,
    folder: &Path,
    findings: &mut DiagnosticSink<'_>,
) -> ControlSocket {
    let Some(Located { value: ControlSocketPath(at), place }) = file.control.socket.here() else {
        return ControlSocket::Auto;
    };
    let ControlSocket::At(path) = at else { return at.clone() };
    let path = folder.join(path);
    let length = path.as_os_str().len();
    if length > SOCKET_PATH_MAX {
        let wrong = format!("the path of this socket would have {length} bytes");
        let help = format!("{SOCKET_PATH_MAX} are the most; name a shorter one");
        findings.fault(place, Problem::new(wrong).help(help));
    }
    ControlSocket::At(path)
}

/// unix(7) has 107, of which the number of a process takes some while the socket is made.
const SOCKET_PATH_MAX: usize = 96;
