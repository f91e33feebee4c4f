//! The table `[pool.probe]`.

use std::time::Duration;

use crate::config::toml::reader::TableReader;
use crate::config::toml::value::{Located, Parsed};
use crate::config::values::field::HeaderField;
use crate::config::values::probe::{
    ProbeChoice, ProbeCount, ProbeHost, ProbeInterval, ProbeTarget, StatusRange, Subprotocol,
};
use crate::config::values::scalars::{OrAuto, OrOff};

/// The table `[pool.probe]`.
pub(crate) struct ProbeTable {
    pub(crate) kind: Parsed<ProbeChoice>,
    pub(crate) path: Parsed<ProbeTarget>,
    pub(crate) host: Parsed<OrAuto<ProbeHost>>,
    pub(crate) headers: Parsed<Vec<Located<HeaderField>>>,
    pub(crate) status: Parsed<Vec<Located<StatusRange>>>,
    pub(crate) subprotocol: Parsed<OrOff<Subprotocol>>,
    pub(crate) interval: Parsed<ProbeInterval>,
    pub(crate) timeout: Parsed<Duration>,
    pub(crate) rise: Parsed<ProbeCount>,
    pub(crate) fall: Parsed<ProbeCount>,
}

pub(crate) fn probe(table: &mut TableReader<'_, '_, '_>) -> ProbeTable {
    ProbeTable {
        kind: table.get("kind"),
        path: table.get("path"),
        host: table.get("host"),
        headers: table.list("headers"),
        status: table.list("status"),
        subprotocol: table.get("subprotocol"),
        interval: table.get("interval"),
        timeout: table.get("timeout"),
        rise: table.get("rise"),
        fall: table.get("fall"),
    }
}
