use super::*;
use crate::upstream::scripted::{ScriptedRequest, guest};

fn addr(text: &str) -> ClientAddr {
    ClientAddr::new(text.parse().unwrap())
}

/// What is written for a request to this host.
fn written(guest: &ScriptedRequest, host: &str) -> Vec<String> {
    let mut headers = HeaderMap::new();
    guest.introduction().write(&host.parse().unwrap(), &mut headers);
    assert!(headers.len() <= WRITTEN_MAX);
    headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect()
}

fn forwarded(guest: &ScriptedRequest) -> String {
    written(guest, "a").last().unwrap().clone()
}

/// A request that came by two trusted proxies, which said all there is to say.
fn by_proxies() -> ScriptedRequest {
    let mut guest = guest();
    guest.visitor.addr = addr("203.0.113.7:0");
    guest.visitor.secure = false;
    let chain = ["203.0.113.7:0", "[fd00::2]:0", "10.0.0.1:5000"].map(addr).to_vec();
    let host = Some("chat.example:8080".into());
    guest.forwarded = Forwarded { chain, host, ..Forwarded::default() };
    guest
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
    assert_eq!(written(&guest(), "a"), expected);
    assert_eq!(written(&guest(), "a:8443")[3], "x-forwarded-port: 8443");
    assert_eq!(written(&guest(), "[::1]:8443")[3], "x-forwarded-port: 8443");
    let mut plain = guest();
    plain.visitor.secure = false;
    assert_eq!(written(&plain, "a")[3], "x-forwarded-port: 80");
}

// Requirements: XF02.
#[test]
fn forwarded_headers_keep_the_trusted_chain() {
    let mut guest = by_proxies();
    assert_eq!(
        written(&guest, "10.0.0.9")[..5],
        [
            "x-forwarded-for: 203.0.113.7, fd00::2, 10.0.0.1",
            "x-forwarded-proto: http",
            "x-forwarded-host: chat.example:8080",
            "x-forwarded-port: 8080",
            "x-real-ip: 203.0.113.7",
        ]
    );
    guest.forwarded.port = Some(443);
    assert_eq!(written(&guest, "10.0.0.9")[3], "x-forwarded-port: 443");
}

#[test]
fn forwarded_is_written_where_a_route_wants_it() {
    let mut guest = by_proxies();
    guest.manner.send_forwarded = true;
    assert_eq!(
        forwarded(&guest),
        "forwarded: for=203.0.113.7;host=\"chat.example:8080\";proto=http, \
         for=\"[fd00::2]\", for=10.0.0.1"
    );
    guest.forwarded = Forwarded { chain: vec![addr("[2001:db8::7]:1")], ..Forwarded::default() };
    assert_eq!(forwarded(&guest), "forwarded: for=\"[2001:db8::7]\";host=\"a\";proto=http");
}

#[test]
fn rules_remove_first_and_then_set() {
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
    apply(&rules, &mut headers);
    let left: Vec<_> = headers.iter().collect();
    assert_eq!(left, [(&names[2], &value("new")), (&names[1], &value("new"))]);
}

#[test]
fn a_proxy_header_has_both_addresses_in_one_family() {
    let v4 = [203, 0, 113, 7];
    for (client, local, expected) in [
        ("203.0.113.7:5000", "192.0.2.1:443", 12),
        ("[::ffff:203.0.113.7]:5000", "[::ffff:192.0.2.1]:443", 12),
        ("203.0.113.7:0", "[2001:db8::1]:443", 36),
        ("[2001:db8::7]:5000", "192.0.2.1:443", 36),
        ("[2001:db8::7]:5000", "[2001:db8::1]:443", 36),
    ] {
        let mut guest = guest();
        assert!(guest.introduction().proxy_header().is_empty());
        guest.manner.send_proxy = true;
        guest.visitor.addr = addr(client);
        guest.local = local.parse().unwrap();
        let header = guest.introduction().proxy_header();
        assert_eq!(header[..13], *b"\r\n\r\n\0\r\nQUIT\n\x21");
        assert_eq!((header[13], header[15]), (if expected == 12 { 0x11 } else { 0x21 }, expected));
        assert_eq!(header.len(), 16 + usize::from(expected));
        match (client.starts_with('2'), expected) {
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
