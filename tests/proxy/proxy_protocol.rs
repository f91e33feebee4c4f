//! The PROXY protocol in: written here by hand, by a balancer at 127.0.0.2, the only one trusted.

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, ReadBuf};
use tokio::net::TcpStream;

use crate::support::head::get;
use crate::support::{
    Backend, Client, HANDSHAKE, Proxy, RawResponse, Record, connect, read_response, read_to_end,
    route, upgrade, wire, within_timeout,
};

const BALANCER: [u8; 4] = [127, 0, 0, 2];
const STRANGER: [u8; 4] = [127, 0, 0, 3];
const V1: &[u8] = b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\n";

/// A proxy with two listeners that expect a header, beside the two that do not.
struct House {
    proxy: Proxy,
    backend: Backend,
    client: Client,
    plain: SocketAddr,
    tls: SocketAddr,
}

impl House {
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

    /// Sends these bytes from the balancer; nothing may come back, and the record is given.
    async fn dropped(&self, sent: &[u8]) -> Record {
        let (before, heads) = (self.proxy.outcomes().len(), self.backend.heads().len());
        let mut stream = connect(BALANCER, self.plain).await;
        stream.write_all(sent).await.unwrap();
        assert!(read_to_end(&mut stream).await.is_empty(), "{}", sent.escape_ascii());
        let record = self.proxy.nth_outcome(before + 1).await;
        assert_eq!((&record["event"], &record["stage"]), (&"dropped".into(), &"accept".into()));
        assert_eq!(self.backend.heads().len(), heads);
        record
    }

    /// Whatever these bytes are, they are no lawful header.
    async fn bad(&self, sent: impl AsRef<[u8]>) {
        let record = self.dropped(sent.as_ref()).await;
        assert_eq!(record["end"], "proxy_header_bad", "{record}");
        assert!(record["detail"].is_string(), "{record}");
    }

    /// Sends a header and a request from the balancer; whom the backend was told of.
    async fn client_behind(&self, header: &[u8]) -> String {
        let mut stream = BufReader::new(connect(BALANCER, self.plain).await);
        stream.write_all(&[header, get("/").as_bytes()].concat()).await.unwrap();
        assert_eq!(read_response(&mut stream).await.status, 204);
        self.told()
    }

    /// Whom the backend was told of last.
    fn told(&self) -> String {
        let head = RawResponse { status: 0, head: self.backend.heads().pop().unwrap() };
        head.all("x-forwarded-for")
    }
}

/// Version 2, by hand.
fn v2(version: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let len = u16::try_from(block.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[version, family][..], &len, block].concat()
}

/// 203.0.113.7:4711 to 192.0.2.1:443, and these fields.
fn inet(fields: &[u8]) -> Vec<u8> {
    v2(0x21, 0x11, &[&[203, 0, 113, 7, 192, 0, 2, 1, 0x12, 0x67, 1, 0xbb], fields].concat())
}

#[tokio::test]
async fn pp01_a_missing_header_is_not_guessed() {
    let house = House::new("").await;
    let record = house.dropped(get("/").as_bytes()).await;
    assert_eq!(record["end"], "proxy_header_missing");
    assert_eq!(
        (&record["key"], &record["value"]),
        (&"listener.proxy_protocol".into(), &"true".into())
    );
    let stream = connect(BALANCER, house.tls).await;
    assert!(house.client.tls_over(stream).await.is_err());
    assert_eq!(house.proxy.nth_outcome(2).await["end"], "proxy_header_missing");
}

#[tokio::test]
async fn pp02_a_header_where_none_is_expected_is_garbage() {
    let house = House::new("").await;
    for (number, header) in [V1.to_vec(), inet(&[])].into_iter().enumerate() {
        let mut stream = BufReader::new(connect(BALANCER, house.client.plain).await);
        stream.write_all(&[&header, get("/").as_bytes()].concat()).await.unwrap();
        assert_eq!(read_response(&mut stream).await.status, 400);
        drop(stream);
        let record = house.proxy.nth_outcome(2 * number + 1).await;
        assert_eq!(record["end"], "head_bad", "{record}");
        let stream = connect(BALANCER, house.client.tls).await;
        assert!(house.client.tls_over(Prefixed::new(stream, &header)).await.is_err());
        let record = house.proxy.nth_outcome(2 * number + 2).await;
        assert_eq!(record["end"], "tls_failed", "{record}");
    }
    assert!(house.backend.heads().is_empty());
}

