//! What was written of the doors: `[[listener]]`, `[[certificate]]`, `[admin]`, `[control]`.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::config::toml::diagnostic::Place;
use crate::config::toml::reader::{Given, Table};
use crate::config::values::address::AdminAddress;
use crate::config::values::scalars::{Label, OrOff, RequestPath};
use crate::config::values::targets::SocketAt;

/// `[[listener]]`
pub(crate) struct ListenerTable {
    /// Where the listener begins.
    pub(crate) place: Place,
    pub(crate) address: Given<SocketAddr>,
    pub(crate) name: Given<Label>,
    pub(crate) tls: Given<bool>,
    pub(crate) proxy_protocol: Given<bool>,
    pub(crate) health_path: Given<OrOff<RequestPath>>,
}

/// `[[certificate]]`
pub(crate) struct CertificateTable {
    pub(crate) chain: Given<PathBuf>,
    pub(crate) key: Given<PathBuf>,
    pub(crate) default: Given<bool>,
}

/// `[admin]`
pub(crate) struct AdminTable {
    pub(crate) address: Given<AdminAddress>,
    pub(crate) enabled: Given<bool>,
    pub(crate) public: Given<bool>,
}

/// `[control]`
pub(crate) struct ControlTable {
    pub(crate) socket: Given<SocketAt>,
}

pub(crate) fn listener(table: &mut Table<'_, '_, '_>) -> ListenerTable {
    let address = table.get("address");
    ListenerTable {
        place: table.place().clone(),
        address: table.require(
            "address",
            "say where to listen: address = \"0.0.0.0:443\"",
            address,
        ),
        name: table.get("name"),
        tls: table.get("tls"),
        proxy_protocol: table.get("proxy_protocol"),
        health_path: table.get("health_path"),
    }
}

pub(crate) fn certificate(table: &mut Table<'_, '_, '_>) -> CertificateTable {
    let chain = table.get("chain");
    let key = table.get("key");
    CertificateTable {
        chain: table.require("chain", "name its PEM file: chain = \"fullchain.pem\"", chain),
        key: table.require("key", "name the private key's PEM file: key = \"privkey.pem\"", key),
        default: table.get("default"),
    }
}

pub(crate) fn admin(table: &mut Table<'_, '_, '_>) -> AdminTable {
    AdminTable {
        address: table.get("address"),
        enabled: table.get("enabled"),
        public: table.get("public"),
    }
}

pub(crate) fn control(table: &mut Table<'_, '_, '_>) -> ControlTable {
    ControlTable { socket: table.get("socket") }
}
