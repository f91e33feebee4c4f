//! Reads the frames of a backend that is probed with a WebSocket.

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::AsyncReadExt as _;
use ws::{Header, OpCode, Side};

use crate::net::socket::Socket;

/// The frames that a backend sends. The payload of messages is dropped.
pub(super) struct FrameReader {
    /// Not more than one control frame, and what was read after it.
    buffer: BytesMut,
    /// Payload of a message that is still to be dropped.
    skipping: u64,
    received: usize,
}

impl FrameReader {
    /// Starts with what was read together with the 101.
    pub(super) fn new(after_head: Bytes) -> Self {
        Self { buffer: BytesMut::from(&after_head[..]), skipping: 0, received: 0 }
    }

    /// Waits for the pong with this payload. The error says what came instead.
    pub(super) async fn wait_for_pong(
        &mut self,
        socket: &mut Socket,
        payload: &[u8],
    ) -> Result<(), String> {
        loop {
            match self.next_control(socket).await? {
                (OpCode::Pong, answer) if answer == payload => return Ok(()),
                (OpCode::Close, close) => {
                    let code =
                        close.first_chunk().map_or(NO_CODE, |code| u16::from_be_bytes(*code));
                    return Err(format!("closed with code {code} instead of a pong"));
                }
                (_, _) => {}
            }
        }
    }

    /// Waits for a Close frame or the end of the connection.
    pub(super) async fn wait_for_close(&mut self, socket: &mut Socket) {
        while let Ok((opcode, _)) = self.next_control(socket).await {
            if opcode == OpCode::Close {
                return;
            }
        }
    }

    /// The next control frame.
    async fn next_control(&mut self, socket: &mut Socket) -> Result<(OpCode, Bytes), String> {
        loop {
            if let Some(frame) = self.take_control()? {
                return Ok(frame);
            }
            self.buffer.reserve(READ);
            let read =
                socket.read_buf(&mut self.buffer).await.map_err(|error| error.to_string())?;
            self.received += read;
            if read == 0 {
                return Err("closed without a pong".to_owned());
            }
            if self.received > RECEIVED_MAX {
                return Err(format!("sent {} bytes without a pong", self.received));
            }
        }
    }

    /// The first control frame of the buffer, if it is complete. Messages before it are dropped.
    fn take_control(&mut self) -> Result<Option<(OpCode, Bytes)>, String> {
        loop {
            let skipped =
                usize::try_from(self.skipping).unwrap_or(usize::MAX).min(self.buffer.len());
            self.buffer.advance(skipped);
            self.skipping -= skipped as u64;
            if self.skipping > 0 {
                return Ok(None);
            }
            let invalid =
                |error: ws::ProtocolError| format!("sent an invalid frame: {}", error.as_str());
            let header = Header::parse(&self.buffer, Side::Backend, false).map_err(invalid)?;
            let Some(header) = header else { return Ok(None) };
            if !header.opcode.is_control() {
                self.buffer.advance(header.len);
                self.skipping = header.payload_len;
                continue;
            }
            // At most 125 bytes (RFC 6455 5.5).
            let payload = usize::try_from(header.payload_len).unwrap_or(usize::MAX);
            if self.buffer.len() < header.len + payload {
                return Ok(None);
            }
            self.buffer.advance(header.len);
            return Ok(Some((header.opcode, self.buffer.split_to(payload).freeze())));
        }
    }
}

/// Bytes of one read.
const READ: usize = 4096;
/// An application that sends its state to each new client may send this much before the pong.
const RECEIVED_MAX: usize = 4 << 20;
/// What an empty Close frame stands for (RFC 6455 7.1.5).
const NO_CODE: u16 = 1005;
