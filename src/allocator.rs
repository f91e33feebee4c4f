//! The allocator of the program: jemalloc keeps less memory than glibc's malloc after TLS handshakes
//! (`docs/performance.md`).

use tikv_jemalloc_ctl::{Access, AsName, background_thread};
use tikv_jemallocator::Jemalloc;

/// Also replaces malloc for C code: aws-lc allocates TLS keys with it.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Makes jemalloc return free memory to the system after about 500 ms instead of 10 s, even if the
/// process is idle.
///
/// # Errors
/// jemalloc does not know a setting.
pub fn shorten_memory_decay() -> Result<(), tikv_jemalloc_ctl::Error> {
    // Arena 0 exists already; the others are created with the threads.
    for arenas in [&b"arena.0.dirty_decay_ms\0"[..], &b"arenas.dirty_decay_ms\0"[..]] {
        arenas.name().write(DECAY_MS)?;
    }
    background_thread::write(true)
}

const DECAY_MS: isize = 500;
