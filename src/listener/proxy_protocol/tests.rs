use proptest::prelude::*;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// Builds a version 2 header.
fn v2(version: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let len = u16::try_from(block.len()).unwrap().to_be_bytes();
    [SIGNATURE_2, &[version, family], &len, block].concat()
}

/// 203.0.113.7:4711 to 192.0.2.1:443
const INET: [u8; 12] = [203, 0, 113, 7, 192, 0, 2, 1, 0x12, 0x67, 1, 0xbb];

fn parsed(bytes: &[u8]) -> Option<String> {
    match parse(bytes).unwrap() {
        ParseProgress::Complete { len, proxied } => {
            assert_eq!(len, bytes.len());
            proxied.map(|proxied| format!("{} to {}", proxied.source, proxied.destination))
        }
        ParseProgress::Partial => panic!("partial: {}", bytes.escape_ascii()),
    }
}

fn bad(bytes: &[u8]) {
    let parsed = parse(bytes);
    assert!(
        matches!(parsed, Err(ProxyHeaderError::Invalid(_))),
        "{}: {parsed:?}",
        bytes.escape_ascii()
    );
}

#[test]
fn valid_headers_are_parsed() {
    let four = Some("203.0.113.7:4711 to 192.0.2.1:443".to_owned());
    assert_eq!(parsed(b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\n"), four);
    assert_eq!(parsed(&v2(0x21, 0x11, &INET)), four);
    let six = Some("2001:db8::7 to [::1]:65535".to_owned());
    assert_eq!(parsed(b"PROXY TCP6 2001:DB8:0::7 ::1 0 65535\r\n"), six);
    let v6 = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
    let block = [&v6("2001:db8::7")[..], &v6("::1"), &[0, 0, 0xff, 0xff]].concat();
    assert_eq!(parsed(&v2(0x21, 0x21, &block)), six);
}

// Requirements: PP05, PP06, PP14.
#[test]
fn some_headers_carry_no_client_address() {
    assert_eq!(parsed(b"PROXY UNKNOWN\r\n"), None);
    assert_eq!(parsed(b"PROXY UNKNOWN ffff:f::ffff 1 whatever 65535 65535\r\n"), None);
    assert_eq!(parsed(&v2(0x20, 0, &[])), None);
    assert_eq!(parsed(&v2(0x20, 0x77, &[9; 40])), None);
    assert_eq!(parsed(&v2(0x21, 0, &[])), None);
    assert_eq!(parsed(&v2(0x21, 0x31, &[0; 216])), None);
}

// Requirements: PP01.
#[test]
fn other_protocols_are_rejected_at_once() {
    for bytes in [&b"GET / HTTP/1.1\r\n"[..], b"\x16\x03\x01", b"POST", b"\r\n\r\nGET", b"PRO\r\n"]
    {
        assert_eq!(parse(bytes), Err(ProxyHeaderError::Missing), "{}", bytes.escape_ascii());
    }
}

// Requirements: PP04.
#[test]
fn version_1_is_parsed_strictly() {
    for line in [
        "PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\n",
        "proxy TCP4 203.0.113.7 192.0.2.1 4711 443\r\n",
        "PROXY\tTCP4 203.0.113.7 192.0.2.1 4711 443\r\n",
        "PROXY tcp4 203.0.113.7 192.0.2.1 4711 443\r\n",
        "PROXY TCP5 203.0.113.7 192.0.2.1 4711 443\r\n",
        "PROXY  TCP4 203.0.113.7 192.0.2.1 4711 443\r\n",
        "PROXY TCP4 203.0.113.7  192.0.2.1 4711 443\r\n",
        "PROXY TCP4 203.0.113.7 192.0.2.1 4711 443 \r\n",
        "PROXY TCP4 203.0.113.7 192.0.2.1 4711 443 9\r\n",
        "PROXY TCP4 203.0.113.7 192.0.2.1 4711\r\n",
        "PROXY TCP4 0203.0.113.7 192.0.2.1 4711 443\r\n",
        "PROXY TCP4 0xcb.0.113.7 192.0.2.1 4711 443\r\n",
        "PROXY TCP4 203.0.1809 192.0.2.1 4711 443\r\n",
        "PROXY TCP4 203.0.113.7 192.0.2.1 +4711 443\r\n",
        "PROXY TCP4 203.0.113.7 192.0.2.1 04711 443\r\n",
        "PROXY TCP4 203.0.113.7 192.0.2.1 65536 443\r\n",
        "PROXY TCP4 203.0.113.7 192.0.2.1 4711 00\r\n",
        "PROXY TCP4 203.0.113.7 192.0.2.1 4711 \r\n",
        "PROXY TCP4 2001:db8::7 ::1 4711 443\r\n",
        "PROXY TCP6 203.0.113.7 192.0.2.1 4711 443\r\n",
        "PROXY TCP6 fe80::1%eth0 ::1 4711 443\r\n",
        "PROXY TCP6 [::2] ::1 4711 443\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY UNKNOWN \u{7}\r\n",
        "PROXY UNKNOWN \r \r\n",
        "PROXY \r\n",
    ] {
        bad(line.as_bytes());
    }
    let longest = |fill: usize| format!("PROXY UNKNOWN {}\r\n", "f".repeat(fill)).into_bytes();
    assert_eq!(parsed(&longest(107 - 16)), None);
    bad(&longest(108 - 16));
    bad(&[&b"PROXY UNKNOWN "[..], &[b'f'; 93]].concat());
}

// Requirements: PP06, PP07, PP08.
#[test]
fn version_2_is_parsed_strictly() {
    let mut damaged = v2(0x21, 0x11, &INET);
    damaged[11] = b'\r';
    bad(&damaged);
    for version in [0x11, 0x31, 0x01, 0x22, 0x2f] {
        bad(&v2(version, 0x11, &INET));
    }
    for family in [0x01, 0x02, 0x10, 0x12, 0x13, 0x22, 0x32, 0x41, 0xff] {
        bad(&v2(0x21, family, &[1; 216]));
    }
    // Rejected because of its length alone.
    bad(&[SIGNATURE_2, &[0x21, 0x11, 0xff, 0xff]].concat());
    bad(&v2(0x20, 0x00, &[4; 537]));
    bad(&v2(0x21, 0x11, &INET[..11]));
    bad(&v2(0x21, 0x11, &[]));
    bad(&v2(0x21, 0x21, &INET));
    bad(&v2(0x21, 0x31, &[0; 215]));
}

fn with_tlvs(fields: &[u8]) -> Vec<u8> {
    v2(0x21, 0x11, &[&INET[..], fields].concat())
}

// Requirements: PP09.
#[test]
fn tlvs_must_end_within_the_header() {
    for fields in [&[4][..], &[4, 0], &[4, 0, 1], &[4, 0xff, 0xff, 0], &[5, 0, 2, 1], &[4, 0, 0, 4]]
    {
        bad(&with_tlvs(fields));
    }
    // Only padding and private types may be empty.
    for kind in [1, 2, 3, 5, 0x20, 0x30, 0x99] {
        bad(&with_tlvs(&[kind, 0, 0]));
    }
    // A PP2_TYPE_SSL whose inner TLV is truncated.
    bad(&with_tlvs(&[0x20, 0, 8, 1, 0, 0, 0, 0, 0x21, 0, 9]));
    bad(&with_tlvs(&[0x02, 0, 1, 0xff]));
    for fields in [
        &[4, 0, 0][..],
        &[0xe0, 0, 0],
        &[2, 0, 1, b'a'],
        &[0x99, 0, 1, 1, 4, 0, 2, 0, 0],
        &[0x20, 0, 8, 1, 0, 0, 0, 0, 0x21, 0, 0],
    ] {
        assert!(parsed(&with_tlvs(fields)).is_some());
    }
}

// Requirements: PP09.
#[test]
fn rejects_a_wrong_checksum() {
    // RFC 3720 B.4
    let ascending: Vec<u8> = (0..32).collect();
    assert_eq!(crc32c(&ascending, 99), 0x46dd_794e);
    let mut header = with_tlvs(&[3, 0, 4, 0, 0, 0, 0, 4, 0, 1, 7]);
    let at = FIXED + INET.len() + 3;
    bad(&header);
    let sum = crc32c(&header, at);
    header[at..at + 4].copy_from_slice(&sum.to_be_bytes());
    assert!(parsed(&header).is_some());
    for place in [FIXED, at, header.len() - 1] {
        let mut other = header.clone();
        other[place] ^= 1;
        bad(&other);
    }
    let twice = [3, 0, 4, 0, 0, 0, 0, 3, 0, 4, 0, 0, 0, 0];
    assert_eq!(
        parse(&with_tlvs(&twice)),
        Err(ProxyHeaderError::Invalid("version 2: two checksums"))
    );
}

// Requirements: PP13.
#[test]
fn rejects_impossible_client_addresses() {
    for source in ["0.0.0.0", "224.0.0.1", "239.1.2.3", "255.255.255.255"] {
        bad(format!("PROXY TCP4 {source} 192.0.2.1 1 2\r\n").as_bytes());
    }
    for source in ["::", "ff02::1", "::ffff:0.0.0.0", "::ffff:224.0.0.1"] {
        bad(format!("PROXY TCP6 {source} ::1 1 2\r\n").as_bytes());
    }
    let mapped = parsed(b"PROXY TCP6 ::ffff:203.0.113.7 ::1 1 2\r\n");
    assert_eq!(mapped.as_deref(), Some("203.0.113.7:1 to [::1]:2"));
}

/// The result for a reader that receives one byte at a time.
fn byte_by_byte(bytes: &[u8]) -> Result<ParseProgress, ProxyHeaderError> {
    let mut known = (0..=bytes.len()).map(|seen| parse(&bytes[..seen]));
    known.find(|parsed| *parsed != Ok(ParseProgress::Partial)).unwrap_or(Ok(ParseProgress::Partial))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn fragmentation_does_not_change_the_result(
        start in prop::sample::select(vec![
            &b""[..], b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\n", b"PROXY UNKNOWN",
            b"PROXY TCP6 ::1 ::2 ", b"proxy", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0f",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", b"\r\n\r\n\0\r\nQUIT\n\x20\x00\0\0",
            b"\r\n\r\n\0\r\nQUIT\n",
        ]),
        cut in 0..64usize,
        rest in prop::collection::vec(any::<u8>(), 0..700),
    ) {
        let start = &start[..start.len() - cut.min(start.len()) / 8];
        let bytes = [start, &rest].concat();
        let parsed = parse(&bytes);
        prop_assert_eq!(byte_by_byte(&bytes), parsed);
        if let Ok(ParseProgress::Complete { len, .. }) = parsed {
            prop_assert!(len <= bytes.len() && len <= HEADER_BYTES_MAX);
        }
        prop_assert!(bytes.len() < HEADER_BYTES_MAX || parsed != Ok(ParseProgress::Partial));
    }

    #[test]
    fn any_source_address_is_preserved(source: std::net::SocketAddrV4, block: Vec<u8>) {
        prop_assume!(ClientAddr::new(source.into()).is_unicast() && block.len() < 400);
        let text = format!("PROXY TCP4 {} 1.2.3.4 {} 5\r\n", source.ip(), source.port());
        let expected = Some(format!("{} to 1.2.3.4:5", ClientAddr::new(source.into())));
        prop_assert_eq!(parsed(text.as_bytes()), expected.clone());
        let len = u16::try_from(block.len()).unwrap().to_be_bytes();
        let binary = [
            &source.ip().octets()[..], &[1, 2, 3, 4], &source.port().to_be_bytes(), &[0, 5],
            &[4], &len, &block,
        ].concat();
        prop_assert_eq!(parsed(&v2(0x21, 0x11, &binary)), expected);
    }
}

async fn connected() -> (TcpStream, Socket) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
    (near.unwrap(), far.unwrap().0.into())
}

const LIMIT: Duration = Duration::from_secs(5);

// Requirements: PP10, PP11.
#[tokio::test]
async fn consumes_exactly_the_header_in_any_pieces() {
    let header = b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\n";
    for segment in [1, 7, 1000] {
        for header in [&header[..], &with_tlvs(&[4, 0, 1, 0])] {
            let (mut client, mut socket) = connected().await;
            client.set_nodelay(true).unwrap();
            let sent = [header, b"hello"].concat();
            let sending = async {
                for piece in sent.chunks(segment) {
                    client.write_all(piece).await.unwrap();
                    tokio::task::yield_now().await;
                }
            };
            let (found, ()) = tokio::join!(read_proxy_header(&mut socket, LIMIT), sending);
            assert_eq!(found.unwrap().unwrap().source.to_string(), "203.0.113.7:4711");
            let mut rest = [0; 5];
            socket.read_exact(&mut rest).await.unwrap();
            assert_eq!(&rest, b"hello");
        }
    }
}

#[tokio::test]
async fn drop_reasons_say_what_is_wrong() {
    for (sent, end) in [
        (&b""[..], DropReason::ClientDisconnected(ConnectionStage::Accept)),
        (b"GET / HTTP/1.1\r\n\r\n", DropReason::ProxyHeaderMissing),
        (b"PROXY T", DropReason::ProxyHeaderInvalid("the connection ended within the header")),
        (
            b"PROXY \r\n",
            DropReason::ProxyHeaderInvalid("version 1: the protocol is not TCP4, TCP6 or UNKNOWN"),
        ),
    ] {
        let (mut client, mut socket) = connected().await;
        client.write_all(sent).await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(read_proxy_header(&mut socket, LIMIT).await.unwrap_err(), end);
    }
    let (mut client, mut socket) = connected().await;
    client.write_all(b"PROXY TCP4 ").await.unwrap();
    let late = read_proxy_header(&mut socket, Duration::from_millis(20)).await;
    assert_eq!(late.unwrap_err(), DropReason::ProxyHeaderTimeout);
}
