//! The table `[[pool]]`, and the lists of backends.

use std::num::NonZeroU32;
use std::time::Duration;

use toml::de::DeValue;

use super::probe::{ProbeTable, probe};
use crate::config::settings::choice::{Balance, RebalanceMode, SameSite};
use crate::config::toml::diagnostic::Location;
use crate::config::toml::reader::TableReader;
use crate::config::toml::scalar::type_mismatch;
use crate::config::toml::sink::DiagnosticSink;
use crate::config::toml::value::{Located, Parsed};
use crate::config::values::backend_address::BackendAddress;
use crate::config::values::close_reason::BackendLossPolicy;
use crate::config::values::cookie::{CookieDomain, CookieName, CookiePath, CookieValue};
use crate::config::values::hash_source::{CanaryMark, HashSource};
use crate::config::values::pool::{
    CertificateName, LookupInterval, PoolName, SniName, SourceAddress, TrustedIssuers,
};
use crate::config::values::scalars::{BalanceFactor, Label, OrAuto, OrOff, Weight};
use crate::config::values::share::Share;
use crate::config::values::targets::OptionalFile;
use crate::config::values::units::PerSecond;

/// The table `[[pool]]`.
pub(crate) struct PoolTable {
    /// The header of the table.
    pub(crate) location: Location,
    pub(crate) name: Parsed<PoolName>,
    pub(crate) backends: Parsed<Vec<Located<BackendItem>>>,
    pub(crate) on_backend_loss: Parsed<BackendLossPolicy>,
    pub(crate) bind: Parsed<Vec<Located<SourceAddress>>>,
    pub(crate) resolve: Parsed<OrOff<LookupInterval>>,
    pub(crate) probe: ProbeTable,
    pub(crate) choice: ChoiceKeys,
    pub(crate) tls: Parsed<Option<PoolTlsTable>>,
}

/// The table `[pool.tls]`, or `tls = true` for one without keys.
pub(crate) struct PoolTlsTable {
    pub(crate) ca: Parsed<TrustedIssuers>,
    pub(crate) server_name: Parsed<OrAuto<SniName>>,
    pub(crate) verify_name: Parsed<OrAuto<CertificateName>>,
    pub(crate) certificate: Parsed<OptionalFile>,
    pub(crate) key: Parsed<OptionalFile>,
    pub(crate) insecure_skip_verify: Parsed<bool>,
}

/// The keys of a `[[pool]]` about choosing a backend.
pub(crate) struct ChoiceKeys {
    pub(crate) hash: Parsed<HashSource>,
    pub(crate) balance: Parsed<Balance>,
    pub(crate) hash_balance_factor: Parsed<OrOff<BalanceFactor>>,
    pub(crate) slow_start: Parsed<OrOff<Duration>>,
    pub(crate) queue: Parsed<OrOff<NonZeroU32>>,
    pub(crate) queue_time: Parsed<Duration>,
    pub(crate) canary: CanaryTable,
    pub(crate) pin: PinTable,
    pub(crate) rebalance: Parsed<RebalanceMode>,
    pub(crate) rebalance_rate: Parsed<PerSecond>,
}

/// The table `[pool.canary]`.
pub(crate) struct CanaryTable {
    pub(crate) share: Parsed<Share>,
    pub(crate) request: Parsed<OrOff<CanaryMark>>,
}

/// The table `[pool.pin]`.
pub(crate) struct PinTable {
    pub(crate) cookie: Parsed<OrOff<CookieName>>,
    pub(crate) key_file: Parsed<OptionalFile>,
    pub(crate) path: Parsed<CookiePath>,
    pub(crate) domain: Parsed<OrOff<CookieDomain>>,
    pub(crate) secure: Parsed<bool>,
    pub(crate) http_only: Parsed<bool>,
    pub(crate) same_site: Parsed<SameSite>,
    pub(crate) partitioned: Parsed<bool>,
}

/// An item of `backends`: an address, or a table with an address.
pub(crate) struct BackendItem {
    pub(crate) address: Parsed<BackendAddress>,
    pub(crate) weight: Parsed<Weight>,
    pub(crate) id: Parsed<Label>,
    pub(crate) backup: Parsed<bool>,
    pub(crate) canary: Parsed<bool>,
    pub(crate) max_tunnels: Parsed<OrOff<NonZeroU32>>,
    pub(crate) cookie_value: Parsed<OrOff<CookieValue>>,
}

