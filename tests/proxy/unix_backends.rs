//! Backends on Unix sockets.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

use crate::support::{
    Client, HANDSHAKE, Proxy, TempDir, read_head, switching_protocols, upgrade, wire,
};

/// An application on a Unix socket that answers requests with their heads, and echoes frames.
#[expect(clippy::disallowed_methods, reason = "bounded by the test's own traffic")]
fn serve(path: &Path) -> JoinHandle<()> {
    let listener = UnixListener::bind(path).unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(answer(BufReader::new(stream)));
        }
    })
}

async fn answer(mut stream: BufReader<UnixStream>) {
    // Probes send nothing.
    if stream.fill_buf().await.is_ok_and(<[u8]>::is_empty) {
        return;
    }
    let head = read_head(&mut stream).await;
    if !head.contains("Upgrade: websocket") {
        let response = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{head}", head.len());
        let _ = stream.write_all(response.as_bytes()).await;
        let _ = stream.read(&mut [0; 1]).await;
        return;
    }
    stream.write_all(switching_protocols(&head).as_bytes()).await.unwrap();
    while let Some(frame) = wire::read(&mut stream).await {
        if stream.write_all(&wire::unmasked(frame.first, &frame.payload)).await.is_err() {
            return;
        }
    }
}

fn route_to(path: &Path, more: &str) -> String {
    format!(
        "[[route]]\nname = \"all\"\nhost = \"*\"\norigins = [\"*\"]\n\
         backends = [\"unix:{}\"]\n{more}\n",
        path.display()
    )
}

#[tokio::test]
async fn requests_and_tunnels_reach_a_unix_socket() {
    let folder = TempDir::new();
    let path = folder.path().join("app.sock");
    let serving = serve(&path);
    let proxy = Proxy::start(&route_to(&path, "")).await;
    let client = Client::new(&proxy).await;
    let response = client.request(b"GET /x HTTP/1.1\r\nHost: app.example\r\n\r\n").await;
    assert_eq!(response.status, 200);
    let mut tunnel = upgrade(client.connect_plain().await).await;
    tunnel.write_all(&wire::masked(0x80 | wire::TEXT, b"hello")).await.unwrap();
    assert_eq!(wire::read(&mut tunnel).await.unwrap().payload, b"hello");
    drop(tunnel);
    let record = proxy.tunnel_end(1).await;
    assert_eq!(record["backend"], format!("unix:{}", path.display()));
    let status = proxy.status("the backend", |status| status["pools"][0]["tunnels"] == 0).await;
    let row = &status["pools"][0]["backends"][0];
    assert_eq!((&row["state"], &row["id"]), (&json!("up"), &record["backend"]));
    serving.abort();
}

#[tokio::test]
async fn proxy_header_names_the_client() {
    let folder = TempDir::new();
    let path = folder.path().join("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let proxy = Proxy::start(&route_to(&path, "proxy_protocol = true")).await;
    let client = Client::new(&proxy).await;
    let mut stream = client.connect_plain().await;
    let from = stream.local_addr().unwrap();
    stream.write_all(HANDSHAKE.as_bytes()).await.unwrap();
    let (mut accepted, _) = listener.accept().await.unwrap();
    let mut header = [0; 28];
    accepted.read_exact(&mut header).await.unwrap();
    // Version 2, PROXY, TCP over IPv4: the client's connection, whatever that to the backend is.
    assert_eq!((&header[..12], header[12], header[13]), (&SIGNATURE[..], 0x21, 0x11));
    assert_eq!(header[16..20], [127, 0, 0, 1]);
    assert_eq!(u16::from_be_bytes([header[24], header[25]]), from.port());
}

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

#[tokio::test]
async fn failures_to_connect_are_named() {
    let folder = TempDir::new();
    let [missing, stale, closed] =
        ["missing.sock", "stale.sock", "closed.sock"].map(|name| folder.path().join(name));
    // Its process is gone.
    drop(UnixListener::bind(&stale).unwrap());
    let _listener = UnixListener::bind(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    for (path, cause) in [
        (&missing, "no such socket"),
        (&stale, "connection refused: no process listens"),
        (&closed, "permission denied"),
    ] {
        let proxy = Proxy::start(&route_to(path, "[timeouts]\nresponse_header = \"300ms\"")).await;
        let client = Client::new(&proxy).await;
        let response = client.request(HANDSHAKE.as_bytes()).await;
        if path == &closed && response.status != 503 {
            // Root may connect to any socket.
            continue;
        }
        assert_eq!(response.status, 503);
        let record = proxy.nth_end_record(1).await;
        assert_eq!(record["end"], "no_backend");
        let detail = record["detail"].as_str().unwrap();
        assert!(detail.contains(&format!("unix:{}: {cause}", path.display())), "{record}");
    }
}

#[tokio::test]
async fn probe_notices_a_socket_that_is_back() {
    let folder = TempDir::new();
    let path = folder.path().join("app.sock");
    let proxy = Proxy::start(&route_to(&path, "")).await;
    let client = Client::new(&proxy).await;
    assert_eq!(client.request(HANDSHAKE.as_bytes()).await.status, 503);
    let state = |wanted: &'static str| {
        move |status: &serde_json::Value| status["pools"][0]["backends"][0]["state"] == wanted
    };
    proxy.status("a backend that is down", state("down")).await;
    let serving = serve(&path);
    proxy.status("a backend that is up", state("up")).await;
    serving.abort();
}
