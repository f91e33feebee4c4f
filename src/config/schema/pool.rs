//! The table `[[pool]]`, and the lists of backends.

use toml::de::DeValue;

use super::probe::{ProbeTable, probe};
use crate::config::toml::diagnostic::Location;
use crate::config::toml::reader::TableReader;
use crate::config::toml::sink::DiagnosticSink;
use crate::config::toml::value::{Located, Parsed};
use crate::config::values::close_reason::BackendLossPolicy;
use crate::config::values::patterns::BackendAddress;
use crate::config::values::pool::PoolName;
use crate::config::values::scalars::{Label, Weight};

/// The table `[[pool]]`.
pub(crate) struct PoolTable {
    /// The header of the table.
    pub(crate) location: Location,
    pub(crate) name: Parsed<PoolName>,
    pub(crate) backends: Parsed<Vec<Located<BackendItem>>>,
    pub(crate) on_backend_loss: Parsed<BackendLossPolicy>,
    pub(crate) probe: ProbeTable,
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
        on_backend_loss: table.get("on_backend_loss"),
        probe: table.table("probe", probe),
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
