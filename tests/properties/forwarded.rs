//! Invariants of `X-Forwarded-For` and `Forwarded` for arbitrary lines.

use std::net::IpAddr;

use hyper::HeaderMap;
use hyper::header::{FORWARDED, HeaderName, HeaderValue};
use tidegate::client::ClientAddr;
use tidegate::http::forwarded::{ChainEnd, Forwarded, X_FORWARDED_FOR};

/// Checks the invariants; each line of the bytes is one field line.
pub fn drive(bytes: &[u8]) {
    walk(bytes, &X_FORWARDED_FOR, "203.0.113.7", |headers| {
        Forwarded::from_x_forwarded(headers, is_trusted)
    });
    walk(bytes, &FORWARDED, "for=203.0.113.7", |headers| {
        Forwarded::from_forwarded(headers, is_trusted)
    });
}

fn walk(bytes: &[u8], name: &HeaderName, client: &str, read: impl Fn(&HeaderMap) -> Forwarded) {
    let lines =
        bytes.split(|byte| *byte == b'\n').filter_map(|line| HeaderValue::from_bytes(line).ok());
    let mut lines: Vec<HeaderValue> = lines.collect();
    let headers = |lines: &[HeaderValue]| -> HeaderMap {
        lines.iter().map(|line| (name.clone(), line.clone())).collect()
    };
    let parsed = read(&headers(&lines));
    assert!(parsed.chain.len() <= 16);
    // All but the first are trusted proxies.
    assert!(parsed.chain.iter().skip(1).all(is_trusted));
    assert!(parsed.chain.iter().all(ClientAddr::is_unicast));
    let first_is_trusted = parsed.chain.first().is_none_or(is_trusted);
    assert_eq!(parsed.chain_end == ChainEnd::Client, !first_is_trusted, "{parsed:?}");
    assert!(parsed.chain_end != ChainEnd::AllTrusted || !parsed.chain.is_empty());
    // Whatever was sent, the address the nearest proxy appends is the client.
    lines.extend(HeaderValue::from_str(client));
    let appended = read(&headers(&lines));
    assert_eq!(
        (appended.chain_end, appended.chain.len()),
        (ChainEnd::Client, 1),
        "on a line of its own"
    );
    let last = lines.len() - 1;
    if let Some(line) = last.checked_sub(1).and_then(|at| lines.get(at)) {
        let joined = [line.as_bytes(), b", ", client.as_bytes()].concat();
        lines.truncate(last);
        lines.extend(HeaderValue::from_bytes(&joined));
        assert_eq!(read(&headers(&lines)), appended, "on the same line");
    }
}

fn is_trusted(addr: &ClientAddr) -> bool {
    match addr.ip() {
        IpAddr::V4(v4) => v4.octets()[0] == 10,
        IpAddr::V6(v6) => v6.segments()[0] == 0xfd00,
    }
}
