//! What was written of the process as a whole: `[server]`, `[timeouts]`, `[caps]`, `[client_key]`, `[drain]`,
//! `[log]`, `[access]`, `[trusted_proxies]`.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::config::farewell::CloseReason;
use crate::config::kinds::{Always, Bits, OrAuto, OrOff, Parameter};
use crate::config::network::Network;
use crate::config::reader::{At, Given, Table};
use crate::config::settings::{ForwardedHeader, LogFormat, TlsStreamKind};
use crate::config::targets::RecordsTo;
use crate::config::units::PerSecond;
use crate::ws::CloseCode;

/// `[server]`
pub(in crate::config) struct ServerTable {
    pub(in crate::config) workers: Given<OrAuto<NonZeroU32>>,
    pub(in crate::config) tls: Given<TlsStreamKind>,
}

/// `[timeouts]`
pub(in crate::config) struct TimeoutsTable {
    pub(in crate::config) proxy_header: Given<Duration>,
    pub(in crate::config) tls: Given<Duration>,
    pub(in crate::config) head: Given<Duration>,
    pub(in crate::config) dial: Given<Duration>,
    pub(in crate::config) backend_answer: Given<Duration>,
    pub(in crate::config) http_silence: Given<Duration>,
}

/// `[caps]`
pub(in crate::config) struct CapsTable {
    pub(in crate::config) connections: Given<OrAuto<NonZeroU32>>,
    pub(in crate::config) tunnels: Given<OrAuto<NonZeroU32>>,
    pub(in crate::config) connections_per_client: Given<Always<NonZeroU32>>,
    pub(in crate::config) tunnels_per_client: Given<Always<NonZeroU32>>,
    pub(in crate::config) handshakes_per_client: Given<Always<PerSecond>>,
    pub(in crate::config) handshakes_burst: Given<Always<NonZeroU32>>,
}

/// `[trusted_proxies]`
pub(in crate::config) struct TrustedProxiesTable {
    pub(in crate::config) addresses: Given<Vec<At<Network>>>,
    pub(in crate::config) header: Given<ForwardedHeader>,
}

/// `[client_key]`
pub(in crate::config) struct ClientKeyTable {
    pub(in crate::config) ipv4_prefix: Given<Bits<32>>,
    pub(in crate::config) ipv6_prefix: Given<Bits<128>>,
}

/// `[drain]`
pub(in crate::config) struct DrainTable {
    pub(in crate::config) delay: Given<OrOff<Duration>>,
    pub(in crate::config) window: Given<Duration>,
    pub(in crate::config) deadline: Given<Duration>,
    pub(in crate::config) rate: Given<OrOff<PerSecond>>,
    pub(in crate::config) code: Given<CloseCode>,
    pub(in crate::config) reason: Given<CloseReason>,
}

/// `[log]`
pub(in crate::config) struct LogTable {
    pub(in crate::config) format: Given<LogFormat>,
    pub(in crate::config) level: Given<tracing::Level>,
    pub(in crate::config) redact: Given<Vec<At<Parameter>>>,
}

/// `[access]`
pub(in crate::config) struct AccessTable {
    pub(in crate::config) to: Given<RecordsTo>,
    pub(in crate::config) format: Given<LogFormat>,
    pub(in crate::config) start: Given<bool>,
}

pub(super) fn server(table: &mut Table<'_, '_, '_>) -> ServerTable {
    ServerTable { workers: table.get("workers"), tls: table.get("tls") }
}

pub(super) fn timeouts(table: &mut Table<'_, '_, '_>) -> TimeoutsTable {
    TimeoutsTable {
        proxy_header: table.get("proxy_header"),
        tls: table.get("tls"),
        head: table.get("head"),
        dial: table.get("dial"),
        backend_answer: table.get("backend_answer"),
        http_silence: table.get("http_silence"),
    }
}

pub(super) fn caps(table: &mut Table<'_, '_, '_>) -> CapsTable {
    CapsTable {
        connections: table.get("connections"),
        tunnels: table.get("tunnels"),
        connections_per_client: table.get("connections_per_client"),
        tunnels_per_client: table.get("tunnels_per_client"),
        handshakes_per_client: table.get("handshakes_per_client"),
        handshakes_burst: table.get("handshakes_burst"),
    }
}

pub(super) fn trusted_proxies(table: &mut Table<'_, '_, '_>) -> TrustedProxiesTable {
    TrustedProxiesTable { addresses: table.list("addresses"), header: table.get("header") }
}

pub(super) fn client_key(table: &mut Table<'_, '_, '_>) -> ClientKeyTable {
    ClientKeyTable { ipv4_prefix: table.get("ipv4_prefix"), ipv6_prefix: table.get("ipv6_prefix") }
}

pub(super) fn drain(table: &mut Table<'_, '_, '_>) -> DrainTable {
    DrainTable {
        delay: table.get("delay"),
        window: table.get("window"),
        rate: table.get("rate"),
        deadline: table.get("deadline"),
        code: table.get("code"),
        reason: table.get("reason"),
    }
}

pub(super) fn log(table: &mut Table<'_, '_, '_>) -> LogTable {
    LogTable {
        format: table.get("format"),
        level: table.get("level"),
        redact: table.list("redact"),
    }
}

pub(super) fn access(table: &mut Table<'_, '_, '_>) -> AccessTable {
    AccessTable { to: table.get("to"), format: table.get("format"), start: table.get("start") }
}
