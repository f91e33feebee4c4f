//! The client address from forwarded headers, which only proxies at 127.0.0.2 and in 10.0.0.0/8
//! may set.

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::support::head::{get, with_lines};
use crate::support::{
    Backend, Client, Proxy, RawResponse, Record, connect, exchange, read_response, route,
    within_timeout,
};

pub const PROXY: [u8; 4] = [127, 0, 0, 2];
pub const UNTRUSTED: [u8; 4] = [127, 0, 0, 3];

pub struct ForwardedSetup {
    pub proxy: Proxy,
    pub backend: Backend,
    pub client: Client,
}

impl ForwardedSetup {
    /// `trust` adds keys to the table of trusted proxies; `more` adds keys to the route, and
    /// further tables.
    pub async fn new(trust: &str, more: &str) -> Self {
        let backend = Backend::app("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        let trusted = "[trusted_proxies]\naddresses = [\"127.0.0.2\", \"10.0.0.0/8\"]\n";
        // The backend does not answer the Close.
        let grace = "[limits]\nclose_grace = \"100ms\"\n";
        let routes = route(&[backend.address], more);
        let proxy = Proxy::start(&format!("{trusted}{trust}\n{grace}{routes}")).await;
        Self { client: Client::new(&proxy).await, proxy, backend }
    }

    /// A route that allows only `same-origin`.
    pub async fn same_origin() -> Self {
        let setup = Self::new("", "").await;
        setup.proxy.reload_with("origins = [\"*\"]", "origins = [\"same-origin\"]").await;
        setup
    }

    /// The request head that the backend receives for such a request from this address.
    pub async fn forwarded(&self, host: [u8; 4], lines: &str) -> RawResponse {
        let mut stream = BufReader::new(connect(host, self.client.plain).await);
        let end = if lines.is_empty() { "" } else { "\r\n" };
        let request = get("/").replace("\r\n\r\n", &format!("\r\n{lines}{end}\r\n"));
        stream.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(read_response(&mut stream).await.status, 200);
        self.last_request()
    }

    /// The most recent request head at the backend.
    pub fn last_request(&self) -> RawResponse {
        RawResponse { status: 0, head: self.backend.heads().pop().unwrap() }
    }

    /// Client and chain, as the backend receives them.
    async fn chain(&self, lines: &str) -> (String, String) {
        let forwarded = self.forwarded(PROXY, lines).await;
        (forwarded.all("x-real-ip"), forwarded.all("x-forwarded-for"))
    }

    /// The response to a handshake from this address.
    pub async fn handshake(
        &self,
        host: [u8; 4],
        lines: &str,
    ) -> (RawResponse, BufReader<TcpStream>) {
        let mut stream = BufReader::new(connect(host, self.client.plain).await);
        stream.write_all(with_lines(lines).as_bytes()).await.unwrap();
        (read_response(&mut stream).await, stream)
    }

    /// The record of a tunnel that a trusted proxy opens with these lines and closes.
    pub async fn record(&self, lines: &str) -> Record {
        let before = self.proxy.outcomes().len();
        let (response, stream) = self.handshake(PROXY, lines).await;
        assert_eq!(response.status, 101);
        drop(stream);
        self.proxy.nth_end_record(before + 1).await
    }
}

fn pair(client: &str, chain: &str) -> (String, String) {
    (client.to_owned(), chain.to_owned())
}

// Requirements: XF01.
#[tokio::test]
async fn untrusted_peers_are_ignored() {
    let setup = ForwardedSetup::new("", "").await;
    let forwarded = setup
        .forwarded(UNTRUSTED, "X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-For: 10.0.0.1")
        .await;
    assert_eq!(
        (&*forwarded.all("x-forwarded-for"), &*forwarded.all("x-real-ip")),
        ("127.0.0.3", "127.0.0.3")
    );
    let (_, stream) = setup.handshake(UNTRUSTED, "X-Forwarded-For: 203.0.113.7").await;
    drop(stream);
    let record = setup.proxy.tunnel_end(1).await;
    assert!(record["client"].as_str().unwrap().starts_with("127.0.0.3:"), "{record}");
    assert!(record["peer"].is_null() && record["client_source"].is_null(), "{record}");
}

// Requirements: XF02.
#[tokio::test]
async fn addresses_left_of_the_client_are_ignored() {
    let setup = ForwardedSetup::new("", "").await;
    let chain = setup.chain("X-Forwarded-For: 6.6.6.6, 10.0.0.9, 203.0.113.7").await;
    assert_eq!(chain, pair("203.0.113.7", "203.0.113.7, 127.0.0.2"));
    let chain = setup.chain("X-Forwarded-For: 6.6.6.6, 203.0.113.7, 10.1.2.3").await;
    assert_eq!(chain, pair("203.0.113.7", "203.0.113.7, 10.1.2.3, 127.0.0.2"));
    let record = setup.record("X-Forwarded-For: 6.6.6.6, 203.0.113.7").await;
    assert_eq!(
        (&record["client"], &record["client_key"]),
        (&"203.0.113.7".into(), &"203.0.113.7".into())
    );
    assert!(record["peer"].as_str().unwrap().starts_with("127.0.0.2:"), "{record}");
    assert_eq!(record["client_source"], "forwarded");
}

// Requirements: XF03.
#[tokio::test]
async fn long_chains_are_joined_and_bounded() {
    let setup = ForwardedSetup::new("", "").await;
    let lines = "X-Forwarded-For: 6.6.6.6\r\nX-Other: 1\r\nX-Forwarded-For: 203.0.113.7,\r\n\
                 X-Forwarded-For: , 10.1.1.1 ,,\r\nX-Forwarded-For:";
    let chain = setup.chain(lines).await;
    assert_eq!(chain, pair("203.0.113.7", "203.0.113.7, 10.1.1.1, 127.0.0.2"));
    let many = |first: &str, n| format!("X-Forwarded-For: {first}{}", ", 10.0.0.1".repeat(n));
    assert_eq!(setup.chain(&many("203.0.113.7", 15)).await.0, "203.0.113.7");
    let (client, chain) = setup.chain(&many("203.0.113.7", 1000)).await;
    assert_eq!((&*client, chain.split(", ").count()), ("10.0.0.1", 17));
    let record = setup.record(&many("203.0.113.7", 16)).await;
    assert_eq!(record["client_source"], "all_trusted");
    assert_eq!(setup.chain(&many("", 1).replace(": ,", ": !,")).await.0, "10.0.0.1");
}

// Requirements: XF04.
#[tokio::test]
async fn invalid_address_ends_the_search() {
    let setup = ForwardedSetup::new("", "").await;
    for (sent, client) in [
        ("203.0.113.7:4711", "203.0.113.7"),
        ("[2001:db8::7]:4711", "2001:db8::7"),
        ("2001:db8::7", "2001:db8::7"),
    ] {
        assert_eq!(setup.chain(&format!("X-Forwarded-For: {sent}")).await.0, client);
    }
    for sent in [
        "unknown",
        "_hidden",
        "example.com",
        "0313.0.113.7",
        "203.0.113.07",
        "203.0.113.7:99999",
        "fe80::1%eth0",
        "[203.0.113.7]",
        "\"203.0.113.7\"",
        "0.0.0.0",
        "203.0.113.7 1.2.3.4",
    ] {
        let chain = setup.chain(&format!("X-Forwarded-For: 203.0.113.7, {sent}")).await;
        assert_eq!(chain, pair("127.0.0.2", "127.0.0.2"), "{sent}");
    }
    let named = async |by| {
        setup.proxy.scrape().await.sum("tidegate_forwarded_addresses_total", &[("source", by)])
    };
    let before = (named("invalid").await, named("forwarded").await);
    let record = setup.record("X-Forwarded-For: unknown").await;
    assert_eq!((named("invalid").await, named("forwarded").await), (before.0 + 1.0, before.1));
    assert!(record["client"].as_str().unwrap().starts_with("127.0.0.2:"), "{record}");
    assert_eq!((&record["client_source"], &record["peer"]), (&"invalid".into(), &().into()));
    let record = setup.record("X-Forwarded-For: unknown, 10.0.0.9").await;
    assert_eq!(
        (&record["client_source"], &record["client"]),
        (&"invalid".into(), &"10.0.0.9".into())
    );
}

const DISAGREEING: &str = "X-Forwarded-For: 198.51.100.9\r\nX-Forwarded-Proto: http\r\n\
    X-Forwarded-Host: b.example\r\nForwarded: for=\"203.0.113.7:4711\";proto=https;host=a.example";

// Requirements: XF05.
#[tokio::test]
async fn only_the_configured_header_counts() {
    let by_xff = ForwardedSetup::new("", "").await;
    let forwarded = by_xff.forwarded(PROXY, DISAGREEING).await;
    assert_eq!(forwarded.all("x-forwarded-for"), "198.51.100.9, 127.0.0.2");
    assert_eq!(
        (forwarded.header("forwarded"), forwarded.header("x-forwarded-proto")),
        (None, Some("http"))
    );
    assert_eq!(forwarded.header("x-forwarded-host"), Some("b.example"));

    let by_rfc = ForwardedSetup::new("header = \"forwarded\"", "forwarded = true").await;
    let forwarded = by_rfc.forwarded(PROXY, DISAGREEING).await;
    assert_eq!(forwarded.all("x-forwarded-for"), "203.0.113.7, 127.0.0.2");
    assert_eq!(forwarded.all("x-forwarded-proto"), "https");
    assert_eq!(forwarded.all("x-forwarded-host"), "a.example");
    let elements = "for=203.0.113.7;host=\"a.example\";proto=https, for=127.0.0.2";
    assert_eq!(forwarded.all("forwarded"), elements);
    let forwarded = by_rfc.forwarded(PROXY, "Forwarded: for=unknown").await;
    assert_eq!(forwarded.all("x-forwarded-for"), "127.0.0.2");
    let forwarded = by_rfc.forwarded(UNTRUSTED, DISAGREEING).await;
    assert_eq!(forwarded.all("forwarded"), "for=127.0.0.3;host=\"localhost\";proto=http");
}

// Requirements: XF06.
#[tokio::test]
async fn other_client_headers_come_from_trusted_proxies() {
    let setup = ForwardedSetup::new("", "").await;
    let lines = "X-Real-IP: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nProxy: 6.6.6.6";
    let names = [
        "True-Client-IP",
        "CF-Connecting-IP",
        "X-Forwarded-User",
        "X-Forwarded-Prefix",
        "Early-Data",
    ];
    let more = names.map(|name| format!("\r\n{name}: 1"));
    for (host, client, passed) in [(UNTRUSTED, "127.0.0.3", ""), (PROXY, "127.0.0.2", "1")] {
        let forwarded = setup.forwarded(host, &(lines.to_owned() + &more.concat())).await;
        assert_eq!(forwarded.all("x-real-ip"), client);
        assert!(!forwarded.head.contains("6.6.6.6"), "{forwarded:?}");
        for name in names {
            assert_eq!(forwarded.all(name), passed, "{name} from {host:?}");
        }
    }
}

// Requirements: XF07.
#[tokio::test]
async fn scheme_host_port_come_from_trusted_proxies() {
    let setup = ForwardedSetup::new("", "").await;
    let lines = "X-Forwarded-Proto: https\r\nX-Forwarded-Host: chat.example:8443\r\n\
                 X-Forwarded-Port: 9443\r\nX-Forwarded-Prefix: /x";
    let of = |forwarded: &RawResponse| {
        ["proto", "host", "port", "prefix"]
            .map(|name| forwarded.all(&format!("x-forwarded-{name}")))
    };
    let untrusted = setup.forwarded(UNTRUSTED, lines).await;
    assert_eq!(of(&untrusted), ["http", "localhost", "80", ""]);
    let proxy = setup.forwarded(PROXY, lines).await;
    assert_eq!(of(&proxy), ["https", "chat.example:8443", "9443", "/x"]);
    let malformed = "X-Forwarded-Proto: gopher\r\nX-Forwarded-Host: a b\r\nX-Forwarded-Port: -1";
    assert_eq!(of(&setup.forwarded(PROXY, malformed).await), ["http", "localhost", "80", ""]);
    let secure = "X-Forwarded-Proto: wss";
    assert_eq!(of(&setup.forwarded(PROXY, secure).await), ["https", "localhost", "443", ""]);
    let mut stream = BufReader::new(setup.client.connect_tls().await);
    exchange(&mut stream, &get("/").replace("localhost", "localhost:8443")).await;
    assert_eq!(of(&setup.last_request()), ["https", "localhost:8443", "8443", ""]);
}

// Requirements: XF08.
#[tokio::test]
async fn names_with_underscores_are_dropped() {
    let setup = ForwardedSetup::new("", "").await;
    for host in [UNTRUSTED, PROXY] {
        let forwarded =
            setup.forwarded(host, "X_Forwarded_For: 6.6.6.6\r\nX_Real_IP: 6.6.6.6").await;
        assert!(!forwarded.head.contains("6.6.6.6"), "{forwarded:?}");
    }
}

// Requirements: XF09.
#[tokio::test]
async fn ipv4_and_mapped_ipv6_are_one_client() {
    let setup = ForwardedSetup::new("", "[concurrency]\ntunnels_per_client = 1\n").await;
    let (response, held) = setup.handshake(PROXY, "X-Forwarded-For: 203.0.113.7").await;
    assert_eq!(response.status, 101);
    for same in ["203.0.113.7:99", "::ffff:203.0.113.7", "[::ffff:cb00:7107]:99"] {
        let (response, _) = setup.handshake(PROXY, &format!("X-Forwarded-For: {same}")).await;
        assert_eq!(response.status, 429, "{same}");
    }
    let (response, other) = setup.handshake(PROXY, "X-Forwarded-For: 203.0.113.8").await;
    assert_eq!(response.status, 101);
    drop((held, other));
    let record = setup.proxy.end_record("client_limit").await;
    assert_eq!((&record["client_key"], &record["status"]), (&"203.0.113.7".into(), &429.into()));
}

// Requirements: XF10.
#[tokio::test]
async fn all_trusted_makes_the_leftmost_the_client() {
    let setup = ForwardedSetup::new("", "").await;
    let chain = setup.chain("X-Forwarded-For: 10.0.0.3, 10.0.0.4").await;
    assert_eq!(chain, pair("10.0.0.3", "10.0.0.3, 10.0.0.4, 127.0.0.2"));
    let record = setup.record("X-Forwarded-For: 10.0.0.3").await;
    assert_eq!(
        (&record["client_source"], &record["client"]),
        (&"all_trusted".into(), &"10.0.0.3".into())
    );
}

#[tokio::test]
async fn client_is_resolved_per_request() {
    let setup = ForwardedSetup::new("", "").await;
    let mut stream = BufReader::new(connect(PROXY, setup.client.plain).await);
    for last in 1..=3 {
        let line = format!("\r\nX-Forwarded-For: 203.0.113.{last}\r\n\r\n");
        let (response, _) = exchange(&mut stream, &get("/").replace("\r\n\r\n", &line)).await;
        assert_eq!(response.status, 200);
        assert_eq!(setup.last_request().all("x-real-ip"), format!("203.0.113.{last}"));
    }
}

#[tokio::test]
async fn limits_apply_to_forwarded_clients() {
    let caps = "[concurrency]\nconnections_per_client = 2\n";
    let setup = ForwardedSetup::new("", caps).await;
    let mut open = Vec::new();
    for last in 1..=6 {
        let line = format!("X-Forwarded-For: 203.0.113.{last}");
        let (response, stream) = setup.handshake(PROXY, &line).await;
        assert_eq!(response.status, 101);
        open.push(stream);
    }
    let strangers = [
        setup.handshake(UNTRUSTED, "X-A: 1").await.0.status,
        setup.handshake(UNTRUSTED, "X-A: 1").await.0.status,
    ];
    assert_eq!(strangers, [101, 101]);
}

#[tokio::test]
async fn handshake_rate_applies_per_forwarded_client() {
    let caps = "[rates]\nhandshakes_per_client = \"1/s\"\nhandshakes_burst = 1\n";
    let setup = ForwardedSetup::new("", caps).await;
    let status = async |last: u8| {
        let line = format!("X-Forwarded-For: 203.0.113.{last}");
        setup.handshake(PROXY, &line).await.0.status
    };
    assert_eq!(status(1).await, 101);
    // As many as it takes to exceed the rate.
    within_timeout("a refusal", async { while status(1).await != 429 {} }).await;
    assert_eq!([status(2).await, status(3).await], [101, 101]);
    assert_eq!(setup.proxy.end_record("client_rate_limit").await["client_key"], "203.0.113.1");
}

#[tokio::test]
async fn same_origin_uses_the_forwarded_scheme() {
    let setup = ForwardedSetup::same_origin().await;
    let page = "Origin: https://localhost\r\nX-Forwarded-Proto: https";
    assert_eq!(setup.handshake(PROXY, page).await.0.status, 101);
    assert_eq!(setup.handshake(UNTRUSTED, page).await.0.status, 403);
    assert_eq!(setup.handshake(PROXY, "Origin: https://localhost").await.0.status, 403);
    assert_eq!(setup.handshake(PROXY, "Origin: http://localhost").await.0.status, 101);
}

#[tokio::test]
async fn backend_choice_uses_the_forwarded_client() {
    let response =
        |name: &str| format!("HTTP/1.1 200 OK\r\nX-Me: {name}\r\nContent-Length: 0\r\n\r\n");
    let (a, b) = (Backend::app(response("a")).await, Backend::app(response("b")).await);
    let trusted = "[trusted_proxies]\naddresses = [\"127.0.0.2\", \"127.0.0.4\"]\n";
    let routes = route(&[a.address, b.address], "");
    let proxy = Proxy::start(&format!("{trusted}{routes}")).await;
    let client = Client::new(&proxy).await;
    let chosen = async |host: [u8; 4], last: u8| {
        let mut stream = BufReader::new(client.connect_plain_from(host).await);
        let line = format!("\r\nX-Forwarded-For: 203.0.113.{last}\r\n\r\n");
        let (response, _) = exchange(&mut stream, &get("/").replace("\r\n\r\n", &line)).await;
        response.header("x-me").unwrap().to_owned()
    };
    let mut shares = [0, 0];
    for last in 1..=40 {
        let first = chosen(PROXY, last).await;
        assert_eq!(chosen([127, 0, 0, 4], last).await, first);
        shares[usize::from(first == "b")] += 1;
    }
    assert!(shares[0] > 5 && shares[1] > 5, "{shares:?}");
}
