//! Local ports: a connection from one address of this machine to one address of a backend needs one of its own.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crate::config::values::backend_address::BackendAddress;
use crate::sys::local_ports;
use crate::telemetry::metrics::process_snapshot::TunnelsByBackend;
use crate::upstream::pool::Backend;

/// The local ports for connections to one address of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalPorts {
    /// How many connections are possible.
    pub total: usize,
    /// How many more are possible next to the open tunnels. Plain requests, other programs and connections that are about
    /// to end need some as well.
    pub left: usize,
}

impl LocalPorts {
    /// Whether a tenth is left, or less.
    pub fn are_few(self) -> bool {
        self.left * 10 <= self.total
    }
}

/// Backends with the local ports for those that have a TCP port. Routes that use the same address share its ports.
pub fn with_ports(
    backends: Vec<Arc<Backend>>,
    tunnels: &TunnelsByBackend,
) -> impl Iterator<Item = (Arc<Backend>, Option<LocalPorts>)> {
    let range = local_ports::range();
    let mut open: HashMap<BackendAddress, usize> = HashMap::new();
    for backend in &backends {
        let of = (backend.counts.route.name.clone(), backend.id.clone());
        let of = tunnels.get(&of).copied().unwrap_or_default() as usize;
        *open.entry(backend.address.clone()).or_default() += of;
    }
    backends.into_iter().map(move |backend| {
        let total = range.zip(sources(&backend)).map(|(range, sources)| range * sources);
        let open = open.get(&backend.address).copied().unwrap_or_default();
        let ports = total.map(|total| LocalPorts { total, left: total.saturating_sub(open) });
        (backend, ports)
    })
}

/// The number of addresses from which connections to a backend come; `None` for a Unix socket.
fn sources(backend: &Backend) -> Option<usize> {
    let BackendAddress::Tcp { host, .. } = &backend.address else { return None };
    // A name with one address may have either family.
    let to = host.parse::<IpAddr>().unwrap_or(Ipv4Addr::UNSPECIFIED.into());
    Some(backend.sources.as_ref().map_or(1, |sources| sources.count_for(to)))
}
