use super::*;
use crate::http::sample::{head, head_from_bytes, opening};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

fn rejection(parts: &Parts) -> RejectReason {
    ValidatedRequest::validate(parts).unwrap_err()
}

fn status(parts: &Parts) -> u16 {
    rejection(parts).status().as_u16()
}

fn plain(text: &str) -> PlainRequest {
    match ValidatedRequest::validate(&head(text)).unwrap() {
        ValidatedRequest::Plain(plain) => plain,
        ValidatedRequest::WebSocket(handshake) => panic!("{handshake:?}"),
    }
}

fn handshake(parts: &Parts) -> Handshake {
    match ValidatedRequest::validate(parts).unwrap() {
        ValidatedRequest::WebSocket(handshake) => handshake,
        ValidatedRequest::Plain(plain) => panic!("{plain:?}"),
    }
}

/// A valid handshake with `from` replaced by `to`; an empty `to` removes it.
fn opening_with(from: &str, to: &str) -> Parts {
    let text = format!(
        "GET /chat HTTP/1.1\nHost: example.com\nUpgrade: websocket\nConnection: Upgrade\n\
         Sec-WebSocket-Key: {KEY}\nSec-WebSocket-Version: 13\n"
    );
    assert!(text.contains(from), "{from}");
    head(&text.replace(from, to))
}

#[test]
fn valid_handshake_is_read_completely() {
    let read = handshake(&opening(
        "Origin: https://example.com\nSec-WebSocket-Protocol: chat, v2\n\
         Sec-WebSocket-Protocol: v1\nSec-WebSocket-Extensions: permessage-deflate\n",
    ));
    assert_eq!(read.authority.to_string(), "example.com");
    assert_eq!(read.path.normalized(), "/chat");
    assert_eq!(read.origin.as_deref(), Some("https://example.com"));
    assert_eq!(read.key, KEY);
    assert_eq!(read.subprotocols, ["chat", "v2", "v1"]);
    assert_eq!(read.extensions.len(), 1);
}

// Requirements: W2, W3.
#[test]
fn tokens_are_case_insensitive_in_lists() {
    let parts = opening_with(
        "Upgrade: websocket\nConnection: Upgrade",
        "upgrade: WebSocket\nconnection: keep-alive, Upgrade",
    );
    handshake(&parts);
    handshake(&opening_with("Connection: Upgrade", "Connection: foo\nConnection: ,UPGRADE"));
}

// Requirements: RL07, RL08.
#[test]
fn rejects_connect_trace_and_options() {
    assert_eq!(rejection(&head("CONNECT a:443 HTTP/1.1\nHost: a:443\n")), RejectReason::Method);
    assert_eq!(rejection(&head("CONNECT a: HTTP/1.1\nHost: a\n")), RejectReason::Method);
    assert_eq!(rejection(&head("TRACE / HTTP/1.1\nHost: a\n")), RejectReason::Method);
    assert_eq!(rejection(&head("OPTIONS * HTTP/1.1\nHost: a\n")), RejectReason::Method);
    assert_eq!(status(&head("GET * HTTP/1.1\nHost: a\n")), 400);
    plain("OPTIONS /x HTTP/1.1\nHost: a\n");
    plain("PROPFIND /x HTTP/1.1\nHost: a\n");
}

// Requirements: RL06.
#[test]
fn rejects_long_methods() {
    let method = |len: usize| format!("{} / HTTP/1.1\nHost: a\n", "A".repeat(len));
    plain(&method(32));
    assert_eq!(status(&head(&method(33))), 400);
}

// Requirements: RL10.
#[test]
fn rejects_targets_with_invalid_characters() {
    for target in ["/\u{e9}", "/?\u{e9}", "/a\\b", "/\\..\\a"] {
        assert_eq!(status(&head(&format!("GET {target} HTTP/1.1\nHost: a\n"))), 400, "{target}");
    }
    // Browsers leave these as they are in a query (WHATWG URL), where they divide nothing.
    plain("GET /?a=\\b|{c}^`d` HTTP/1.1\nHost: a\n");
}

// Requirements: RL11.
#[test]
fn double_slash_does_not_start_an_authority() {
    let read = plain("GET //evil/x HTTP/1.1\nHost: a\n");
    assert_eq!(read.authority.host, "a");
    assert_eq!(read.path.normalized(), "//evil/x");
}

