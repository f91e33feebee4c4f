//! The counters add up: each dropped connection and each rejected request is counted once, under
//! its own reason. Ends of tunnels are in `termination_counters`.

use futures_util::FutureExt;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};

use crate::backend_connect::Full;
use crate::support::head::{get, replacing, with_lines};
use crate::support::{
    Backend, BackendEvent, Client, CounterCheck, HANDSHAKE, Proxy, TempDir, TestBed,
    close_normally, read_head, read_to_end, route, switching_protocols, within_timeout,
    write_certificate,
};

#[tokio::test]
async fn rejected_heads_are_counted_once() {
    let backend = Backend::answering("HTTP/1.1 204 No Content\r\n\r\n").await;
    let only_here = "host = \"localhost\"\norigins = [\"missing\"]\nhttp = false";
    let settings =
        route(&[backend.address], "").replace("host = \"*\"\norigins = [\"*\"]", only_here);
    let proxy = Proxy::start(&settings).await;
    let client = Client::new(&proxy).await;
    let mut counters = CounterCheck::new(&proxy).await;
    for (sent, wanted) in [
        (get("/").replace("Host", "Host: a\r\nHost"), "request_invalid admit"),
        (get(&format!("/{}", "a".repeat(16 << 10))), "uri_too_long admit"),
        (with_lines("Expect: foo"), "expect admit"),
        (get("/"), "not_websocket admit"),
        (HANDSHAKE.replace("GET", "POST"), "method admit"),
        (replacing("Sec-WebSocket-Key", "Sec-WebSocket-Key: a b"), "handshake_invalid admit"),
        (replacing("Sec-WebSocket-Version", "Sec-WebSocket-Version: 12"), "version admit"),
        (HANDSHAKE.replace("localhost", "elsewhere"), "no_route admit"),
        (with_lines("Origin: https://elsewhere.example"), "origin admit"),
        (with_lines("CDN-Loop: tidegate, a, tidegate"), "loop admit"),
        ("what is this\r\n\r\n".to_owned(), "head_invalid head"),
    ] {
        let mut stream = client.connect_plain().await;
        stream.write_all(sent.as_bytes()).await.unwrap();
        read_to_end(&mut stream).await;
        drop(stream);
        counters.expect_one(wanted).await;
    }
    counters.finish().await;
}

#[tokio::test]
async fn concurrency_rejections_are_counted_once() {
    let caps = "tunnels = 2\n[concurrency]\ntunnels = 3\ntunnels_per_client = 1\n\
                [rates]\nhandshakes_per_client = \"1/s\"\nhandshakes_burst = 2\n";
    let bed = TestBed::with(caps).await;
    let other = bed.backend.address();
    let more = route(&[other], "").replace("\"all\"", "\"more\"").replace("\"*\"\nor", "\"b\"\nor");
    bed.proxy.rewrite(&bed.proxy.config().replacen("[[route]]", &format!("{more}[[route]]"), 1));
    bed.proxy.reload().await;
    let mut counters = CounterCheck::new(&bed.proxy).await;
    let refused = async |host: u8, head: &str| {
        let mut stream = BufReader::new(bed.client.connect_plain_from([127, 0, 0, host]).await);
        stream.write_all(head.as_bytes()).await.unwrap();
        read_to_end(&mut stream).await;
    };
    let first = bed.open_from([127, 0, 0, 2]).await;
    refused(2, HANDSHAKE).await;
    counters.expect_one("client_limit admit").await;
    refused(2, HANDSHAKE).await;
    counters.expect_one("client_rate_limit admit").await;
    let second = bed.open_from([127, 0, 0, 3]).await;
    refused(4, HANDSHAKE).await;
    counters.expect_one("route_limit admit").await;
    let mut third = BufReader::new(bed.client.connect_plain_from([127, 0, 0, 5]).await);
    let elsewhere = HANDSHAKE.replace("localhost", "b");
    third.write_all(elsewhere.as_bytes()).await.unwrap();
    assert!(read_head(&mut third).await.starts_with("HTTP/1.1 101"));
    let third = (third, bed.backend.accept().await);
    refused(6, &elsewhere).await;
    counters.expect_one("proxy_limit admit").await;
    for (client, backend) in [first, second, third] {
        close_normally(client, backend).await;
    }
    for _ in 0..3 {
        counters.outcomes += 1;
        bed.proxy.nth_end_record(counters.outcomes).await;
    }
    counters.finish().await;
}

