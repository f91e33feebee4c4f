//! What was written of the routes: `[[route]]` and its backends.

use std::num::NonZeroU32;

use toml::de::DeValue;
use ws::Strict;

use super::limits::{HeartbeatTable, LimitsTable, heartbeat, limits};
use crate::config::settings::Compression;
use crate::config::toml::diagnostic::Place;
use crate::config::toml::findings::Findings;
use crate::config::toml::reader::{At, Given, Table};
use crate::config::values::close_reason::Lost;
use crate::config::values::field::{Field, FieldName};
use crate::config::values::origin::{OriginRule, RULES};
use crate::config::values::patterns::{BackendAddress, HostPattern, PathPrefix};
use crate::config::values::scalars::{Label, OrOff};

/// `[[route]]`
pub(crate) struct RouteTable {
    /// Where the route begins.
    pub(crate) place: Place,
    pub(crate) host: Given<HostPattern>,
    pub(crate) path: Given<PathPrefix>,
    pub(crate) name: Given<Label>,
    pub(crate) origins: Given<Vec<At<OriginRule>>>,
    pub(crate) backends: Given<Vec<At<BackendItem>>>,
    pub(crate) lost_backends: Given<Lost>,
    pub(crate) http: Given<bool>,
    pub(crate) tunnels: Given<OrOff<NonZeroU32>>,
    pub(crate) compression: Given<Compression>,
    pub(crate) strict: Given<Strict>,
    pub(crate) proxy_protocol: Given<bool>,
    pub(crate) forwarded: Given<bool>,
    pub(crate) request_headers: HeadersTable,
    pub(crate) response_headers: HeadersTable,
    pub(crate) limits: LimitsTable,
    pub(crate) heartbeat: HeartbeatTable,
}

/// `[route.request_headers]` and `[route.response_headers]`
pub(crate) struct HeadersTable {
    pub(crate) remove: Given<Vec<At<FieldName>>>,
    pub(crate) set: Given<Vec<At<Field>>>,
}

/// An item of a route's `backends`: an address, or a table with one.
pub(crate) struct BackendItem {
    pub(crate) address: Given<BackendAddress>,
    pub(crate) weight: Given<NonZeroU32>,
    pub(crate) id: Given<Label>,
}

pub(crate) fn route(table: &mut Table<'_, '_, '_>) -> RouteTable {
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