// Requirements: H23, RL13.
#[test]
fn absolute_target_names_the_host() {
    let read = plain("GET http://Other.example:81/x?y HTTP/1.1\nHost: a\n");
    assert_eq!(read.authority.to_string(), "other.example:81");
    assert_eq!(read.path.normalized(), "/x");
    assert_eq!(plain("GET HTTPS://b HTTP/1.1\nHost: a\n").path.normalized(), "/");
    assert_eq!(plain("GET Ws://b/x HTTP/1.1\nHost: a\n").authority.host, "b");
    assert_eq!(plain("GET wss://b/x HTTP/1.1\nHost: a\n").path.normalized(), "/x");
    assert_eq!(plain("GET http://b?x HTTP/1.1\nHost: a\n").path.normalized(), "/");
    // Host is ignored for routing but must still be valid.
    assert_eq!(status(&head("GET http://b/ HTTP/1.1\n")), 400);
    assert_eq!(status(&head("GET http://b/ HTTP/1.1\nHost: a\nHost: b\n")), 400);
}

// Requirements: RL14.
#[test]
fn rejects_other_schemes_and_userinfo() {
    for target in
        ["ftp://a/", "wsx://a/", "http://u@a/", "http://u:p@a/", "a:80", "a", "http://a:0/"]
    {
        assert_eq!(status(&head(&format!("GET {target} HTTP/1.1\nHost: a\n"))), 400, "{target}");
    }
}

// Requirements: H22, RL15, RL16, RL17.
#[test]
fn requires_exactly_one_valid_host() {
    assert_eq!(
        rejection(&head("GET / HTTP/1.1\n")),
        RejectReason::RequestInvalid("missing Host header")
    );
    assert_eq!(plain("GET / HTTP/1.0\n").authority.host, "");
    assert_eq!(status(&head("GET / HTTP/1.0\nHost:\n")), 400);
    assert_eq!(plain("GET http://b/ HTTP/1.0\n").authority.host, "b");
    let doubled = head("GET / HTTP/1.1\nHost: a\nHost: a\n");
    assert_eq!(rejection(&doubled), RejectReason::RequestInvalid("more than one Host header"));
    for host in ["", "a/b", "u@a", "a:99999", "[::1", "[x]", "a,b", "a b"] {
        assert_eq!(status(&head(&format!("GET / HTTP/1.1\nHost: {host}\n"))), 400, "{host:?}");
    }
    assert_eq!(status(&head_from_bytes(b"GET / HTTP/1.1\nHost: \xffa\n")), 400);
}

// Requirements: RL31.
#[test]
fn accepts_only_a_single_chunked_coding() {
    plain("POST / HTTP/1.1\nHost: a\nTransfer-Encoding: Chunked\n");
    for lines in [
        "Transfer-Encoding: identity\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\nTransfer-Encoding: chunked",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked,",
        "Transfer-Encoding: chunked\nTransfer-Encoding:",
        "Transfer-Encoding:",
    ] {
        assert_eq!(status(&head(&format!("POST / HTTP/1.1\nHost: a\n{lines}\n"))), 400, "{lines}");
    }
    // RFC 9112 6.1: HTTP/1.0 has no transfer codings, so the framing counts as faulty.
    let old = head("POST / HTTP/1.0\nHost: a\nTransfer-Encoding: chunked\n");
    let reason = RejectReason::RequestInvalid("Transfer-Encoding in an HTTP/1.0 request");
    assert_eq!(rejection(&old), reason);
}

// Requirements: H3, RL41.
#[test]
fn connection_must_not_nominate_protected_fields() {
    for name in ["X-Forwarded-For", "Host", "cookie", "Sec-WebSocket-Key", "Via", "Origin"] {
        let lines = format!("Connection: close, {name}\n");
        assert_eq!(status(&head(&format!("GET / HTTP/1.1\nHost: a\n{lines}"))), 400, "{name}");
        assert_eq!(status(&opening(&lines)), 400, "{name}");
    }
    plain("GET / HTTP/1.1\nHost: a\nConnection: X-A, TE, close, keep-alive\n");
}

// Requirements: RL42.
#[test]
fn connection_options_are_bounded() {
    let text = format!("GET / HTTP/1.1\nHost: a\nConnection: {}\n", "a,".repeat(1000));
    assert_eq!(status(&head(&text)), 400);
}

// Requirements: H9, RL36, RL37.
#[test]
fn expectations_are_rejected_on_upgrades() {
    plain("PUT / HTTP/1.1\nHost: a\nExpect: 100-Continue\nContent-Length: 1\n");
    assert_eq!(rejection(&head("PUT / HTTP/1.1\nHost: a\nExpect: foo\n")), RejectReason::Expect);
    let two = head("PUT / HTTP/1.1\nHost: a\nExpect: 100-continue\nExpect: foo\n");
    assert_eq!(rejection(&two), RejectReason::Expect);
    assert_eq!(rejection(&opening("Expect: 100-continue\n")), RejectReason::Expect);
}

