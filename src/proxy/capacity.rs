//! The number of connections and tunnels that this process can hold: the limit of open files bounds both,
//! and a memory limit that idle tunnels and the connections without one would exceed causes a warning.

use crate::admission::pending_memory::DEAREST_BYTES;
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
    /// Maximum memory of the connections that carry no tunnel, in bytes.
    pub pending_memory: u64,
}

impl Capacity {
    /// Computes the limits for `descriptors` open files and `memory` bytes. A client connection needs two (one for itself,
    /// one for its backend); the listeners, idle backend connections and a reserve need the rest.
    ///
    /// # Errors
    /// Each configured limit that needs more file descriptors than there are.
    pub fn new(
        limits: &ConcurrencySettings,
        listeners: usize,
        descriptors: usize,
        memory: Option<u64>,
    ) -> Result<Self, Vec<LateDiagnostic>> {
        let idle_backend_connections = idle_max(descriptors);
        let reserve = reserve(listeners, descriptors);
        let max = connections_max(listeners, descriptors);
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
            let share = memory.map_or(u64::MAX, |bytes| bytes / MEMORY_SHARE);
            let pending_memory = limits.pending_memory.unwrap_or(share);
            Ok(Self { connections, tunnels, idle_backend_connections, pending_memory })
        } else {
            Err(errors)
        }
    }

    /// Checks that the limit of open files leaves room for a connection.
    ///
    /// # Errors
    /// How many it would have to allow.
    pub fn check_descriptors(listeners: usize, descriptors: usize) -> Result<(), String> {
        if connections_max(listeners, descriptors) > 0 {
            return Ok(());
        }
        let mut needed = descriptors..;
        let needed = needed.find(|more| connections_max(listeners, *more) > 0).unwrap_or_default();
        Err(format!(
            "the limit of open files is {descriptors}, and one connection needs {needed}; raise LimitNOFILE \
             (ulimit -n)"
        ))
    }

    /// A warning if the maximum number of tunnels, all idle, and the connections without one need more than
    /// `memory_limit` bytes. Of those, each may be in the stage that takes the most.
    pub fn memory_warning(&self, memory_limit: Option<u64>) -> Option<LateDiagnostic> {
        let limit = memory_limit?;
        let bytes =
            |count: usize, each| u64::try_from(count).unwrap_or(u64::MAX).saturating_mul(each);
        let (tunnels, pending) = (
            bytes(self.tunnels, TUNNEL_BYTES),
            bytes(self.connections, DEAREST_BYTES).min(self.pending_memory),
        );
        let needed = PROCESS_BYTES.saturating_add(tunnels).saturating_add(pending);
        if needed <= limit {
            return None;
        }
        let mib = |bytes: u64| ByteSize::new((bytes >> 20).max(1) << 20);
        let max = limit.saturating_sub(PROCESS_BYTES).saturating_sub(pending) / TUNNEL_BYTES;
        let problem = format!(
            "{} tunnels take about {} while they are idle, and the connections without one up to {} \
             (concurrency.pending_memory), but the memory limit here is {}; raise MemoryMax, or write at most {max}",
            self.tunnels,
            mib(PROCESS_BYTES.saturating_add(tunnels)),
            mib(pending),
            mib(limit)
        );
        Some(LateDiagnostic { key: "concurrency.tunnels".into(), problem })
    }
}

/// How many connections to backends may be idle.
fn idle_max(descriptors: usize) -> usize {
    (descriptors / IDLE_SHARE).min(IDLE_MAX)
}

/// Descriptors that no client connection can use.
fn reserve(listeners: usize, descriptors: usize) -> usize {
    RESERVED_DESCRIPTORS + listeners + idle_max(descriptors)
}

