//! The table `[[route]]`.

use std::num::NonZeroU32;

use ws::Strictness;

use super::limits::{HeartbeatTable, LimitsTable, heartbeat, limits};
use super::listener::{AddressKeys, addresses};
use super::pool::{BACKENDS, BackendItem, backend};
use super::process::{DrainCloseTable, RequestTimeoutsTable, drain_close, request_timeouts};
use crate::config::settings::{Compression, LogRequests};
use crate::config::toml::diagnostic::Location;
use crate::config::toml::reader::TableReader;
use crate::config::toml::value::{Located, Parsed};
use crate::config::values::choices::{AmbiguousPaths, CheckUtf8};
use crate::config::values::close_reason::BackendLossPolicy;
use crate::config::values::field::{HeaderField, HeaderFieldName, UnderscoreName, ViaName};
use crate::config::values::head_limits::{HeadFields, HeadSize};
use crate::config::values::hsts::HstsAge;
use crate::config::values::origin_rule::{OriginRule, RULES};
use crate::config::values::patterns::{HostPattern, PathPrefix};
use crate::config::values::pool::PoolChoice;
use crate::config::values::scalars::{Label, OrOff};
use crate::config::values::targets::OptionalFile;

/// The table `[[route]]`.
pub(crate) struct RouteTable {
    /// The header of the table.
    pub(crate) location: Location,
    pub(crate) host: Parsed<HostPattern>,
    pub(crate) path: Parsed<PathPrefix>,
    pub(crate) case_sensitive: Parsed<bool>,
    pub(crate) ambiguous_paths: Parsed<AmbiguousPaths>,
    pub(crate) name: Parsed<Label>,
    pub(crate) addresses: AddressKeys,
    pub(crate) origins: Parsed<Vec<Located<OriginRule>>>,
    pub(crate) backends: Parsed<Vec<Located<BackendItem>>>,
    pub(crate) pool: Parsed<PoolChoice>,
    pub(crate) on_backend_loss: Parsed<BackendLossPolicy>,
    pub(crate) maintenance_file: Parsed<OptionalFile>,
    pub(crate) http: Parsed<bool>,
    pub(crate) log_requests: Parsed<LogRequests>,
    pub(crate) tunnels: Parsed<OrOff<NonZeroU32>>,
    pub(crate) compression: Parsed<Compression>,
    pub(crate) strict: Parsed<Strictness>,
    pub(crate) utf8: Parsed<CheckUtf8>,
    pub(crate) proxy_protocol: Parsed<bool>,
    pub(crate) forwarded: Parsed<bool>,
    pub(crate) via: Parsed<OrOff<ViaName>>,
    pub(crate) hsts: Parsed<OrOff<HstsAge>>,
    pub(crate) underscore_headers: Parsed<Vec<Located<UnderscoreName>>>,
    pub(crate) request_headers: HeadersTable,
    pub(crate) response_headers: HeadersTable,
    pub(crate) response_head_size: Parsed<HeadSize>,
    pub(crate) response_head_fields: Parsed<HeadFields>,
    pub(crate) limits: LimitsTable,
    pub(crate) heartbeat: HeartbeatTable,
    pub(crate) timeouts: RequestTimeoutsTable,
    pub(crate) drain: DrainCloseTable,
}

/// The table `[route.request_headers]` or `[route.response_headers]`.
pub(crate) struct HeadersTable {
    pub(crate) remove: Parsed<Vec<Located<HeaderFieldName>>>,
    pub(crate) set: Parsed<Vec<Located<HeaderField>>>,
}

pub(crate) fn route(table: &mut TableReader<'_, '_, '_>) -> RouteTable {
    let host = table.get("host");
    let path = table.get("path");
    let case_sensitive = table.get("case_sensitive");
    let ambiguous_paths = table.get("ambiguous_paths");
    let name = table.get("name");
    let addresses = addresses(table);
    let origins = table.list("origins");
    let backends = table.list_with("backends", backend);
    let pool: Parsed<PoolChoice> = table.get("pool");
    let has_pool = pool.is_invalid() || pool.value().is_some_and(|pool| pool.0.is_some());
    RouteTable {
        location: table.location().clone(),
        host: table.require("host", HOSTS, host),
        path,
        case_sensitive,
        ambiguous_paths,
        name,
        addresses,
        origins: table.require("origins", RULES, origins),
        backends: if has_pool { backends } else { table.require("backends", BACKENDS, backends) },
        pool,
        on_backend_loss: table.get("on_backend_loss"),
        maintenance_file: table.get("maintenance_file"),
        http: table.get("http"),
        log_requests: table.get("log_requests"),
        tunnels: table.get("tunnels"),
        compression: table.get("compression"),
        strict: table.get("strict"),
        utf8: table.get("utf8"),
        proxy_protocol: table.get("proxy_protocol"),
        forwarded: table.get("forwarded"),
        via: table.get("via"),
        hsts: table.get("hsts"),
        underscore_headers: table.list("underscore_headers"),
        request_headers: table.table("request_headers", headers),
        response_headers: table.table("response_headers", headers),
        response_head_size: table.get("response_head_size"),
        response_head_fields: table.get("response_head_fields"),
        limits: table.table("limits", limits),
        heartbeat: table.table("heartbeat", heartbeat),
        timeouts: table.table("timeouts", request_timeouts),
        drain: table.table("drain", drain_close),
    }
}

fn headers(table: &mut TableReader<'_, '_, '_>) -> HeadersTable {
    HeadersTable { remove: table.list("remove"), set: table.list("set") }
}

const HOSTS: &str =
    "say which host it serves: \"chat.example.com\", \"*.example.com\", or \"*\" for any";
