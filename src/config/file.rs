//! What was written: `proxy.toml`, table by table, each value lawful by itself or reported. Nothing
//! is defaulted and no two keys are compared here. The functions below are the only list of keys.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::fault::Place;
use super::findings::Findings;
use super::kinds::{Bits, Label, OrAuto, OrOff, Parameter, RequestPath};
use super::origin::{OriginRule, RULES};
use super::reader::{At, Given, Table};
use super::settings::{Compression, LogFormat};
use super::units::{ByteSize, PerSecond};
use super::values::{BackendAddress, HostPattern, PathPrefix};
use crate::ws::CloseCode;

/// The whole file.
pub(super) struct ConfigFile {
    pub(super) workers: Given<OrAuto<NonZeroU32>>,
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
    pub(super) log: LogTable,
}

/// `[[listener]]`
pub(super) struct ListenerTable {
    /// Where the listener begins.
    pub(super) place: Place,
    pub(super) address: Given<SocketAddr>,
    pub(super) name: Given<Label>,
    pub(super) tls: Given<bool>,
    pub(super) health_path: Given<OrOff<RequestPath>>,
}

/// `[[certificate]]`
pub(super) struct CertificateTable {
    pub(super) chain: Given<PathBuf>,
    pub(super) key: Given<PathBuf>,
    pub(super) default: Given<bool>,
}

/// `[[route]]`
pub(super) struct RouteTable {
    /// Where the route begins.
    pub(super) place: Place,
    pub(super) host: Given<HostPattern>,
    pub(super) path: Given<PathPrefix>,
    pub(super) name: Given<Label>,
    pub(super) origins: Given<Vec<At<OriginRule>>>,
    pub(super) backends: Given<Vec<At<BackendItem>>>,
    pub(super) http: Given<bool>,
    pub(super) tunnels: Given<OrOff<NonZeroU32>>,
    pub(super) compression: Given<Compression>,
    pub(super) limits: LimitsTable,
    pub(super) heartbeat: HeartbeatTable,
}

/// An item of a route's `backends`: an address, or a table with one.
pub(super) struct BackendItem {
    pub(super) address: Given<BackendAddress>,
    pub(super) weight: Given<NonZeroU32>,
    pub(super) id: Given<Label>,
}

/// `[limits]` and `[route.limits]`
pub(super) struct LimitsTable {
    pub(super) message_from_client: Given<OrOff<ByteSize>>,
    pub(super) message_from_backend: Given<OrOff<ByteSize>>,
    pub(super) idle: Given<OrOff<Duration>>,
    pub(super) close_grace: Given<Duration>,
    pub(super) write_stall: Given<Duration>,
}

/// `[heartbeat]` and `[route.heartbeat]`
pub(super) struct HeartbeatTable {
    pub(super) interval: Given<OrOff<Duration>>,
    pub(super) patience: Given<Duration>,
}

/// `[timeouts]`
pub(super) struct TimeoutsTable {
    pub(super) tls: Given<Duration>,
    pub(super) head: Given<Duration>,
    pub(super) dial: Given<Duration>,
    pub(super) backend_answer: Given<Duration>,
    pub(super) http_silence: Given<Duration>,
}

/// `[caps]`
pub(super) struct CapsTable {
    pub(super) connections: Given<OrAuto<NonZeroU32>>,
    pub(super) tunnels: Given<OrAuto<NonZeroU32>>,
    pub(super) connections_per_client: Given<NonZeroU32>,
    pub(super) tunnels_per_client: Given<NonZeroU32>,
    pub(super) handshakes_per_client: Given<PerSecond>,
    pub(super) handshakes_burst: Given<NonZeroU32>,
}

/// `[client_key]`
pub(super) struct ClientKeyTable {
    pub(super) ipv4_prefix: Given<Bits<32>>,
    pub(super) ipv6_prefix: Given<Bits<128>>,
}

/// `[drain]`
pub(super) struct DrainTable {
    pub(super) window: Given<Duration>,
    pub(super) deadline: Given<Duration>,
    pub(super) code: Given<CloseCode>,
}

/// `[admin]`
pub(super) struct AdminTable {
    pub(super) address: Given<SocketAddr>,
    pub(super) enabled: Given<bool>,
    pub(super) public: Given<bool>,
}

