//! The memory of connections that carry no tunnel. It is estimated from what each of them waits for, with the figures of
//! measurements, because an allocator does not tell what belongs to which.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::header::{HeaderName, HeaderValue};
use hyper::http::request::Parts;

use crate::client::HttpProtocol;
use crate::net::http2::unread::RESERVED_BYTES;

/// What all these connections take together, and what they may take.
#[derive(Debug)]
pub struct PendingMemory {
    used: AtomicU64,
    limit: AtomicU64,
}

impl Default for PendingMemory {
    fn default() -> Self {
        Self { used: AtomicU64::new(0), limit: AtomicU64::new(u64::MAX) }
    }
}

impl PendingMemory {
    /// Sets the budget in bytes.
    pub fn set_limit(&self, bytes: u64) {
        self.limit.store(bytes, Ordering::Relaxed);
    }

    /// The estimate in bytes.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// The budget in bytes.
    pub fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Counts bytes.
    pub fn add(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Takes counted bytes back.
    pub fn remove(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Whether the estimate exceeds the budget.
    pub fn is_over(&self) -> bool {
        self.used() > self.limit()
    }
}

/// A part of the memory, which counts until it is dropped.
#[derive(Debug)]
pub struct MemoryCharge {
    memory: Arc<PendingMemory>,
    bytes: AtomicU64,
}

impl MemoryCharge {
    /// Counts this many bytes.
    pub fn new(memory: Arc<PendingMemory>, bytes: u64) -> Self {
        memory.add(bytes);
        Self { memory, bytes: AtomicU64::new(bytes) }
    }

    /// Changes the number of bytes. Returns whether it has grown.
    pub fn set(&self, bytes: u64) -> bool {
        if self.bytes.load(Ordering::Relaxed) == bytes {
            return false;
        }
        let before = self.bytes.swap(bytes, Ordering::Relaxed);
        if bytes > before {
            self.memory.add(bytes - before);
        } else {
            self.memory.remove(before - bytes);
        }
        bytes > before
    }
}

impl Drop for MemoryCharge {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// What a request with this head takes until its response has ended, without its connection: its state, the connection
/// to the backend, and the head as it was received and as it is sent. In HTTP/2 also what its response may always take.
pub fn request_bytes(protocol: HttpProtocol, head: &Parts) -> u64 {
    let target = head.uri.path_and_query().map_or(0, |target| target.as_str().len());
    let size = |(name, value): (&HeaderName, &HeaderValue)| {
        name.as_str().len() + value.len() + FIELD_BYTES
    };
    let fields = head.headers.iter().map(size);
    let bytes = fields.sum::<usize>().saturating_add(target);
    let reserved = if protocol == HttpProtocol::Http2 { RESERVED_BYTES as u64 } else { 0 };
    (REQUEST_BYTES + reserved).saturating_add((bytes as u64).saturating_mul(HEAD_COPIES))
}

// Measured, as the growth of the process with hundreds of such connections.
/// A TLS connection that waits, without HTTP buffers.
pub const WAITING_BYTES: u64 = 10 << 10;
/// The HTTP buffers of a connection.
pub const BUFFER_BYTES: u64 = 16 << 10;
/// A response that its client does not read, of any length.
pub const UNREAD_BYTES: u64 = 64 << 10;
/// An HTTP/2 connection, with the buffers of h2 (16 KiB to write, 8 to read), in addition to what each connection takes.
pub const HTTP2_BYTES: u64 = 32 << 10;
/// A stream of an HTTP/2 connection whose response is the proxy's own, and not read.
pub const OWN_RESPONSE_BYTES: u64 = 4 << 10;
const REQUEST_BYTES: u64 = 24 << 10;
/// 98 fields of 300 bytes take 210 KiB more than a short head.
const HEAD_COPIES: u64 = 7;
/// A field takes 100 bytes more than its text, in all copies together.
const FIELD_BYTES: usize = 14;

/// The most that a connection takes, in bytes: a request with the longest head of the default size, whose response is
/// not read.
pub const DEAREST_BYTES: u64 = WAITING_BYTES + BUFFER_BYTES + UNREAD_BYTES + REQUEST_BYTES_MAX;

/// A request with the longest head of the default size, without what its response takes.
const REQUEST_BYTES_MAX: u64 =
    REQUEST_BYTES + HEAD_COPIES * ((32 << 10) + 100 * FIELD_BYTES as u64);
/// Such a request over HTTP/2.
pub const HTTP2_REQUEST_BYTES_MAX: u64 = REQUEST_BYTES_MAX + RESERVED_BYTES as u64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charges_count_until_they_are_dropped() {
        let memory = Arc::<PendingMemory>::default();
        memory.set_limit(1000);
        let charge = |bytes| MemoryCharge::new(memory.clone(), bytes);
        let (one, two) = (charge(600), charge(400));
        assert!(!memory.is_over());
        assert!(two.set(401) && memory.is_over());
        assert!(!two.set(401) && !two.set(100) && !memory.is_over());
        drop(one);
        assert_eq!(memory.used(), 100);
        drop(two);
        assert_eq!(memory.used(), 0);
    }

    #[test]
    fn long_heads_take_a_multiple() {
        let head = |value: String| {
            let request = hyper::Request::builder().uri("/abc").header("name", value).body(());
            request_bytes(HttpProtocol::Http1, &request.unwrap().into_parts().0)
        };
        assert_eq!(head(String::new()), REQUEST_BYTES + (8 + 14) * HEAD_COPIES);
        assert_eq!(head("x".repeat(1000)), REQUEST_BYTES + (1008 + 14) * HEAD_COPIES);
    }
}
