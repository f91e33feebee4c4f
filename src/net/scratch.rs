//! What a worker lends to the streams it polls, so that they own no buffers.

use crate::net::RECV_BYTES_MAX;

/// Room for what arrives, lent by the worker for one poll and never held across polls.
#[derive(Debug)]
pub struct RecvScratch {
    /// Ciphertext.
    pub(super) wire: Box<[u8]>,
    /// Plaintext, which is never longer.
    pub(super) plain: Box<[u8]>,
    /// What TLS wants said to it.
    pub(super) answers: WriteBuffer,
}

impl RecvScratch {
    /// Room for one large read: what a tunnel lends.
    pub fn new() -> Self {
        Self::with_room(RECV_BYTES_MAX)
    }

    /// Room for `bytes` at a time, but at least for a record of TLS.
    pub fn with_room(bytes: usize) -> Self {
        let room = || vec![0; bytes.max(WIRE_RECORD_BYTES_MAX + 1)].into_boxed_slice();
        Self { wire: room(), plain: room(), answers: WriteBuffer::default() }
    }
}

impl Default for RecvScratch {
    fn default() -> Self {
        Self::new()
    }
}

/// Room to seal in, lent like [`RecvScratch`].
#[derive(Debug, Default)]
pub struct SendScratch {
    /// Several parts as one, for as few records as possible.
    pub(super) joined: Vec<u8>,
    /// Records.
    pub(super) sealed: WriteBuffer,
}

/// Both, as one worker lends them.
#[derive(Debug, Default)]
pub struct Scratch {
    /// For [`Stream::poll_recv`](crate::net::Stream::poll_recv).
    pub recv: RecvScratch,
    /// For [`Stream::send`](crate::net::Stream::send) and
    /// [`Stream::poll_close`](crate::net::Stream::poll_close).
    pub send: SendScratch,
}

/// Bytes to be sent, in room that is made once and then used again.
#[derive(Debug, Default)]
pub struct WriteBuffer {
    room: Vec<u8>,
    filled: usize,
}

impl WriteBuffer {
    /// What it holds.
    pub fn bytes(&self) -> &[u8] {
        self.room.get(..self.filled).unwrap_or_default()
    }

    /// Forgets what it holds, and keeps the room.
    pub fn clear(&mut self) {
        self.filled = 0;
    }

    /// Holds this and nothing else.
    pub(super) fn begin(&mut self, bytes: &[u8]) {
        self.clear();
        if !bytes.is_empty() {
            self.room(bytes.len())[..bytes.len()].copy_from_slice(bytes);
            self.advance(bytes.len());
        }
    }

    /// All the room behind what it holds, `least` bytes of it at the least.
    pub(super) fn room(&mut self, least: usize) -> &mut [u8] {
        let end = self.filled + least;
        if self.room.len() < end {
            self.room.resize(end, 0);
        }
        self.room.get_mut(self.filled..).unwrap_or_default()
    }

    /// That many bytes of the room were filled.
    pub(super) fn advance(&mut self, bytes: usize) {
        self.filled = (self.filled + bytes).min(self.room.len());
    }
}

/// The longest record that rustls reads (RFC 5246 6.2.3).
pub(super) const WIRE_RECORD_BYTES_MAX: usize = 5 + 16 * 1024 + 2048;
