//! What was written: `proxy.toml`, table by table, each value lawful by itself or reported. Nothing
//! is defaulted and no two keys are compared here. The functions below are the only list of keys.

pub(crate) mod limits;
pub(crate) mod listener;
pub(crate) mod process;
pub(crate) mod route;

use std::sync::LazyLock;

use toml::de::DeTable;

use super::toml::diagnostic::KeyPath;
use super::toml::findings::DiagnosticSink;
use super::toml::reader::{Parsed, TableReader};
use crate::config::schema::limits::{HeartbeatTable, LimitsTable};
use crate::config::schema::listener::{AdminTable, CertificateTable, ControlTable, ListenerTable};
use crate::config::schema::process::{
    AccessTable, CapsTable, ClientKeyTable, DrainTable, LogTable, RatesTable, ServerTable,
    TimeoutsTable, TrustedProxiesTable,
};
use crate::config::schema::route::RouteTable;

/// The whole file.
pub(crate) struct ConfigFile {
    pub(crate) server: ServerTable,
    pub(crate) listeners: Parsed<Vec<ListenerTable>>,
    pub(crate) certificates: Parsed<Vec<CertificateTable>>,
    pub(crate) routes: Parsed<Vec<RouteTable>>,
    pub(crate) limits: LimitsTable,
    pub(crate) heartbeat: HeartbeatTable,
    pub(crate) timeouts: TimeoutsTable,
    pub(crate) concurrency: CapsTable,
    pub(crate) rates: RatesTable,
    pub(crate) client_key: ClientKeyTable,
    pub(crate) drain: DrainTable,
    pub(crate) admin: AdminTable,
    pub(crate) control: ControlTable,
    pub(crate) log: LogTable,
    pub(crate) access: AccessTable,
    pub(crate) trusted_proxies: TrustedProxiesTable,
}

impl ConfigFile {
    /// Reads a document.
    pub(crate) fn read(root: &DeTable<'_>, findings: &mut DiagnosticSink<'_>) -> Self {
        TableReader::read(findings, Some(root), KeyPath::default(), |file| Self {
            server: file.table("server", process::server),
            listeners: file.tables("listener", listener::listener),
            certificates: file.tables("certificate", listener::certificate),
            routes: file.tables("route", route::route),
            limits: file.table("limits", limits::limits),
            heartbeat: file.table("heartbeat", limits::heartbeat),
            timeouts: file.table("timeouts", process::timeouts),
            concurrency: file.table("concurrency", process::concurrency),
            rates: file.table("rates", process::rates),
            client_key: file.table("client_key", process::client_key),
            drain: file.table("drain", process::drain),
            admin: file.table("admin", listener::admin),
            control: file.table("control", listener::control),
            log: file.table("log", process::log),
            access: file.table("access", process::access),
            trusted_proxies: file.table("trusted_proxies", process::trusted_proxies),
        })
    }
}

/// Every key there is, as in `route[].limits.idle`, sorted.
pub fn known_keys() -> &'static [String] {
    &KNOWN
}

/// Found out by reading a document that has each table once, so that no list is kept by hand.
static KNOWN: LazyLock<Vec<String>> = LazyLock::new(|| {
    let text = "[[listener]]\n[[certificate]]\n[[route]]\nbackends = [{}]\n";
    let (root, _) = DeTable::parse_recoverable(text);
    let mut findings = DiagnosticSink::noting(text);
    ConfigFile::read(root.get_ref(), &mut findings);
    findings.into_asked()
});
