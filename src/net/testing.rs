//! What tests of several rooms need of streams: a TLS pair whose far end is a real rustls client,
//! and single steps of a [`Stream`] as futures.

pub mod forge;

use std::future::poll_fn;
use std::io;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector, client};

use super::engine::{EngineConfig, ServerEngine};
use super::scratch::{RecvScratch, SendScratch};
use super::tokio_tls::TokioTls;
use super::unbuffered_tls::UnbufferedTls;
use crate::net::{Recv, Stream, Transport};

/// A server and a client that trusts it.
pub fn configs() -> (ServerConfig, ClientConfig) {
    configs_for(rustls::ALL_VERSIONS)
}

/// Likewise, but these versions only.
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

/// The client's end of a handshake.
pub async fn connect<B>(client: ClientConfig, far: B) -> io::Result<client::TlsStream<B>>
where
    B: AsyncRead + AsyncWrite + Unpin,
{
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(client)).connect(name, far).await
}

/// A finished TLS connection over two given pipes: the server's end, by tokio-rustls, and the
/// client's.
pub async fn shake<A, B>(near: A, far: B) -> (TokioTls<A>, client::TlsStream<B>)
where
    A: Transport,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (server, client) = configs();
    let accept = TlsAcceptor::from(Arc::new(server)).accept(near);
    let (near, far) = tokio::join!(accept, connect(client, far));
    (TokioTls::new(near.unwrap()), far.unwrap())
}

/// Likewise, the server's end by our own stream.
pub async fn shake_lean<A, B>(near: A, far: B) -> (UnbufferedTlsStream<A>, client::TlsStream<B>)
where
    A: Transport,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (server, client) = configs();
    let engine = ServerEngine::new(&EngineConfig::new(server)).unwrap();
    let (near, far) = tokio::join!(UnbufferedTls::accept(near, engine), connect(client, far));
    (near.unwrap(), far.unwrap())
}

/// Our own stream over some transport.
pub type UnbufferedTlsStream<Io> = UnbufferedTls<ServerEngine, Io>;

/// What one `poll_recv` found, owned.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// Bytes.
    Data(Vec<u8>),
    /// A lawful end.
    Closed,
    /// An end without a farewell.
    Truncated,
}

/// One `poll_recv`.
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

/// One `send`, without waiting for its delivery.
pub async fn send(stream: &mut impl Stream, parts: &[&[u8]]) -> io::Result<()> {
    let mut scratch = SendScratch::default();
    poll_fn(|cx| std::task::Poll::Ready(stream.send(cx, parts, &mut scratch))).await
}

/// `poll_ready` until Ready.
pub async fn ready(stream: &mut impl Stream) -> io::Result<()> {
    poll_fn(|cx| stream.poll_ready(cx)).await
}

/// `poll_close` until Ready.
pub async fn close(stream: &mut impl Stream) -> io::Result<()> {
    let mut scratch = SendScratch::default();
    poll_fn(|cx| stream.poll_close(cx, &mut scratch)).await
}
