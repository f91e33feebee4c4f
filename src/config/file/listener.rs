//! What was written of the doors: `[[listener]]`, `[[certificate]]`, `[admin]`, `[control]`.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::config::address::AdminAddress;
use crate::config::fault::Place;
use crate::config::kinds::{Label, OrOff, RequestPath};
use crate::config::reader::{Given, Table};
use crate::config::targets::SocketAt;

/// `[[listener]]`
pub(in crate::config) struct ListenerTable {
    /// Where the listener begins.
    pub(in crate::config) place: Place,
    pub(in crate::config) address: Given<SocketAddr>,
    pub(in crate::config) name: Given<Label>,
    pub(in crate::config) tls: Given<bool>,
    pub(in crate::config) proxy_protocol: Given<bool>,
    pub(in crate::config) health_path: Given<OrOff<RequestPath>>,
}

/// `[[certificate]]`
pub(in crate::config) struct CertificateTable {
    pub(in crate::config) chain: Given<PathBuf>,
    pub(in crate::config) key: Given<PathBuf>,
    pub(in crate::config) default: Given<bool>,
}

/// `[admin]`
pub(in crate::config) struct AdminTable {
    pub(in crate::config) address: Given<AdminAddress>,
    pub(in crate::config) enabled: Given<bool>,
    pub(in crate::config) public: Given<bool>,
}

/// `[control]`
pub(in crate::config) struct ControlTable {
    pub(in crate::config) socket: Given<SocketAt>,
}

pub(super) fn listener(table: &mut Table<'_, '_, '_>) -> ListenerTable {
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

pub(super) fn certificate(table: &mut Table<'_, '_, '_>) -> CertificateTable {
    let chain = table.get("chain");
    let key = table.get("key");
    CertificateTable {
        chain: table.require("chain", "name its PEM file: chain = \"fullchain.pem\"", chain),
        key: table.require("key", "name the private key's PEM file: key = \"privkey.pem\"", key),
        default: table.get("default"),
    }
}

pub(super) fn admin(table: &mut Table<'_, '_, '_>) -> AdminTable {
    AdminTable {
        address: table.get("address"),
        enabled: table.get("enabled"),
        public: table.get("public"),
    }
}

pub(super) fn control(table: &mut Table<'_, '_, '_>) -> ControlTable {
    ControlTable { socket: table.get("socket") }
}
