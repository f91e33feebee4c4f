//! The headers of frames as they pass, for whoever watches a conversation; never what they hold.

use super::close::read_payload;
use super::header::Header;
use super::{OpCode, Side};

/// A frame that passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameInfo {
    /// Whose stream it belongs to: who sent it, or whom it would have come from if it is our own.
    pub from: Side,
    /// We put it there.
    pub own: bool,
    /// `None`: one that RFC 6455 has no name for.
    pub opcode: Option<OpCode>,
    /// The last of its message.
    pub fin: bool,
    /// It begins a compressed message.
    pub compressed: bool,
    /// Bytes of its payload.
    pub payload: u64,
    /// The code of a Close.
    pub code: Option<u16>,
}

/// Follows both directions of a conversation, from the middle of a frame if need be. Whoever
/// watches is told of each frame when its header passes, until it answers false.
pub struct FrameTrace {
    /// Bytes until the next header, from the client and from the backend.
    left: [u64; 2],
    tell: Box<dyn FnMut(FrameInfo) -> bool + Send>,
}

impl FrameTrace {
    /// Tells `tell`.
    pub fn new(tell: impl FnMut(FrameInfo) -> bool + Send + 'static) -> Self {
        Self { left: [0; 2], tell: Box::new(tell) }
    }

    /// So many bytes of the frame in progress are still to come from a side.
    pub fn begin(&mut self, from: Side, left: u64) {
        self.left[from as usize] = left;
    }

    /// These bytes came from a side and were judged. False when nobody watches any more.
    pub fn passed(&mut self, from: Side, mut bytes: &[u8]) -> bool {
        loop {
            let left = &mut self.left[from as usize];
            let skipped = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
            *left -= skipped as u64;
            bytes = &bytes[skipped..];
            // A header is judged whole.
            let Ok(Some((header, opcode))) = Header::outline(bytes) else {
                return true;
            };
            *left = (header.len + header.key_len) as u64 + header.payload_len;
            if !(self.tell)(seen(from, &header, opcode, bytes)) {
                return false;
            }
        }
    }

    /// A frame of our own goes out to a side.
    pub fn own(&mut self, to: Side, frame: &[u8]) -> bool {
        match Header::outline(frame) {
            Ok(Some((header, opcode))) => {
                let seen = seen(to.other(), &header, opcode, frame);
                (self.tell)(FrameInfo { own: true, ..seen })
            }
            Ok(None) | Err(_) => true,
        }
    }
}

impl std::fmt::Debug for FrameTrace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trace").field("left", &self.left).finish_non_exhaustive()
    }
}

fn seen(from: Side, header: &Header, opcode: Option<OpCode>, bytes: &[u8]) -> FrameInfo {
    let Header { fin, compressed, payload_len: payload, .. } = *header;
    let code = match opcode {
        Some(OpCode::Close) => close_code(header, bytes),
        Some(_) | None => None,
    };
    FrameInfo { from, own: false, opcode, fin, compressed, payload, code }
}

/// A control frame passes whole.
fn close_code(header: &Header, bytes: &[u8]) -> Option<u16> {
    let body = bytes.get(header.len..)?;
    let (key, body) = match header.key_len {
        0 => (None, body),
        _ => body.split_first_chunk::<4>().map(|(key, body)| (Some(*key), body))?,
    };
    let payload = body.get(..usize::try_from(header.payload_len).ok()?)?;
    read_payload(payload, key).ok().flatten().map(|code| code.get())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn trace() -> (FrameTrace, mpsc::Receiver<FrameInfo>) {
        let (sender, seen) = mpsc::sync_channel(16);
        (FrameTrace::new(move |seen| sender.send(seen).is_ok()), seen)
    }

    #[test]
    fn every_header_is_told_however_the_payloads_are_chopped() {
        let (mut trace, seen) = trace();
        trace.begin(Side::Client, 3);
        // The rest of a frame, a text of 2, half of a binary of 4.
        let run = [&[9, 9, 9, 0x81, 0x82, 1, 2, 3, 4, 5, 6, 0x82, 0x84, 1, 2][..], &[3]].concat();
        assert!(trace.passed(Side::Client, &run));
        assert!(trace.passed(Side::Client, &[4, 5, 6, 7, 8, 0x89, 0x80, 0, 0, 0, 0]));
        let told: Vec<_> = seen.try_iter().map(|seen| (seen.opcode, seen.payload)).collect();
        let kinds = [(OpCode::Text, 2), (OpCode::Binary, 4), (OpCode::Ping, 0)];
        assert_eq!(told, kinds.map(|(opcode, payload)| (Some(opcode), payload)));
    }

    #[test]
    fn both_directions_are_followed_apart() {
        let (mut trace, seen) = trace();
        assert!(trace.passed(Side::Backend, &[0x01, 0x05, 1, 2]));
        assert!(trace.passed(Side::Client, &[0x88, 0x82, 1, 2, 3, 4, 0x03 ^ 1, 0xe8 ^ 2]));
        assert!(trace.own(Side::Backend, &[0x89, 0x80, 0, 0, 0, 0]));
        let told: Vec<FrameInfo> = seen.try_iter().collect();
        assert_eq!((told[0].from, told[0].fin, told[0].payload), (Side::Backend, false, 5));
        assert_eq!((told[1].from, told[1].code), (Side::Client, Some(1000)));
        assert_eq!((told[2].from, told[2].own), (Side::Client, true));
    }

    #[test]
    fn it_ends_when_nobody_watches() {
        let (mut trace, seen) = trace();
        drop(seen);
        assert!(!trace.passed(Side::Client, &[0x81, 0x80, 0, 0, 0, 0]));
    }
}
