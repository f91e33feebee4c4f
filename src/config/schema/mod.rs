//! The tables of `proxy.toml` as written. Each value is valid by itself or reported; defaults are
//! not applied and keys are not compared with each other. The functions in this folder are the only
//! list of keys.

pub(crate) mod acme;
pub(crate) mod limits;
pub(crate) mod listener;
pub(crate) mod pool;
pub(crate) mod probe;
pub(crate) mod process;
pub(crate) mod route;

use std::sync::LazyLock;

use toml::de::DeTable;

use super::toml::diagnostic::Location;
use super::toml::reader::TableReader;
use super::toml::sink::DiagnosticSink;
use super::toml::value::Parsed;
use crate::config::schema::acme::AcmeTable;
use crate::config::schema::limits::{HeartbeatTable, LimitsTable};
use crate::config::schema::listener::{AdminTable, CertificateTable, ControlTable, ListenerTable};
use crate::config::schema::pool::PoolTable;
use crate::config::schema::process::{
    AccessTable, ClientKeyTable, ConcurrencyTable, DrainTable, ErrorPagesTable, LogTable,
    RatesTable, ServerTable, TimeoutsTable, TrustedProxiesTable,
};
use crate::config::schema::route::RouteTable;

/// All tables of the file.
pub(crate) struct ConfigFile {
    pub(crate) server: ServerTable,
    pub(crate) listeners: Parsed<Vec<ListenerTable>>,
    pub(crate) certificates: Parsed<Vec<CertificateTable>>,
    pub(crate) acme: AcmeTable,
    pub(crate) routes: Parsed<Vec<RouteTable>>,
    pub(crate) pools: Parsed<Vec<PoolTable>>,
    pub(crate) limits: LimitsTable,
    pub(crate) heartbeat: HeartbeatTable,
    pub(crate) timeouts: TimeoutsTable,
    pub(crate) concurrency: ConcurrencyTable,
    pub(crate) rates: RatesTable,
    pub(crate) client_key: ClientKeyTable,
    pub(crate) drain: DrainTable,
    pub(crate) error_pages: ErrorPagesTable,
    pub(crate) admin: AdminTable,
    pub(crate) control: ControlTable,
    pub(crate) log: LogTable,
    pub(crate) access: AccessTable,
    pub(crate) trusted_proxies: TrustedProxiesTable,
}

impl ConfigFile {
    /// Reads a document and reports its errors to the sink.
    pub(crate) fn read(root: &DeTable<'_>, sink: &mut DiagnosticSink<'_>) -> Self {
        TableReader::read(sink, Some(root), Location::default(), |file| Self {
            server: file.table("server", process::server),
            listeners: file.tables("listener", listener::listener),
            certificates: file.tables("certificate", listener::certificate),
            acme: file.table("acme", acme::acme),
            routes: file.tables("route", route::route),
            pools: file.tables("pool", pool::pool),
            limits: file.table("limits", limits::limits),
            heartbeat: file.table("heartbeat", limits::heartbeat),
            timeouts: file.table("timeouts", process::timeouts),
            concurrency: file.table("concurrency", process::concurrency),
            rates: file.table("rates", process::rates),
            client_key: file.table("client_key", process::client_key),
            drain: file.table("drain", process::drain),
            error_pages: file.table("error_pages", process::error_pages),
            admin: file.table("admin", listener::admin),
            control: file.table("control", listener::control),
            log: file.table("log", process::log),
            access: file.table("access", process::access),
            trusted_proxies: file.table("trusted_proxies", process::trusted_proxies),
        })
    }
}

/// All known keys, for example `route[].limits.idle`, sorted.
pub fn known_keys() -> &'static [String] {
    &KNOWN
}

/// Recorded by reading a document that has each table once, so there is no list to maintain.
static KNOWN: LazyLock<Vec<String>> = LazyLock::new(|| {
    let text = "[[listener]]\n[[certificate]]\n[[route]]\nbackends = [{}]\n[[pool]]\nbackends = [{}]\ntls = {}\n";
    let (root, _) = DeTable::parse_recoverable(text);
    let mut sink = DiagnosticSink::recording_keys(text);
    ConfigFile::read(root.get_ref(), &mut sink);
    sink.into_requested_keys()
});
