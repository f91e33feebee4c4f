//! The tables `[[listener]]`, `[[certificate]]`, `[admin]` and `[control]`.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::config::toml::diagnostic::Location;
use crate::config::toml::reader::TableReader;
use crate::config::toml::value::{Located, Parsed};
use crate::config::values::acme::CertificateHost;
use crate::config::values::address::AdminAddress;
use crate::config::values::choices::RedirectChoice;
use crate::config::values::head_limits::{HeadFields, HeadSize};
use crate::config::values::network::ClientNetwork;
use crate::config::values::patterns::PathPrefix;
use crate::config::values::scalars::{Label, OrOff, RequestPath};
use crate::config::values::targets::ControlSocketPath;

/// The table `[[listener]]`.
pub(crate) struct ListenerTable {
    /// The header of the table.
    pub(crate) location: Location,
    pub(crate) address: Parsed<SocketAddr>,
    pub(crate) name: Parsed<Label>,
    pub(crate) tls: Parsed<bool>,
    pub(crate) http2: Parsed<bool>,
    pub(crate) proxy_protocol: Parsed<bool>,
    pub(crate) health_path: Parsed<OrOff<RequestPath>>,
    pub(crate) request_head_size: Parsed<HeadSize>,
    pub(crate) request_head_fields: Parsed<HeadFields>,
    pub(crate) redirect: Parsed<RedirectChoice>,
    pub(crate) redirect_except: Parsed<Vec<Located<PathPrefix>>>,
    pub(crate) addresses: AddressKeys,
}

/// The table `[[certificate]]`.
pub(crate) struct CertificateTable {
    pub(crate) acme: Parsed<bool>,
    /// Of a certificate that is ordered.
    pub(crate) names: Parsed<Vec<Located<CertificateHost>>>,
    /// Of a certificate in files, as the key.
    pub(crate) chain: Parsed<PathBuf>,
    pub(crate) key: Parsed<PathBuf>,
    pub(crate) default: Parsed<bool>,
}

/// The table `[admin]`.
pub(crate) struct AdminTable {
    pub(crate) address: Parsed<AdminAddress>,
    pub(crate) enabled: Parsed<bool>,
    pub(crate) public: Parsed<bool>,
}

/// The table `[control]`.
pub(crate) struct ControlTable {
    pub(crate) socket: Parsed<ControlSocketPath>,
}

/// The keys `allow` and `deny`.
pub(crate) struct AddressKeys {
    pub(crate) allow: Parsed<Vec<Located<ClientNetwork>>>,
    pub(crate) deny: Parsed<Vec<Located<ClientNetwork>>>,
}

pub(crate) fn addresses(table: &mut TableReader<'_, '_, '_>) -> AddressKeys {
    AddressKeys { allow: table.list("allow"), deny: table.list("deny") }
}

pub(crate) fn listener(table: &mut TableReader<'_, '_, '_>) -> ListenerTable {
    let address = table.get("address");
    ListenerTable {
        location: table.location().clone(),
        address: table.require(
            "address",
            "write the address to listen on: address = \"0.0.0.0:443\"",
            address,
        ),
        name: table.get("name"),
        tls: table.get("tls"),
        http2: table.get("http2"),
        proxy_protocol: table.get("proxy_protocol"),
        health_path: table.get("health_path"),
        request_head_size: table.get("request_head_size"),
        request_head_fields: table.get("request_head_fields"),
        redirect: table.get("redirect"),
        redirect_except: table.list("redirect_except"),
        addresses: addresses(table),
    }
}

pub(crate) fn certificate(table: &mut TableReader<'_, '_, '_>) -> CertificateTable {
    let acme = table.get("acme");
    let mut names = table.list("names");
    let (mut chain, mut key) = (table.get("chain"), table.get("key"));
    match acme.value() {
        Some(true) => {
            let help = "write the hosts that it is for: names = [\"chat.example.com\"]";
            names = table.require("names", help, names);
        }
        Some(false) | None => {
            let help = "write the path of its PEM file: chain = \"fullchain.pem\"";
            chain = table.require("chain", help, chain);
            let help = "write the path of the private key's PEM file: key = \"privkey.pem\"";
            key = table.require("key", help, key);
        }
    }
    CertificateTable { acme, names, chain, key, default: table.get("default") }
}

pub(crate) fn admin(table: &mut TableReader<'_, '_, '_>) -> AdminTable {
    AdminTable {
        address: table.get("address"),
        enabled: table.get("enabled"),
        public: table.get("public"),
    }
}

pub(crate) fn control(table: &mut TableReader<'_, '_, '_>) -> ControlTable {
    ControlTable { socket: table.get("socket") }
}
