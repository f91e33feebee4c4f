use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::{WebSocketStream, client_async};

use super::websocket::CHAT_TEXT_MAX;
use super::*;

const PAGE: Page = Page {
    message_max: 1 << 20,
    tunnels_max: 32,
    drain_window_ms: 3000,
    admin: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9180),
};

/// A running backend, its address, and the drain requests.
async fn start() -> (Backend, SocketAddr, mpsc::Receiver<()>) {
    let (drain, drain_requests) = mpsc::channel(1);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    (Backend::start(listener, PAGE, drain), address, drain_requests)
}

async fn open(address: SocketAddr, path: &str) -> WebSocketStream<TcpStream> {
    let stream = TcpStream::connect(address).await.expect("listening");
    let url = format!("ws://{address}{path}");
    client_async(url, stream).await.expect("upgraded").0
}

async fn status_of(address: SocketAddr, request: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("listening");
    let head = format!("{request} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).await.expect("written");
    let mut response = String::new();
    stream.read_to_string(&mut response).await.expect("text");
    response.split(' ').nth(1).expect("a status").to_owned()
}

#[tokio::test]
async fn echo_returns_text_binary_and_close_code() {
    let (backend, address, _drain_requests) = start().await;
    let mut socket = open(address, "/echo?any=query").await;
    for message in [Message::text("tide"), Message::binary(vec![0_u8; 100_000])] {
        socket.send(message.clone()).await.expect("sent");
        assert_eq!(socket.next().await.expect("open").expect("whole"), message);
    }
    let code = CloseCode::Library(4001);
    socket.close(Some(CloseFrame { code, reason: "".into() })).await.expect("sent");
    let answer = socket.next().await.expect("open").expect("whole");
    assert!(matches!(answer, Message::Close(Some(frame)) if frame.code == code));
    backend.stop().await;
}

#[tokio::test]
async fn chat_relays_messages_and_rejects_long_ones() {
    let (backend, address, _drain_requests) = start().await;
    let (mut first, mut second) = (open(address, "/chat").await, open(address, "/chat").await);
    for text in ["one", "two"] {
        second.send(Message::text(text)).await.expect("sent");
    }
    let mut received = Vec::new();
    while received.len() < 2 {
        let message = first.next().await.expect("open").expect("whole");
        let value: serde_json::Value =
            serde_json::from_str(message.to_text().expect("text")).expect("JSON");
        received.extend(value["text"].as_str().map(str::to_owned));
    }
    assert_eq!(received, ["one", "two"]);

    second.send(Message::text("x".repeat(CHAT_TEXT_MAX + 1))).await.expect("sent");
    let code = loop {
        if let Message::Close(frame) = second.next().await.expect("open").expect("whole") {
            break frame.expect("a code").code;
        }
    };
    assert_eq!(code, CloseCode::Size);
    backend.stop().await;
}

#[tokio::test]
async fn plain_http_gets_the_matching_status() {
    let (backend, address, _drain_requests) = start().await;
    assert_eq!(status_of(address, "GET /", "Host: localhost\r\n").await, "200");
    assert_eq!(status_of(address, "GET /echo", "Host: localhost\r\n").await, "426");
    assert_eq!(status_of(address, "GET /nothing", "Host: localhost\r\n").await, "404");
    assert_eq!(status_of(address, "PUT /", "Host: localhost\r\n").await, "405");
    backend.stop().await;
}

#[tokio::test]
async fn only_the_own_page_can_request_drains() {
    let (backend, address, mut drain_requests) = start().await;
    for headers in [
        "Host: localhost:8443\r\n",
        "Host: localhost:8443\r\nOrigin: null\r\n",
        "Host: localhost:8443\r\nOrigin: https://evil.example\r\n",
        "Host: localhost:8443\r\nOrigin: https://localhost:9000\r\n",
        // DNS rebinding: Host and Origin agree, but the name is not ours.
        "Host: evil.example:8443\r\nOrigin: https://evil.example:8443\r\n",
    ] {
        assert_eq!(status_of(address, "POST /demo/drain", headers).await, "403", "{headers}");
    }
    assert!(drain_requests.try_recv().is_err());
    for host in ["localhost:8443", "127.0.0.1:8443", "[::1]:8443"] {
        let headers = format!("Host: {host}\r\nOrigin: https://{host}\r\n");
        assert_eq!(status_of(address, "POST /demo/drain", &headers).await, "202", "{host}");
        assert!(drain_requests.try_recv().is_ok());
    }
    backend.stop().await;
}
