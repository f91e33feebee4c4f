//! [`UnbufferedTls`] over pipes: what it keeps, its handshake, and its limits.

use std::future::poll_fn;

use rustls::{ContentType, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::client::TlsStream;

use super::*;
use crate::net::testing::forge::Forger;
use crate::net::testing::{
    Received, UnbufferedTlsStream, close, configs, connect, connected_unbuffered, ready, recv, send,
};
use crate::net::tls_engine::{EngineConfig, ServerEngine};

mod budget;
mod client;
mod equivalence;
mod tickets;

async fn accept(
    server: ServerConfig,
    near: DuplexStream,
) -> io::Result<UnbufferedTlsStream<DuplexStream>> {
    UnbufferedTls::accept(near, ServerEngine::new(&EngineConfig::new(server)).unwrap())
        .await
        .map(|stream| *stream)
}

fn is_idle<E: Engine, Io: Transport>(stream: &UnbufferedTls<E, Io>) -> bool {
    stream.undecrypted.is_empty() && stream.after_handshake.is_none() && stream.backlog() == 0
}

#[tokio::test]
async fn idle_stream_keeps_nothing() {
    let (near, far) = duplex(1 << 20);
    let (mut stream, mut far) = connected_unbuffered(near, far).await;
    for size in [1, 125, 16 * 1024, 60_000] {
        far.write_all(&vec![7; size]).await.unwrap();
        far.flush().await.unwrap();
        let mut got = 0;
        while got < size {
            let Received::Data(data) = recv(&mut stream).await.unwrap() else { panic!() };
            got += data.len();
        }
        send(&mut stream, &[&vec![7; size]]).await.unwrap();
        far.read_exact(&mut vec![0; size]).await.unwrap();
        assert!(is_idle(&stream));
    }
}

/// A pipe that counts operations that would be system calls.
struct Counted {
    pipe: DuplexStream,
    reads: usize,
    writes: usize,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.pipe).poll_read(cx, buf))?;
        self.reads += 1;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.writes += 1;
        Pin::new(&mut self.pipe).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}

impl Transport for Counted {}

#[tokio::test]
async fn message_takes_one_read_and_one_write() {
    let (near, far) = duplex(1 << 20);
    let (mut stream, mut far) =
        connected_unbuffered(Counted { pipe: near, reads: 0, writes: 0 }, far).await;
    for size in [125, 16 * 1024, 64 * 1024 + 14] {
        (stream.wire.io.reads, stream.wire.io.writes) = (0, 0);
        let message = vec![7; size];
        far.write_all(&message).await.unwrap();
        far.flush().await.unwrap();
        assert_eq!(recv(&mut stream).await.unwrap(), Received::Data(message.clone()));
        send(&mut stream, &[b"head", &message[4..]]).await.unwrap();
        ready(&mut stream).await.unwrap();
        assert_eq!((stream.wire.io.reads, stream.wire.io.writes), (1, 1), "{size}");
        far.read_exact(&mut vec![0; size]).await.unwrap();
    }
}

#[tokio::test]
async fn handshake_succeeds_over_a_tiny_pipe() {
    // With a smaller pipe, both sides block in writing because of the middlebox compatibility mode
    // (RFC 8446 D.4).
    for capacity in [8, 23, 100] {
        let (near, far) = duplex(capacity);
        // Tickets would block until the client reads.
        let (mut server, client) = configs();
        server.send_tls13_tickets = 0;
        let (stream, far) = tokio::join!(accept(server, near), connect(client, far));
        let (mut stream, mut far) = (stream.unwrap(), far.unwrap());
        let data: Vec<u8> = (0..=255).cycle().take(5000).collect();
        let mut got = Vec::new();
        let receive = async {
            while got.len() < data.len() {
                let Received::Data(more) = recv(&mut stream).await.unwrap() else { panic!() };
                got.extend(more);
            }
        };
        let transmit = async {
            far.write_all(&data).await.unwrap();
            far.flush().await.unwrap();
        };
        tokio::join!(receive, transmit);
        assert!(got == data);
        let mut received = vec![0; data.len()];
        send(&mut stream, &[&data]).await.unwrap();
        let (written, read) = tokio::join!(ready(&mut stream), far.read_exact(&mut received));
        written.unwrap();
        read.unwrap();
        assert!(received == data && is_idle(&stream));
    }
}

/// A connection over a transport that delays bytes, so that several flights arrive in one read.
async fn delayed_flights(
    request: &[u8],
    close: bool,
) -> (UnbufferedTlsStream<DuplexStream>, TlsStream<DuplexStream>) {
    let (server, client) = configs();
    let (near, mut middle_near) = duplex(1 << 20);
    let (mut middle_far, far) = duplex(1 << 20);
    let client_side = async {
        let mut far = connect(client, far).await.unwrap();
        far.write_all(request).await.unwrap();
        far.flush().await.unwrap();
        if close {
            far.shutdown().await.unwrap();
        }
        far
    };
    let relay = async {
        let mut bytes = vec![0; 1 << 16];
        // The ClientHello, the reply, and then everything else at once.
        let len = middle_far.read(&mut bytes).await.unwrap();
        middle_near.write_all(&bytes[..len]).await.unwrap();
        let len = middle_near.read(&mut bytes).await.unwrap();
        middle_far.write_all(&bytes[..len]).await.unwrap();
        tokio::task::yield_now().await;
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        let len = middle_far.read(&mut bytes).await.unwrap();
        middle_near.write_all(&bytes[..len]).await.unwrap();
    };
    let (stream, far, ()) = tokio::join!(accept(server, near), client_side, relay);
    (stream.unwrap(), far)
}