/// Rejects, sends garbage, or stays silent, depending on the target.
async fn backend_with_response_by_path() -> Backend {
    Backend::raw(|head, mut stream, events| async move {
        let response = match head.split(' ').nth(1).unwrap() {
            "/no" => "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
            "/nonsense" => "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            "/yes" => &switching_protocols(&head),
            _ => "",
        };
        stream.write_all(response.as_bytes()).await.unwrap();
        let _ = events.send(BackendEvent::Bytes(read_to_end(&mut stream).await));
    })
    .await
}

#[tokio::test]
async fn backend_failures_are_counted_once() {
    let backend = backend_with_response_by_path().await;
    let gone = Backend::echo().await.address;
    let unreachable =
        route(&[gone], "").replace("\"all\"", "\"gone\"").replace("\"*\"\nor", "\"b\"\nor");
    let deadlines = "[timeouts]\nresponse_header = \"700ms\"\nidle = \"700ms\"\n";
    let proxy = Proxy::start(&(unreachable + &route(&[backend.address], deadlines))).await;
    let client = Client::new(&proxy).await;
    let mut counters = CounterCheck::new(&proxy).await;
    let to = |target: &str| HANDSHAKE.replacen("/ws", target, 1);
    let upload = "POST /never HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe";
    for (sent, wanted) in [
        (HANDSHAKE.replace("localhost", "b"), "no_backend backend"),
        (to("/no"), "backend_rejected backend"),
        (to("/nonsense"), "backend_handshake_invalid backend"),
        (to("/never"), "response_timeout backend"),
        (get("/never"), "backend_idle_timeout backend"),
        (upload.to_owned(), "body_timeout backend"),
    ] {
        let mut stream = client.connect_plain().await;
        stream.write_all(sent.as_bytes()).await.unwrap();
        read_to_end(&mut stream).await;
        counters.expect_one(wanted).await;
    }
    // The client disconnects meanwhile.
    let mut impatient = client.connect_plain().await;
    while backend.next_event().now_or_never().is_some() {}
    impatient.write_all(get("/never").as_bytes()).await.unwrap();
    while !matches!(backend.next_event().await, BackendEvent::Opened) {}
    drop(impatient);
    counters.expect_one("client_disconnected backend").await;
    let scrape = counters.finish().await;
    assert_eq!(scrape.sum("tidegate_tunnels_opened_total", &[]), 0.0);
}

#[tokio::test]
async fn dropped_connections_are_counted_once() {
    let settings = "[timeouts]\ntls = \"300ms\"\nrequest_header = \"600ms\"\nidle = \"700ms\"\n";
    let large = Backend::raw(|_, mut stream, _| async move {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 1 << 30);
        stream.write_all(head.as_bytes()).await.unwrap();
        while stream.write_all(&[7; 1 << 16]).await.is_ok() {}
    })
    .await;
    let proxy = Proxy::start(&route(&[large.address], settings)).await;
    let client = Client::new(&proxy).await;
    let mut counters = CounterCheck::new(&proxy).await;
    for (address, sent, wanted) in [
        (client.tls, "GET / HTTP/1.1\r\n\r\n", "tls_failed tls"),
        (client.tls, "", "tls_timeout tls"),
        (client.plain, "GET /ws HT", "head_timeout head"),
        (client.plain, "", "no_request head"),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        read_to_end(&mut stream).await;
        drop(stream);
        counters.expect_one(wanted).await;
        proxy.wait_until_idle().await;
    }
    for (address, wanted) in
        [(client.tls, "client_disconnected tls"), (client.plain, "client_disconnected head")]
    {
        drop(TcpStream::connect(address).await.unwrap());
        counters.expect_one(wanted).await;
        proxy.wait_until_idle().await;
    }
    let mut never_reads = client.connect_plain().await;
    never_reads.write_all(get("/").as_bytes()).await.unwrap();
    counters.expect_one("write_timeout head").await;
    drop(never_reads);
    counters.finish().await;
}