/// How many connections this many open files allow.
fn connections_max(listeners: usize, descriptors: usize) -> usize {
    descriptors.saturating_sub(reserve(listeners, descriptors)) / 2
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
/// One of this many bytes of memory is for connections without a tunnel. A quarter of 1 GiB lets 25,000 wait, or 5,000
/// have a request in progress.
const MEMORY_SHARE: u64 = 4;

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
            pending_memory: None,
        }
    }

    fn tunnels(tunnels: usize) -> Capacity {
        Capacity { connections: 0, tunnels, idle_backend_connections: 0, pending_memory: 0 }
    }

    // Requirements: CF15.
    #[test]
    fn limit_beyond_descriptors_is_an_error() {
        assert_eq!(Capacity::new(&limits(None), 1, 1136, None).unwrap().connections, 500);
        let errors = Capacity::new(&limits(Some(501)), 1, 1136, None).unwrap_err();
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert_eq!(errors[0].key, "concurrency.connections");
        let text = &errors[0].problem;
        assert!(text.contains("need 1138") && text.contains("at most 500"), "{text}");
        let many = ConcurrencySettings { tunnels: Some(1000), ..limits(None) };
        assert_eq!(Capacity::new(&many, 1, 1136, None).unwrap_err()[0].key, "concurrency.tunnels");
        let both = ConcurrencySettings { connections: Some(2000), ..many };
        let errors = Capacity::new(&both, 1, 1136, None).unwrap_err();
        let keys: Vec<&str> = errors.iter().map(|error| error.key.as_str()).collect();
        assert_eq!(keys, ["concurrency.connections", "concurrency.tunnels"]);
        assert!(Capacity::new(&limits(None), 1, 65, None).is_err());
    }

    #[test]
    fn too_few_descriptors_for_anything_are_counted() {
        assert_eq!(Capacity::check_descriptors(1, 71), Ok(()));
        for too_few in [0, 60, 70] {
            let error = Capacity::check_descriptors(1, too_few).unwrap_err();
            assert!(
                error.contains(&format!("is {too_few}, and one connection needs 71;")),
                "{error}"
            );
            assert!(Capacity::new(&limits(None), 1, too_few, None).is_err());
        }
        assert_eq!(Capacity::new(&limits(None), 1, 71, None).unwrap().connections, 1);
    }

    // Requirements: CF16.
    #[test]
    fn warns_when_tunnels_exceed_memory() {
        let warning = tunnels(100_000).memory_warning(Some(256 << 20)).unwrap();
        assert_eq!(warning.key, "concurrency.tunnels");
        assert_eq!(
            warning.problem,
            "100000 tunnels take about 601MiB while they are idle, and the connections without one \
             up to 1MiB (concurrency.pending_memory), but the memory limit here is 256MiB; raise \
             MemoryMax, or write at most 40960"
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

    #[test]
    fn connections_without_tunnels_have_a_share_of_memory() {
        let capacity = |pending_memory, memory| {
            let limits = ConcurrencySettings { pending_memory, ..limits(Some(100)) };
            Capacity::new(&limits, 1, 1136, memory).unwrap()
        };
        assert_eq!(capacity(None, Some(1 << 30)).pending_memory, 256 << 20);
        assert_eq!(capacity(None, None).pending_memory, u64::MAX);
        let fixed = capacity(Some(64 << 20), Some(1 << 30));
        assert_eq!(fixed.pending_memory, 64 << 20);
        // A hundred connections in the dearest stage take less.
        let dearest = 100 * DEAREST_BYTES;
        assert!(dearest < 64 << 20);
        let needed = PROCESS_BYTES + 100 * TUNNEL_BYTES + dearest;
        assert_eq!(fixed.memory_warning(Some(needed)), None);
        assert!(fixed.memory_warning(Some(needed - 1)).is_some());
        let many = Capacity { connections: 1_000_000, ..fixed };
        let needed = PROCESS_BYTES + 100 * TUNNEL_BYTES + (64 << 20);
        assert_eq!(many.memory_warning(Some(needed)), None);
        assert!(many.memory_warning(Some(needed - 1)).is_some());
    }
}