pub(crate) fn pool(table: &mut TableReader<'_, '_, '_>) -> PoolTable {
    let name = table.get("name");
    let backends = table.list_with("backends", backend);
    PoolTable {
        location: table.location().clone(),
        name: table.require("name", "write the name that routes use: name = \"chat\"", name),
        backends: table.require("backends", BACKENDS, backends),
        on_backend_loss: table.get("on_backend_loss"),
        bind: table.list("bind"),
        resolve: table.get("resolve"),
        probe: table.table("probe", probe),
        choice: ChoiceKeys {
            hash: table.get("hash"),
            balance: table.get("balance"),
            hash_balance_factor: table.get("hash_balance_factor"),
            slow_start: table.get("slow_start"),
            queue: table.get("queue"),
            queue_time: table.get("queue_time"),
            canary: table.table("canary", |table| CanaryTable {
                share: table.get("share"),
                request: table.get("request"),
            }),
            pin: table.table("pin", pin),
            rebalance: table.get("rebalance"),
            rebalance_rate: table.get("rebalance_rate"),
        },
        tls: table.get_with("tls", tls),
    }
}

fn tls<'d>(
    sink: &mut DiagnosticSink<'_>,
    location: Location,
    value: &'d DeValue<'d>,
) -> Parsed<Option<PoolTlsTable>> {
    let entries = value.as_table();
    let table = match value.as_bool() {
        Some(false) => None,
        // Without entries, all keys are missing.
        Some(true) => Some(TableReader::read(sink, None, location.clone(), tls_keys)),
        None if entries.is_some() => {
            Some(TableReader::read(sink, entries, location.clone(), tls_keys))
        }
        None => {
            let problem = type_mismatch("true, false or a table", value);
            sink.report(&location, problem.help("write tls = true, or [pool.tls] with its keys"));
            return Parsed::Invalid;
        }
    };
    Parsed::Valid(Located { value: table, location })
}

fn tls_keys(table: &mut TableReader<'_, '_, '_>) -> PoolTlsTable {
    PoolTlsTable {
        ca: table.get("ca"),
        server_name: table.get("server_name"),
        verify_name: table.get("verify_name"),
        certificate: table.get("certificate"),
        key: table.get("key"),
        insecure_skip_verify: table.get("insecure_skip_verify"),
    }
}

fn pin(table: &mut TableReader<'_, '_, '_>) -> PinTable {
    PinTable {
        cookie: table.get("cookie"),
        key_file: table.get("key_file"),
        path: table.get("path"),
        domain: table.get("domain"),
        secure: table.get("secure"),
        http_only: table.get("http_only"),
        same_site: table.get("same_site"),
        partitioned: table.get("partitioned"),
    }
}

pub(super) fn backend<'d>(
    sink: &mut DiagnosticSink<'_>,
    location: Location,
    value: &'d DeValue<'d>,
) -> Parsed<BackendItem> {
    // A backend in short form consists of its address.
    sink.record_location(&location);
    let item = match value.as_table() {
        Some(entries) => TableReader::read(sink, Some(entries), location.clone(), |table| {
            let address = table.get("address");
            BackendItem {
                address: table.require(
                    "address",
                    "write its address: address = \"127.0.0.1:9001\"",
                    address,
                ),
                weight: table.get("weight"),
                id: table.get("id"),
                backup: table.get("backup"),
                canary: table.get("canary"),
                max_tunnels: table.get("max_tunnels"),
                cookie_value: table.get("cookie_value"),
            }
        }),
        None => BackendItem {
            address: sink.value(location.clone(), value),
            weight: Parsed::Missing,
            id: Parsed::Missing,
            backup: Parsed::Missing,
            canary: Parsed::Missing,
            max_tunnels: Parsed::Missing,
            cookie_value: Parsed::Missing,
        },
    };
    Parsed::Valid(Located { value: item, location })
}

pub(super) const BACKENDS: &str = "list its backends: backends = [\"127.0.0.1:9001\"]";
