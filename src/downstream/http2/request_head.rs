//! The head of a request as that of an HTTP/1.1 request, which all further checks and the backend expect. Its
//! version stays HTTP/2.

use h2::ext::Protocol;
use hyper::header::{
    CONTENT_LENGTH, COOKIE, HOST, HeaderName, HeaderValue, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING,
};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Uri};

use crate::http::head_limits::HeadLimits;
use crate::http::upgrade::ExtendedConnect;
use crate::reject::RejectReason;

/// Converts a head. `has_body`: the head does not end the stream. `key` is the `Sec-WebSocket-Key` for an
/// extended CONNECT, which itself has none (RFC 8441 5).
///
/// The h2 library has reset streams whose heads lack a pseudo-header field or have one too many, or have
/// connection-specific or malformed fields (RFC 9113 8.1.1).
///
/// # Errors
/// The first rule that the head violates. It can be used for the record nevertheless.
pub(super) fn convert(
    head: &mut Parts,
    has_body: bool,
    limits: HeadLimits,
    key: impl FnOnce() -> HeaderValue,
) -> Result<(), RejectReason> {
    let target = std::mem::take(&mut head.uri).into_parts();
    let authority = target.authority.as_ref().map_or("", |authority| authority.as_str());
    let path_and_query = target.path_and_query.as_ref();
    let target_bytes = authority.len() + path_and_query.map_or(0, |target| target.as_str().len());
    let fields = head.headers.len();
    // As in HTTP/1.1, where a colon, a space and the end of the line come with each field.
    let size = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 4;
    let bytes = target_bytes + head.headers.iter().map(size).sum::<usize>();
    let host = convert_host(&mut head.headers, authority);
    head.uri = target.path_and_query.map(Uri::from).unwrap_or_default();
    if fields > limits.fields {
        return Err(RejectReason::HeadTooLarge);
    }
    if target_bytes > limits.target_bytes() {
        return Err(RejectReason::UriTooLong);
    }
    if bytes > limits.bytes {
        return Err(RejectReason::HeadTooLarge);
    }
    host?;
    check_values(&head.headers)?;
    // RFC 9113 8.2.3: Cookie may be split, and counts as several fields above.
    join_cookies(&mut head.headers);
    match head.extensions.remove::<Protocol>() {
        Some(protocol) if head.method == Method::CONNECT => {
            convert_connect(head, protocol.as_str(), has_body, key)
        }
        _ => {
            if has_body && !head.headers.contains_key(CONTENT_LENGTH) {
                head.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            }
            Ok(())
        }
    }
}

/// RFC 9113 8.3.1: `Host` is made from `:authority`; if the client sends both, they must agree.
fn convert_host(headers: &mut HeaderMap, authority: &str) -> Result<(), RejectReason> {
    if authority.is_empty() {
        return Ok(());
    }
    let is_same = |host: &HeaderValue| host.as_bytes().eq_ignore_ascii_case(authority.as_bytes());
    let agrees = headers.get_all(HOST).iter().all(is_same);
    if let Ok(host) = HeaderValue::from_str(authority) {
        headers.insert(HOST, host);
    }
    if agrees { Ok(()) } else { Err(RejectReason::RequestInvalid("Host differs from :authority")) }
}

/// RFC 9113 8.2.1: values do not start or end with a space or tab. Removing it could be a way around a filter.
fn check_values(headers: &HeaderMap) -> Result<(), RejectReason> {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let is_padded = |value: &HeaderValue| {
        let value = value.as_bytes();
        value.first().is_some_and(is_blank) || value.last().is_some_and(is_blank)
    };
    if headers.values().any(is_padded) {
        return Err(RejectReason::RequestInvalid(
            "header value that starts or ends with a space or tab",
        ));
    }
    Ok(())
}

