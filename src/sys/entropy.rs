//! Randomness from the operating system, for nonces, mask keys and jitter.

use std::cell::RefCell;

use ws::Entropy;

/// The operating system's generator, read in blocks per thread. RFC 6455 5.3 requires mask keys that
/// cannot be predicted, so there is no fallback to a weaker generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&mut self, bytes: &mut [u8]) {
        POOL.with_borrow_mut(|pool| {
            for byte in bytes {
                *byte = pool.next();
            }
        });
    }
}

struct EntropyPool {
    block: [u8; BLOCK],
    used: usize,
}

impl EntropyPool {
    fn next(&mut self) -> u8 {
        if self.used == BLOCK {
            // The system's generator fails only before it is seeded at boot. The process must not
            // continue without randomness.
            while getrandom::fill(&mut self.block).is_err() {
                std::thread::yield_now();
            }
            self.used = 0;
        }
        let byte = std::mem::take(&mut self.block[self.used]);
        self.used += 1;
        byte
    }
}

thread_local! {
    static POOL: RefCell<EntropyPool> = const { RefCell::new(EntropyPool { block: [0; BLOCK], used: BLOCK }) };
}

const BLOCK: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    // Requirements: F3.
    #[test]
    fn mask_keys_do_not_repeat() {
        let mut seen = std::collections::HashSet::new();
        for _ in 0..10_000 {
            let mut key = [0; 8];
            SystemEntropy.fill(&mut key);
            assert!(seen.insert(key));
        }
    }
}
