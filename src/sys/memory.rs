//! The memory that the process may use: the limit of its control group, and the memory of the machine.

use std::fs;
use std::path::{Component, Path};

/// The memory limit in bytes: the smallest `memory.max` of the process's control group and its
/// ancestors (cgroup v2; `MemoryMax=` in a unit). `None` if there is no limit or it cannot be read.
pub fn limit() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    limit_in(&groups, Path::new("/sys/fs/cgroup"))
}

/// The memory that the process may use, in bytes: its [`limit`], or else that of the machine. `None` if neither can be
/// read.
pub fn available() -> Option<u64> {
    limit().or_else(|| machine(&fs::read_to_string("/proc/meminfo").ok()?))
}

/// The memory of the machine, from the content of `/proc/meminfo`.
fn machine(meminfo: &str) -> Option<u64> {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    total.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

/// As [`limit`], with the content of `/proc/self/cgroup` and the mount point of the cgroup tree.
fn limit_in(groups: &str, root: &Path) -> Option<u64> {
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let own = Path::new(own);
    // The group is outside of this cgroup namespace.
    if own.components().any(|step| step == Component::ParentDir) {
        return None;
    }
    let limits = own.ancestors().filter_map(|group| {
        let text = fs::read_to_string(root.join(group).join("memory.max")).ok()?;
        // "max" means no limit and does not parse.
        text.trim().parse::<u64>().ok()
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_the_machine_is_read() {
        let meminfo = "MemTotal:       24602164 kB\nMemFree:         1602164 kB\n";
        assert_eq!(machine(meminfo), Some(24_602_164 << 10));
        assert_eq!(machine("MemFree:         1602164 kB\n"), None);
        assert!(available().is_some_and(|bytes| bytes > 1 << 20));
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
        // In a container, the root of the tree is its own group.
        fs::write(root.join("memory.max"), "8192\n").unwrap();
        assert_eq!(limit_in("0::/\n", &root), Some(8192));
        assert_eq!(limit_in("0::/../elsewhere\n", &root), None);
        assert_eq!(limit_in("4:memory:/other\n", &root), None);
        fs::remove_dir_all(root).unwrap();
    }
}
