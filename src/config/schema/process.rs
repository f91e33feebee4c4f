//! What was written of the process as a whole: `[server]`, `[timeouts]`, `[caps]`, `[client_key]`, `[drain]`,
//! `[log]`, `[access]`, `[trusted_proxies]`.

use std::num::NonZeroU32;
use std::time::Duration;

use ws::CloseCode;

use crate::config::settings::{ForwardedHeader, LogFormat, TlsStreamKind};
use crate::config::toml::reader::{At, Given, Table};
use crate::config::values::close_reason::CloseReason;
use crate::config::values::network::Network;
use crate::config::values::scalars::{Always, Bits, OrAuto, OrOff, Parameter};
use crate::config::values::targets::RecordsTo;
use crate::config::values::units::PerSecond;

/// `[server]`
pub(crate) struct ServerTable {
    pub(crate) workers: Given<OrAuto<NonZeroU32>>,
    pub(crate) tls: Given<TlsStreamKind>,
}

/// `[timeouts]`
pub(crate) struct TimeoutsTable {
    pub(crate) proxy_header: Given<Duration>,
    pub(crate) tls: Given<Duration>,
    pub(crate) head: Given<Duration>,
    pub(crate) dial: Given<Duration>,
    pub(crate) backend_answer: Given<Duration>,
    pub(crate) http_silence: Given<Duration>,
}

/// `[caps]`
pub(crate) struct CapsTable {
    pub(crate) connections: Given<OrAuto<NonZeroU32>>,
    pub(crate) tunnels: Given<OrAuto<NonZeroU32>>,
    pub(crate) connections_per_client: Given<Always<NonZeroU32>>,
    pub(crate) tunnels_per_client: Given<Always<NonZeroU32>>,
    pub(crate) handshakes_per_client: Given<Always<PerSecond>>,
    pub(crate) handshakes_burst: Given<Always<NonZeroU32>>,
}

/// `[trusted_proxies]`
pub(crate) struct TrustedProxiesTable {
    pub(crate) addresses: Given<Vec<At<Network>>>,
    pub(crate) header: Given<ForwardedHeader>,
}

/// `[client_key]`
pub(crate) struct ClientKeyTable {
    pub(crate) ipv4_prefix: Given<Bits<32>>,
    pub(crate) ipv6_prefix: Given<Bits<128>>,
}

/// `[drain]`
pub(crate) struct DrainTable {
    pub(crate) delay: Given<OrOff<Duration>>,
    pub(crate) window: Given<Duration>,
    pub(crate) deadline: Given<Duration>,
    pub(crate) rate: Given<OrOff<PerSecond>>,
    pub(crate) code: Given<CloseCode>,
    pub(crate) reason: Given<CloseReason>,
}

/// `[log]`
pub(crate) struct LogTable {
    pub(crate) format: Given<LogFormat>,
    pub(crate) level: Given<tracing::Level>,
    pub(crate) redact: Given<Vec<At<Parameter>>>,
}

/// `[access]`
pub(crate) struct AccessTable {
    pub(crate) to: Given<RecordsTo>,
    pub(crate) format: Given<LogFormat>,
    pub(crate) start: Given<bool>,
}

pub(crate) fn server(table: &mut Table<'_, '_, '_>) -> ServerTable {
    ServerTable { workers: table.get("workers"), tls: table.get("tls") }
}

pub(crate) fn timeouts(table: &mut Table<'_, '_, '_>) -> TimeoutsTable {
    TimeoutsTable {
        proxy_header: table.get("proxy_header"),
        tls: table.get("tls"),
        head: table.get("head"),
        dial: table.get("dial"),
        backend_answer: table.get("backend_answer"),
        http_silence: table.get("http_silence"),
    }
}

pub(crate) fn caps(table: &mut Table<'_, '_, '_>) -> CapsTable {
    CapsTable {
        connections: table.get("connections"),
        tunnels: table.get("tunnels"),
        connections_per_client: table.get("connections_per_client"),
        tunnels_per_client: table.get("tunnels_per_client"),
        handshakes_per_client: table.get("handshakes_per_client"),
        handshakes_burst: table.get("handshakes_burst"),
    }
}

pub(crate) fn trusted_proxies(table: &mut Table<'_, '_, '_>) -> TrustedProxiesTable {
    TrustedProxiesTable { addresses: table.list("addresses"), header: table.get("header") }
}

pub(crate) fn client_key(table: &mut Table<'_, '_, '_>) -> ClientKeyTable {
    ClientKeyTable { ipv4_prefix: table.get("ipv4_prefix"), ipv6_prefix: table.get("ipv6_prefix") }
}

pub(crate) fn drain(table: &mut Table<'_, '_, '_>) -> DrainTable {
    DrainTable {
        delay: table.get("delay"),
        window: table.get("window"),
        rate: table.get("rate"),
        deadline: table.get("deadline"),
        code: table.get("code"),
        reason: table.get("reason"),
    }
}

pub(crate) fn log(table: &mut Table<'_, '_, '_>) -> LogTable {
    LogTable {
        format: table.get("format"),
        level: table.get("level"),
        redact: table.list("redact"),
    }
}

pub(crate) fn access(table: &mut Table<'_, '_, '_>) -> AccessTable {
    AccessTable { to: table.get("to"), format: table.get("format"), start: table.get("start") }
}
