//! File descriptors: how many there may be, and how many connections fit into them.

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::config::settings::ConcurrencySettings;
use crate::config::toml::late_diagnostic::LateDiagnostic;

/// Caps that can be met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Connections of the whole process.
    pub connections: usize,
    /// Tunnels of the whole process.
    pub tunnels: usize,
}

/// Raises the soft limit to the hard one and returns it.
pub fn raise_limit() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // A refusal leaves the soft limit, which is read next.
    let _ = setrlimit(Resource::Nofile, limit);
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(UNLIMITED);
    usize::try_from(limit.min(UNLIMITED)).unwrap_or(usize::MAX)
}

/// What fits under `descriptors`: two for each connection, its own and its backend's, beside
/// listeners and a reserve. A configured cap that does not fit is a fault.
pub fn room(
    caps: &ConcurrencySettings,
    listeners: usize,
    descriptors: usize,
) -> Result<Capacity, LateDiagnostic> {
    let reserve = RESERVE + listeners;
    let most = descriptors.saturating_sub(reserve) / 2;
    let refuse = |key: &str, count: usize| LateDiagnostic {
        key: key.into(),
        problem: format!(
            "{count} connections need {} file descriptors, but the limit here is {descriptors}; \
             raise LimitNOFILE (ulimit -n), or write at most {most}",
            count.saturating_mul(2).saturating_add(reserve)
        ),
    };
    if most == 0 {
        return Err(refuse("caps.connections", caps.connections.unwrap_or(1)));
    }
    let connections = caps.connections.unwrap_or(most);
    if connections > most {
        return Err(refuse("caps.connections", connections));
    }
    let tunnels = caps.tunnels.unwrap_or(connections);
    if tunnels > connections {
        return Err(refuse("caps.tunnels", tunnels));
    }
    Ok(Capacity { connections, tunnels })
}

/// Log, admin, signals, the runtime's own, and health of the service manager's socket.
const RESERVE: usize = 64;
/// What an unlimited limit is taken for.
const UNLIMITED: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn caps(connections: Option<usize>) -> ConcurrencySettings {
        ConcurrencySettings {
            connections,
            tunnels: None,
            connections_per_client: 1,
            tunnels_per_client: 1,
            handshakes_per_client: NonZeroU32::MIN,
            handshakes_burst: NonZeroU32::MIN,
        }
    }

    // Requirements: CF15.
    #[test]
    fn limit_beyond_descriptors_is_an_error() {
        assert_eq!(room(&caps(None), 1, 1065).unwrap().connections, 500);
        let fault = room(&caps(Some(501)), 1, 1065).unwrap_err();
        assert_eq!(fault.key, "caps.connections");
        let words = &fault.problem;
        assert!(words.contains("need 1067") && words.contains("at most 500"), "{words}");
        let many = ConcurrencySettings { tunnels: Some(1000), ..caps(None) };
        assert_eq!(room(&many, 1, 1065).unwrap_err().key, "caps.tunnels");
        assert!(room(&caps(None), 1, 65).is_err());
    }
}
