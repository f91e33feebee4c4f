//! Memory: how much the process may have, and whether as many tunnels as it may hold fit into it.

use std::fs;
use std::path::{Component, Path};

use super::descriptors::Capacity;
use crate::config::toml::late_diagnostic::LateDiagnostic;
use crate::config::values::units::ByteSize;

/// What the control group of this process, and those above it, leave it (`MemoryMax=` in a unit);
/// `None`: there is no limit, or it cannot be read.
pub fn limit() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    limit_in(&groups, Path::new("/sys/fs/cgroup"))
}

/// What to tell if as many tunnels as there may be take more than the limit, though they be idle.
pub fn too_little(room: &Capacity, limit: Option<u64>) -> Option<LateDiagnostic> {
    let limit = limit?;
    let tunnels = u64::try_from(room.tunnels).unwrap_or(u64::MAX);
    let need = BASE.saturating_add(tunnels.saturating_mul(TUNNEL));
    if need <= limit {
        return None;
    }
    let mib = |bytes: u64| ByteSize::new((bytes >> 20).max(1) << 20);
    let most = limit.saturating_sub(BASE) / TUNNEL;
    let problem = format!(
        "{tunnels} tunnels take about {} while they are idle, but the memory limit here is {}; \
         raise MemoryMax, or write at most {most}",
        mib(need),
        mib(limit)
    );
    Some(LateDiagnostic { key: "caps.tunnels".into(), problem })
}

/// The least `memory.max` on the way to the root (cgroup v2).
fn limit_in(groups: &str, root: &Path) -> Option<u64> {
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let own = Path::new(own);
    // Outside of what this namespace shows.
    if own.components().any(|step| step == Component::ParentDir) {
        return None;
    }
    let limits = own.ancestors().filter_map(|group| {
        let text = fs::read_to_string(root.join(group).join("memory.max")).ok()?;
        // "max" is none.
        text.trim().parse::<u64>().ok()
    });
    limits.min()
}

/// An idle wss tunnel (`docs/performance.md`), beside what the kernel takes for its two sockets.
const TUNNEL: u64 = 6 << 10;
/// The process without tunnels.
const BASE: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn room(tunnels: usize) -> Capacity {
        Capacity { connections: tunnels, tunnels }
    }

    // Requirements: CF16.
    #[test]
    fn warns_when_tunnels_exceed_memory() {
        let told = too_little(&room(100_000), Some(256 << 20)).unwrap();
        assert_eq!(told.key, "caps.tunnels");
        assert_eq!(
            told.problem,
            "100000 tunnels take about 601MiB while they are idle, but the memory \
             limit here is 256MiB; raise MemoryMax, or write at most 40960"
        );
        assert_eq!(too_little(&room(40_960), Some(256 << 20)), None);
        assert!(too_little(&room(40_961), Some(256 << 20)).is_some());
        assert_eq!(too_little(&room(usize::MAX), None), None);
        assert!(
            too_little(&room(1), Some(1)).is_some_and(|told| told.problem.contains("at most 0"))
        );
    }

    // Requirements: CF16.
    #[test]
    fn smallest_cgroup_limit_applies() {
        let root = std::env::temp_dir().join(format!("tidegate-{}-cgroup", std::process::id()));
        let own = root.join("system.slice/tidegate.service");
        fs::create_dir_all(&own).unwrap();
        fs::write(own.join("memory.max"), "max\n").unwrap();
        let groups = "4:memory:/other\n0::/system.slice/tidegate.service\n";
        assert_eq!(limit_in(groups, &root), None);
        fs::write(root.join("system.slice/memory.max"), "1048576\n").unwrap();
        assert_eq!(limit_in(groups, &root), Some(1 << 20));
        fs::write(own.join("memory.max"), "4096\n").unwrap();
        assert_eq!(limit_in(groups, &root), Some(4096));
        // Of a container the root is what it sees of itself.
        fs::write(root.join("memory.max"), "8192\n").unwrap();
        assert_eq!(limit_in("0::/\n", &root), Some(8192));
        assert_eq!(limit_in("0::/../elsewhere\n", &root), None);
        assert_eq!(limit_in("4:memory:/other\n", &root), None);
        fs::remove_dir_all(root).unwrap();
    }
}
