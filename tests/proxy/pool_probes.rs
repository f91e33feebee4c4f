//! Probes of `[pool.probe]`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::support::control::CONTROL;
use crate::support::{
    Backend, BackendEvent, Client, HANDSHAKE, PlainStream, Proxy, RawResponse, answer_close,
    assert_relays, get, read_to_end, switching_protocols, upgrade, wire, within_timeout,
};

/// A route with a pool of these backends and the keys of its probe. `more` adds keys to the pool.
fn pool(backends: &[SocketAddr], more: &str, probe: &str) -> String {
    let backends: Vec<String> = backends.iter().map(|address| format!("\"{address}\"")).collect();
    format!(
        "{CONTROL}[drain]\nwindow = \"100ms\"\n\
         [[route]]\nname = \"all\"\nhost = \"*\"\norigins = [\"*\"]\npool = \"chat\"\n\
         [[pool]]\nname = \"chat\"\nbackends = [{}]\n{more}\n\
         [pool.probe]\ninterval = \"1s\"\ntimeout = \"1s\"\n{probe}\n",
        backends.join(", ")
    )
}

/// An application that answers clients, and probes as its mode says.
struct ProbedApp {
    backend: Backend,
    mode: Arc<AtomicU8>,
    arrivals: tokio::sync::Mutex<tokio::sync::mpsc::Receiver<PlainStream>>,
}

/// A probe gets its answer, and is served to its end.
const ANSWERS: u8 = 0;
/// A probe gets a 101 and no pong.
const NO_PONG: u8 = 1;
/// A probe gets no response, like every client of a suspended process.
const HANGS: u8 = 2;
/// A probe gets this status.
const UNAVAILABLE: u8 = 3;

impl ProbedApp {
    async fn new(mode: u8) -> Self {
        let mode = Arc::new(AtomicU8::new(mode));
        let (sender, arrivals) = tokio::sync::mpsc::channel(64);
        let current = mode.clone();
        let backend = Backend::raw(move |head, mut stream, events| {
            let (mode, sender) = (current.load(Ordering::Relaxed), sender.clone());
            async move {
                let is_probe = head.contains("tidegate-probe");
                let is_handshake = head.to_ascii_lowercase().contains("sec-websocket-key");
                let response = match mode {
                    HANGS if is_probe => String::new(),
                    UNAVAILABLE if is_probe => {
                        "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n".to_owned()
                    }
                    _ if is_handshake => switching_protocols(&head),
                    _ => "HTTP/1.1 204 Fine\r\n\r\n".to_owned(),
                };
                stream.write_all(response.as_bytes()).await.unwrap();
                if !is_probe {
                    drop(sender.send(stream).await);
                } else if is_handshake && mode == ANSWERS {
                    serve_probe(stream).await;
                    let _ = events.send(BackendEvent::Bytes(b"closed in order".to_vec()));
                } else {
                    read_to_end(&mut stream).await;
                }
            }
        });
        Self { backend: backend.await, mode, arrivals: tokio::sync::Mutex::new(arrivals) }
    }

    fn set(&self, mode: u8) {
        self.mode.store(mode, Ordering::Relaxed);
    }

    /// The next connection of a client that was answered.
    async fn accept(&self) -> PlainStream {
        let mut arrivals = self.arrivals.lock().await;
        within_timeout("a client", arrivals.recv()).await.unwrap()
    }
}

/// Answers the ping of a probe after messages and a ping of its own, and then its Close.
async fn serve_probe(mut stream: BufReader<TcpStream>) {
    let ping = wire::read(&mut stream).await.unwrap();
    assert_eq!((ping.first, ping.masked, ping.payload.len()), (0x80 | wire::PING, true, 8));
    let before = [
        wire::unmasked(0x80 | wire::TEXT, &[b'x'; 70_000]),
        wire::unmasked(0x80 | wire::PONG, b"unsolicited"),
        wire::unmasked(0x80 | wire::PING, b""),
    ];
    stream.write_all(&before.concat()).await.unwrap();
    stream.write_all(&wire::unmasked(0x80 | wire::PONG, &ping.payload)).await.unwrap();
    let close = wire::read(&mut stream).await.unwrap();
    assert_eq!((close.code(), close.masked), (1000, true));
    stream.write_all(&wire::unmasked(0x80 | wire::CLOSE, &close.payload)).await.unwrap();
    assert_eq!(wire::read(&mut stream).await, None);
}

/// Waits until this backend has this state.
async fn wait_for_state(proxy: &Proxy, index: usize, state: &str) -> Value {
    let row = |status: &Value| status["pools"][0]["backends"][index].clone();
    row(&proxy.status(state, |status| row(status)["state"] == state).await)
}

async fn readyz(proxy: &Proxy) -> u16 {
    get(proxy.admin().await, "/readyz").await.0.status
}

async fn logged(proxy: &Proxy, message: &str, backend: SocketAddr) -> Value {
    let is_it = |record: &Value| {
        record["message"].as_str().is_some_and(|text| text.starts_with(message))
            && record["backend"] == backend.to_string()
    };
    proxy.record(message, is_it).await
}

