//! Warns before the local ports for connections to a backend run out.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::values::backend_address::BackendAddress;
use crate::proxy::local_ports::with_ports;
use crate::proxy::snapshot::Snapshot;
use crate::telemetry::events::local_ports_low;

/// The addresses of backends with few local ports.
#[derive(Debug, Default)]
pub struct LocalPortWarnings {
    checked: Option<Instant>,
    warned: HashSet<BackendAddress>,
}

impl LocalPortWarnings {
    /// Logs the backends that have few local ports and had more before, every few seconds.
    pub fn check(&mut self, snapshot: &Snapshot) {
        let now = Instant::now();
        if self.checked.is_some_and(|at| now.duration_since(at) < INTERVAL) {
            return;
        }
        self.checked = Some(now);
        let mut few = HashSet::new();
        for (backend, ports) in with_ports(snapshot.backends().collect(), &snapshot.open_tunnels())
        {
            let Some(ports) = ports.filter(|ports| ports.are_few()) else { continue };
            let address = &backend.address;
            if few.insert(address.clone()) && !self.warned.contains(address) {
                local_ports_low(&backend.id, &backend.counts.route.name, ports.left, ports.total);
            }
        }
        self.warned = few;
    }
}

const INTERVAL: Duration = Duration::from_secs(5);
