use super::*;
use crate::http::ValidatedRequest;
use crate::http::sample::{head, head_from_bytes, opening};
use crate::upstream::scripted::direct_request;

/// The headers as lines, as they are sent.
fn lines(headers: &HeaderMap) -> Vec<String> {
    let line = |(name, value): (&HeaderName, &HeaderValue)| {
        format!("{name}: {}", value.as_bytes().escape_ascii())
    };
    headers.iter().map(line).collect()
}

fn request_for(parts: &mut request::Parts, forwarded: &ForwardedHeaders<'_>) -> Request<()> {
    let spelling = take_spelling(&mut parts.extensions);
    plain_request(parts, spelling, forwarded, false).unwrap()
}

fn plain(text: &str) -> Vec<String> {
    lines(request_for(&mut head(text), &direct_request().headers()).headers())
}

fn upgrade(head: &request::Parts, offered: &[Extension]) -> Request<()> {
    let Ok(ValidatedRequest::WebSocket(handshake)) = ValidatedRequest::validate(head) else {
        panic!("{head:?}")
    };
    upgrade_request(&mut head.clone(), &handshake, &direct_request().headers(), offered).unwrap()
}

fn forwarded(head: &response::Parts) -> Result<Response<()>, RejectReason> {
    plain_response(&mut head.clone(), &HeaderRules::default())
}

fn response_head(status: u16, fields: &[(&str, &str)]) -> response::Parts {
    let mut response = Response::builder().status(status);
    for (name, value) in fields {
        response = response.header(*name, *value);
    }
    response.body(()).unwrap().into_parts().0
}

const PROXY_HEADERS: [&str; 8] = [
    "cdn-loop: tidegate",
    "x-forwarded-for: 203.0.113.7",
    "x-forwarded-proto: https",
    "x-forwarded-host: a",
    "x-forwarded-port: 443",
    "x-real-ip: 203.0.113.7",
    "x-request-id: 0123",
    "connection: close",
];

#[test]
fn response_without_fields_to_remove_keeps_them_in_order() {
    let sent =
        |fields: &[(&str, &str)]| lines(forwarded(&response_head(200, fields)).unwrap().headers());
    assert_eq!(
        sent(&[("b", "1"), ("content-length", "5"), ("a", "2"), ("b", "3")]),
        ["b: 1", "b: 3", "content-length: 5", "a: 2"]
    );
    // A length that is not written as a single number is replaced.
    for length in ["05", "5, 5", " 5", "005"] {
        assert_eq!(sent(&[("content-length", length), ("a", "2")]), ["a: 2", "content-length: 5"]);
    }
    let twice = [("content-length", "5"), ("content-length", "5"), ("a", "2")];
    assert_eq!(sent(&twice), ["a: 2", "content-length: 5"]);
    let no_content = response_head(204, &[("content-length", "0"), ("a", "2")]);
    assert_eq!(lines(forwarded(&no_content).unwrap().headers()), ["a: 2"]);
}

// Requirements: H1, H2, RL41.
#[test]
fn removes_hop_by_hop_and_nominated_fields() {
    let sent = plain(
        "GET / HTTP/1.1\nHost: a\nConnection: close, X-A\nconnection: x-b\nX-A: 1\nX-B: 2\n\
         X-C: 3\nKeep-Alive: 5\nTE: gzip\nTrailer: x\nUpgrade: h2c\n\
         HTTP2-Settings: AA\nProxy-Connection: x\nProxy-Authorization: x\nProxy: x\n",
    );
    assert_eq!(sent[..2], ["host: a", "x-c: 3"]);
    assert_eq!(sent[2..], PROXY_HEADERS);
}

// Requirements: XF01, XF06, XF07, H40.
#[test]
fn replaces_forwarding_fields_from_clients() {
    let sent = plain(
        "GET / HTTP/1.1\nHost: a\nX-Forwarded-For: 1.1.1.1\nX-Forwarded-For: 2.2.2.2\n\
         X-Forwarded-Proto: http\nX-Forwarded-Host: evil\nX-Forwarded-Port: 1\n\
         X-Forwarded-Prefix: /x\nX-Real-IP: 1.1.1.1\nForwarded: for=1.1.1.1\n\
         True-Client-IP: 1.1.1.1\nCF-Connecting-IP: 1.1.1.1\nEarly-Data: 1\n\
         X-Request-Id: 1\n",
    );
    assert_eq!(sent[0], "host: a");
    assert_eq!(sent[1..], PROXY_HEADERS);
}