/// `[log]`
pub(super) struct LogTable {
    pub(super) format: Given<LogFormat>,
    pub(super) level: Given<tracing::Level>,
    pub(super) redact: Given<Vec<At<Parameter>>>,
}

impl ConfigFile {
    /// Reads a document.
    pub(super) fn read(root: &DeTable<'_>, findings: &mut Findings<'_>) -> Self {
        Table::read(findings, Some(root), Place::default(), |file| Self {
            workers: file.table("server", |server| server.get("workers")),
            listeners: file.tables("listener", listener),
            certificates: file.tables("certificate", certificate),
            routes: file.tables("route", route),
            limits: file.table("limits", limits),
            heartbeat: file.table("heartbeat", heartbeat),
            timeouts: file.table("timeouts", timeouts),
            caps: file.table("caps", caps),
            client_key: file.table("client_key", client_key),
            drain: file.table("drain", drain),
            admin: file.table("admin", admin),
            log: file.table("log", log),
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

fn listener(table: &mut Table<'_, '_, '_>) -> ListenerTable {
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
        health_path: table.get("health_path"),
    }
}

fn certificate(table: &mut Table<'_, '_, '_>) -> CertificateTable {
    let chain = table.get("chain");
    let key = table.get("key");
    CertificateTable {
        chain: table.require("chain", "name its PEM file: chain = \"fullchain.pem\"", chain),
        key: table.require("key", "name the private key's PEM file: key = \"privkey.pem\"", key),
        default: table.get("default"),
    }
}

fn route(table: &mut Table<'_, '_, '_>) -> RouteTable {
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
        http: table.get("http"),
        tunnels: table.get("tunnels"),
        compression: table.get("compression"),
        limits: table.table("limits", limits),
        heartbeat: table.table("heartbeat", heartbeat),
    }
}

fn backend<'d>(
    findings: &mut Findings<'_>,
    place: Place,
    value: &'d DeValue<'d>,
) -> Given<BackendItem> {
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

fn limits(table: &mut Table<'_, '_, '_>) -> LimitsTable {
    LimitsTable {
        message_from_client: table.get("message_from_client"),
        message_from_backend: table.get("message_from_backend"),
        idle: table.get("idle"),
        close_grace: table.get("close_grace"),
        write_stall: table.get("write_stall"),
    }
}

fn heartbeat(table: &mut Table<'_, '_, '_>) -> HeartbeatTable {
    HeartbeatTable { interval: table.get("interval"), patience: table.get("patience") }
}

fn timeouts(table: &mut Table<'_, '_, '_>) -> TimeoutsTable {
    TimeoutsTable {
        tls: table.get("tls"),
        head: table.get("head"),
        dial: table.get("dial"),
        backend_answer: table.get("backend_answer"),
        http_silence: table.get("http_silence"),
    }
}

fn caps(table: &mut Table<'_, '_, '_>) -> CapsTable {
    CapsTable {
        connections: table.get("connections"),
        tunnels: table.get("tunnels"),
        connections_per_client: table.get("connections_per_client"),
        tunnels_per_client: table.get("tunnels_per_client"),
        handshakes_per_client: table.get("handshakes_per_client"),
        handshakes_burst: table.get("handshakes_burst"),
    }
}

fn client_key(table: &mut Table<'_, '_, '_>) -> ClientKeyTable {
    ClientKeyTable { ipv4_prefix: table.get("ipv4_prefix"), ipv6_prefix: table.get("ipv6_prefix") }
}

fn drain(table: &mut Table<'_, '_, '_>) -> DrainTable {
    DrainTable {
        window: table.get("window"),
        deadline: table.get("deadline"),
        code: table.get("code"),
    }
}

fn admin(table: &mut Table<'_, '_, '_>) -> AdminTable {
    AdminTable {
        address: table.get("address"),
        enabled: table.get("enabled"),
        public: table.get("public"),
    }
}

fn log(table: &mut Table<'_, '_, '_>) -> LogTable {
    LogTable {
        format: table.get("format"),
        level: table.get("level"),
        redact: table.list("redact"),
    }
}

const HOSTS: &str =
    "say which host it serves: \"chat.example.com\", \"*.example.com\", or \"*\" for any";
const BACKENDS: &str = "say where it leads: backends = [\"127.0.0.1:9001\"]";
