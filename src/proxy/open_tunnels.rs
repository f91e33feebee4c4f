//! Counts the open tunnels of each backend.

use std::collections::HashMap;

use super::snapshot::Snapshot;
use crate::telemetry::metrics::process_snapshot::TunnelsByBackend;

impl Snapshot {
    /// The open tunnels of all backends that are in use or have some. Those of a name count for the backend at the address
    /// that they were opened to.
    pub fn open_tunnels(&self) -> TunnelsByBackend {
        let pools: HashMap<&str, _> =
            self.route_list.iter().map(|route| (&*route.name, &route.pool)).collect();
        let mut open = TunnelsByBackend::new();
        for counts in self.metrics.tunnel_counts() {
            let pool = pools.get(&*counts.route.name);
            let id = pool.map_or_else(|| counts.id.clone(), |pool| pool.backend_with(&counts));
            *open.entry((counts.route.name.clone(), id)).or_default() += counts.open.get();
        }
        open
    }
}
