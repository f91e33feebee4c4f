//! Invariants of the PROXY header parser for arbitrary first bytes of a connection.

use tidegate::listener::proxy_protocol::{ParseProgress, parse};

/// The result does not depend on how the bytes are split; an accepted header is complete, bounded,
/// ends before the following data, and names a possible client address.
pub fn drive(bytes: &[u8]) {
    let parsed = parse(bytes);
    let known = |len: usize| parse(&bytes[..len]) != Ok(ParseProgress::Partial);
    match (0..=bytes.len()).find(|len| known(*len)) {
        Some(len) => assert_eq!(parse(&bytes[..len]), parsed, "of {len} bytes"),
        None => assert!(parsed == Ok(ParseProgress::Partial) && bytes.len() < HEADER_BYTES_MAX),
    }
    if let Ok(ParseProgress::Complete { len, proxied }) = parsed {
        assert!((15..=HEADER_BYTES_MAX).contains(&len) && len <= bytes.len());
        assert!(known(len) && !known(len - 1), "the header has another length");
        assert!(proxied.is_none_or(|proxied| proxied.source.is_unicast()));
    }
}

/// Signature, four bytes and the longest address block.
const HEADER_BYTES_MAX: usize = 16 + 536;
