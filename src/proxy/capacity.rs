//! The number of connections and tunnels that this process can hold: the limit of open files bounds both,
//! and a memory limit that idle tunnels would exceed causes a warning.

use crate::config::settings::ConcurrencySettings;
use crate::config::toml::late_diagnostic::LateDiagnostic;
use crate::config::values::units::ByteSize;

/// Limits of the whole process, derived from the settings and the limit of open files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Maximum number of open client connections.
    pub connections: usize,
    /// Maximum number of open tunnels.
    pub tunnels: usize,
    /// Maximum number of connections to backends that wait for a request.
    pub idle_backend_connections: usize,
}

impl Capacity {
    /// Computes the limits for `descriptors` open files. A client connection needs two (one for itself,
    /// one for its backend); the listeners, idle backend connections and a reserve need the rest.
    ///
    /// # Errors
    /// Each configured limit that needs more file descriptors than there are.
    pub fn new(
        limits: &ConcurrencySettings,
        listeners: usize,
        descriptors: usize,
    ) -> Result<Self, Vec<LateDiagnostic>> {
        let idle_backend_connections = (descriptors / IDLE_SHARE).min(IDLE_MAX);
        let reserve = RESERVED_DESCRIPTORS + listeners + idle_backend_connections;
        let max = descriptors.saturating_sub(reserve) / 2;
        let error = |key: &str, count: usize| LateDiagnostic {
            key: key.into(),
            problem: format!(
                "{count} connections need {} file descriptors, but the limit here is \
                 {descriptors}; raise LimitNOFILE (ulimit -n), or write at most {max}",
                count.saturating_mul(2).saturating_add(reserve)
            ),
        };
        // At least one connection must be possible.
        let connections = limits.connections.unwrap_or(max.max(1));
        let tunnels = limits.tunnels.unwrap_or(connections.min(max));
        let all = [("concurrency.connections", connections), ("concurrency.tunnels", tunnels)];
        let over = all.into_iter().filter(|(_, count)| *count > max);
        let errors: Vec<_> = over.map(|(key, count)| error(key, count)).collect();
        if errors.is_empty() {
            Ok(Self { connections, tunnels, idle_backend_connections })
        } else {
            Err(errors)
        }
    }

    /// A warning if the maximum number of tunnels, all idle, needs more than `memory_limit` bytes.
    pub fn memory_warning(&self, memory_limit: Option<u64>) -> Option<LateDiagnostic> {
        let limit = memory_limit?;
        let tunnels = u64::try_from(self.tunnels).unwrap_or(u64::MAX);
        let needed = PROCESS_BYTES.saturating_add(tunnels.saturating_mul(TUNNEL_BYTES));
        if needed <= limit {
            return None;
        }
        let mib = |bytes: u64| ByteSize::new((bytes >> 20).max(1) << 20);
        let max = limit.saturating_sub(PROCESS_BYTES) / TUNNEL_BYTES;
        let problem = format!(
            "{tunnels} tunnels take about {} while they are idle, but the memory limit here is {}; \
             raise MemoryMax, or write at most {max}",
            mib(needed),
            mib(limit)
        );
        Some(LateDiagnostic { key: "concurrency.tunnels".into(), problem })
    }
}

/// Descriptors for the log, the admin listener, signals, the runtime and the sockets of systemd.
const RESERVED_DESCRIPTORS: usize = 64;
/// One of this many descriptors is for an idle connection to a backend,
const IDLE_SHARE: usize = 16;
/// at most this many. More are idle only after a burst of plain HTTP requests.
const IDLE_MAX: usize = 128;
/// Memory of one idle TLS tunnel (measured, see `docs/performance.md`), without kernel socket buffers.
const TUNNEL_BYTES: u64 = 6 << 10;
/// Memory of the process without tunnels (measured).
const PROCESS_BYTES: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(connections: Option<usize>) -> ConcurrencySettings {
        ConcurrencySettings {
            connections,
            tunnels: None,
            connections_per_client: 1,
            tunnels_per_client: 1,
            requests_per_client: 1,
        }
    }

    fn tunnels(tunnels: usize) -> Capacity {
        Capacity { connections: tunnels, tunnels, idle_backend_connections: 0 }
    }

    // Requirements: CF15.
    #[test]
    fn limit_beyond_descriptors_is_an_error() {
        assert_eq!(Capacity::new(&limits(None), 1, 1136).unwrap().connections, 500);
        let errors = Capacity::new(&limits(Some(501)), 1, 1136).unwrap_err();
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert_eq!(errors[0].key, "concurrency.connections");
        let text = &errors[0].problem;
        assert!(text.contains("need 1138") && text.contains("at most 500"), "{text}");
        let many = ConcurrencySettings { tunnels: Some(1000), ..limits(None) };
        assert_eq!(Capacity::new(&many, 1, 1136).unwrap_err()[0].key, "concurrency.tunnels");
        let both = ConcurrencySettings { connections: Some(2000), ..many };
        let errors = Capacity::new(&both, 1, 1136).unwrap_err();
        let keys: Vec<&str> = errors.iter().map(|error| error.key.as_str()).collect();
        assert_eq!(keys, ["concurrency.connections", "concurrency.tunnels"]);
        assert!(Capacity::new(&limits(None), 1, 65).is_err());
    }

    // Requirements: CF16.
    #[test]
    fn warns_when_tunnels_exceed_memory() {
        let warning = tunnels(100_000).memory_warning(Some(256 << 20)).unwrap();
        assert_eq!(warning.key, "concurrency.tunnels");
        assert_eq!(
            warning.problem,
            "100000 tunnels take about 601MiB while they are idle, but the memory \
             limit here is 256MiB; raise MemoryMax, or write at most 40960"
        );
        assert_eq!(tunnels(40_960).memory_warning(Some(256 << 20)), None);
        assert!(tunnels(40_961).memory_warning(Some(256 << 20)).is_some());
        assert_eq!(tunnels(usize::MAX).memory_warning(None), None);
        assert!(
            tunnels(1)
                .memory_warning(Some(1))
                .is_some_and(|warning| warning.problem.contains("at most 0"))
        );
    }
}