// Requirements: RL24, XF08.
#[test]
fn drops_field_names_with_underscores() {
    let sent = plain("GET / HTTP/1.1\nHost: a\nX_Forwarded_For: 1\nX_Auth_User: root\n");
    assert_eq!(sent.len(), 1 + PROXY_HEADERS.len(), "{sent:?}");
}

// Requirements: RL47.
#[test]
fn keeps_the_listed_names_with_underscores() {
    let mut request = direct_request();
    request.policy.underscore_headers = vec![HeaderName::from_static("x_token")];
    let mut parts =
        head("GET / HTTP/1.1\nHost: a\nX_Token: 1\nX_Token: 2\nX_Other: 3\nX-Token: 4\n");
    let sent = lines(request_for(&mut parts, &request.headers()).headers());
    assert_eq!(sent[1..4], ["x_token: 1", "x_token: 2", "x-token: 4"]);
}

// Requirements: H12.
#[test]
fn appends_via_with_the_received_version() {
    let mut named = direct_request();
    named.policy.via = Some("edge".into());
    let via = |text: &str| {
        let request = request_for(&mut head(text), &named.headers());
        assert_eq!(request.version(), Version::HTTP_11);
        let values = request.headers().get_all(VIA).iter();
        values.map(|value| value.to_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(via("GET / HTTP/1.1\nHost: a\nVia: 1.0 fred\n"), ["1.0 fred", "1.1 edge"]);
    assert_eq!(via("GET / HTTP/1.0\nHost: a\n"), ["1.0 edge"]);
}

// Requirements: H13.
#[test]
fn loop_id_is_appended_and_via_left_alone() {
    let sent = plain("GET / HTTP/1.1\nHost: a\nVia: 1.0 fred\nCDN-Loop: b; c=d\n");
    assert_eq!(sent[1..4], ["via: 1.0 fred", "cdn-loop: b; c=d", "cdn-loop: tidegate"]);
    assert_eq!(sent[4..], PROXY_HEADERS[1..]);
}

// Requirements: H18, H19, H21, RL44.
#[test]
fn other_fields_pass_in_order() {
    let sent = plain(
        "GET / HTTP/1.1\nHost: a\nAuthorization: Bearer  x==\nCookie: a=1; b=2\nX-Own: 1\n\
         Cookie: c=3\nRange: bytes=0-\nIf-None-Match: \"x\"\nAccept-Encoding: br\n\
         Expect: 100-continue\nContent-Length: 3\nX-Own: 0\n",
    );
    let forwarded = &sent[1..sent.len() - PROXY_HEADERS.len()];
    let named = |name: &str| -> Vec<&String> {
        forwarded.iter().filter(|line| line.starts_with(name)).collect()
    };
    assert_eq!(named("cookie"), ["cookie: a=1; b=2", "cookie: c=3"]);
    assert_eq!(named("x-own"), ["x-own: 1", "x-own: 0"]);
    assert_eq!(named("authorization"), ["authorization: Bearer  x=="]);
    assert_eq!(forwarded.len(), 10);
}

#[test]
fn non_ascii_values_pass_unchanged() {
    let mut parts = head_from_bytes(b"GET / HTTP/1.1\nHost: a\nX-Name: caf\xc3\xa9 \xff\n");
    let sent = lines(request_for(&mut parts, &direct_request().headers()).headers());
    assert_eq!(sent[1], "x-name: caf\\xc3\\xa9 \\xff");
}

// Requirements: H20.
#[test]
fn target_stays_byte_identical_in_origin_form() {
    for (target, sent) in [
        ("/a%2Fb/../c;x?y=%00z", "/a%2Fb/../c;x?y=%00z"),
        ("//evil/x", "//evil/x"),
        ("/?", "/?"),
        ("/%7euser//x/./?a?b", "/%7euser//x/./?a?b"),
        ("http://B:80/x?y", "/x?y"),
        ("http://b", "/"),
        ("http://b?x", "/?x"),
    ] {
        let mut parts = head(&format!("GET {target} HTTP/1.1\nHost: a\n"));
        let request = request_for(&mut parts, &direct_request().headers());
        assert_eq!(request.uri().to_string(), sent);
    }
}

// Requirements: H23.
#[test]
fn absolute_target_overrides_the_host_field() {
    let sent = plain("GET http://B:80/x HTTP/1.1\nHost: a\n");
    assert_eq!(sent[0], "host: B:80");
    assert!(sent.contains(&"x-forwarded-host: B:80".to_owned()), "{sent:?}");
    assert_eq!(plain("GET / HTTP/1.1\nHost: A:443\n")[0], "host: A:443");
}

#[test]
fn ipv6_client_without_tls_is_forwarded_correctly() {
    let mut scripted = direct_request();
    scripted.client.addr = crate::client::ClientAddr::new("[2001:db8::7]:1".parse().unwrap());
    scripted.client.secure = false;
    scripted.forwarded.chain = vec![scripted.client.addr];
    let mut parts = head("GET / HTTP/1.1\nHost: a\n");
    let request = request_for(&mut parts, &scripted.headers());
    assert_eq!(request.headers()["x-forwarded-for"], "2001:db8::7");
    assert_eq!(request.headers()["x-forwarded-proto"], "http");
}

#[test]
fn chunked_body_stays_chunked() {
    let sent = plain("POST / HTTP/1.1\nHost: a\nTransfer-Encoding: Chunked\n");
    assert!(sent.contains(&"transfer-encoding: chunked".to_owned()), "{sent:?}");
}

// Requirements: H5.
#[test]
fn upgrade_request_carries_the_client_key() {
    let parts = opening(
        "Content-Length: 0\nOrigin: https://a\nSec-WebSocket-Protocol: b\n\
         Sec-WebSocket-Protocol: a\nSec-WebSocket-Extensions: x\nCookie: s=1\n",
    );
    let request = upgrade(&parts, &[]);
    assert_eq!(
        lines(request.headers()),
        [
            "host: example.com",
            "origin: https://a",
            "cookie: s=1",
            "cdn-loop: tidegate",
            "x-forwarded-for: 203.0.113.7",
            "x-forwarded-proto: https",
            "x-forwarded-host: example.com",
            "x-forwarded-port: 443",
            "x-real-ip: 203.0.113.7",
            "x-request-id: 0123",
            "sec-websocket-version: 13",
            "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
            "sec-websocket-protocol: b, a",
            "connection: Upgrade",
            "upgrade: websocket",
        ]
    );
    assert_eq!(request.uri(), "/chat?room=1");
}

// Requirements: UH23.
#[test]
fn repeated_handshake_fields_become_one_line() {
    let parts = opening(
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\nSec-WebSocket-Version: 13\n\
         Upgrade: websocket\nOrigin: https://a\nOrigin: https://a\n\
         Sec-WebSocket-Protocol:\nSec-WebSocket-Protocol: ,a,, b\n",
    );
    let headers = upgrade(&parts, &[]).into_parts().0.headers;
    for (name, value) in [
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-version", "13"),
        ("upgrade", "websocket"),
        ("origin", "https://a"),
        ("sec-websocket-protocol", "a, b"),
    ] {
        assert_eq!(headers.get_all(name).iter().collect::<Vec<_>>(), [value], "{name}");
    }
    let empty = upgrade(&opening("Sec-WebSocket-Protocol: ,\n"), &[]);
    assert!(!empty.headers().contains_key(SEC_WEBSOCKET_PROTOCOL));
}

// Requirements: W14, UH27.
#[test]
fn offers_only_extensions_the_route_allows() {
    let parts = opening(
        "Sec-WebSocket-Extensions: permessage-deflate;  client_max_window_bits\n\
         Sec-WebSocket-Extensions: x-Other\n",
    );
    let offered = |offered: &[Extension]| -> Vec<String> {
        let request = upgrade(&parts, offered);
        let values = request.headers().get_all(SEC_WEBSOCKET_EXTENSIONS);
        values.iter().map(|value| value.to_str().unwrap().to_owned()).collect()
    };
    assert!(offered(&[]).is_empty());
    let all = Extension::read_all(&parts.headers).unwrap();
    assert_eq!(offered(&all), ["permessage-deflate; client_max_window_bits, x-other"]);
}

#[test]
fn switching_response_is_rebuilt_with_application_headers() {
    let built = switching_response(
        &mut response_head(
            101,
            &[
                ("Upgrade", "WebSocket"),
                ("Connection", "upgrade, x-hop, sec-websocket-accept"),
                ("X-Hop", "1"),
                ("Keep-Alive", "1"),
                ("Sec-WebSocket-Accept", "x"),
                ("Set-Cookie", "a=1"),
                ("Set-Cookie", "b=2"),
                ("Server", "app"),
            ],
        ),
        &[],
        &HeaderRules::default(),
    )
    .unwrap();
    assert_eq!(built.status(), 101);
    assert_eq!(
        lines(built.headers()),
        [
            "set-cookie: a=1",
            "set-cookie: b=2",
            "server: app",
            "sec-websocket-accept: x",
            "connection: Upgrade",
            "upgrade: websocket",
        ]
    );
}

// Requirements: H8, BM05.
#[test]
fn declined_upgrade_closes_the_connection() {
    let none = HeaderRules::default();
    let mut redirect = response_head(
        302,
        &[("Location", "/login"), ("Content-Length", "5"), ("Connection", "keep-alive")],
    );
    let redirect = declined_response(&mut redirect, &none);
    assert_eq!(
        lines(redirect.unwrap().headers()),
        ["location: /login", "content-length: 5", "connection: close"]
    );
    let mut wrong_version = response_head(
        426,
        &[("Upgrade", "h2c"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "8")],
    );
    assert_eq!(
        lines(declined_response(&mut wrong_version, &none).unwrap().headers()),
        ["sec-websocket-version: 8", "connection: close, Upgrade", "upgrade: websocket"]
    );
    assert_eq!(
        lines(forwarded(&wrong_version).unwrap().headers()),
        ["sec-websocket-version: 8", "connection: Upgrade", "upgrade: websocket"]
    );
}

// Requirements: BM16.
#[test]
fn rejects_responses_with_conflicting_framing() {
    let with = |fields: &[(&str, &str)]| forwarded(&response_head(200, fields));
    // Some servers write it twice and apply it once.
    for coding in ["chunked", "Chunked", "chunked, chunked"] {
        let chunked = with(&[("Content-Length", "5"), ("Transfer-Encoding", coding)]).unwrap();
        assert!(chunked.headers().is_empty(), "{coding}");
    }
    let identity = with(&[("Content-Length", "5"), ("Transfer-Encoding", "identity")]).unwrap();
    assert_eq!(lines(identity.headers()), ["content-length: 5"]);
    for coding in ["gzip", "gzip, chunked", "chunked, gzip", "chunked,", "identity, gzip"] {
        let coding = ("Transfer-Encoding", coding);
        assert!(with(&[("Content-Length", "5"), coding]).is_err(), "{coding:?}");
        assert!(with(&[coding]).is_err(), "{coding:?}");
    }
    for length in ["", "+5", "5, 6", "5,", "x", "99999999999999999999"] {
        assert!(with(&[("Content-Length", length)]).is_err(), "{length:?}");
    }
    assert!(with(&[("Content-Length", "5"), ("Content-Length", "6")]).is_err());
    let same = with(&[("Content-Length", "5, 5"), ("Content-Length", "05")]).unwrap();
    assert_eq!(lines(same.headers()), ["content-length: 5"]);
    let no_content = forwarded(&response_head(204, &[("Content-Length", "0")])).unwrap();
    assert!(no_content.headers().is_empty());
}

// Requirements: BM17.
#[test]
fn valid_values_pass_and_hop_fields_go() {
    let response = forwarded(&response_head(
        200,
        &[
            ("Via", "1.1 x"),
            ("Set-Cookie", "a={[|]}; Path=/"),
            ("Server", "~!@ (x)"),
            ("Connection", "close, X-Internal"),
            ("X-Internal", "1"),
            ("Trailer", "x, X-Internal"),
            ("Transfer-Encoding", "chunked"),
            ("Proxy-Status", "x"),
        ],
    ))
    .unwrap();
    assert_eq!(
        lines(response.headers()),
        [
            "via: 1.1 x",
            "set-cookie: a={[|]}; Path=/",
            "server: ~!@ (x)",
            "proxy-status: x",
            "trailer: x"
        ]
    );
}