/// RFC 9113 8.2.3: the parts of `Cookie` are joined for HTTP/1.1. Empty ones are left out.
fn join_cookies(headers: &mut HeaderMap) {
    let parts = headers.get_all(COOKIE);
    if parts.iter().nth(1).is_none() {
        return;
    }
    let parts = parts.iter().map(HeaderValue::as_bytes).filter(|part| !part.is_empty());
    let parts: Vec<&[u8]> = parts.collect();
    if let Ok(joined) = HeaderValue::from_bytes(&parts.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

/// Turns an extended CONNECT into the GET of an HTTP/1.1 handshake.
fn convert_connect(
    head: &mut Parts,
    protocol: &str,
    has_body: bool,
    key: impl FnOnce() -> HeaderValue,
) -> Result<(), RejectReason> {
    if !protocol.eq_ignore_ascii_case("websocket") {
        return Err(RejectReason::UnsupportedProtocol);
    }
    if !has_body {
        return Err(RejectReason::HandshakeInvalid("extended CONNECT that ends its stream"));
    }
    // The h2 library would count the frames of the tunnel.
    if head.headers.contains_key(CONTENT_LENGTH) {
        return Err(RejectReason::HandshakeInvalid("extended CONNECT with Content-Length"));
    }
    head.method = Method::GET;
    head.extensions.insert(ExtendedConnect);
    head.headers.insert(SEC_WEBSOCKET_KEY, key());
    // Firefox leaves it out behind a proxy, though RFC 8441 5 keeps it.
    if !head.headers.contains_key(SEC_WEBSOCKET_VERSION) {
        head.headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    const LIMITS: HeadLimits = HeadLimits { bytes: 8192, fields: 100 };

    fn converted(
        request: hyper::http::request::Builder,
        has_body: bool,
    ) -> (Result<(), RejectReason>, Parts) {
        let mut head = request.body(()).unwrap().into_parts().0;
        let key = || HeaderValue::from_static("key");
        (convert(&mut head, has_body, LIMITS, key), head)
    }

    fn get(uri: &str) -> hyper::http::request::Builder {
        Request::get(uri).version(hyper::Version::HTTP_2)
    }

    fn connect(protocol: &'static str) -> hyper::http::request::Builder {
        let request = Request::connect("https://a.example/ws").version(hyper::Version::HTTP_2);
        request.extension(Protocol::from_static(protocol))
    }

    // Requirements: E13, E14, H235.
    #[test]
    fn host_and_cookie_become_single_fields() {
        let mut request = get("https://A.example:8443/a?b").header("host", "a.EXAMPLE:8443");
        for crumb in ["", "a=1", "b=2; c=3", "", "d=", ""] {
            request = request.header("cookie", crumb);
        }
        let (result, head) = converted(request, false);
        assert_eq!(result, Ok(()));
        assert_eq!(head.headers[HOST], "A.example:8443");
        assert_eq!(head.uri, "/a?b");
        let cookies: Vec<_> = head.headers.get_all(COOKIE).iter().collect();
        assert_eq!(cookies, ["a=1; b=2; c=3; d="]);
        assert!(!head.headers.contains_key(TRANSFER_ENCODING));
    }

    #[test]
    fn body_of_unknown_length_becomes_chunked() {
        let (_, head) = converted(get("https://a/"), true);
        assert_eq!(head.headers[TRANSFER_ENCODING], "chunked");
        let (_, head) = converted(get("https://a/").header("content-length", "5"), true);
        assert!(!head.headers.contains_key(TRANSFER_ENCODING));
    }

    // Requirements: H205, H216, H218.
    #[test]
    fn rejects_what_http_1_would_hide() {
        let invalid = |request: hyper::http::request::Builder| converted(request, false).0;
        for value in [" a", "a ", "\ta", "a\t"] {
            let result = invalid(get("https://a/").header("x", value));
            assert!(matches!(result, Err(RejectReason::RequestInvalid(_))), "{value:?}");
        }
        let result = invalid(get("https://a/").header("host", "b"));
        assert!(matches!(result, Err(RejectReason::RequestInvalid(_))));
        let crumbs = (0..101).fold(get("https://a/"), |request, _| request.header("cookie", "a"));
        assert_eq!(invalid(crumbs), Err(RejectReason::HeadTooLarge));
        let long = format!("https://a/{}", "p".repeat(4096));
        assert_eq!(invalid(get(&long)), Err(RejectReason::UriTooLong));
    }

    // Requirements: E4, E6, H221, H224, H225.
    #[test]
    fn extended_connect_becomes_a_handshake() {
        let (result, head) = converted(connect("WebSocket").header("sec-websocket-key", "x"), true);
        assert_eq!(result, Ok(()));
        assert_eq!((head.method, head.uri.to_string()), (Method::GET, "/ws".to_owned()));
        assert_eq!(head.headers[SEC_WEBSOCKET_KEY], "key");
        assert_eq!(head.headers[SEC_WEBSOCKET_VERSION], "13");
        assert!(head.extensions.get::<ExtendedConnect>().is_some());
        assert!(!head.headers.contains_key(TRANSFER_ENCODING));
        let (_, head) = converted(connect("websocket").header("sec-websocket-version", "8"), true);
        assert_eq!(head.headers[SEC_WEBSOCKET_VERSION], "8");
        for protocol in ["foo", "webtransport", "connect-udp"] {
            let (result, _) = converted(connect(protocol), true);
            assert_eq!(result, Err(RejectReason::UnsupportedProtocol));
        }
        let ended = converted(connect("websocket"), false).0;
        let sized = converted(connect("websocket").header("content-length", "0"), true).0;
        assert!(matches!(ended, Err(RejectReason::HandshakeInvalid(_))));
        assert!(matches!(sized, Err(RejectReason::HandshakeInvalid(_))));
    }
}