#[tokio::test]
async fn pp03_a_stranger_is_shut_out_before_a_byte_is_read() {
    let house = House::new("").await;
    for (number, sent) in [&b""[..], V1].into_iter().enumerate() {
        let mut stream = connect(STRANGER, house.plain).await;
        // Who is shut out already may find that out here.
        let _ = stream.write_all(sent).await;
        assert!(read_to_end(&mut stream).await.is_empty());
        let record = house.proxy.nth_outcome(number + 1).await;
        assert_eq!(record["end"], "proxy_header_untrusted");
        assert!(record["client"].as_str().unwrap().starts_with("127.0.0.3:"), "{record}");
        assert_eq!(record["key"], "trusted_proxies.addresses");
        assert!(record["value"].as_str().unwrap().starts_with("127.0.0.2"), "{record}");
    }
    house.proxy.wait_until_idle().await;
}

#[tokio::test]
async fn pp04_version_1_is_taken_literally() {
    let house = House::new("").await;
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
        house.bad(line).await;
    }
    house.bad("PROXY UNKNOWN ".to_owned() + &"f".repeat(93)).await;
    assert_eq!(house.client_behind(V1).await, "203.0.113.7");
}

#[tokio::test]
async fn pp05_of_an_unknown_connection_the_sockets_address_counts() {
    let house = House::new("").await;
    assert_eq!(house.client_behind(b"PROXY UNKNOWN\r\n").await, "127.0.0.2");
    let more = b"PROXY UNKNOWN ffff:f::ffff ::1 65535 65535\r\n";
    assert_eq!(house.client_behind(more).await, "127.0.0.2");
}

#[tokio::test]
async fn pp06_version_2_is_held_to_its_word_and_local_is_the_balancer() {
    let house = House::new("").await;
    let mut damaged = inet(&[]);
    damaged[11] = b'\r';
    house.bad(damaged).await;
    house.bad(v2(0x11, 0x11, &[1; 12])).await;
    house.bad(v2(0x22, 0x11, &[1; 12])).await;
    house.bad(v2(0x21, 0x41, &[1; 36])).await;
    house.bad(v2(0x21, 0x12, &[1; 12])).await;
    assert_eq!(house.client_behind(&v2(0x20, 0x00, &[])).await, "127.0.0.2");
    assert_eq!(house.client_behind(&v2(0x20, 0x11, &[1; 12])).await, "127.0.0.2");
    assert_eq!(house.client_behind(&v2(0x21, 0x00, &[])).await, "127.0.0.2");
    assert_eq!(house.client_behind(&inet(&[])).await, "203.0.113.7");
}

