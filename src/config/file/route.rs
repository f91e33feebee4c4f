//! What was written of the routes: `[[route]]` and its backends.

use std::num::NonZeroU32;

use toml::de::DeValue;

use super::limits::{HeartbeatTable, LimitsTable, heartbeat, limits};
use crate::config::farewell::Lost;
use crate::config::fault::Place;
use crate::config::field::{Field, FieldName};
use crate::config::findings::Findings;
use crate::config::kinds::{Label, OrOff};
use crate::config::origin::{OriginRule, RULES};
use crate::config::reader::{At, Given, Table};
use crate::config::settings::Compression;
use crate::config::values::{BackendAddress, HostPattern, PathPrefix};
use crate::ws::Strict;

/// `[[route]]`
pub(in crate::config) struct RouteTable {
    /// Where the route begins.
    pub(in crate::config) place: Place,
    pub(in crate::config) host: Given<HostPattern>,
    pub(in crate::config) path: Given<PathPrefix>,
    pub(in crate::config) name: Given<Label>,
    pub(in crate::config) origins: Given<Vec<At<OriginRule>>>,
    pub(in crate::config) backends: Given<Vec<At<BackendItem>>>,
    pub(in crate::config) lost_backends: Given<Lost>,
    pub(in crate::config) http: Given<bool>,
    pub(in crate::config) tunnels: Given<OrOff<NonZeroU32>>,
    pub(in crate::config) compression: Given<Compression>,
    pub(in crate::config) strict: Given<Strict>,
    pub(in crate::config) proxy_protocol: Given<bool>,
    pub(in crate::config) forwarded: Given<bool>,
    pub(in crate::config) request_headers: HeadersTable,
    pub(in crate::config) response_headers: HeadersTable,
    pub(in crate::config) limits: LimitsTable,
    pub(in crate::config) heartbeat: HeartbeatTable,
}

/// `[route.request_headers]` and `[route.response_headers]`
pub(in crate::config) struct HeadersTable {
    pub(in crate::config) remove: Given<Vec<At<FieldName>>>,
    pub(in crate::config) set: Given<Vec<At<Field>>>,
}

/// An item of a route's `backends`: an address, or a table with one.
pub(in crate::config) struct BackendItem {
    pub(in crate::config) address: Given<BackendAddress>,
    pub(in crate::config) weight: Given<NonZeroU32>,
    pub(in crate::config) id: Given<Label>,
}

pub(super) fn route(table: &mut Table<'_, '_, '_>) -> RouteTable {
    let host = table.get("host");
    let path = table.get("path");
    let name = table.get("name");
    let origins = table.list("origins");
    let backends = table.items("backends", backend);
    RouteTable {
        place: table.place().clone(),
        host: table.require("host", HOSTS, host),
        path,
        name,
        origins: table.require("origins", RULES, origins),
        backends: table.require("backends", BACKENDS, backends),
        lost_backends: table.get("lost_backends"),
        http: table.get("http"),
        tunnels: table.get("tunnels"),
        compression: table.get("compression"),
        strict: table.get("strict"),
        proxy_protocol: table.get("proxy_protocol"),
        forwarded: table.get("forwarded"),
        request_headers: table.table("request_headers", headers),
        response_headers: table.table("response_headers", headers),
        limits: table.table("limits", limits),
        heartbeat: table.table("heartbeat", heartbeat),
    }
}

fn headers(table: &mut Table<'_, '_, '_>) -> HeadersTable {
    HeadersTable { remove: table.list("remove"), set: table.list("set") }
}

fn backend<'d>(
    findings: &mut Findings<'_>,
    place: Place,
    value: &'d DeValue<'d>,
) -> Given<BackendItem> {
    // A short one is its address.
    findings.stands(&place);
    let item = match value.as_table() {
        Some(entries) => Table::read(findings, Some(entries), place.clone(), |table| {
            let address = table.get("address");
            BackendItem {
                address: table.require(
                    "address",
                    "say where it is: address = \"127.0.0.1:9001\"",
                    address,
                ),
                weight: table.get("weight"),
                id: table.get("id"),
            }
        }),
        None => BackendItem {
            address: findings.value(place.clone(), value),
            weight: Given::Absent,
            id: Given::Absent,
        },
    };
    Given::Here(At { value: item, place })
}

const HOSTS: &str =
    "say which host it serves: \"chat.example.com\", \"*.example.com\", or \"*\" for any";
const BACKENDS: &str = "say where it leads: backends = [\"127.0.0.1:9001\"]";
