//! Buffers that a worker lends to the streams it polls, so that idle streams own none.

use crate::net::RECV_BYTES_MAX;

/// Buffers for receiving, lent for one poll and never held across polls.
#[derive(Debug)]
pub struct RecvScratch {
    /// Bytes as received: TLS records, or on a plain stream the data itself.
    pub(super) ciphertext: Box<[u8]>,
    /// Plaintext, which is never longer than the ciphertext.
    pub(super) plain: Box<[u8]>,
    /// Handshake, key update and alert records to send.
    pub(super) replies: WriteBuffer,
}

impl RecvScratch {
    /// Buffers for one read of a tunnel, [`RECV_BYTES_MAX`] bytes.
    pub fn new() -> Self {
        Self::with_capacity(RECV_BYTES_MAX)
    }

    /// Buffers for reads of `bytes`, but at least for one TLS record.
    pub fn with_capacity(bytes: usize) -> Self {
        // One byte more than a record, so that an incomplete record never fills the buffer and each
        // read has space.
        let buffer = || vec![0; bytes.max(WIRE_RECORD_BYTES_MAX + 1)].into_boxed_slice();
        Self { ciphertext: buffer(), plain: buffer(), replies: WriteBuffer::default() }
    }
}

impl Default for RecvScratch {
    fn default() -> Self {
        Self::new()
    }
}

/// Buffers for encryption, lent like [`RecvScratch`].
#[derive(Debug, Default)]
pub struct SendScratch {
    /// Several parts joined, so that they take as few records as possible.
    pub(super) joined: Vec<u8>,
    /// Encrypted records, ready to be sent.
    pub(super) encrypted: WriteBuffer,
}

/// The buffers of one worker.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Lent to [`Stream::poll_recv`](crate::net::Stream::poll_recv).
    pub recv: RecvScratch,
    /// Lent to [`Stream::send`](crate::net::Stream::send) and
    /// [`Stream::poll_close`](crate::net::Stream::poll_close).
    pub send: SendScratch,
}

/// Bytes to be sent, in a buffer that is allocated once and reused.
#[derive(Debug, Default)]
pub struct WriteBuffer {
    buffer: Vec<u8>,
    filled: usize,
}

impl WriteBuffer {
    /// The bytes that were added and not cleared.
    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.filled).unwrap_or_default()
    }

    /// Removes the content and keeps the allocation.
    pub fn clear(&mut self) {
        self.filled = 0;
    }

    /// Replaces the content with `bytes`.
    pub(super) fn set(&mut self, bytes: &[u8]) {
        self.clear();
        if !bytes.is_empty() {
            self.spare(bytes.len())[..bytes.len()].copy_from_slice(bytes);
            self.advance(bytes.len());
        }
    }

    /// The space after the content, at least `min_len` bytes; grows the buffer if necessary.
    pub(super) fn spare(&mut self, min_len: usize) -> &mut [u8] {
        let end = self.filled + min_len;
        if self.buffer.len() < end {
            self.buffer.resize(end, 0);
        }
        self.buffer.get_mut(self.filled..).unwrap_or_default()
    }

    /// Adds the first `bytes` bytes of the spare space to the content.
    pub(super) fn advance(&mut self, bytes: usize) {
        self.filled = (self.filled + bytes).min(self.buffer.len());
    }
}

/// The longest record that rustls accepts, including its header (RFC 5246 6.2.3).
pub(super) const WIRE_RECORD_BYTES_MAX: usize = 5 + 16 * 1024 + 2048;
