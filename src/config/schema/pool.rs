//! The table `[[pool]]`, and the lists of backends.

use toml::de::DeValue;

use crate::config::toml::diagnostic::Location;
use crate::config::toml::reader::TableReader;
use crate::config::toml::scalar::type_mismatch;
use crate::config::toml::sink::DiagnosticSink;
use crate::config::toml::value::{Located, Parsed};
use crate::config::values::backend_address::BackendAddress;
use crate::config::values::pool::{CertificateName, PoolName, SniName, TrustedIssuers};
use crate::config::values::scalars::{Label, OrAuto, Weight};
use crate::config::values::targets::OptionalFile;

/// The table `[[pool]]`.
pub(crate) struct PoolTable {
    /// The header of the table.
    pub(crate) location: Location,
    pub(crate) name: Parsed<PoolName>,
    pub(crate) backends: Parsed<Vec<Located<BackendItem>>>,
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

/// An item of `backends`: an address, or a table with an address.
pub(crate) struct BackendItem {
    pub(crate) address: Parsed<BackendAddress>,
    pub(crate) weight: Parsed<Weight>,
    pub(crate) id: Parsed<Label>,
}

pub(crate) fn pool(table: &mut TableReader<'_, '_, '_>) -> PoolTable {
    let name = table.get("name");
    let backends = table.list_with("backends", backend);
    PoolTable {
        location: table.location().clone(),
        name: table.require("name", "write the name that routes use: name = \"chat\"", name),
        backends: table.require("backends", BACKENDS, backends),
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
            }
        }),
        None => BackendItem {
            address: sink.value(location.clone(), value),
            weight: Parsed::Missing,
            id: Parsed::Missing,
        },
    };
    Parsed::Valid(Located { value: item, location })
}

pub(super) const BACKENDS: &str = "list its backends: backends = [\"127.0.0.1:9001\"]";
