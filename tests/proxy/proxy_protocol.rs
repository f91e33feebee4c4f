//! Incoming PROXY protocol: headers written by hand, from a load balancer at 127.0.0.2, the only
//! trusted peer.

use std::net::SocketAddr;

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::support::head::get;
use crate::support::prefixed::Prefixed;
use crate::support::{
    Backend, Client, HANDSHAKE, Proxy, RawResponse, Record, connect, read_response, read_to_end,
    route, upgrade, wire, within_timeout,
};

const BALANCER: [u8; 4] = [127, 0, 0, 2];
const UNTRUSTED: [u8; 4] = [127, 0, 0, 3];
const V1: &[u8] = b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\n";

/// A proxy with two listeners that expect a header and two that do not.
struct ProxyProtocolBed {
    proxy: Proxy,
    backend: Backend,
    client: Client,
    plain: SocketAddr,
    tls: SocketAddr,
}

impl ProxyProtocolBed {
    async fn new(more: &str) -> Self {
        let backend = Backend::app("HTTP/1.1 204 No Content\r\n\r\n").await;
        let listeners = "\
            [[listener]]\nname = \"pp\"\naddress = \"127.0.0.1:0\"\ntls = false\n\
            proxy_protocol = true\n\
            [[listener]]\nname = \"pptls\"\naddress = \"127.0.0.1:0\"\nproxy_protocol = true\n\
            [trusted_proxies]\naddresses = [\"127.0.0.2\"]\n";
        let route = route(&[backend.address], "");
        let proxy = Proxy::start(&format!("{listeners}{route}{more}")).await;
        let client = Client::new(&proxy).await;
        let (plain, tls) = (proxy.address("pp").await, proxy.address("pptls").await);
        Self { proxy, backend, client, plain, tls }
    }

    /// Sends bytes from the balancer, expects no response, and returns the record.
    async fn assert_dropped(&self, sent: &[u8]) -> Record {
        let (before, heads) = (self.proxy.outcomes().len(), self.backend.heads().len());
        let mut stream = connect(BALANCER, self.plain).await;
        stream.write_all(sent).await.unwrap();
        assert!(read_to_end(&mut stream).await.is_empty(), "{}", sent.escape_ascii());
        let record = self.proxy.nth_end_record(before + 1).await;
        assert_eq!((&record["event"], &record["stage"]), (&"dropped".into(), &"accept".into()));
        assert_eq!(self.backend.heads().len(), heads);
        record
    }

    /// Expects the bytes to be rejected as an invalid header.
    async fn assert_invalid_header(&self, sent: impl AsRef<[u8]>) {
        let record = self.assert_dropped(sent.as_ref()).await;
        assert_eq!(record["end"], "proxy_header_invalid", "{record}");
        assert!(record["detail"].is_string(), "{record}");
    }

    /// Sends a header and a request from the balancer; returns the client address the backend got.
    async fn forwarded_client(&self, header: &[u8]) -> String {
        let mut stream = BufReader::new(connect(BALANCER, self.plain).await);
        stream.write_all(&[header, get("/").as_bytes()].concat()).await.unwrap();
        assert_eq!(read_response(&mut stream).await.status, 204);
        self.last_client()
    }

    /// The client address the backend received last.
    fn last_client(&self) -> String {
        let head = RawResponse { status: 0, head: self.backend.heads().pop().unwrap() };
        head.all("x-forwarded-for")
    }
}

/// A version 2 header.
fn v2(version: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let len = u16::try_from(block.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[version, family][..], &len, block].concat()
}

/// A header from 203.0.113.7:4711 to 192.0.2.1:443 with these fields.
fn inet(fields: &[u8]) -> Vec<u8> {
    v2(0x21, 0x11, &[&[203, 0, 113, 7, 192, 0, 2, 1, 0x12, 0x67, 1, 0xbb], fields].concat())
}

// Requirements: PP01.
#[tokio::test]
async fn missing_header_is_rejected() {
    let bed = ProxyProtocolBed::new("").await;
    let record = bed.assert_dropped(get("/").as_bytes()).await;
    assert_eq!(record["end"], "proxy_header_missing");
    assert_eq!(
        (&record["key"], &record["value"]),
        (&"listener.proxy_protocol".into(), &"true".into())
    );
    let stream = connect(BALANCER, bed.tls).await;
    assert!(bed.client.tls_over(stream).await.is_err());
    assert_eq!(bed.proxy.nth_end_record(2).await["end"], "proxy_header_missing");
}

