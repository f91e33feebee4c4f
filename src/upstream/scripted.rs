//! Scripted backends for unit tests: raw TCP connections and sample requests.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::connect::ConnectedBackend;
use super::forwarded_headers::{ForwardedHeaders, ForwardingPolicy};
use super::health::Health;
use super::pool::{Backend, Pool, SharedBackendState};
use crate::client::{ClientInfo, KeyPrefixes};
use crate::config::settings::pool::{BackendSettings, PoolSettings};
use crate::config::values::backend_address::BackendAddress;
use crate::http::forwarded::Forwarded;
use crate::net::network::TargetAddr;
use crate::net::socket::Socket;

/// A backend at this host and port.
pub(crate) fn backend_at((host, port): (&str, u16)) -> Arc<Backend> {
    Arc::new(Backend {
        admin_override: Arc::default(),
        id: format!("{host}:{port}").into(),
        address: BackendAddress::Tcp { host: host.to_owned(), port },
        weight: NonZeroU32::MIN,
        listed: None,
        is_backup: false,
        is_canary: false,
        max_tunnels: None,
        load: Default::default(),
        health: Arc::new(Health::default()),
        responses: Arc::default(),
        probe: None,
        counts: Default::default(),
        idle: Default::default(),
        tls: None,
        sources: None,
        resolver: Default::default(),
    })
}

/// A pool of this many backends with the ids `0`, `1` and so on.
pub(crate) fn pool_of(backends: usize) -> Pool {
    pool_with(backends, |_| SharedBackendState::default())
}

/// As [`pool_of`], with changed settings.
pub(crate) fn scripted_pool(backends: usize, change: impl FnOnce(&mut PoolSettings)) -> Pool {
    let mut settings = settings_of(backends);
    change(&mut settings);
    Pool::new(&settings, Arc::default(), Arc::default(), None, |_, _| SharedBackendState::default())
}

/// As [`pool_of`], with this state of each.
pub(crate) fn pool_with(
    backends: usize,
    mut carried: impl FnMut(&BackendSettings) -> SharedBackendState,
) -> Pool {
    Pool::new(&settings_of(backends), Arc::default(), Arc::default(), None, |of, _| carried(of))
}

fn settings_of(backends: usize) -> PoolSettings {
    let one = |index: usize| BackendSettings {
        id: index.to_string().into(),
        address: BackendAddress::Tcp { host: "127.0.0.1".into(), port: 9 },
        is_per_address: false,
        weight: NonZeroU32::MIN,
        is_backup: false,
        is_canary: false,
        max_tunnels: None,
        cookie_value: None,
    };
    PoolSettings::of_route((0..backends).map(one).collect())
}

/// A backend at the address of a listener.
pub(crate) fn backend(listener: &TcpListener) -> Arc<Backend> {
    backend_at(("127.0.0.1", listener.local_addr().unwrap().port()))
}

/// A local port that refuses connections: it was bound and released again, on an address that no other
/// test uses.
pub(crate) fn refusing_port() -> (&'static str, u16) {
    let listener = std::net::TcpListener::bind("127.0.0.27:0").unwrap();
    ("127.0.0.27", listener.local_addr().unwrap().port())
}

/// A request from a client at a documentation address over TLS, with its forwarding data.
pub(crate) struct ScriptedRequest {
    pub(crate) client: ClientInfo,
    pub(crate) forwarded: Forwarded,
    pub(crate) local: SocketAddr,
    pub(crate) policy: ForwardingPolicy,
}

impl ScriptedRequest {
    pub(crate) fn headers(&self) -> ForwardedHeaders<'_> {
        ForwardedHeaders {
            client: &self.client,
            forwarded: &self.forwarded,
            request_id: "0123",
            local: self.local,
            policy: &self.policy,
        }
    }
}

/// A request without a trusted proxy, to a route with default settings.
pub(crate) fn direct_request() -> ScriptedRequest {
    let addr = SocketAddr::from(([203, 0, 113, 7], 5000));
    let mut client = ClientInfo::new(addr, KeyPrefixes::default(), "test".into());
    client.secure = true;
    let forwarded = Forwarded { chain: vec![client.addr], ..Forwarded::default() };
    let local = SocketAddr::from(([192, 0, 2, 1], 443));
    ScriptedRequest { client, forwarded, local, policy: ForwardingPolicy::default() }
}

/// A connected pair: the proxy's end and the backend's end.
pub(crate) async fn connected() -> ((Socket, ConnectedBackend), TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let to = ConnectedBackend { backend: backend(&listener), address: TargetAddr::Tcp(address) };
    let (stream, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    ((stream.unwrap().into(), to), accepted.unwrap().0)
}

/// Reads a request head including the empty line.
pub(crate) async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// Reads a request head, sends `response`, and returns the head.
pub(crate) async fn reply(stream: &mut TcpStream, response: &[u8]) -> String {
    let head = read_head(stream).await;
    stream.write_all(response).await.unwrap();
    head
}

/// Checks at compile time that a future is `Send`.
pub(crate) fn assert_send<F: Future + Send>(future: F) -> F {
    future
}
