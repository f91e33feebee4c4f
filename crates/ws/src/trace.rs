//! Observes the headers of relayed frames, never their payload.

use crate::control_frame::parse_close_payload;
use crate::header::{Header, OpCode};
use crate::side::{PerSide, Side};

/// A frame that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameInfo {
    /// The direction: the side the frame came from or, if injected, the side it appears to come
    /// from.
    pub from: Side,
    /// Whether the proxy created the frame.
    pub injected: bool,
    /// The opcode; `None` if RFC 6455 does not define it.
    pub opcode: Option<OpCode>,
    /// Whether this is the last frame of its message.
    pub fin: bool,
    /// Whether this frame starts a compressed message.
    pub compressed: bool,
    /// Length of the payload in bytes.
    pub payload: u64,
    /// The code of a Close frame.
    pub code: Option<u16>,
}

/// Follows the frames of both directions, starting within a frame if necessary, and passes each
/// header to an observer until the observer returns false.
pub struct FrameTrace {
    /// Bytes until the next header.
    until_header: PerSide<u64>,
    observer: Box<dyn FnMut(FrameInfo) -> bool + Send>,
}

impl FrameTrace {
    /// A trace that calls `observer` for each frame.
    pub fn new(observer: impl FnMut(FrameInfo) -> bool + Send + 'static) -> Self {
        Self { until_header: PerSide::default(), observer: Box::new(observer) }
    }

    /// Skips the next `len` bytes from a side, which are the rest of a frame in progress.
    pub fn skip(&mut self, from: Side, len: u64) {
        self.until_header[from] = len;
    }

    /// Processes bytes from a side that passed validation. Returns false once the observer has
    /// finished.
    pub fn relayed(&mut self, from: Side, mut bytes: &[u8]) -> bool {
        loop {
            let left = &mut self.until_header[from];
            let skipped = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
            *left -= skipped as u64;
            bytes = &bytes[skipped..];
            // Headers are validated, and thus relayed, as a whole.
            let Ok(Some((header, opcode))) = Header::parse_unchecked(bytes) else {
                return true;
            };
            *left = (header.len + header.key_len) as u64 + header.payload_len;
            if !(self.observer)(frame_info(from, &header, opcode, bytes)) {
                return false;
            }
        }
    }

    /// Processes a frame that the proxy sends to a side. Returns false once the observer has
    /// finished.
    pub fn injected(&mut self, to: Side, frame: &[u8]) -> bool {
        match Header::parse_unchecked(frame) {
            Ok(Some((header, opcode))) => {
                let info = frame_info(to.other(), &header, opcode, frame);
                (self.observer)(FrameInfo { injected: true, ..info })
            }
            Ok(None) | Err(_) => true,
        }
    }
}

impl std::fmt::Debug for FrameTrace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrameTrace")
            .field("until_header", &self.until_header)
            .finish_non_exhaustive()
    }
}

fn frame_info(from: Side, header: &Header, opcode: Option<OpCode>, bytes: &[u8]) -> FrameInfo {
    let Header { fin, compressed, payload_len: payload, .. } = *header;
    let code = match opcode {
        Some(OpCode::Close) => close_code(header, bytes),
        Some(_) | None => None,
    };
    FrameInfo { from, injected: false, opcode, fin, compressed, payload, code }
}

/// The code of a Close frame. Control frames are relayed as a whole.
fn close_code(header: &Header, bytes: &[u8]) -> Option<u16> {
    let body = bytes.get(header.len..)?;
    let (key, body) = match header.key_len {
        0 => (None, body),
        _ => body.split_first_chunk::<4>().map(|(key, body)| (Some(*key), body))?,
    };
    let payload = body.get(..usize::try_from(header.payload_len).ok()?)?;
    parse_close_payload(payload, key).ok().flatten().map(|code| code.get())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn trace() -> (FrameTrace, mpsc::Receiver<FrameInfo>) {
        let (sender, frames) = mpsc::sync_channel(16);
        (FrameTrace::new(move |frame| sender.send(frame).is_ok()), frames)
    }

    #[test]
    fn headers_are_found_however_payloads_are_split() {
        let (mut trace, frames) = trace();
        trace.skip(Side::Client, 3);
        // The rest of a frame, a text of 2 bytes, half of a binary frame of 4.
        let run = [&[9, 9, 9, 0x81, 0x82, 1, 2, 3, 4, 5, 6, 0x82, 0x84, 1, 2][..], &[3]].concat();
        assert!(trace.relayed(Side::Client, &run));
        assert!(trace.relayed(Side::Client, &[4, 5, 6, 7, 8, 0x89, 0x80, 0, 0, 0, 0]));
        let seen: Vec<_> = frames.try_iter().map(|frame| (frame.opcode, frame.payload)).collect();
        let kinds = [(OpCode::Text, 2), (OpCode::Binary, 4), (OpCode::Ping, 0)];
        assert_eq!(seen, kinds.map(|(opcode, payload)| (Some(opcode), payload)));
    }

    #[test]
    fn directions_are_traced_independently() {
        let (mut trace, frames) = trace();
        assert!(trace.relayed(Side::Backend, &[0x01, 0x05, 1, 2]));
        assert!(trace.relayed(Side::Client, &[0x88, 0x82, 1, 2, 3, 4, 0x03 ^ 1, 0xe8 ^ 2]));
        assert!(trace.injected(Side::Backend, &[0x89, 0x80, 0, 0, 0, 0]));
        let seen: Vec<FrameInfo> = frames.try_iter().collect();
        assert_eq!((seen[0].from, seen[0].fin, seen[0].payload), (Side::Backend, false, 5));
        assert_eq!((seen[1].from, seen[1].code), (Side::Client, Some(1000)));
        assert_eq!((seen[2].from, seen[2].injected), (Side::Client, true));
    }

    #[test]
    fn trace_ends_when_the_observer_is_gone() {
        let (mut trace, frames) = trace();
        drop(frames);
        assert!(!trace.relayed(Side::Client, &[0x81, 0x80, 0, 0, 0, 0]));
    }
}