const WEBSOCKET: &str = "kind = \"websocket\"\npath = \"/probe?deep=1\"\nhost = \"chat.example.com\"\n\
    subprotocol = \"v1\"\nheaders = [\"Authorization: Bearer secret\"]";

#[tokio::test]
async fn websocket_probe_pings_and_closes() {
    let app = ProbedApp::new(ANSWERS).await;
    let proxy = Proxy::start(&pool(&[app.backend.address], "", WEBSOCKET)).await;
    assert_eq!(app.backend.bytes().await, b"closed in order");
    let row = wait_for_state(&proxy, 0, "up").await;
    assert_eq!((&row["problem"], &row["probe"]), (&Value::Null, &"up".into()));
    let head = RawResponse { status: 0, head: app.backend.heads().remove(0) };
    assert!(head.head.starts_with("GET /probe?deep=1 HTTP/1.1\r\n"), "{head:?}");
    for (name, value) in [
        ("host", "chat.example.com"),
        ("user-agent", "tidegate-probe"),
        ("authorization", "Bearer secret"),
        ("sec-websocket-protocol", "v1"),
        ("sec-websocket-version", "13"),
    ] {
        assert_eq!(head.header(name), Some(value), "{head:?}");
    }
    for name in ["x-forwarded-for", "sec-websocket-extensions", "via"] {
        assert_eq!(head.header(name), None, "{head:?}");
    }
    let scrape = proxy.scrape().await;
    assert!(scrape.sum("tidegate_backend_probes_total", &[("outcome", "succeeded")]) >= 1.0);
    assert_eq!(scrape.sum("tidegate_tunnels_opened_total", &[]), 0.0, "probes are no users");
    assert_eq!(scrape.sum("tidegate_backend_connect_failures_total", &[]), 0.0);
    let shown = proxy.command(json!({"command": "config"})).await.to_string();
    assert!(shown.contains("pool[0].probe.headers") && !shown.contains("Bearer secret"), "{shown}");
}

// Requirements: BM22.
#[tokio::test]
async fn all_down_by_probe_is_503() {
    let apps = [ProbedApp::new(NO_PONG).await, ProbedApp::new(HANGS).await];
    let addresses = apps.each_ref().map(|app| app.backend.address);
    let proxy = Proxy::start(&pool(&addresses, "", WEBSOCKET)).await;
    wait_for_state(&proxy, 0, "untried").await;
    assert_eq!(readyz(&proxy).await, 200, "backends are not down before their probes have failed");
    for (index, missing) in ["no pong within 1s", "no response within 1s"].iter().enumerate() {
        let row = wait_for_state(&proxy, index, "down").await;
        assert_eq!(row["problem"], format!("websocket probe failed: {missing}"));
        let record =
            logged(&proxy, "backend down: probes failed (3 in a row)", addresses[index]).await;
        assert_eq!(record["error"], *missing);
    }
    assert_eq!(readyz(&proxy).await, 503);
    let client = Client::new(&proxy).await;
    let response = client.request(HANDSHAKE.as_bytes()).await;
    assert_eq!(response.status, 503);
    assert!(response.header("retry-after").is_some(), "{response:?}");
    let record = proxy.end_record("no_backend").await;
    let detail = record["detail"].as_str().unwrap();
    assert!(
        detail.contains(&format!("{}: websocket probe failed: no pong", addresses[0])),
        "{detail}"
    );
    let url = format!("ws://localhost:{}/", proxy.address("plain").await.port());
    let explained = proxy.command(json!({"command": "explain", "url": url})).await;
    assert_eq!(explained["reason"], "no_backend");
    assert!(explained.to_string().contains("websocket probe failed: no response"), "{explained}");

    apps[0].set(ANSWERS);
    logged(&proxy, "backend up: it answers probes", addresses[0]).await;
    assert_eq!(readyz(&proxy).await, 200);
    assert_eq!(client.request(HANDSHAKE.as_bytes()).await.status, 101);
    let explained = proxy.command(json!({"command": "explain", "url": url})).await;
    assert_eq!(explained["admitted"], true);
    let not = format!("; not {} (weight 1, down: websocket probe failed", addresses[1]);
    assert!(explained.to_string().contains(&not), "{explained}");
}

