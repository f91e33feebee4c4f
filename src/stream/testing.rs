//! What tests of several rooms need of streams: a TLS pair whose far end is a real rustls client,
//! and single steps of a [`Stream`] as futures.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, duplex};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::{Recv, RecvScratch, SendScratch, Stream};

/// A finished TLS connection over two given pipes: the server's end and the client's.
pub async fn shake<A, B>(near: A, far: B) -> (server::TlsStream<A>, client::TlsStream<B>)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = CertificateDer::from(made.cert);
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let server = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let (near, far) = tokio::join!(
        TlsAcceptor::from(Arc::new(server)).accept(near),
        TlsConnector::from(Arc::new(client)).connect(name, far),
    );
    (near.unwrap(), far.unwrap())
}

/// The same over a pipe in memory that takes `room` bytes each way.
pub async fn shaken(
    room: usize,
) -> (server::TlsStream<DuplexStream>, client::TlsStream<DuplexStream>) {
    let (near, far) = duplex(room);
    shake(near, far).await
}

/// What one `poll_recv` found, owned.
#[derive(Debug, PartialEq, Eq)]
pub enum Got {
    /// Bytes.
    Data(Vec<u8>),
    /// A lawful end.
    Closed,
    /// An end without a farewell.
    Truncated,
}

/// One `poll_recv`.
pub async fn recv(stream: &mut impl Stream) -> io::Result<Got> {
    let mut scratch = RecvScratch::new();
    poll_fn(|cx| {
        stream.poll_recv(cx, &mut scratch).map_ok(|got| match got {
            Recv::Data(data) => Got::Data(data.to_vec()),
            Recv::Closed => Got::Closed,
            Recv::Truncated => Got::Truncated,
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