// Requirements: H13, RL43.
#[test]
fn own_loop_id_twice_is_a_loop() {
    plain("GET / HTTP/1.1\nHost: a\nCDN-Loop: tidegate, tidegate2; a=tidegate, fred\n");
    plain("GET / HTTP/1.1\nHost: a\nVia: 1.1 tidegate, 1.1 tidegate\n");
    for loops in
        ["CDN-Loop: tidegate, x, Tidegate ;v=1", "CDN-Loop: tidegate; v=\"1\"\nCDN-Loop: tidegate"]
    {
        let text = format!("GET / HTTP/1.1\nHost: a\n{loops}\n");
        assert_eq!(rejection(&head(&text)), RejectReason::Loop, "{loops}");
    }
}

// Requirements: W1, UH01.
#[test]
fn only_get_can_upgrade() {
    for method in ["POST", "PUT", "HEAD", "OPTIONS", "PATCH"] {
        let parts = opening_with("GET", method);
        assert_eq!(rejection(&parts), RejectReason::Method, "{method}");
    }
    let with_body = opening_with("GET /chat HTTP/1.1", "POST /chat HTTP/1.1\nContent-Length: 3");
    assert_eq!(rejection(&with_body), RejectReason::Method);
}

// Requirements: H6, RL03.
#[test]
fn http_1_0_never_upgrades() {
    let parts = opening_with("HTTP/1.1", "HTTP/1.0");
    assert!(matches!(ValidatedRequest::validate(&parts), Ok(ValidatedRequest::Plain(_))));
}

// Requirements: UH02.
#[test]
fn upgrade_requires_the_connection_option() {
    let parts = opening_with("Connection: Upgrade\n", "Connection: keep-alive\n");
    assert!(matches!(rejection(&parts), RejectReason::HandshakeInvalid(_)));
    assert_eq!(status(&opening_with("Connection: Upgrade\n", "")), 400);
    plain("GET / HTTP/1.1\nHost: a\nUpgrade: websocket\n");
}

// Requirements: UH03.
#[test]
fn connection_option_without_upgrade_is_plain_http() {
    let parts = opening_with("Upgrade: websocket\n", "");
    assert!(matches!(ValidatedRequest::validate(&parts), Ok(ValidatedRequest::Plain(_))));
}

// Requirements: H7, UH04.
#[test]
fn other_protocols_are_not_upgrades() {
    for protocol in ["h2c", "TLS/1.0", "foo", "h2c, TLS/1.0", "websocketx", "", "web socket"] {
        let lines = format!("Connection: Upgrade, HTTP2-Settings\nUpgrade: {protocol}\n");
        plain(&format!("GET / HTTP/1.1\nHost: a\n{lines}"));
        plain(&format!("POST / HTTP/1.1\nHost: a\n{lines}"));
    }
}

// Requirements: H10, UH05, UH06, UH07.
#[test]
fn websocket_is_selected_from_the_list() {
    for upgrade in ["Upgrade: websocket/13", "Upgrade: h2c, websocket/13"] {
        let parts = opening_with("Upgrade: websocket", upgrade);
        assert!(matches!(rejection(&parts), RejectReason::HandshakeInvalid(_)), "{upgrade}");
    }
    for upgrade in [
        "Upgrade: websocket, WebSocket",
        "Upgrade: websocket,",
        "Upgrade: websocket\nUpgrade: websocket",
        "Upgrade:\nUpgrade: ,websocket",
        "Upgrade: websocket, h2c",
        "Upgrade: h2c, websocket",
        "Upgrade: websocket\nUpgrade: h2c",
    ] {
        handshake(&opening_with("Upgrade: websocket", upgrade));
    }
}

// Requirements: W5, UH08.
#[test]
fn version_must_be_13() {
    let line = "Sec-WebSocket-Version: 13\n";
    for value in ["8", "12", "14", "013", "13, 8", "+13", "", "13.0"] {
        let parts = opening_with(line, &format!("Sec-WebSocket-Version: {value}\n"));
        assert_eq!(rejection(&parts), RejectReason::Version, "{value}");
    }
    assert_eq!(rejection(&opening_with(line, "")), RejectReason::Version);
    assert_eq!(rejection(&opening("Sec-WebSocket-Version: 8\n")), RejectReason::Version);
    for value in [" 13 ", "13, 13", "13,"] {
        handshake(&opening_with(line, &format!("Sec-WebSocket-Version: {value}\n")));
    }
    handshake(&opening(line));
}

