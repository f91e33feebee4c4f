//! Backends: tungstenite as an echo, or raw bytes by a script.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

use super::client::{RawResponse, read_body, read_head, read_to_end};
use super::within_timeout;

/// A backend on a port of its own; its task ends with it.
pub struct Backend {
    /// Where it listens.
    pub address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    events: tokio::sync::Mutex<mpsc::UnboundedReceiver<BackendEvent>>,
    task: tokio::task::JoinHandle<()>,
}

/// The way to tell the test what a backend saw.
pub type EventSender = mpsc::UnboundedSender<BackendEvent>;

/// What a backend saw.
#[derive(Debug)]
pub enum BackendEvent {
    /// A connection was opened.
    Opened,
    /// A message, control frames included.
    Message(Message),
    /// Whatever a script saw fit to tell.
    Bytes(Vec<u8>),
    /// The connection ended; an error in words, if it was one.
    Ended(Option<String>),
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Backend {
    /// Sends every text and binary message back; tungstenite answers pings and closes.
    pub async fn echo() -> Self {
        Self::websocket(|mut socket: WebSocketStream<TcpStream>, events| async move {
            while let Some(message) = socket.next().await {
                let message = match message {
                    Ok(message) => message,
                    Err(error) => {
                        let _ = events.send(BackendEvent::Ended(Some(error.to_string())));
                        return;
                    }
                };
                let back = matches!(message, Message::Text(_) | Message::Binary(_));
                let _ = events.send(BackendEvent::Message(message.clone()));
                if back && socket.send(message).await.is_err() {
                    break;
                }
            }
            let _ = events.send(BackendEvent::Ended(None));
        })
        .await
    }

    /// Accepts WebSockets with tungstenite (the first offered subprotocol is taken) and leaves
    /// each to `serve`.
    pub async fn websocket<F, S>(serve: S) -> Self
    where
        S: Fn(WebSocketStream<TcpStream>, EventSender) -> F + Clone + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = heads.clone();
        Self::listen(heads, move |stream, events| {
            let (serve, seen) = (serve.clone(), seen.clone());
            async move {
                #[expect(clippy::result_large_err, reason = "tungstenite's own shape")]
                let look = |request: &Request, mut response: Response| {
                    let mut head = format!("{} {}\n", request.method(), request.uri());
                    for (name, value) in request.headers() {
                        let value = String::from_utf8_lossy(value.as_bytes());
                        head.push_str(&format!("{name}: {value}\n"));
                    }
                    seen.lock().unwrap().push(head);
                    if let Some(offer) = request.headers().get("sec-websocket-protocol") {
                        let first = offer.to_str().unwrap().split(',').next().unwrap().trim();
                        let first = first.parse().unwrap();
                        response.headers_mut().insert("sec-websocket-protocol", first);
                    }
                    Ok(response)
                };
                if let Ok(socket) = accept_hdr_async(stream, look).await {
                    let _ = events.send(BackendEvent::Opened);
                    serve(socket, events).await;
                }
            }
        })
        .await
    }

    /// Raw bytes: `serve` gets each connection with its request head already read, and may tell
    /// what it saw.
    pub async fn raw<F, S>(serve: S) -> Self
    where
        S: Fn(String, BufReader<TcpStream>, EventSender) -> F + Clone + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = heads.clone();
        Self::listen(heads, move |stream, events| {
            let (serve, seen) = (serve.clone(), seen.clone());
            async move {
                let mut stream = BufReader::new(stream);
                let head = read_head(&mut stream).await;
                seen.lock().unwrap().push(head.clone());
                let _ = events.send(BackendEvent::Opened);
                serve(head, stream, events.clone()).await;
                let _ = events.send(BackendEvent::Ended(None));
            }
        })
        .await
    }

    /// Raw bytes behind a lawful 101.
    pub async fn raw_tunnel<F, S>(serve: S) -> Self
    where
        S: Fn(BufReader<TcpStream>, EventSender) -> F + Clone + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        Self::raw(move |head, mut stream, events| {
            let serve = serve.clone();
            async move {
                stream.write_all(switching_protocols(&head).as_bytes()).await.unwrap();
                serve(stream, events).await;
            }
        })
        .await
    }

    /// Answers every request with these bytes, then closes.
    pub async fn answering(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self::raw(move |_, mut stream, _| {
            let bytes = bytes.clone();
            async move {
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
            }
        })
        .await
    }

    /// An application over plain HTTP: tells a request's body, answers with these bytes, closes.
    /// A handshake it accepts.
    pub async fn app(answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        Self::raw(move |head, mut stream, events| {
            let answer = answer.clone();
            async move {
                if head.contains("sec-websocket-key") {
                    stream.write_all(switching_protocols(&head).as_bytes()).await.unwrap();
                    read_to_end(&mut stream).await;
                    return;
                }
                let asked = RawResponse { status: 0, head };
                let has_body = ["content-length", "transfer-encoding"];
                if has_body.iter().any(|name| asked.header(name).is_some()) {
                    let _ = events.send(BackendEvent::Bytes(read_body(&mut stream, &asked).await));
                }
                let _ = stream.write_all(&answer).await;
                let _ = stream.shutdown().await;
            }
        })
        .await
    }

    /// The request heads seen so far, lower-case names as sent.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    /// The next thing it saw.
    pub async fn next_event(&self) -> BackendEvent {
        within_timeout("the backend to hear something", async {
            self.events.lock().await.recv().await.unwrap()
        })
        .await
    }

    /// The next bytes that its script told of.
    pub async fn bytes(&self) -> Vec<u8> {
        loop {
            if let BackendEvent::Bytes(bytes) = self.next_event().await {
                return bytes;
            }
        }
    }

    /// The next message it saw.
    pub async fn message(&self) -> Message {
        loop {
            if let BackendEvent::Message(message) = self.next_event().await {
                return message;
            }
        }
    }

    async fn listen<F, S>(heads: Arc<Mutex<Vec<String>>>, serve: S) -> Self
    where
        S: Fn(TcpStream, EventSender) -> F + Clone + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        #[expect(clippy::disallowed_methods, reason = "bounded by the test's own traffic")]
        let (sender, events) = mpsc::unbounded_channel();
        #[expect(clippy::disallowed_methods, reason = "a test's backend")]
        let task = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                open.spawn(serve(stream, sender.clone()));
            }
        });
        Self { address, heads, events: tokio::sync::Mutex::new(events), task }
    }
}

/// A lawful 101 to this request head.
pub fn switching_protocols(head: &str) -> String {
    let key = head
        .lines()
        .find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim())
        })
        .unwrap_or_default();
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        derive_accept_key(key.as_bytes())
    )
}