#[tokio::test]
async fn dead_member_leaves_the_others_alone() {
    let apps = [
        ProbedApp::new(ANSWERS).await,
        ProbedApp::new(ANSWERS).await,
        ProbedApp::new(ANSWERS).await,
    ];
    let addresses = apps.each_ref().map(|app| app.backend.address);
    let text = pool(&addresses, "on_backend_loss = \"drain\"", "kind = \"websocket\"\nfall = 2");
    let proxy = Proxy::start(&text).await;
    let client = Client::new(&proxy).await;
    let mut tunnels = [Vec::new(), Vec::new(), Vec::new()];
    for host in 1..=30 {
        let tunnel = upgrade(client.connect_plain_from([127, 0, 13, host]).await).await;
        let (index, backend) = tokio::select! {
            backend = apps[0].accept() => (0, backend),
            backend = apps[1].accept() => (1, backend),
            backend = apps[2].accept() => (2, backend),
        };
        tunnels[index].push((tunnel, backend));
    }
    let [first, second, lost] = tunnels;
    assert!(!first.is_empty() && !second.is_empty() && !lost.is_empty());
    apps[2].set(HANGS);
    wait_for_state(&proxy, 2, "down").await;
    let closing = lost.into_iter().map(|(tunnel, backend)| answer_close(tunnel, backend));
    for close in futures_util::future::join_all(closing).await {
        assert_eq!(close.0, 1012);
    }
    let cause = "closing tunnels: the backend is down, its probes fail (on_backend_loss)";
    proxy.record("the cause", |record| record["message"] == cause).await;
    for (mut tunnel, mut backend) in first.into_iter().chain(second) {
        assert_relays(&mut tunnel, &mut backend).await;
    }
    // New tunnels of all clients go to the others.
    for host in 1..=30 {
        let _tunnel = upgrade(client.connect_plain_from([127, 0, 13, host]).await).await;
        tokio::select! {
            _ = apps[0].accept() => {}
            _ = apps[1].accept() => {}
        }
    }
}

#[tokio::test]
async fn http_probe_expects_a_status() {
    let app = ProbedApp::new(UNAVAILABLE).await;
    let address = app.backend.address;
    let probe = "kind = \"http\"\npath = \"/healthz\"\nstatus = [204]\nfall = 1\nrise = 1";
    let proxy = Proxy::start(&pool(&[address], "", probe)).await;
    let row = wait_for_state(&proxy, 0, "down").await;
    assert_eq!(row["problem"], "http probe failed: the response has the status 503");
    let head = app.backend.heads().remove(0);
    assert!(head.starts_with("GET /healthz HTTP/1.1\r\n"), "{head}");
    let head = RawResponse { status: 0, head };
    assert_eq!(head.header("host"), Some(&*address.to_string()));
    app.set(ANSWERS);
    wait_for_state(&proxy, 0, "up").await;
}

#[tokio::test]
async fn tcp_probe_expects_a_connection() {
    // An address of its own, so that no other test listens there later.
    let listener = tokio::net::TcpListener::bind("127.0.0.28:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let proxy = Proxy::start(&pool(&[address], "", "kind = \"tcp\"\nfall = 2\nrise = 1")).await;
    wait_for_state(&proxy, 0, "up").await;
    drop(listener);
    let row = wait_for_state(&proxy, 0, "down").await;
    let problem = row["problem"].as_str().unwrap();
    assert!(problem.contains("connection refused"), "{problem}");
    assert_eq!(row["connect_failures"], 0, "probes have a count of their own");
}

#[tokio::test]
async fn state_survives_reloads_of_the_same_check() {
    let app = ProbedApp::new(NO_PONG).await;
    let text = pool(&[app.backend.address], "", "kind = \"websocket\"\nfall = 1");
    let proxy = Proxy::start(&text).await;
    wait_for_state(&proxy, 0, "down").await;
    proxy.reload_with("name = \"all\"", "name = \"other\"").await;
    let down = async || proxy.scrape().await.sum("tidegate_backend_state", &[("state", "down")]);
    assert_eq!(down().await, 1.0);
    // Another check starts without a result, and this one does not fail at once.
    proxy.reload_with("fall = 1", "fall = 100").await;
    assert_eq!(down().await, 0.0);
}

/// Clients that upload slowly may have all workers of the application, which then answers no probe.
#[tokio::test]
async fn probes_that_wait_for_slow_uploads_do_not_count() {
    let backend = Backend::raw(|head, mut stream, events| async move {
        if !head.contains("tidegate-probe") {
            let _ = events.send(BackendEvent::Bytes(b"upload".to_vec()));
        }
        read_to_end(&mut stream).await;
    })
    .await;
    let text = pool(&[backend.address], "", "kind = \"http\"\nfall = 3");
    let proxy = Proxy::start(&format!("{text}[timeouts]\nmin_body_rate = \"off\"\n")).await;
    let mut uploading = Client::new(&proxy).await.connect_plain().await;
    let head = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\na";
    uploading.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(backend.bytes().await, b"upload");
    let probes = || backend.heads().iter().filter(|head| head.contains("tidegate-probe")).count();
    within_timeout("probes", async {
        while probes() < 5 {
            backend.next_event().await;
        }
    })
    .await;
    // Each has timed out before the next one.
    assert_eq!(wait_for_state(&proxy, 0, "up").await["problem"], Value::Null);
    uploading.write_all(b"b").await.unwrap();
    let row = wait_for_state(&proxy, 0, "down").await;
    assert_eq!(row["problem"], "http probe failed: no response within 1s");
}