#[tokio::test]
async fn pp07_a_long_header_is_refused_by_its_length() {
    let house = House::new("").await;
    // Nothing of what it announces is waited for.
    house.bad(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff").await;
    house.bad(b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x02\x19").await;
    let padding = |len: u16| [&[4][..], &len.to_be_bytes(), &vec![0; len.into()]].concat();
    assert_eq!(house.client_behind(&inet(&padding(521))).await, "203.0.113.7");
}

#[tokio::test]
async fn pp08_a_header_shorter_than_its_addresses_is_refused() {
    let house = House::new("").await;
    house.bad(v2(0x21, 0x11, &[])).await;
    house.bad(v2(0x21, 0x11, &[1; 11])).await;
    house.bad(v2(0x21, 0x21, &[1; 35])).await;
}

#[tokio::test]
async fn pp09_fields_end_with_the_header_and_the_checksum_is_right() {
    let house = House::new("").await;
    for fields in [&[4, 0, 2, 0][..], &[4, 0xff, 0xff], &[4, 0], &[2, 0, 0], &[3, 0, 4, 1, 2, 3, 4]]
    {
        house.bad(inet(fields)).await;
    }
    // Computed by another implementation.
    let right = [&[3, 0, 4][..], &CHECKSUM].concat();
    assert_eq!(house.client_behind(&inet(&right)).await, "203.0.113.7");
}

#[tokio::test]
async fn pp10_a_header_may_come_slowly_but_not_late() {
    let house = House::new("").await;
    for header in [V1.to_vec(), inet(&[])] {
        let mut stream = BufReader::new(connect(BALANCER, house.plain).await);
        for byte in header.iter().chain(get("/").as_bytes()) {
            stream.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        assert_eq!(read_response(&mut stream).await.status, 204);
        assert_eq!(house.told(), "203.0.113.7");
    }
    let hasty = House::new("[timeouts]\nproxy_header = \"300ms\"\n").await;
    for unfinished in [&b""[..], b"PROXY TCP4 ", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"] {
        let record = hasty.dropped(unfinished).await;
        assert_eq!(record["end"], "proxy_header_timeout");
        let decided = (&record["key"], &record["value"]);
        assert_eq!(decided, (&"timeouts.proxy_header".into(), &"300ms".into()));
        assert!(record["age_ms"].as_u64().unwrap() >= 300, "{record}");
    }
}

#[tokio::test]
async fn pp11_no_byte_behind_the_header_is_lost() {
    let house = House::new("[limits]\nclose_grace = \"200ms\"\n").await;
    for header in [V1.to_vec(), inet(&[])] {
        let stream = Prefixed::new(connect(BALANCER, house.tls).await, &header);
        let mut stream = BufReader::new(house.client.tls_over(stream).await.unwrap());
        stream.write_all(get("/").as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        assert_eq!(read_response(&mut stream).await.status, 204);
        assert_eq!(house.told(), "203.0.113.7");
    }
    // A header, a handshake and a frame in one segment.
    let mut stream = BufReader::new(connect(BALANCER, house.plain).await);
    let close = wire::masked(0x88, &wire::close(1000, ""));
    stream.write_all(&[V1, HANDSHAKE.as_bytes(), &close].concat()).await.unwrap();
    assert_eq!(read_response(&mut stream).await.status, 101);
    let record = house.proxy.tunnel_end(1).await;
    assert_eq!(
        (&record["client"], &record["end"]),
        (&"203.0.113.7:4711".into(), &"client_closed".into())
    );
    assert_eq!(record["known_by"], "proxy_header");
    assert!(record["peer"].as_str().unwrap().starts_with("127.0.0.2:"), "{record}");
}

#[tokio::test]
async fn pp12_a_second_header_is_the_clients_own_word() {
    let house = House::new("").await;
    let mut stream = BufReader::new(connect(BALANCER, house.plain).await);
    stream.write_all(&[V1, V1, get("/").as_bytes()].concat()).await.unwrap();
    assert_eq!(read_response(&mut stream).await.status, 400);
    drop(stream);
    let record = house.proxy.nth_outcome(1).await;
    assert_eq!(
        (&record["end"], &record["client"]),
        (&"head_bad".into(), &"203.0.113.7:4711".into())
    );
    let stream = Prefixed::new(connect(BALANCER, house.tls).await, &[V1, V1].concat());
    assert!(house.client.tls_over(stream).await.is_err());
    assert_eq!(house.proxy.nth_outcome(2).await["end"], "tls_failed");
    assert!(house.backend.heads().is_empty());
}

#[tokio::test]
async fn pp13_some_addresses_are_nobodys() {
    let house = House::new("").await;
    for source in ["0.0.0.0", "224.0.0.1", "255.255.255.255"] {
        house.bad(format!("PROXY TCP4 {source} 192.0.2.1 4711 443\r\n")).await;
    }
    for source in ["::", "ff02::1", "::ffff:0.0.0.0"] {
        house.bad(format!("PROXY TCP6 {source} ::1 4711 443\r\n")).await;
    }
    let mapped = b"PROXY TCP6 ::ffff:203.0.113.7 ::1 4711 443\r\n";
    assert_eq!(house.client_behind(mapped).await, "203.0.113.7");
    let own = b"PROXY TCP4 127.0.0.1 127.0.0.1 4711 443\r\n";
    assert_eq!(house.client_behind(own).await, "127.0.0.1");
}

#[tokio::test]
async fn pp14_a_client_by_a_unix_socket_is_the_balancer() {
    let house = House::new("").await;
    assert_eq!(house.client_behind(&v2(0x21, 0x31, &[0x2f; 216])).await, "127.0.0.2");
    house.bad(v2(0x21, 0x31, &[0x2f; 215])).await;
    house.bad(v2(0x21, 0x32, &[0x2f; 216])).await;
}

/// The balancer's own address has no share of its own; each client behind it has one.
#[tokio::test]
async fn the_caps_of_a_client_are_those_of_the_client_behind() {
    let caps = "[caps]\nconnections_per_client = 1\ntunnels_per_client = 1\n[limits]\nclose_grace = \"100ms\"\n";
    let house = House::new(caps).await;
    let open = |client: u8| {
        let header = format!("PROXY TCP4 203.0.113.{client} 192.0.2.1 4711 443\r\n");
        let to = house.plain;
        async move {
            let mut stream = connect(BALANCER, to).await;
            stream.write_all(header.as_bytes()).await.unwrap();
            stream
        }
    };
    let first = upgrade(open(1).await).await;
    let second = upgrade(open(2).await).await;
    assert!(read_to_end(&mut open(1).await).await.is_empty());
    let record = house.proxy.end_record("client_full").await;
    assert_eq!(
        (&record["client"], &record["event"]),
        (&"203.0.113.1:4711".into(), &"dropped".into())
    );
    // Health checks and connections of nobody in particular.
    let idle = [open_local(&house).await, open_local(&house).await, open_local(&house).await];
    assert_eq!(house.client_behind(b"PROXY UNKNOWN\r\n").await, "127.0.0.2");
    drop((first, second, idle));
    house.proxy.wait_until_idle().await;
    drop(upgrade(open(1).await).await);
}

async fn open_local(house: &House) -> TcpStream {
    let mut stream = connect(BALANCER, house.plain).await;
    stream.write_all(b"PROXY UNKNOWN\r\n").await.unwrap();
    stream
}

#[tokio::test]
async fn those_who_owe_their_header_count_for_the_whole() {
    let house = House::new("[caps]\nconnections = 2\n").await;
    let owing = [connect(BALANCER, house.plain).await, connect(BALANCER, house.plain).await];
    within_timeout("both to be counted", async {
        while house.proxy.health().await["connections"] != 2 {}
    })
    .await;
    assert_eq!(house.dropped(b"").await["end"], "gate_full");
    drop(owing);
    house.proxy.wait_until_idle().await;
    assert_eq!(house.client_behind(V1).await, "203.0.113.7");
}

/// CRC32c (Castagnoli) of the header of that test, the sum taken as 0.
const CHECKSUM: [u8; 4] = [0xe6, 0x4b, 0x5e, 0x87];

/// A connection whose first write goes out behind these bytes, in one segment.
struct Prefixed {
    stream: TcpStream,
    prefix: Vec<u8>,
}

impl Prefixed {
    fn new(stream: TcpStream, prefix: &[u8]) -> Self {
        Self { stream, prefix: prefix.to_vec() }
    }
}

impl AsyncRead for Prefixed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, room)
    }
}

impl AsyncWrite for Prefixed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let prefix = std::mem::take(&mut self.prefix);
        let whole = [&prefix, bytes].concat();
        match Pin::new(&mut self.stream).poll_write(cx, &whole) {
            Poll::Ready(Ok(written)) if written >= prefix.len() => {
                Poll::Ready(Ok(written - prefix.len()))
            }
            Poll::Ready(Ok(written)) => panic!("{written} bytes of a header were taken"),
            Poll::Pending => {
                self.prefix = prefix;
                Poll::Pending
            }
            failed => failed,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
