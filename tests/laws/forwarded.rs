//! What holds for any lines of `X-Forwarded-For` and of `Forwarded`.

use std::net::IpAddr;

use hyper::HeaderMap;
use hyper::header::{FORWARDED, HeaderName, HeaderValue};
use tidegate::client::ClientAddr;
use tidegate::http::forwarded::{Forwarded, Walk, X_FORWARDED_FOR};

/// Each line of the bytes is one of the field.
pub fn drive(bytes: &[u8]) {
    walk(bytes, &X_FORWARDED_FOR, "203.0.113.7", |headers| {
        Forwarded::by_x_forwarded(headers, is_trusted)
    });
    walk(bytes, &FORWARDED, "for=203.0.113.7", |headers| {
        Forwarded::by_forwarded(headers, is_trusted)
    });
}

fn walk(bytes: &[u8], name: &HeaderName, client: &str, read: impl Fn(&HeaderMap) -> Forwarded) {
    let lines =
        bytes.split(|byte| *byte == b'\n').filter_map(|line| HeaderValue::from_bytes(line).ok());
    let mut lines: Vec<HeaderValue> = lines.collect();
    let headers = |lines: &[HeaderValue]| -> HeaderMap {
        lines.iter().map(|line| (name.clone(), line.clone())).collect()
    };
    let said = read(&headers(&lines));
    assert!(said.chain.len() <= 16);
    // All but the first were passed on the way.
    assert!(said.chain.iter().skip(1).all(is_trusted));
    assert!(said.chain.iter().all(ClientAddr::is_possible));
    let first_is_trusted = said.chain.first().is_none_or(is_trusted);
    assert_eq!(said.walk == Walk::Client, !first_is_trusted, "{said:?}");
    assert!(said.walk != Walk::AllTrusted || !said.chain.is_empty());
    // Whatever was sent, who is named behind it by the proxy next to us is the client.
    lines.extend(HeaderValue::from_str(client));
    let behind = read(&headers(&lines));
    assert_eq!((behind.walk, behind.chain.len()), (Walk::Client, 1), "on a line of its own");
    let last = lines.len() - 1;
    if let Some(line) = last.checked_sub(1).and_then(|at| lines.get(at)) {
        let joined = [line.as_bytes(), b", ", client.as_bytes()].concat();
        lines.truncate(last);
        lines.extend(HeaderValue::from_bytes(&joined));
        assert_eq!(read(&headers(&lines)), behind, "on the same line");
    }
}

fn is_trusted(addr: &ClientAddr) -> bool {
    match addr.ip() {
        IpAddr::V4(v4) => v4.octets()[0] == 10,
        IpAddr::V6(v6) => v6.segments()[0] == 0xfd00,
    }
}
