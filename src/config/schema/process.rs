//! The tables that concern the process as a whole: `[server]`, `[timeouts]`, `[concurrency]`,
//! `[rates]`, `[client_key]`, `[drain]`, `[error_pages]`, `[log]`, `[access]` and `[trusted_proxies]`.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use ws::CloseCode;

use crate::config::settings::{ERROR_PAGES, ForwardedHeader, LogFormat};
use crate::config::toml::reader::TableReader;
use crate::config::toml::value::{Located, Parsed};
use crate::config::values::close_reason::CloseReason;
use crate::config::values::network::Network;
use crate::config::values::scalars::{
    OrAuto, OrOff, PerClientLimit, PrefixBits, QueryParameter, WorkerCount,
};
use crate::config::values::targets::{OptionalFile, RecordTarget};
use crate::config::values::units::{ByteSize, BytesPerSecond, PerSecond};

/// The table `[server]`.
pub(crate) struct ServerTable {
    pub(crate) workers: Parsed<OrAuto<WorkerCount>>,
}

/// The table `[timeouts]`.
pub(crate) struct TimeoutsTable {
    pub(crate) proxy_header: Parsed<Duration>,
    pub(crate) tls: Parsed<Duration>,
    pub(crate) request_header: Parsed<Duration>,
    pub(crate) keep_alive: Parsed<Duration>,
    pub(crate) requests: RequestTimeoutsTable,
}

/// The keys of `[timeouts]` that may also be in `[route.timeouts]`.
pub(crate) struct RequestTimeoutsTable {
    pub(crate) connect: Parsed<Duration>,
    pub(crate) response_header: Parsed<Duration>,
    pub(crate) idle: Parsed<Duration>,
    pub(crate) min_body_rate: Parsed<OrOff<BytesPerSecond>>,
    pub(crate) backend_keep_alive: Parsed<OrOff<Duration>>,
}

/// The table `[concurrency]`.
pub(crate) struct ConcurrencyTable {
    pub(crate) connections: Parsed<OrAuto<NonZeroU32>>,
    pub(crate) tunnels: Parsed<OrAuto<NonZeroU32>>,
    pub(crate) connections_per_client: Parsed<PerClientLimit<NonZeroU32>>,
    pub(crate) tunnels_per_client: Parsed<PerClientLimit<NonZeroU32>>,
    pub(crate) requests_per_client: Parsed<PerClientLimit<NonZeroU32>>,
    pub(crate) pending_memory: Parsed<OrAuto<ByteSize>>,
}

/// The table `[rates]`.
pub(crate) struct RatesTable {
    pub(crate) connections_per_client: Parsed<PerClientLimit<PerSecond>>,
    pub(crate) connections_burst: Parsed<PerClientLimit<NonZeroU32>>,
    pub(crate) handshakes_per_client: Parsed<PerClientLimit<PerSecond>>,
    pub(crate) handshakes_burst: Parsed<PerClientLimit<NonZeroU32>>,
    pub(crate) requests_per_client: Parsed<PerClientLimit<PerSecond>>,
    pub(crate) requests_burst: Parsed<PerClientLimit<NonZeroU32>>,
}

/// The table `[trusted_proxies]`.
pub(crate) struct TrustedProxiesTable {
    pub(crate) addresses: Parsed<Vec<Located<Network>>>,
    pub(crate) address_files: Parsed<Vec<Located<PathBuf>>>,
    pub(crate) header: Parsed<ForwardedHeader>,
}

/// The table `[client_key]`.
pub(crate) struct ClientKeyTable {
    pub(crate) ipv4_prefix: Parsed<PrefixBits<32>>,
    pub(crate) ipv6_prefix: Parsed<PrefixBits<128>>,
}

/// The table `[drain]`.
pub(crate) struct DrainTable {
    pub(crate) delay: Parsed<OrOff<Duration>>,
    pub(crate) window: Parsed<Duration>,
    pub(crate) deadline: Parsed<Duration>,
    pub(crate) rate: Parsed<OrOff<PerSecond>>,
    pub(crate) close: DrainCloseTable,
}

/// The keys of `[drain]` that may also be in `[route.drain]`.
pub(crate) struct DrainCloseTable {
    pub(crate) code: Parsed<CloseCode>,
    pub(crate) reason: Parsed<CloseReason>,
}

/// The table `[log]`.
pub(crate) struct LogTable {
    pub(crate) format: Parsed<LogFormat>,
    pub(crate) level: Parsed<tracing::Level>,
    pub(crate) redact: Parsed<Vec<Located<QueryParameter>>>,
}

