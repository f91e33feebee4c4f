//! The limit of open file descriptors (RLIMIT_NOFILE).

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the soft limit to the hard limit and returns what the limit is then.
pub fn raise_limit() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // If this fails, the soft limit stays, and is read next.
    let _ = setrlimit(Resource::Nofile, limit);
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(UNLIMITED);
    usize::try_from(limit.min(UNLIMITED)).unwrap_or(usize::MAX)
}

/// The value to use if the limit is infinite.
const UNLIMITED: u64 = 1 << 20;
