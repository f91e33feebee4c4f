//! Resource usage of this process, read from proc(5) on demand.

use std::fs;

use rustix::process::{Resource, getrlimit};

/// Memory and file descriptors; `None` where the kernel does not provide the value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessUsage {
    /// Resident set size (`VmRSS`), in bytes.
    pub resident_bytes: Option<u64>,
    /// Number of open file descriptors.
    pub descriptors: Option<u64>,
    /// Soft limit on open file descriptors; `None` also if it is unlimited.
    pub descriptors_max: Option<u64>,
}

impl ProcessUsage {
    /// Reads the current values from `/proc/self`.
    pub fn read() -> Self {
        Self {
            resident_bytes: resident_bytes(),
            descriptors: descriptors(),
            descriptors_max: getrlimit(Resource::Nofile).current,
        }
    }
}

fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}

fn descriptors() -> Option<u64> {
    const DIRECTORY: &str = "/proc/self/fd";
    // Since Linux 6.2 the size of the directory is the number of descriptors; older kernels report 0.
    match fs::metadata(DIRECTORY).ok()?.len() {
        0 => u64::try_from(fs::read_dir(DIRECTORY).ok()?.count()).ok(),
        count => Some(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_read_from_the_kernel() {
        let process = ProcessUsage::read();
        assert!(process.resident_bytes.is_some_and(|bytes| bytes > 1 << 20), "{process:?}");
        let before = process.descriptors.unwrap();
        let held: Vec<_> = (0..50).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        // Other tests of this process also open and close files.
        assert!(ProcessUsage::read().descriptors.unwrap() >= before + 20);
        drop(held);
        assert!(process.descriptors_max > process.descriptors);
    }
}
