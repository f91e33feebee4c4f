//! Test helpers for streams: TLS connections to a real rustls client, and the methods of a [`Stream`]
//! as futures.

pub mod forge;

use std::future::poll_fn;
use std::io;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector, client};

use super::scratch::{RecvScratch, SendScratch};
use super::tls_engine::{EngineConfig, ServerEngine};
use super::tokio_tls::TokioTls;
use super::unbuffered_tls::UnbufferedTls;
use crate::net::{Recv, Stream, Transport};

/// Configurations of a server and of a client that trusts it.
pub fn configs() -> (ServerConfig, ClientConfig) {
    configs_for(rustls::ALL_VERSIONS)
}

/// As [`configs`], restricted to these TLS versions.
pub fn configs_for(versions: &[&'static SupportedProtocolVersion]) -> (ServerConfig, ClientConfig) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = CertificateDer::from(made.cert);
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let server = ServerConfig::builder_with_protocol_versions(versions)
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let mut client = ClientConfig::builder_with_protocol_versions(versions)
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.enable_secret_extraction = true;
    (server, client)
}

/// Performs the client side of a handshake.
///
/// # Errors
/// The handshake failed, or the server disconnected.
pub async fn connect<B>(client: ClientConfig, far: B) -> io::Result<client::TlsStream<B>>
where
    B: AsyncRead + AsyncWrite + Unpin,
{
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(client)).connect(name, far).await
}

/// A TLS connection over two pipes: the server side with tokio-rustls, and the client side.
pub async fn connected_tokio<A, B>(near: A, far: B) -> (TokioTls<A>, client::TlsStream<B>)
where
    A: Transport,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (server, client) = configs();
    let accept = TlsAcceptor::from(Arc::new(server)).accept(near);
    let (near, far) = tokio::join!(accept, connect(client, far));
    (TokioTls::new(near.unwrap()), far.unwrap())
}

/// A TLS connection over two pipes: the server side with [`UnbufferedTls`], and the client side.
pub async fn connected_unbuffered<A, B>(
    near: A,
    far: B,
) -> (UnbufferedTlsStream<A>, client::TlsStream<B>)
where
    A: Transport,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (server, client) = configs();
    let engine = ServerEngine::new(&EngineConfig::new(server)).unwrap();
    let (near, far) = tokio::join!(UnbufferedTls::accept(near, engine), connect(client, far));
    (*near.unwrap(), far.unwrap())
}

/// [`UnbufferedTls`] with a server engine.
pub type UnbufferedTlsStream<Io> = UnbufferedTls<ServerEngine, Io>;

/// The result of one `poll_recv`, owned.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// [`Recv::Data`]
    Data(Vec<u8>),
    /// [`Recv::Closed`]
    Closed,
    /// [`Recv::Truncated`]
    Truncated,
}

/// Calls `poll_recv` until Ready.
///
/// # Errors
/// Those of `poll_recv`.
pub async fn recv(stream: &mut impl Stream) -> io::Result<Received> {
    let mut scratch = RecvScratch::new();
    poll_fn(|cx| {
        stream.poll_recv(cx, &mut scratch).map_ok(|got| match got {
            Recv::Data(data) => Received::Data(data.to_vec()),
            Recv::Closed => Received::Closed,
            Recv::Truncated => Received::Truncated,
        })
    })
    .await
}

/// Calls `send` once, without waiting for delivery.
///
/// # Errors
/// Those of `send`.
pub async fn send(stream: &mut impl Stream, parts: &[&[u8]]) -> io::Result<()> {
    let mut scratch = SendScratch::default();
    poll_fn(|cx| std::task::Poll::Ready(stream.send(cx, parts, &mut scratch))).await
}

/// Calls `poll_ready` until Ready.
///
/// # Errors
/// Those of `poll_ready`.
pub async fn ready(stream: &mut impl Stream) -> io::Result<()> {
    poll_fn(|cx| stream.poll_ready(cx)).await
}

/// Calls `poll_close` until Ready.
///
/// # Errors
/// Those of `poll_close`.
pub async fn close(stream: &mut impl Stream) -> io::Result<()> {
    let mut scratch = SendScratch::default();
    poll_fn(|cx| stream.poll_close(cx, &mut scratch)).await
}
