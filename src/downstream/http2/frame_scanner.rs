//! Follows the frames that a client sends (RFC 9113 4.1), by their headers only.

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    /// The type (RFC 9113 6).
    pub(super) kind: u8,
    pub(super) flags: u8,
    /// Its stream is greater than all before (RFC 9113 5.1.1). Always false except for HEADERS.
    pub(super) opens_stream: bool,
}

/// Types of frames.
pub(super) mod kind {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PING: u8 = 6;
    pub(crate) const WINDOW_UPDATE: u8 = 8;
    pub(crate) const CONTINUATION: u8 = 9;
}

/// The flag of SETTINGS and PING that acknowledges one.
pub(super) const ACK: u8 = 1;
/// The flag of the last frame of a head.
const END_HEADERS: u8 = 4;

/// The position in the frames of one connection.
#[derive(Debug)]
pub(super) struct FrameScanner {
    /// Bytes of the connection preface that were not received yet (RFC 9113 3.4).
    preface_left: usize,
    header: [u8; HEADER_BYTES],
    header_bytes: usize,
    /// The greatest stream with a head.
    last_stream: u32,
    /// Bytes of the current payload that were not received yet.
    payload_left: usize,
    /// A head has begun and is not complete.
    is_in_head: bool,
    /// The current frame is the last of its head.
    ends_head: bool,
    /// The current or last head has more than one frame.
    is_split: bool,
}

impl FrameScanner {
    /// A connection of which nothing was received.
    pub(super) fn new() -> Self {
        Self {
            preface_left: PREFACE_BYTES,
            header: [0; HEADER_BYTES],
            header_bytes: 0,
            last_stream: 0,
            payload_left: 0,
            is_in_head: false,
            ends_head: false,
            is_split: false,
        }
    }

    /// Consumes bytes up to the end of the next header of a frame; `None` if it is not complete, and all bytes
    /// were consumed.
    pub(super) fn next_header(&mut self, bytes: &mut &[u8]) -> Option<FrameHeader> {
        skip(bytes, &mut self.preface_left);
        skip(bytes, &mut self.payload_left);
        if self.payload_left == 0 && self.ends_head {
            (self.is_in_head, self.ends_head) = (false, false);
        }
        let missing = &mut self.header[self.header_bytes..];
        let (now, later) = bytes.split_at(missing.len().min(bytes.len()));
        missing[..now.len()].copy_from_slice(now);
        *bytes = later;
        self.header_bytes += now.len();
        if self.header_bytes < HEADER_BYTES {
            return None;
        }
        self.header_bytes = 0;
        let [high, middle, low, kind, flags, stream @ ..] = self.header;
        self.payload_left = u32::from_be_bytes([0, high, middle, low]) as usize;
        // The first bit is reserved.
        let stream = u32::from_be_bytes(stream) & (u32::MAX >> 1);
        let opens_stream = kind == kind::HEADERS && stream > self.last_stream;
        if opens_stream {
            self.last_stream = stream;
        }
        if matches!(kind, kind::HEADERS | kind::CONTINUATION) {
            (self.is_in_head, self.ends_head) = (true, flags & END_HEADERS != 0);
            self.is_split = kind == kind::CONTINUATION || !self.ends_head;
        }
        Some(FrameHeader { kind, flags, opens_stream })
    }

    /// Whether a head has begun and is not complete.
    pub(super) fn is_in_head(&self) -> bool {
        self.is_in_head && !(self.ends_head && self.payload_left == 0)
    }

    /// Whether a head is not complete that has more than one frame. Only of such a head does the h2 library keep fields.
    pub(super) fn is_in_split_head(&self) -> bool {
        self.is_split && self.is_in_head()
    }
}

/// Consumes up to `left` bytes.
fn skip(bytes: &mut &[u8], left: &mut usize) {
    let skipped = bytes.len().min(*left);
    *bytes = &bytes[skipped..];
    *left -= skipped;
}

const PREFACE_BYTES: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();
const HEADER_BYTES: usize = 9;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        frame_of(1, kind, flags, payload)
    }

    fn frame_of(stream: u32, kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    }

    fn headers(scanner: &mut FrameScanner, mut bytes: &[u8]) -> Vec<(u8, u8)> {
        let next = std::iter::from_fn(|| scanner.next_header(&mut bytes));
        next.map(|header| (header.kind, header.flags)).collect()
    }

    proptest! {
        #[test]
        fn frames_are_found_however_they_are_split(
            frames in prop::collection::vec((0_u8..12, any::<u8>(), 0_usize..300), 0..20),
            sizes in prop::collection::vec(1_usize..400, 1..20),
        ) {
            let mut bytes = vec![b'x'; PREFACE_BYTES];
            for (kind, flags, length) in &frames {
                bytes.extend(frame(*kind, *flags, &vec![7; *length]));
            }
            let (mut scanner, mut found, mut rest) = (FrameScanner::new(), Vec::new(), &bytes[..]);
            for size in sizes.iter().cycle() {
                let (now, later) = rest.split_at((*size).min(rest.len()));
                found.extend(headers(&mut scanner, now));
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            let expected: Vec<_> =
                frames.iter().map(|(kind, flags, _)| (*kind, *flags)).collect();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn trailers_open_no_stream() {
        let mut scanner = FrameScanner::new();
        headers(&mut scanner, &[b'x'; PREFACE_BYTES]);
        for (stream, kind, opens) in [
            (1, kind::HEADERS, true),
            (1, kind::HEADERS, false),
            (3, kind::CONTINUATION, false),
            (3, kind::DATA, false),
            (3, kind::HEADERS, true),
            (1, kind::HEADERS, false),
            (1 << 31 | 3, kind::HEADERS, false),
        ] {
            let frame = frame_of(stream, kind, END_HEADERS, b"");
            let found = scanner.next_header(&mut &frame[..]).unwrap();
            assert_eq!(found.opens_stream, opens, "{stream} {kind}");
        }
    }

    #[test]
    fn head_is_in_progress_until_its_last_byte() {
        let mut scanner = FrameScanner::new();
        headers(&mut scanner, &[b'x'; PREFACE_BYTES]);
        assert!(!scanner.is_in_head());
        let whole = frame(kind::HEADERS, END_HEADERS, b"abc");
        headers(&mut scanner, &whole[..whole.len() - 1]);
        assert!(scanner.is_in_head() && !scanner.is_in_split_head());
        headers(&mut scanner, &whole[whole.len() - 1..]);
        assert!(!scanner.is_in_head());
        let first = frame(kind::HEADERS, 0, b"abc");
        headers(&mut scanner, &first[..HEADER_BYTES]);
        assert!(scanner.is_in_head());
        headers(&mut scanner, &first[HEADER_BYTES..]);
        assert!(scanner.is_in_split_head(), "a CONTINUATION follows");
        let last = frame(kind::CONTINUATION, END_HEADERS, b"abc");
        headers(&mut scanner, &last[..last.len() - 1]);
        assert!(scanner.is_in_split_head());
        headers(&mut scanner, &last[last.len() - 1..]);
        assert!(!scanner.is_in_head() && !scanner.is_in_split_head());
        headers(&mut scanner, &frame(kind::HEADERS, END_HEADERS, b""));
        assert!(!scanner.is_in_head());
        headers(&mut scanner, &frame(kind::DATA, END_HEADERS, b"a")[..HEADER_BYTES]);
        assert!(!scanner.is_in_head());
    }
}
