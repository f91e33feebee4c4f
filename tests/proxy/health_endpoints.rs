//! Health endpoints for operators, load balancers and probes.

use rustix::process::Signal;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::support::control::CONTROL;
use crate::support::{
    Backend, Client, HANDSHAKE, Proxy, TestBed, assert_relays, close_normally, get, read_body,
    read_head, read_response, read_to_end, reset, route, wire, within_timeout,
};

#[tokio::test]
async fn healthz_counts_connections_and_tunnels() {
    let bed = TestBed::with("").await;
    let health = bed.proxy.health().await;
    assert_eq!(health["status"], "ok");
    assert_eq!(health["version"], env!("CARGO_PKG_VERSION"));
    assert!(health["uptime_seconds"].is_u64(), "{health}");
    assert_eq!(health["generation"], 1);
    let backends = |health: &Value, state: &str| {
        let mut counts =
            serde_json::json!({"up": 0, "untried": 0, "down": 0, "drained": 0, "total": 1});
        counts[state] = 1.into();
        assert_eq!(health["backends"], counts);
    };
    backends(&health, "untried");
    assert_eq!((&health["connections"], &health["tunnels"]), (&0.into(), &0.into()));

    let (mut client, mut backend) = bed.open().await;
    let (secure, secures_backend) = bed.open_secure().await;
    let _idle = bed.client.connect_tls().await;
    assert_relays(&mut client, &mut backend).await;
    bed.proxy.reload().await;
    let health = bed.proxy.health().await;
    assert_eq!((&health["connections"], &health["tunnels"]), (&3.into(), &2.into()));
    assert_eq!(health["generation"], 2);
    backends(&health, "up");
    close_normally(client, backend).await;
    close_normally(secure, secures_backend).await;
    bed.tunnel_end(2).await;
    bed.tunnel_end(1).await;
    assert_eq!(bed.proxy.health().await["tunnels"], 0);
}

#[tokio::test]
async fn gauges_return_to_zero_after_every_ending() {
    let bed = TestBed::with("[limits]\nclose_grace = \"300ms\"\n").await;
    for n in 0..40 {
        let (mut client, backend) = bed.open().await;
        match n % 8 {
            0 => close_normally(client, backend).await,
            1 => reset(client),
            2 => reset(backend),
            3 => drop(backend),
            4 => client.write_all(b"no frame at all").await.unwrap(),
            5 => client.write_all(&wire::masked(0x82, &[0; 100])[..50]).await.unwrap(),
            6 => {
                reset(client);
                reset(backend);
            }
            _ => client.write_all(&wire::masked(0x88, b"")).await.unwrap(),
        }
    }
    // Connections and handshakes that never became tunnels.
    for n in 0..10 {
        let mut stream = bed.client.connect_plain().await;
        stream.write_all(&HANDSHAKE.as_bytes()[..n * 15]).await.unwrap();
        bed.client.request(HANDSHAKE.replace("13\r\n", "8\r\n").as_bytes()).await;
        drop(bed.client.connect_tls().await);
    }
    bed.proxy.wait_until_idle().await;
    let (mut client, mut backend) = bed.open().await;
    assert_relays(&mut client, &mut backend).await;
}

// Requirements: AD07.
#[tokio::test]
async fn readyz_follows_drain_and_backends() {
    let mut bed = TestBed::with("[drain]\nwindow = \"10m\"\ndeadline = \"20m\"\n").await;
    let admin = bed.proxy.admin().await;
    let (response, body) = get(admin, "/readyz").await;
    assert_eq!((response.status, &body[..]), (200, &b"ready\n"[..]));
    let (_client, _backend) = bed.open().await;

    // After a refused connection the only backend is down.
    let alive = bed.backend.address().to_string();
    bed.proxy.reload_with(&alive, "127.0.0.66:1").await;
    assert_eq!(get(admin, "/readyz").await.0.status, 200);
    assert_eq!(bed.client.request(HANDSHAKE.as_bytes()).await.status, 503);
    let (response, body) = get(admin, "/readyz").await;
    assert_eq!((response.status, &body[..]), (503, &b"unready: every backend is down\n"[..]));
    assert_eq!(bed.proxy.health().await["backends"]["down"], 1);
    bed.proxy.reload_with("127.0.0.66:1", &alive).await;
    assert_eq!(get(admin, "/readyz").await.0.status, 200);

    bed.proxy.signal(Signal::TERM);
    within_timeout("readyz to fail", async {
        while get(admin, "/readyz").await.0.status != 503 {}
    })
    .await;
    let health = bed.proxy.health().await;
    assert_eq!((&health["status"], &health["tunnels"]), (&"draining".into(), &1.into()));
    bed.proxy.signal(Signal::TERM);
    assert_eq!(bed.proxy.exit().await, Some(0));
}