// Requirements: PP02.
#[tokio::test]
async fn unexpected_header_is_rejected() {
    let bed = ProxyProtocolBed::new("").await;
    for (number, header) in [V1.to_vec(), inet(&[])].into_iter().enumerate() {
        let mut stream = BufReader::new(connect(BALANCER, bed.client.plain).await);
        stream.write_all(&[&header, get("/").as_bytes()].concat()).await.unwrap();
        assert_eq!(read_response(&mut stream).await.status, 400);
        drop(stream);
        let record = bed.proxy.nth_end_record(2 * number + 1).await;
        assert_eq!(record["end"], "head_invalid", "{record}");
        let stream = connect(BALANCER, bed.client.tls).await;
        assert!(bed.client.tls_over(Prefixed::new(stream, &header)).await.is_err());
        let record = bed.proxy.nth_end_record(2 * number + 2).await;
        assert_eq!(record["end"], "tls_failed", "{record}");
    }
    assert!(bed.backend.heads().is_empty());
}

// Requirements: PP03.
#[tokio::test]
async fn untrusted_peer_is_closed_before_reading() {
    let bed = ProxyProtocolBed::new("").await;
    for (number, sent) in [&b""[..], V1].into_iter().enumerate() {
        let mut stream = connect(UNTRUSTED, bed.plain).await;
        // The write may fail if the proxy has already closed.
        let _ = stream.write_all(sent).await;
        assert!(read_to_end(&mut stream).await.is_empty());
        let record = bed.proxy.nth_end_record(number + 1).await;
        assert_eq!(record["end"], "proxy_header_untrusted");
        assert!(record["client"].as_str().unwrap().starts_with("127.0.0.3:"), "{record}");
        assert_eq!(record["key"], "trusted_proxies.addresses");
        assert!(record["value"].as_str().unwrap().starts_with("127.0.0.2"), "{record}");
    }
    bed.proxy.wait_until_idle().await;
}

// Requirements: PP04.
#[tokio::test]
async fn version_1_is_parsed_strictly() {
    let bed = ProxyProtocolBed::new("").await;
    for line in [
        "PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\n",
        "proxy tcp4 203.0.113.7 192.0.2.1 4711 443\r\n",
        "PROXY tcp4 203.0.113.7 192.0.2.1 4711 443\r\n",
        "PROXY TCP4 0203.0.113.7 192.0.2.1 4711 443\r\n",
        "PROXY TCP4 203.0.113.7 192.0.2.1 +4711 443\r\n",
        "PROXY TCP4 203.0.113.7 192.0.2.1 04711 443\r\n",
        "PROXY TCP4 203.0.113.7 192.0.2.1 65536 443\r\n",
        "PROXY TCP6 203.0.113.7 192.0.2.1 4711 443\r\n",
    ] {
        bed.assert_invalid_header(line).await;
    }
    bed.assert_invalid_header("PROXY UNKNOWN ".to_owned() + &"f".repeat(93)).await;
    assert_eq!(bed.forwarded_client(V1).await, "203.0.113.7");
}

// Requirements: PP05.
#[tokio::test]
async fn unknown_uses_the_socket_address() {
    let bed = ProxyProtocolBed::new("").await;
    assert_eq!(bed.forwarded_client(b"PROXY UNKNOWN\r\n").await, "127.0.0.2");
    let more = b"PROXY UNKNOWN ffff:f::ffff ::1 65535 65535\r\n";
    assert_eq!(bed.forwarded_client(more).await, "127.0.0.2");
}

// Requirements: PP06.
#[tokio::test]
async fn version_2_is_strict_local_keeps_peer_address() {
    let bed = ProxyProtocolBed::new("").await;
    let mut damaged = inet(&[]);
    damaged[11] = b'\r';
    bed.assert_invalid_header(damaged).await;
    bed.assert_invalid_header(v2(0x11, 0x11, &[1; 12])).await;
    bed.assert_invalid_header(v2(0x22, 0x11, &[1; 12])).await;
    bed.assert_invalid_header(v2(0x21, 0x41, &[1; 36])).await;
    bed.assert_invalid_header(v2(0x21, 0x12, &[1; 12])).await;
    assert_eq!(bed.forwarded_client(&v2(0x20, 0x00, &[])).await, "127.0.0.2");
    assert_eq!(bed.forwarded_client(&v2(0x20, 0x11, &[1; 12])).await, "127.0.0.2");
    assert_eq!(bed.forwarded_client(&v2(0x21, 0x00, &[])).await, "127.0.0.2");
    assert_eq!(bed.forwarded_client(&inet(&[])).await, "203.0.113.7");
}