#[tokio::test]
async fn connections_over_a_limit_are_counted_once() {
    let settings = "[concurrency]\nconnections_per_client = 1\nconnections = 2\n";
    let backend = Backend::echo().await;
    let proxy = Proxy::start(&route(&[backend.address], settings)).await;
    let client = Client::new(&proxy).await;
    let mut counters = CounterCheck::new(&proxy).await;
    // Two that stay, the second from another address; then one too many of each kind.
    let (mut first, mut second) =
        (client.connect_plain().await, client.connect_plain_from([127, 0, 0, 2]).await);
    let both = async { while proxy.health().await["connections"] != 2 {} };
    within_timeout("two connections", both).await;
    read_to_end(&mut client.connect_plain_from([127, 0, 0, 3]).await).await;
    counters.expect_one("proxy_limit accept").await;
    first.shutdown().await.unwrap();
    read_to_end(&mut first).await;
    drop(first);
    counters.expect_one("client_disconnected head").await;
    within_timeout("one", async { while proxy.health().await["connections"] != 1 {} }).await;
    read_to_end(&mut client.connect_plain_from([127, 0, 0, 2]).await).await;
    counters.expect_one("client_limit accept").await;
    second.shutdown().await.unwrap();
    read_to_end(&mut second).await;
    counters.expect_one("client_disconnected head").await;
    counters.finish().await;
}

#[tokio::test]
async fn resource_and_peer_failures_are_counted_once() {
    let full = Full::new();
    let hangs =
        route(&[full.address], "").replace("\"all\"", "\"full\"").replace("\"*\"\nor", "\"b\"\nor");
    let folder = TempDir::new();
    write_certificate(folder.path(), &["b.example"]);
    let at = folder.path().display();
    let second = format!("[[certificate]]\nchain = \"{at}/chain.pem\"\nkey = \"{at}/key.pem\"\n");
    let backend = Backend::echo().await;
    let more = "[timeouts]\nconnect = \"200ms\"\n";
    let proxy = Proxy::start(&(second + &hangs + &route(&[backend.address], more))).await;
    let client = Client::new(&proxy).await;
    let mut counters = CounterCheck::new(&proxy).await;
    client.request(HANDSHAKE.replace("localhost", "b").as_bytes()).await;
    counters.expect_one("connect_timeout backend").await;
    let mut secure = client.connect_tls().await;
    secure.write_all(get("/").replace("localhost", "b.example").as_bytes()).await.unwrap();
    secure.flush().await.unwrap();
    read_to_end(&mut secure).await;
    counters.expect_one("misdirected admit").await;
    drop(secure);
    proxy.wait_until_idle().await;
    let mut bare = client.connect_plain().await;
    within_timeout("the connection", async { while proxy.health().await["connections"] != 1 {} })
        .await;
    proxy.spare_descriptors(Some(0));
    bare.write_all(HANDSHAKE.as_bytes()).await.unwrap();
    read_to_end(&mut bare).await;
    proxy.spare_descriptors(None);
    counters.expect_one("no_descriptors backend").await;
    drop(bare);
    counters.finish().await;
}

#[tokio::test]
async fn proxy_protocol_errors_are_counted_once() {
    let backend = Backend::echo().await;
    let listener = "[[listener]]\nname = \"pp\"\naddress = \"127.0.0.1:0\"\ntls = false\n\
                    proxy_protocol = true\n";
    let more =
        "[trusted_proxies]\naddresses = [\"127.0.0.1\"]\n[timeouts]\nproxy_header = \"300ms\"\n";
    let proxy = Proxy::start(&(listener.to_owned() + &route(&[backend.address], more))).await;
    let mut counters = CounterCheck::new(&proxy).await;
    let address = proxy.address("pp").await;
    for (from, sent, wanted) in [
        ([127, 0, 0, 2], "", "proxy_header_untrusted accept"),
        ([127, 0, 0, 1], "GET / HTTP/1.1\r\n\r\n", "proxy_header_missing accept"),
        ([127, 0, 0, 1], "PROXY TCP4 nonsense\r\n", "proxy_header_invalid accept"),
        ([127, 0, 0, 1], "PROXY ", "proxy_header_timeout accept"),
    ] {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        let mut stream = socket.connect(address).await.unwrap();
        // The client may be rejected and gone before this.
        let _ = stream.write_all(sent.as_bytes()).await;
        read_to_end(&mut stream).await;
        drop(stream);
        counters.expect_one(wanted).await;
    }
    counters.finish().await;
}
