//! What was written: `proxy.toml`, table by table, each value lawful by itself or reported. Nothing
//! is defaulted and no two keys are compared here. The functions below are the only list of keys.

mod limits;
mod listener;
mod process;
mod route;

pub(super) use self::limits::{Bucket, HeartbeatKeys, HeartbeatTable, LimitsTable, Most, SideKeys};
pub(super) use self::listener::{AdminTable, CertificateTable, ControlTable, ListenerTable};
pub(super) use self::process::{
    AccessTable, CapsTable, ClientKeyTable, DrainTable, LogTable, ServerTable, TimeoutsTable,
    TrustedProxiesTable,
};
pub(super) use self::route::{BackendItem, HeadersTable, RouteTable};

use std::sync::LazyLock;

use toml::de::DeTable;

use super::fault::Place;
use super::findings::Findings;
use super::reader::{Given, Table};

/// The whole file.
pub(super) struct ConfigFile {
    pub(super) server: ServerTable,
    pub(super) listeners: Given<Vec<ListenerTable>>,
    pub(super) certificates: Given<Vec<CertificateTable>>,
    pub(super) routes: Given<Vec<RouteTable>>,
    pub(super) limits: LimitsTable,
    pub(super) heartbeat: HeartbeatTable,
    pub(super) timeouts: TimeoutsTable,
    pub(super) caps: CapsTable,
    pub(super) client_key: ClientKeyTable,
    pub(super) drain: DrainTable,
    pub(super) admin: AdminTable,
    pub(super) control: ControlTable,
    pub(super) log: LogTable,
    pub(super) access: AccessTable,
    pub(super) trusted_proxies: TrustedProxiesTable,
}

impl ConfigFile {
    /// Reads a document.
    pub(super) fn read(root: &DeTable<'_>, findings: &mut Findings<'_>) -> Self {
        Table::read(findings, Some(root), Place::default(), |file| Self {
            server: file.table("server", process::server),
            listeners: file.tables("listener", listener::listener),
            certificates: file.tables("certificate", listener::certificate),
            routes: file.tables("route", route::route),
            limits: file.table("limits", limits::limits),
            heartbeat: file.table("heartbeat", limits::heartbeat),
            timeouts: file.table("timeouts", process::timeouts),
            caps: file.table("caps", process::caps),
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
    let mut findings = Findings::noting(text);
    ConfigFile::read(root.get_ref(), &mut findings);
    findings.into_asked()
});
