//! Counts the bytes that clients have sent over HTTP/2 and that wait for a backend, per connection and for the
//! whole process.
//!
//! In HTTP/1.1 such bytes stay in the kernel, because a connection is not read while its tunnel is blocked. A
//! connection with several streams must be read for the sake of the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The waiting bytes of all connections.
#[derive(Debug, Default)]
pub struct WaitingBytes(AtomicUsize);

/// The waiting bytes of one connection.
#[derive(Debug)]
pub struct ConnectionWaiting {
    own: AtomicUsize,
    all: Arc<WaitingBytes>,
}

/// The waiting bytes of one stream, which count until they are taken or the stream is dropped.
#[derive(Debug)]
pub struct StreamWaiting {
    connection: Arc<ConnectionWaiting>,
    bytes: usize,
}

impl ConnectionWaiting {
    /// A connection without waiting bytes, whose future ones count in `all`.
    pub fn new(all: Arc<WaitingBytes>) -> Self {
        Self { own: AtomicUsize::new(0), all }
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
        Self { connection, bytes: 0 }
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

/// From this sum on, connections with more than one window of waiting bytes are not read: a thousand streams
/// whose backends do not read.
const PROCESS_BYTES_MAX: usize = 1000 * STREAM_WINDOW as usize;

#[cfg(test)]
mod tests {
    use super::*;

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