// Requirements: PP07.
#[tokio::test]
async fn overlong_header_is_rejected_by_its_length() {
    let bed = ProxyProtocolBed::new("").await;
    // The proxy does not wait for the announced bytes.
    bed.assert_invalid_header(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff").await;
    bed.assert_invalid_header(b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x02\x19").await;
    let padding = |len: u16| [&[4][..], &len.to_be_bytes(), &vec![0; len.into()]].concat();
    assert_eq!(bed.forwarded_client(&inet(&padding(521))).await, "203.0.113.7");
}

// Requirements: PP08.
#[tokio::test]
async fn header_shorter_than_its_addresses_is_rejected() {
    let bed = ProxyProtocolBed::new("").await;
    bed.assert_invalid_header(v2(0x21, 0x11, &[])).await;
    bed.assert_invalid_header(v2(0x21, 0x11, &[1; 11])).await;
    bed.assert_invalid_header(v2(0x21, 0x21, &[1; 35])).await;
}

// Requirements: PP09.
#[tokio::test]
async fn invalid_fields_and_checksums_are_rejected() {
    let bed = ProxyProtocolBed::new("").await;
    for fields in [&[4, 0, 2, 0][..], &[4, 0xff, 0xff], &[4, 0], &[2, 0, 0], &[3, 0, 4, 1, 2, 3, 4]]
    {
        bed.assert_invalid_header(inet(fields)).await;
    }
    // The checksum was computed by another implementation.
    let right = [&[3, 0, 4][..], &CHECKSUM].concat();
    assert_eq!(bed.forwarded_client(&inet(&right)).await, "203.0.113.7");
}

// Requirements: PP10.
#[tokio::test]
async fn header_may_be_split_but_has_a_deadline() {
    let bed = ProxyProtocolBed::new("").await;
    for header in [V1.to_vec(), inet(&[])] {
        let mut stream = BufReader::new(connect(BALANCER, bed.plain).await);
        for byte in header.iter().chain(get("/").as_bytes()) {
            stream.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        assert_eq!(read_response(&mut stream).await.status, 204);
        assert_eq!(bed.last_client(), "203.0.113.7");
    }
    let impatient = ProxyProtocolBed::new("[timeouts]\nproxy_header = \"300ms\"\n").await;
    for unfinished in [&b""[..], b"PROXY TCP4 ", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"] {
        let record = impatient.assert_dropped(unfinished).await;
        assert_eq!(record["end"], "proxy_header_timeout");
        let decided = (&record["key"], &record["value"]);
        assert_eq!(decided, (&"timeouts.proxy_header".into(), &"300ms".into()));
        assert!(record["age_ms"].as_u64().unwrap() >= 300, "{record}");
    }
}

// Requirements: PP11.
#[tokio::test]
async fn bytes_after_the_header_are_kept() {
    let bed = ProxyProtocolBed::new("[limits]\nclose_grace = \"200ms\"\n").await;
    for header in [V1.to_vec(), inet(&[])] {
        let stream = Prefixed::new(connect(BALANCER, bed.tls).await, &header);
        let mut stream = BufReader::new(bed.client.tls_over(stream).await.unwrap());
        stream.write_all(get("/").as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        assert_eq!(read_response(&mut stream).await.status, 204);
        assert_eq!(bed.last_client(), "203.0.113.7");
    }
    // A header, a handshake and a frame in one segment.
    let mut stream = BufReader::new(connect(BALANCER, bed.plain).await);
    let close = wire::masked(0x88, &wire::close(1000, ""));
    stream.write_all(&[V1, HANDSHAKE.as_bytes(), &close].concat()).await.unwrap();
    assert_eq!(read_response(&mut stream).await.status, 101);
    let record = bed.proxy.tunnel_end(1).await;
    assert_eq!(
        (&record["client"], &record["end"]),
        (&"203.0.113.7:4711".into(), &"client_closed".into())
    );
    assert_eq!(record["client_source"], "proxy_header");
    assert!(record["peer"].as_str().unwrap().starts_with("127.0.0.2:"), "{record}");
}

// Requirements: PP12.
#[tokio::test]
async fn second_header_is_rejected() {
    let bed = ProxyProtocolBed::new("").await;
    let mut stream = BufReader::new(connect(BALANCER, bed.plain).await);
    stream.write_all(&[V1, V1, get("/").as_bytes()].concat()).await.unwrap();
    assert_eq!(read_response(&mut stream).await.status, 400);
    drop(stream);
    let record = bed.proxy.nth_end_record(1).await;
    assert_eq!(
        (&record["end"], &record["client"]),
        (&"head_invalid".into(), &"203.0.113.7:4711".into())
    );
    let stream = Prefixed::new(connect(BALANCER, bed.tls).await, &[V1, V1].concat());
    assert!(bed.client.tls_over(stream).await.is_err());
    assert_eq!(bed.proxy.nth_end_record(2).await["end"], "tls_failed");
    assert!(bed.backend.heads().is_empty());
}

// Requirements: PP13.
#[tokio::test]
async fn impossible_client_addresses_are_rejected() {
    let bed = ProxyProtocolBed::new("").await;
    for source in ["0.0.0.0", "224.0.0.1", "255.255.255.255"] {
        bed.assert_invalid_header(format!("PROXY TCP4 {source} 192.0.2.1 4711 443\r\n")).await;
    }
    for source in ["::", "ff02::1", "::ffff:0.0.0.0"] {
        bed.assert_invalid_header(format!("PROXY TCP6 {source} ::1 4711 443\r\n")).await;
    }
    let mapped = b"PROXY TCP6 ::ffff:203.0.113.7 ::1 4711 443\r\n";
    assert_eq!(bed.forwarded_client(mapped).await, "203.0.113.7");
    let own = b"PROXY TCP4 127.0.0.1 127.0.0.1 4711 443\r\n";
    assert_eq!(bed.forwarded_client(own).await, "127.0.0.1");
}

// Requirements: PP14.
#[tokio::test]
async fn unix_client_uses_the_socket_address() {
    let bed = ProxyProtocolBed::new("").await;
    assert_eq!(bed.forwarded_client(&v2(0x21, 0x31, &[0x2f; 216])).await, "127.0.0.2");
    bed.assert_invalid_header(v2(0x21, 0x31, &[0x2f; 215])).await;
    bed.assert_invalid_header(v2(0x21, 0x32, &[0x2f; 216])).await;
}

/// Per-client limits count the forwarded clients, not the balancer's own address.
#[tokio::test]
async fn concurrency_limits_apply_to_the_forwarded_client() {
    let caps = "[concurrency]\nconnections_per_client = 1\ntunnels_per_client = 1\n[limits]\nclose_grace = \"100ms\"\n";
    let bed = ProxyProtocolBed::new(caps).await;
    let open = |client: u8| {
        let header = format!("PROXY TCP4 203.0.113.{client} 192.0.2.1 4711 443\r\n");
        let to = bed.plain;
        async move {
            let mut stream = connect(BALANCER, to).await;
            stream.write_all(header.as_bytes()).await.unwrap();
            stream
        }
    };
    let first = upgrade(open(1).await).await;
    let second = upgrade(open(2).await).await;
    assert!(read_to_end(&mut open(1).await).await.is_empty());
    let record = bed.proxy.end_record("client_limit").await;
    assert_eq!(
        (&record["client"], &record["event"]),
        (&"203.0.113.1:4711".into(), &"dropped".into())
    );
    // Health checks and connections without a client address.
    let idle = [open_local(&bed).await, open_local(&bed).await, open_local(&bed).await];
    assert_eq!(bed.forwarded_client(b"PROXY UNKNOWN\r\n").await, "127.0.0.2");
    drop((first, second, idle));
    bed.proxy.wait_until_idle().await;
    drop(upgrade(open(1).await).await);
}

async fn open_local(bed: &ProxyProtocolBed) -> TcpStream {
    let mut stream = connect(BALANCER, bed.plain).await;
    stream.write_all(b"PROXY UNKNOWN\r\n").await.unwrap();
    stream
}

#[tokio::test]
async fn connections_awaiting_a_header_count_globally() {
    let bed = ProxyProtocolBed::new("[concurrency]\nconnections = 2\n").await;
    let waiting = [connect(BALANCER, bed.plain).await, connect(BALANCER, bed.plain).await];
    within_timeout("both to be counted", async {
        while bed.proxy.health().await["connections"] != 2 {}
    })
    .await;
    assert_eq!(bed.assert_dropped(b"").await["end"], "proxy_limit");
    drop(waiting);
    bed.proxy.wait_until_idle().await;
    assert_eq!(bed.forwarded_client(V1).await, "203.0.113.7");
}

/// CRC32c (Castagnoli) of that test's header, computed with a zero checksum field.
const CHECKSUM: [u8; 4] = [0xe6, 0x4b, 0x5e, 0x87];