// Requirements: W4, UH09.
#[test]
fn key_must_be_visible_and_short() {
    let line = format!("Sec-WebSocket-Key: {KEY}\n");
    assert_eq!(status(&opening_with(&line, "")), 400);
    handshake(&opening(&line));
    let other = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\n";
    assert_eq!(status(&opening(other)), 400, "the backend could answer the other one");
    for key in ["", "dGhlIHNhb XBsZSBub25jQ==", "\u{e9}", &"A".repeat(129)] {
        let parts = opening_with(&line, &format!("Sec-WebSocket-Key: {key}\n"));
        assert!(matches!(rejection(&parts), RejectReason::HandshakeInvalid(_)), "{key:?}");
    }
    for key in ["abc", "AQIDBAUGBwgJCgsMDQ4PEC==", &"A".repeat(128)] {
        let sent = opening_with(&line, &format!("Sec-WebSocket-Key: {key}\n"));
        assert_eq!(handshake(&sent).key, key);
    }
}

// Requirements: UH10, UH11.
#[test]
fn upgrade_must_not_have_a_body() {
    handshake(&opening("Content-Length: 0\n"));
    for body in [
        "Content-Length: 5\n",
        "Content-Length: 00\n",
        "Content-Length: 0\nContent-Length: 0\n",
        "Transfer-Encoding: chunked\n",
    ] {
        assert_eq!(status(&opening(body)), 400, "{body}");
    }
}

// Requirements: UH19.
#[test]
fn origin_must_be_single_and_printable() {
    assert_eq!(handshake(&opening("")).origin, None);
    assert_eq!(handshake(&opening("Origin: null\n")).origin.as_deref(), Some("null"));
    let twice = handshake(&opening("Origin: https://a\nOrigin: https://a\n"));
    assert_eq!(twice.origin.as_deref(), Some("https://a"));
    for other in ["https://b", "https://A", ""] {
        let lines = format!("Origin: https://a\nOrigin: {other}\n");
        assert_eq!(status(&opening(&lines)), 400, "{other:?}");
    }
    assert_eq!(status(&opening("Origin: https://a\tb\n")), 400);
    assert_eq!(status(&opening("Origin: https://\u{e9}\n")), 400);
}

// Requirements: UH22.
#[test]
fn subprotocols_must_be_printable() {
    assert!(handshake(&opening("")).subprotocols.is_empty());
    let odd = handshake(&opening("Sec-WebSocket-Protocol: a:b, c d,\"e\", f==\n"));
    assert_eq!(odd.subprotocols, ["a:b", "c d", "\"e\"", "f=="]);
    let most = "a,".repeat(100);
    assert_eq!(
        handshake(&opening(&format!("Sec-WebSocket-Protocol: {most}\n"))).subprotocols.len(),
        100
    );
    for list in ["\u{e9}", "a,b\tc", &"a,".repeat(101)] {
        let parts = opening(&format!("Sec-WebSocket-Protocol: {list}\n"));
        assert!(matches!(rejection(&parts), RejectReason::HandshakeInvalid(_)), "{list:?}");
    }
}

// Requirements: UH22, UH23.
#[test]
fn empty_list_members_are_ignored() {
    let listed =
        |list: &str| handshake(&opening(&format!("Sec-WebSocket-Protocol: {list}\n"))).subprotocols;
    for list in ["", ",", " , ,", &", ".repeat(2048)] {
        assert!(listed(list).is_empty(), "{list:?}");
    }
    for list in
        ["a,,b", "a, b,", ",a,\t,b", "a\nSec-WebSocket-Protocol:\nSec-WebSocket-Protocol: b"]
    {
        assert_eq!(listed(list), ["a", "b"], "{list:?}");
    }
    plain("PUT / HTTP/1.1\nHost: a\nExpect: 100-continue,\nExpect:\nContent-Length: 1\n");
}

// Requirements: W12, UH24, UH25.
#[test]
fn rejects_malformed_extensions() {
    for list in ["a;", "a b", "a;b=\"c", &"a,".repeat(17), &format!("a{}", ";b".repeat(17))] {
        let parts = opening(&format!("Sec-WebSocket-Extensions: {list}\n"));
        assert!(matches!(rejection(&parts), RejectReason::HandshakeInvalid(_)), "{list:?}");
    }
}
