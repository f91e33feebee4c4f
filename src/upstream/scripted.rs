//! Backends for tests: raw TCP that says what it is told, and hands out what it heard.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::connect::BackendConnection;
use super::forwarded_headers::{ForwardedHeaders, ForwardingPolicy};
use super::health::Health;
use super::pool::Backend;
use crate::client::{ClientInfo, KeyPrefixes};
use crate::config::values::patterns::BackendAddress;
use crate::http::forwarded::Forwarded;

/// A backend at a host and port.
pub(crate) fn backend_at((host, port): (&str, u16)) -> Arc<Backend> {
    Arc::new(Backend {
        standing: Arc::default(),
        id: format!("{host}:{port}").into(),
        address: BackendAddress { host: host.to_owned(), port },
        weight: NonZeroU32::MIN,
        health: Arc::new(Health::default()),
        counts: Default::default(),
        names: Default::default(),
    })
}

/// The backend behind a listener.
pub(crate) fn backend(listener: &TcpListener) -> Arc<Backend> {
    backend_at(("127.0.0.1", listener.local_addr().unwrap().port()))
}

/// An address that refuses: it was free a moment ago, and nobody took it.
pub(crate) fn refusing_port() -> (&'static str, u16) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    ("127.0.0.1", listener.local_addr().unwrap().port())
}

/// A request of a client in the documentation network, over TLS, and what is said of it.
pub(crate) struct ScriptedRequest {
    pub(crate) visitor: ClientInfo,
    pub(crate) forwarded: Forwarded,
    pub(crate) local: SocketAddr,
    pub(crate) manner: ForwardingPolicy,
}

impl ScriptedRequest {
    pub(crate) fn introduction(&self) -> ForwardedHeaders<'_> {
        ForwardedHeaders {
            visitor: &self.visitor,
            forwarded: &self.forwarded,
            request_id: "0123",
            local: self.local,
            manner: &self.manner,
        }
    }
}

/// One who comes straight, to a route that does nothing special.
pub(crate) fn guest() -> ScriptedRequest {
    let addr = SocketAddr::from(([203, 0, 113, 7], 5000));
    let mut visitor = ClientInfo::new(addr, KeyPrefixes::default(), "test".into());
    visitor.secure = true;
    let forwarded = Forwarded { chain: vec![visitor.addr], ..Forwarded::default() };
    let local = SocketAddr::from(([192, 0, 2, 1], 443));
    ScriptedRequest { visitor, forwarded, local, manner: ForwardingPolicy::default() }
}

/// A connected pair: our end, and the backend's.
pub(crate) async fn connected() -> (BackendConnection, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let backend = backend(&listener);
    let (stream, accepted) =
        tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (BackendConnection { stream: stream.unwrap().into(), backend }, accepted.unwrap().0)
}

/// Reads a request head, to its empty line.
pub(crate) async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// Reads a request head, then says `answer`; the head comes back.
pub(crate) async fn reply(stream: &mut TcpStream, answer: &[u8]) -> String {
    let head = read_head(stream).await;
    stream.write_all(answer).await.unwrap();
    head
}

/// Holds a future to what a multi-threaded runtime demands.
pub(crate) fn sendable<F: Future + Send>(future: F) -> F {
    future
}
