//! Backends: a tungstenite echo server, or raw bytes sent by a script.

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

/// A backend on its own port. Dropping it stops its task.
pub struct Backend {
    /// The address it listens on.
    pub address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    events: tokio::sync::Mutex<mpsc::UnboundedReceiver<BackendEvent>>,
    task: tokio::task::JoinHandle<()>,
}

/// Sends events from a backend to the test.
pub type EventSender = mpsc::UnboundedSender<BackendEvent>;

/// Something a backend observed.
#[derive(Debug)]
pub enum BackendEvent {
    /// A connection was accepted.
    Opened,
    /// A WebSocket message arrived; control frames count as messages.
    Message(Message),
    /// Bytes that a script chose to report.
    Bytes(Vec<u8>),
    /// The connection ended; holds the error message if it ended with an error.
    Ended(Option<String>),
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Backend {
    /// Echoes every text and binary message; tungstenite answers pings and closes.
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

    /// Accepts WebSockets with tungstenite, choosing the first offered subprotocol, and passes each
    /// to `serve`.
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

    /// Passes each connection to `serve` once its request head has been read; `serve` may report
    /// events.
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

    /// Sends a valid 101, then passes the raw connection to `serve`.
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

    /// Answers every request with these bytes, then closes the connection.
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

    /// A plain HTTP application: reports the request body, answers with these bytes and closes.
    /// Accepts WebSocket handshakes as well.
    pub async fn app(response: impl Into<Vec<u8>>) -> Self {
        let response = response.into();
        Self::raw(move |head, mut stream, events| {
            let response = response.clone();
            async move {
                if head.to_ascii_lowercase().contains("sec-websocket-key") {
                    stream.write_all(switching_protocols(&head).as_bytes()).await.unwrap();
                    read_to_end(&mut stream).await;
                    return;
                }
                let asked = RawResponse { status: 0, head };
                let has_body = ["content-length", "transfer-encoding"];
                if has_body.iter().any(|name| asked.header(name).is_some()) {
                    let _ = events.send(BackendEvent::Bytes(read_body(&mut stream, &asked).await));
                }
                let _ = stream.write_all(&response).await;
                let _ = stream.shutdown().await;
            }
        })
        .await
    }

    /// The request heads received so far, header names in lower case as sent.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    /// Waits for the next event.
    pub async fn next_event(&self) -> BackendEvent {
        within_timeout("the backend to hear something", async {
            self.events.lock().await.recv().await.unwrap()
        })
        .await
    }

    /// Waits for the next bytes that the script reports.
    pub async fn bytes(&self) -> Vec<u8> {
        loop {
            if let BackendEvent::Bytes(bytes) = self.next_event().await {
                return bytes;
            }
        }
    }

    /// Waits for the next message.
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

/// A valid 101 response to this request head.
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