#[tokio::test(start_paused = true)]
async fn data_after_the_handshake_is_read_first() {
    let request = vec![b'x'; 40_000];
    let (mut stream, _far) = delayed_flights(&request, true).await;
    assert_eq!(stream.after_handshake.as_ref().unwrap().plaintext.len(), request.len());
    // The buffer of the HTTP phase is smaller.
    let mut scratch = RecvScratch::with_capacity(20_000);
    let mut got = Vec::new();
    for _ in 0..2 {
        poll_fn(|cx| {
            stream.poll_recv(cx, &mut scratch).map(|recv| {
                let Recv::Data(data) = recv.unwrap() else { panic!("the stream ended") };
                got.extend_from_slice(data);
            })
        })
        .await;
    }
    assert!(got == request);
    assert_eq!(recv(&mut stream).await.unwrap(), Received::Closed);
}

#[tokio::test]
async fn disconnect_during_handshake_is_unexpected_eof() {
    for sent in [&b""[..], b"\x16\x03\x01", b"\x16\x03\x01\x02\0\x01\0\x01\xfc"] {
        let (near, mut far) = duplex(1000);
        far.write_all(sent).await.unwrap();
        drop(far);
        let error = accept(configs().0, near).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}

#[tokio::test]
async fn failed_handshake_sends_alert_and_fin() {
    let (near, mut far) = duplex(100_000);
    far.write_all(&b"GET / HTTP/1.1\r\n".repeat(2000)).await.unwrap();
    let error = accept(configs().0, near).await.unwrap_err().downcast::<TlsError>().unwrap();
    assert_eq!(error, TlsError::InvalidMessage(InvalidMessage::InvalidContentType));
    let mut answer = Vec::new();
    far.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, [21, 3, 3, 0, 2, 2, 50], "fatal decode_error");
}

#[tokio::test]
async fn rejects_a_hello_in_too_many_records() {
    // A message of 3,000 bytes (RFC 8446 4) with one byte per record: more than 14 KiB in total.
    let (near, mut far) = duplex(1 << 20);
    let mut message = vec![1, 0, 0x0b, 0xb8];
    message.resize(3_000, 0);
    for byte in message {
        far.write_all(&[22, 3, 1, 0, 1, byte]).await.unwrap();
    }
    let error = accept(configs().0, near).await.unwrap_err().downcast::<TlsError>().unwrap();
    assert_eq!(error, TOO_LARGE);
}

#[tokio::test]
async fn limit_holds_after_the_handshake() {
    let (near, far) = duplex(1 << 20);
    let (mut stream, far) = connected_unbuffered(near, far).await;
    ready(&mut stream).await.unwrap();
    let (mut pipe, tls) = far.into_inner();
    let mut forger = Forger::new(tls);
    // A message of 60,000 bytes that never ends.
    let piece =
        forger.record(ContentType::Handshake, &[&[24, 0, 0xea, 0x60][..], &[0; 16_000]].concat());
    pipe.write_all(&piece).await.unwrap();
    let piece = forger.record(ContentType::Handshake, &[0; 16_000]);
    pipe.write_all(&piece).await.unwrap();
    let error = recv(&mut stream).await.unwrap_err().downcast::<TlsError>().unwrap();
    assert_eq!(error, TOO_LARGE);
    close(&mut stream).await.unwrap();
}

#[tokio::test]
async fn data_before_a_damaged_record_is_delivered() {
    let (near, far) = duplex(4096);
    let (mut stream, far) = connected_unbuffered(near, far).await;
    ready(&mut stream).await.unwrap();
    let (mut pipe, tls) = far.into_inner();
    let mut forger = Forger::new(tls);
    let mut records = [forger.data(b"before"), forger.data(b"after")].concat();
    *records.last_mut().unwrap() ^= 1;
    pipe.write_all(&records).await.unwrap();
    assert_eq!(recv(&mut stream).await.unwrap(), Received::Data(b"before".to_vec()));
    for _ in 0..2 {
        let error = recv(&mut stream).await.unwrap_err().downcast::<TlsError>().unwrap();
        assert_eq!(error, TlsError::DecryptError);
    }
    assert!(send(&mut stream, &[b"data"]).await.is_err());
}

#[test]
fn parts_are_joined() {
    let mut buffer = Vec::new();
    assert_eq!(join(&[b"", b""], &mut buffer), b"");
    assert_eq!(join(&[b"", b"only"], &mut buffer), b"only");
    assert_eq!(buffer.capacity(), 0);
    assert_eq!(join(&[b"a", b"", b"b"], &mut buffer), b"ab");
    assert_eq!(join(&[b"c", b"d"], &mut buffer), b"cd");
}

#[expect(dead_code, reason = "checks that a stream can move to another thread")]
fn is_send(stream: UnbufferedTls<ServerEngine, tokio::net::TcpStream>) -> impl Send {
    stream
}