// Requirements: AD03.
#[tokio::test]
async fn admin_listener_answers_only_get_and_head() {
    let bed = TestBed::with("").await;
    let admin = bed.proxy.admin().await;
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"] {
        let mut stream = BufReader::new(TcpStream::connect(admin).await.unwrap());
        let request =
            format!("{method} /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let response = read_response(&mut stream).await;
        assert_eq!(response.status, 405, "{method}");
        // RFC 9110 15.5.6
        assert_eq!(response.header("allow"), Some("GET, HEAD"), "{method}");
    }
    let mut stream = BufReader::new(TcpStream::connect(admin).await.unwrap());
    stream
        .write_all(b"HEAD /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200"));
    assert_eq!(read_to_end(&mut stream).await, b"");
    assert_eq!(get(admin, "/").await.0.status, 404);
    assert_eq!(get(admin, "/healthz/").await.0.status, 404);
    assert_eq!(get(admin, "/healthz?verbose").await.0.status, 200);

    let mut stream = TcpStream::connect(admin).await.unwrap();
    stream.write_all(&vec![b'x'; 1 << 20]).await.ok();
    read_to_end(&mut stream).await;
    assert_eq!(bed.proxy.health().await["status"], "ok");
}

// Requirements: AD03.
#[tokio::test]
async fn idle_admin_connections_are_closed() {
    let bed = TestBed::with("").await;
    let admin = bed.proxy.admin().await;
    let mut idlers = Vec::new();
    for n in 0..64 {
        let mut stream = TcpStream::connect(admin).await.unwrap();
        stream.write_all(&b"GET /healthz HT"[..n % 16]).await.unwrap();
        idlers.push(stream);
    }
    within_timeout("a response", async {
        loop {
            let (response, body) = get(admin, "/healthz").await;
            if response.status == 200 {
                return serde_json::from_slice::<Value>(&body).unwrap();
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
    for mut idler in idlers {
        read_to_end(&mut idler).await;
    }
}

// Requirements: AD06.
#[tokio::test]
async fn health_path_reveals_only_the_status() {
    let backend = Backend::answering("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\napp").await;
    let config = format!(
        "[log]\nformat = \"json\"\n[admin]\naddress = \"127.0.0.1:0\"\n\
         [drain]\nwindow = \"10m\"\ndeadline = \"20m\"\n\
         [[listener]]\nname = \"plain\"\naddress = \"127.0.0.1:0\"\ntls = false\n\
         health_path = \"/lb\"\n\
         [[listener]]\nname = \"other\"\naddress = \"127.0.0.1:0\"\ntls = false\n{}",
        route(&[backend.address], "")
    );
    let mut proxy = Proxy::start_bare(&config).await;
    let plain = proxy.address("plain").await;
    let (answer_ok, body) = get(plain, "/lb").await;
    assert_eq!((answer_ok.status, &body[..]), (200, &b"ok\n"[..]));
    let head = answer_ok.head.to_ascii_lowercase();
    for revealing in ["server", "via", "tidegate", env!("CARGO_PKG_VERSION")] {
        assert!(!head.contains(revealing), "{head}");
    }
    // Similar paths and other listeners are unaffected.
    assert_eq!(get(plain, "/lbx").await.1, b"app");
    assert_eq!(get(proxy.address("other").await, "/lb").await.1, b"app");

    // During a drain, on an existing connection with a partial request.
    let mut late = BufReader::new(TcpStream::connect(plain).await.unwrap());
    late.write_all(b"GET /lb HTTP/1.1\r\n").await.unwrap();
    for _ in 0..5 {
        get(plain, "/lb").await;
    }
    proxy.signal(Signal::TERM);
    within_timeout("the drain", async { while proxy.health().await["status"] != "draining" {} })
        .await;
    late.write_all(b"Host: localhost\r\n\r\n").await.unwrap();
    assert_eq!(read_response(&mut late).await.status, 503);
    assert_eq!(read_to_end(&mut late).await, b"unready\n");
    assert_eq!(proxy.exit().await, Some(0));
}

/// hyper answers only some of them before it lets other tasks run.
#[tokio::test]
async fn pipelined_requests_for_the_health_path_are_all_answered() {
    let backend = Backend::answering("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\napp").await;
    let config = format!(
        "[[listener]]\nname = \"plain\"\naddress = \"127.0.0.1:0\"\ntls = false\nhealth_path = \"/lb\"\n\
         [admin]\nenabled = false\n[log]\nformat = \"json\"\n{}",
        route(&[backend.address], "")
    );
    let proxy = Proxy::start_bare(&config).await;
    let mut stream =
        BufReader::new(TcpStream::connect(proxy.address("plain").await).await.unwrap());
    let request = "GET /lb HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(request.repeat(100).as_bytes()).await.unwrap();
    for _ in 0..100 {
        let response = read_response(&mut stream).await;
        assert_eq!(response.status, 200);
        assert_eq!(read_body(&mut stream, &response).await, b"ok\n");
    }
}

// Requirements: AD06.
#[tokio::test]
async fn health_path_reports_that_no_backend_is_left() {
    // A port below 1024, which no other test gets.
    let config = format!(
        "[log]\nformat = \"json\"\n[admin]\naddress = \"127.0.0.1:0\"\n\
         [[listener]]\nname = \"plain\"\naddress = \"127.0.0.1:0\"\ntls = false\n\
         health_path = \"/lb\"\n{}",
        route(&["127.0.0.1:1".parse().unwrap()], "")
    );
    let proxy = Proxy::start_bare(&config).await;
    let plain = proxy.address("plain").await;
    assert_eq!(get(plain, "/lb").await.0.status, 200);
    assert_eq!(get(plain, "/").await.0.status, 503);
    let (response, body) = get(plain, "/lb").await;
    assert_eq!((response.status, &body[..]), (503, &b"unready\n"[..]));
}

#[tokio::test]
async fn two_hundred_concurrent_tunnels_relay() {
    let backend = Backend::echo().await;
    let proxy = Proxy::with_backends(&[backend.address]).await;
    let client = Client::new(&proxy).await;
    let mut crowd = tokio::task::JoinSet::new();
    // Spread over a few addresses, so that no client exceeds its handshake burst.
    for n in 0..200u8 {
        let client = client.clone();
        crowd.spawn(async move {
            let stream = client.connect_plain_from([127, 0, 2, n % 8]).await;
            let mut tunnel = crate::support::upgrade(stream).await;
            for round in 0..5 {
                tunnel.write_all(&wire::masked(0x82, &[n; 2000])).await.unwrap();
                let back = wire::read(&mut tunnel).await.unwrap();
                assert_eq!(back.payload, [n; 2000], "round {round}");
            }
            tunnel.write_all(&wire::masked(0x88, &wire::close(1000, ""))).await.unwrap();
            assert_eq!(wire::read(&mut tunnel).await.unwrap().code(), 1000);
            let mut rest = Vec::new();
            tunnel.read_to_end(&mut rest).await.unwrap();
        });
    }
    within_timeout("all of them", crowd.join_all()).await;
    proxy.wait_until_idle().await;
    proxy.nth_end_record(200).await;
    let ended = proxy.outcomes();
    assert_eq!(ended.len(), 200);
    assert!(ended.iter().all(|record| record["end"] == "client_closed"));
}

#[tokio::test]
async fn name_without_an_address_is_the_cause_everywhere() {
    let backend = "127.0.0.1:9".parse().unwrap();
    let config =
        format!("{}{CONTROL}", route(&[backend], "")).replace("127.0.0.1:9", "nothing.invalid:9");
    let proxy = Proxy::start(&config).await;
    let admin = proxy.admin().await;
    within_timeout("the lookup to fail", async {
        loop {
            let (response, body) = get(admin, "/readyz").await;
            if (response.status, &body[..])
                == (503, &b"unready: no name of a backend resolves\n"[..])
            {
                return;
            }
        }
    })
    .await;
    let explain = serde_json::json!({"command": "explain", "url": "ws://localhost/"});
    let explained = proxy.command(explain).await;
    assert_eq!(
        (&explained["admitted"], &explained["reason"]),
        (&false.into(), &"no_backend".into())
    );
    assert!(explained.to_string().contains("the name does not resolve: "), "{explained}");
}
