//! Counts the bytes that clients have sent over HTTP/2 and that wait for a backend, per connection and for the
//! whole process, and notes which connections need larger windows.
//!
//! In HTTP/1.1 such bytes stay in the kernel, because a connection is not read while its tunnel is blocked. A
//! connection with several streams must be read for the sake of the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The waiting bytes of all connections.
#[derive(Debug, Default)]
pub struct WaitingBytes(AtomicUsize);

/// The waiting bytes of one connection.
#[derive(Debug)]
pub struct ConnectionWaiting {
    own: AtomicUsize,
    /// One of its streams has passed [`BULK_BYTES`].
    has_bulk: AtomicBool,
    all: Arc<WaitingBytes>,
}

/// The waiting bytes of one stream, which count until they are taken or the stream is dropped.
#[derive(Debug)]
pub struct StreamWaiting {
    connection: Arc<ConnectionWaiting>,
    bytes: usize,
    /// Bytes that went to the backend, up to [`BULK_BYTES`].
    passed: usize,
}

impl ConnectionWaiting {
    /// A connection without waiting bytes, whose future ones count in `all`.
    pub fn new(all: Arc<WaitingBytes>) -> Self {
        Self { own: AtomicUsize::new(0), has_bulk: AtomicBool::new(false), all }
    }

    /// Whether a stream has sent so much that its window may limit it.
    pub fn has_bulk(&self) -> bool {
        self.has_bulk.load(Ordering::Relaxed)
    }

    /// Whether the connection must not be read for now: the waiting bytes of the process have reached their
    /// limit, and this connection has more of them than one stream may have.
    pub fn is_over_limit(&self) -> bool {
        self.all.0.load(Ordering::Relaxed) >= PROCESS_BYTES_MAX
            && self.own.load(Ordering::Relaxed) > STREAM_WINDOW as usize
    }
}

impl StreamWaiting {
    /// A stream of this connection without waiting bytes.
    pub fn new(connection: Arc<ConnectionWaiting>) -> Self {
        Self { connection, bytes: 0, passed: 0 }
    }

    /// Takes note that this many bytes went to the backend.
    pub fn pass(&mut self, bytes: usize) {
        if self.passed < BULK_BYTES {
            self.passed += bytes;
            if self.passed >= BULK_BYTES {
                self.connection.has_bulk.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Sets how many bytes wait now.
    pub fn set(&mut self, bytes: usize) {
        if bytes == self.bytes {
            return;
        }
        for count in [&self.connection.own, &self.connection.all.0] {
            if bytes > self.bytes {
                count.fetch_add(bytes - self.bytes, Ordering::Relaxed);
            } else {
                count.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
            }
        }
        self.bytes = bytes;
    }
}

impl Drop for StreamWaiting {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// Flow-control window of a stream: the most that a client may send ahead of a backend. Smaller ones limit
/// uploads over long distances.
pub const STREAM_WINDOW: u32 = 64 * 1024;

/// Window of each stream of a connection with few streams, one of which has sent much: enough for 10 MB/s at a round
/// trip of 100 ms.
pub const LARGE_STREAM_WINDOW: u32 = 1024 * 1024;

/// Bytes of a stream that show that it is an upload, and that its backend takes them.
const BULK_BYTES: usize = 4 * STREAM_WINDOW as usize;

/// From this sum on, connections with more than one window of waiting bytes are not read: a thousand streams
/// whose backends do not read.
const PROCESS_BYTES_MAX: usize = 1000 * STREAM_WINDOW as usize;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bulk_is_noticed_once_it_has_passed() {
        let connection = Arc::new(ConnectionWaiting::new(Arc::default()));
        let (mut one, mut other) =
            (StreamWaiting::new(connection.clone()), StreamWaiting::new(connection.clone()));
        one.set(BULK_BYTES);
        one.pass(BULK_BYTES - 1);
        other.pass(BULK_BYTES - 1);
        assert!(!connection.has_bulk());
        one.pass(1);
        assert!(connection.has_bulk());
    }

    #[test]
    fn only_connections_with_much_waiting_are_over_the_limit() {
        let all = Arc::<WaitingBytes>::default();
        let connection = || Arc::new(ConnectionWaiting::new(all.clone()));
        let (greedy, modest) = (connection(), connection());
        let mut large = StreamWaiting::new(greedy.clone());
        let mut small = StreamWaiting::new(modest.clone());
        small.set(STREAM_WINDOW as usize);
        large.set(PROCESS_BYTES_MAX - STREAM_WINDOW as usize - 1);
        assert!(!greedy.is_over_limit());
        large.set(PROCESS_BYTES_MAX - STREAM_WINDOW as usize);
        assert!(greedy.is_over_limit() && !modest.is_over_limit());
        drop(small);
        assert!(!greedy.is_over_limit());
        large.set(0);
        assert_eq!(all.0.load(Ordering::Relaxed), 0);
    }
}
