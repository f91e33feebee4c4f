//! The source of random bytes, supplied by the driver.

/// Unpredictable bytes for mask keys (RFC 6455 10.3), ping payloads and jitter.
pub trait Entropy {
    /// Overwrites `bytes` with random values.
    fn fill(&mut self, bytes: &mut [u8]);
}
