use super::*;
use crate::upstream::scripted::{ScriptedRequest, direct_request};

fn addr(text: &str) -> ClientAddr {
    ClientAddr::new(text.parse().unwrap())
}

/// The headers added to a request for this host.
fn added(request: &ScriptedRequest, host: &str) -> Vec<String> {
    let mut headers = HeaderMap::new();
    request.headers().add_to(&host.parse().unwrap(), &mut headers);
    assert!(headers.len() <= ADDED_MAX);
    headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect()
}

/// The `Forwarded` line of a request for the host `a`.
fn forwarded(request: &ScriptedRequest) -> String {
    let added = added(request, "a");
    added.into_iter().find(|line| line.starts_with("forwarded: ")).unwrap()
}

/// A request through two trusted proxies that sent all forwarded headers.
fn proxied_request() -> ScriptedRequest {
    let mut request = direct_request();
    request.client.addr = addr("203.0.113.7:0");
    request.client.secure = false;
    let chain = ["203.0.113.7:0", "[fd00::2]:0", "10.0.0.1:5000"].map(addr).to_vec();
    let host = Some("chat.example:8080".into());
    request.forwarded = Forwarded { chain, host, ..Forwarded::default() };
    request
}

// Requirements: XF01, XF07.
#[test]
fn forwarded_headers_describe_the_client() {
    let expected = [
        "x-forwarded-for: 203.0.113.7",
        "x-forwarded-proto: https",
        "x-forwarded-host: a",
        "x-forwarded-port: 443",
        "x-real-ip: 203.0.113.7",
        "x-request-id: 0123",
    ];
    assert_eq!(added(&direct_request(), "a"), expected);
    assert_eq!(added(&direct_request(), "a:8443")[3], "x-forwarded-port: 8443");
    assert_eq!(added(&direct_request(), "[::1]:8443")[3], "x-forwarded-port: 8443");
    let mut plain = direct_request();
    plain.client.secure = false;
    assert_eq!(added(&plain, "a")[3], "x-forwarded-port: 80");
}

// Requirements: XF02.
#[test]
fn forwarded_headers_keep_the_trusted_chain() {
    let mut request = proxied_request();
    assert_eq!(
        added(&request, "10.0.0.9")[..5],
        [
            "x-forwarded-for: 203.0.113.7, fd00::2, 10.0.0.1",
            "x-forwarded-proto: http",
            "x-forwarded-host: chat.example:8080",
            "x-forwarded-port: 8080",
            "x-real-ip: 203.0.113.7",
        ]
    );
    request.forwarded.port = Some(443);
    assert_eq!(added(&request, "10.0.0.9")[3], "x-forwarded-port: 443");
}

#[test]
fn sends_forwarded_if_the_route_enables_it() {
    let mut request = proxied_request();
    request.policy.send_forwarded = true;
    assert_eq!(
        forwarded(&request),
        "forwarded: for=203.0.113.7;host=\"chat.example:8080\";proto=http, \
         for=\"[fd00::2]\", for=10.0.0.1"
    );
    request.forwarded = Forwarded { chain: vec![addr("[2001:db8::7]:1")], ..Forwarded::default() };
    assert_eq!(forwarded(&request), "forwarded: for=\"[2001:db8::7]\";host=\"a\";proto=http");
}

#[test]
fn header_rules_remove_before_they_set() {
    let names = ["x-debug", "server", "x-env"].map(HeaderName::from_static);
    let value = HeaderValue::from_static;
    let mut headers = HeaderMap::new();
    for name in [&names[0], &names[0], &names[1], &names[2], &names[2]] {
        headers.append(name, value("old"));
    }
    let rules = HeaderRules {
        remove: names[..2].to_vec(),
        set: vec![(names[1].clone(), value("new")), (names[2].clone(), value("new"))],
    };
    apply_rules(&rules, &mut headers);
    let remaining: Vec<_> = headers.iter().collect();
    assert_eq!(remaining, [(&names[2], &value("new")), (&names[1], &value("new"))]);
}

#[test]
fn proxy_header_addresses_share_one_family() {
    let v4 = [203, 0, 113, 7];
    for (client, local, is_ipv4, address_len) in [
        ("203.0.113.7:5000", "192.0.2.1:443", true, 12),
        ("[::ffff:203.0.113.7]:5000", "[::ffff:192.0.2.1]:443", true, 12),
        ("203.0.113.7:0", "[2001:db8::1]:443", true, 36),
        ("[2001:db8::7]:5000", "192.0.2.1:443", false, 36),
        ("[2001:db8::7]:5000", "[2001:db8::1]:443", false, 36),
    ] {
        let mut request = direct_request();
        assert!(request.headers().proxy_header().is_empty());
        request.policy.send_proxy = true;
        request.client.addr = addr(client);
        request.local = local.parse().unwrap();
        let header = request.headers().proxy_header();
        // The signature, then version 2 with the command PROXY.
        assert_eq!(header[..13], *b"\r\n\r\n\0\r\nQUIT\n\x21");
        // TCP over IPv4 or IPv6, then the length of the addresses.
        let family = if address_len == 12 { 0x11 } else { 0x21 };
        assert_eq!((header[13], header[15]), (family, address_len));
        assert_eq!(header.len(), 16 + usize::from(address_len));
        match (is_ipv4, address_len) {
            (true, 12) => {
                let addresses = [v4, [192, 0, 2, 1]].concat();
                assert_eq!(header[16..24], addresses);
                assert_eq!(header[24..], [0x13, 0x88, 1, 0xbb]);
            }
            (true, _) => {
                let mapped = [&[0; 10][..], &[0xff, 0xff], &v4].concat();
                assert_eq!(header[16..32], mapped);
                assert_eq!(header[48..], [0, 0, 1, 0xbb]);
            }
            (false, _) => {}
        }
    }
}