/// The table `[error_pages]`, in the order of [`ERROR_PAGES`].
pub(crate) struct ErrorPagesTable(pub(crate) [Parsed<OptionalFile>; ERROR_PAGES.len()]);

/// The table `[access]`.
pub(crate) struct AccessTable {
    pub(crate) to: Parsed<RecordTarget>,
    pub(crate) format: Parsed<LogFormat>,
    pub(crate) start: Parsed<bool>,
    pub(crate) records_per_client: Parsed<OrOff<PerSecond>>,
}

pub(crate) fn server(table: &mut TableReader<'_, '_, '_>) -> ServerTable {
    ServerTable { workers: table.get("workers") }
}

pub(crate) fn timeouts(table: &mut TableReader<'_, '_, '_>) -> TimeoutsTable {
    TimeoutsTable {
        proxy_header: table.get("proxy_header"),
        tls: table.get("tls"),
        request_header: table.get("request_header"),
        keep_alive: table.get("keep_alive"),
        requests: request_timeouts(table),
    }
}

pub(crate) fn request_timeouts(table: &mut TableReader<'_, '_, '_>) -> RequestTimeoutsTable {
    RequestTimeoutsTable {
        connect: table.get("connect"),
        response_header: table.get("response_header"),
        idle: table.get("idle"),
        min_body_rate: table.get("min_body_rate"),
        backend_keep_alive: table.get("backend_keep_alive"),
    }
}

pub(crate) fn concurrency(table: &mut TableReader<'_, '_, '_>) -> ConcurrencyTable {
    ConcurrencyTable {
        connections: table.get("connections"),
        tunnels: table.get("tunnels"),
        connections_per_client: table.get("connections_per_client"),
        tunnels_per_client: table.get("tunnels_per_client"),
        requests_per_client: table.get("requests_per_client"),
        pending_memory: table.get("pending_memory"),
    }
}

pub(crate) fn rates(table: &mut TableReader<'_, '_, '_>) -> RatesTable {
    RatesTable {
        connections_per_client: table.get("connections_per_client"),
        connections_burst: table.get("connections_burst"),
        handshakes_per_client: table.get("handshakes_per_client"),
        handshakes_burst: table.get("handshakes_burst"),
        requests_per_client: table.get("requests_per_client"),
        requests_burst: table.get("requests_burst"),
    }
}

pub(crate) fn trusted_proxies(table: &mut TableReader<'_, '_, '_>) -> TrustedProxiesTable {
    TrustedProxiesTable {
        addresses: table.list("addresses"),
        address_files: table.list("address_files"),
        header: table.get("header"),
    }
}

impl TrustedProxiesTable {
    /// Whether it names no proxy, and no error was reported for the keys that could.
    pub(crate) fn is_empty(&self) -> bool {
        names_none(&self.addresses) && names_none(&self.address_files)
    }
}

fn names_none<T>(list: &Parsed<Vec<Located<T>>>) -> bool {
    !list.is_invalid() && list.value().is_none_or(Vec::is_empty)
}

pub(crate) fn client_key(table: &mut TableReader<'_, '_, '_>) -> ClientKeyTable {
    ClientKeyTable { ipv4_prefix: table.get("ipv4_prefix"), ipv6_prefix: table.get("ipv6_prefix") }
}

pub(crate) fn drain(table: &mut TableReader<'_, '_, '_>) -> DrainTable {
    DrainTable {
        delay: table.get("delay"),
        window: table.get("window"),
        rate: table.get("rate"),
        deadline: table.get("deadline"),
        close: drain_close(table),
    }
}

pub(crate) fn drain_close(table: &mut TableReader<'_, '_, '_>) -> DrainCloseTable {
    DrainCloseTable { code: table.get("code"), reason: table.get("reason") }
}

pub(crate) fn log(table: &mut TableReader<'_, '_, '_>) -> LogTable {
    LogTable {
        format: table.get("format"),
        level: table.get("level"),
        redact: table.list("redact"),
    }
}

pub(crate) fn error_pages(table: &mut TableReader<'_, '_, '_>) -> ErrorPagesTable {
    ErrorPagesTable(ERROR_PAGES.map(|(key, _)| table.get(key)))
}

pub(crate) fn access(table: &mut TableReader<'_, '_, '_>) -> AccessTable {
    AccessTable {
        to: table.get("to"),
        format: table.get("format"),
        start: table.get("start"),
        records_per_client: table.get("records_per_client"),
    }
}
