//! Frames encoded and decoded by hand (RFC 6455 5.2), independently of the code under test.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::within_timeout;

/// Opcodes (RFC 6455 5.2).
pub const CONTINUATION: u8 = 0;
pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// One frame as received, unmasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The first byte: FIN, RSV and opcode.
    pub first: u8,
    /// Whether the frame was masked.
    pub masked: bool,
    /// The unmasked payload.
    pub payload: Vec<u8>,
}

impl Frame {
    /// The opcode without FIN and RSV.
    pub fn opcode(&self) -> u8 {
        self.first & 0x0f
    }

    /// The status code of a Close frame; 1005 for an empty one.
    pub fn code(&self) -> u16 {
        assert_eq!(self.opcode(), CLOSE, "{self:?}");
        match self.payload[..] {
            [high, low, ..] => u16::from_be_bytes([high, low]),
            _ => 1005,
        }
    }
}

/// Encodes a masked frame, as a client sends it; `first` holds FIN, RSV and opcode.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let key = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = header(first, 0x80, payload.len() as u64);
    frame.extend(key);
    frame.extend(payload.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]));
    frame
}

/// Encodes an unmasked frame, as a server sends it.
pub fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(first, 0, payload.len() as u64);
    frame.extend(payload);
    frame
}

/// Encodes a frame header without a mask key.
pub fn header(first: u8, mask: u8, length: u64) -> Vec<u8> {
    let mut header = vec![first];
    match length {
        0..=125 => header.push(mask | length as u8),
        126..=0xffff => {
            header.push(mask | 126);
            header.extend((length as u16).to_be_bytes());
        }
        _ => {
            header.push(mask | 127);
            header.extend(length.to_be_bytes());
        }
    }
    header
}

/// Encodes the payload of a Close frame.
pub fn close(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes()[..], reason.as_bytes()].concat()
}

/// Reads the next frame; `None` if the stream ends between two frames.
pub async fn read(stream: &mut (impl AsyncReadExt + Unpin)) -> Option<Frame> {
    within_timeout("a frame", async {
        let first = stream.read_u8().await.ok()?;
        let second = stream.read_u8().await.unwrap();
        let length = match second & 0x7f {
            126 => u64::from(stream.read_u16().await.unwrap()),
            127 => stream.read_u64().await.unwrap(),
            short => u64::from(short),
        };
        let masked = second & 0x80 != 0;
        let mut key = [0; 4];
        if masked {
            stream.read_exact(&mut key).await.unwrap();
        }
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload).await.unwrap();
        for (index, byte) in payload.iter_mut().enumerate() {
            *byte ^= key[index % 4];
        }
        Some(Frame { first, masked, payload })
    })
    .await
}

/// Reads the next frame that is not a ping.
pub async fn read_past_pings(stream: &mut (impl AsyncReadExt + Unpin)) -> Option<Frame> {
    loop {
        match read(stream).await {
            Some(frame) if frame.opcode() == PING => {}
            other => return other,
        }
    }
}

/// Repeats a frame until the stream blocks; returns the number of bytes written.
pub async fn fill(to: &mut (impl AsyncWrite + Unpin), frame: &[u8]) -> usize {
    let mut written = 0;
    while let Ok(taken) = timeout(BLOCKED, to.write(&frame[written % frame.len()..])).await {
        written += taken.unwrap();
        assert!(written < 100 << 20, "the stream never blocks");
    }
    written
}

/// A stream that takes nothing for this long counts as blocked.
const BLOCKED: Duration = Duration::from_millis(400);
