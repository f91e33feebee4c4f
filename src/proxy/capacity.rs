//! How many connections and tunnels this machine can hold: file descriptors bound both, and a memory
//! limit that idle tunnels would exceed is worth a warning.

use crate::config::settings::ConcurrencySettings;
use crate::config::toml::late_diagnostic::LateDiagnostic;
use crate::config::values::units::ByteSize;

/// The limits of the whole process, after file descriptors are taken into account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Open client connections.
    pub connections: usize,
    /// Open tunnels.
    pub tunnels: usize,
}

impl Capacity {
    /// Computes what fits under a limit of `descriptors`: a connection takes two (its own and its
    /// backend's), and the listeners and a reserve take the rest.
    ///
    /// # Errors
    /// A configured limit that does not fit.
    pub fn new(
        limits: &ConcurrencySettings,
        listeners: usize,
        descriptors: usize,
    ) -> Result<Self, LateDiagnostic> {
        let reserve = RESERVED_DESCRIPTORS + listeners;
        let most = descriptors.saturating_sub(reserve) / 2;
        let error = |key: &str, count: usize| LateDiagnostic {
            key: key.into(),
            problem: format!(
                "{count} connections need {} file descriptors, but the limit here is \
                 {descriptors}; raise LimitNOFILE (ulimit -n), or write at most {most}",
                count.saturating_mul(2).saturating_add(reserve)
            ),
        };
        if most == 0 {
            return Err(error("concurrency.connections", limits.connections.unwrap_or(1)));
        }
        let connections = limits.connections.unwrap_or(most);
        if connections > most {
            return Err(error("concurrency.connections", connections));
        }
        let tunnels = limits.tunnels.unwrap_or(connections);
        if tunnels > connections {
            return Err(error("concurrency.tunnels", tunnels));
        }
        Ok(Self { connections, tunnels })
    }

    /// A warning if the maximum number of tunnels, all idle, needs more than `memory_limit` bytes.
    pub fn memory_warning(&self, memory_limit: Option<u64>) -> Option<LateDiagnostic> {
        let limit = memory_limit?;
        let tunnels = u64::try_from(self.tunnels).unwrap_or(u64::MAX);
        let need = PROCESS_BYTES.saturating_add(tunnels.saturating_mul(TUNNEL_BYTES));
        if need <= limit {
            return None;
        }
        let mib = |bytes: u64| ByteSize::new((bytes >> 20).max(1) << 20);
        let most = limit.saturating_sub(PROCESS_BYTES) / TUNNEL_BYTES;
        let problem = format!(
            "{tunnels} tunnels take about {} while they are idle, but the memory limit here is {}; \
             raise MemoryMax, or write at most {most}",
            mib(need),
            mib(limit)
        );
        Some(LateDiagnostic { key: "concurrency.tunnels".into(), problem })
    }
}

/// Descriptors for the log, the admin listener, signals, the runtime and the sockets of systemd.
const RESERVED_DESCRIPTORS: usize = 64;
/// One idle wss tunnel (`docs/performance.md`), without the kernel's memory for its two sockets.
const TUNNEL_BYTES: u64 = 6 << 10;
/// The process without tunnels.
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
        }
    }

    fn tunnels(tunnels: usize) -> Capacity {
        Capacity { connections: tunnels, tunnels }
    }

    // Requirements: CF15.
    #[test]
    fn limit_beyond_descriptors_is_an_error() {
        assert_eq!(Capacity::new(&limits(None), 1, 1065).unwrap().connections, 500);
        let error = Capacity::new(&limits(Some(501)), 1, 1065).unwrap_err();
        assert_eq!(error.key, "concurrency.connections");
        let text = &error.problem;
        assert!(text.contains("need 1067") && text.contains("at most 500"), "{text}");
        let many = ConcurrencySettings { tunnels: Some(1000), ..limits(None) };
        assert_eq!(Capacity::new(&many, 1, 1065).unwrap_err().key, "concurrency.tunnels");
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
