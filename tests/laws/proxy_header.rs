//! What holds for any first bytes of a connection that should begin with a PROXY header.

use tidegate::listener::proxy_protocol::{Progress, parse};

/// However the bytes are chopped, the judgement is the same; a header is whole, bounded, names a
/// possible client, and is over before what follows it.
pub fn drive(bytes: &[u8]) {
    let judged = parse(bytes);
    let known = |len: usize| parse(&bytes[..len]) != Ok(Progress::Partial);
    match (0..=bytes.len()).find(|len| known(*len)) {
        Some(len) => assert_eq!(parse(&bytes[..len]), judged, "of {len} bytes"),
        None => assert!(judged == Ok(Progress::Partial) && bytes.len() < HEADER_BYTES_MAX),
    }
    if let Ok(Progress::Whole { len, proxied }) = judged {
        assert!((15..=HEADER_BYTES_MAX).contains(&len) && len <= bytes.len());
        assert!(known(len) && !known(len - 1), "a header ends where it ends");
        assert!(proxied.is_none_or(|proxied| proxied.source.is_possible()));
    }
}

/// Signature, four bytes and the longest block.
const HEADER_BYTES_MAX: usize = 16 + 536;
