//! What the kernel says of this process (proc(5)), read when somebody asks.

use std::fs;

use rustix::process::{Resource, getrlimit};

/// What it holds, and may hold; `None` where the kernel does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessUsage {
    /// Bytes of memory that are resident.
    pub resident: Option<u64>,
    /// File descriptors open now.
    pub descriptors: Option<u64>,
    /// File descriptors it may open.
    pub descriptors_max: Option<u64>,
}

impl ProcessUsage {
    /// As it is now.
    pub fn read() -> Self {
        Self {
            resident: resident(),
            descriptors: descriptors(),
            descriptors_max: getrlimit(Resource::Nofile).current,
        }
    }
}

fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}

fn descriptors() -> Option<u64> {
    const FOLDER: &str = "/proc/self/fd";
    // Linux 6.2 and later tell the number without a walk over all of them.
    match fs::metadata(FOLDER).ok()?.len() {
        0 => u64::try_from(fs::read_dir(FOLDER).ok()?.count()).ok(),
        count => Some(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells() {
        let process = ProcessUsage::read();
        assert!(process.resident.is_some_and(|bytes| bytes > 1 << 20), "{process:?}");
        let before = process.descriptors.unwrap();
        let held: Vec<_> = (0..50).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        // Other tests of this process open and close files, too.
        assert!(ProcessUsage::read().descriptors.unwrap() >= before + 20);
        drop(held);
        assert!(process.descriptors_max > process.descriptors);
    }
}
