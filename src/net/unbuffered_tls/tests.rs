//! Our own stream over pipes: what it keeps, how it shakes hands, and that it does what the stock
//! stream does.

use proptest::prelude::*;
use rustls::{ContentType, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::client::TlsStream;

use super::*;
use crate::net::SEND_BYTES_MAX;
use crate::net::engine::{EngineConfig, ServerEngine};
use crate::net::testing::forge::Forger;
use crate::net::testing::{
    Received, UnbufferedTlsStream, close, configs, connect, ready, recv, send, shake, shake_lean,
};

mod tickets;

async fn accept(
    server: ServerConfig,
    near: DuplexStream,
) -> io::Result<UnbufferedTlsStream<DuplexStream>> {
    UnbufferedTls::accept(near, ServerEngine::new(&EngineConfig::new(server)).unwrap()).await
}

fn is_at_rest<Io: Transport>(stream: &UnbufferedTlsStream<Io>) -> bool {
    stream.rest.is_empty() && stream.early.is_none() && stream.backlog() == 0
}

#[tokio::test]
async fn nothing_is_kept_at_rest() {
    let (near, far) = duplex(1 << 20);
    let (mut stream, mut far) = shake_lean(near, far).await;
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
        assert!(is_at_rest(&stream));
    }
}

/// A pipe that counts what would be system calls.
struct Counted {
    pipe: DuplexStream,
    reads: usize,
    writes: usize,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.pipe).poll_read(cx, room))?;
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
async fn a_message_is_one_read_and_one_write() {
    let (near, far) = duplex(1 << 20);
    let (mut stream, mut far) = shake_lean(Counted { pipe: near, reads: 0, writes: 0 }, far).await;
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
async fn a_handshake_passes_through_the_narrowest_pipe() {
    // With less, the middlebox compatibility of RFC 8446 D.4 makes both write before they read.
    for room in [8, 23, 100] {
        let (near, far) = duplex(room);
        // Tickets would wait for the client to read.
        let (mut server, client) = configs();
        server.send_tls13_tickets = 0;
        let (stream, far) = tokio::join!(accept(server, near), connect(client, far));
        let (mut stream, mut far) = (stream.unwrap(), far.unwrap());
        let data: Vec<u8> = (0..=255).cycle().take(5000).collect();
        let mut got = Vec::new();
        let hear = async {
            while got.len() < data.len() {
                let Received::Data(more) = recv(&mut stream).await.unwrap() else { panic!() };
                got.extend(more);
            }
        };
        let say = async {
            far.write_all(&data).await.unwrap();
            far.flush().await.unwrap();
        };
        tokio::join!(hear, say);
        assert!(got == data);
        let mut heard = vec![0; data.len()];
        send(&mut stream, &[&data]).await.unwrap();
        let (written, read) = tokio::join!(ready(&mut stream), far.read_exact(&mut heard));
        written.unwrap();
        read.unwrap();
        assert!(heard == data && is_at_rest(&stream));
    }
}

/// A transport that lets bytes arrive only when told, so that several flights arrive as one.
async fn held_back(
    request: &[u8],
    farewell: bool,
) -> (UnbufferedTlsStream<DuplexStream>, TlsStream<DuplexStream>) {
    let (server, client) = configs();
    let (near, mut middle_near) = duplex(1 << 20);
    let (mut middle_far, far) = duplex(1 << 20);
    let speak = async {
        let mut far = connect(client, far).await.unwrap();
        far.write_all(request).await.unwrap();
        far.flush().await.unwrap();
        if farewell {
            far.shutdown().await.unwrap();
        }
        far
    };
    let carry = async {
        let mut bytes = vec![0; 1 << 16];
        // The hello, its answer, and all that follows.
        let len = middle_far.read(&mut bytes).await.unwrap();
        middle_near.write_all(&bytes[..len]).await.unwrap();
        let len = middle_near.read(&mut bytes).await.unwrap();
        middle_far.write_all(&bytes[..len]).await.unwrap();
        tokio::task::yield_now().await;
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        let len = middle_far.read(&mut bytes).await.unwrap();
        middle_near.write_all(&bytes[..len]).await.unwrap();
    };
    let (stream, far, ()) = tokio::join!(accept(server, near), speak, carry);
    (stream.unwrap(), far)
}

#[tokio::test(start_paused = true)]
async fn what_comes_with_the_end_of_the_handshake_is_read_first() {
    let request = vec![b'x'; 40_000];
    let (mut stream, _far) = held_back(&request, true).await;
    assert_eq!(stream.early.as_ref().unwrap().data.len(), request.len());
    // The HTTP phase lends less.
    let mut scratch = RecvScratch::with_room(20_000);
    let mut got = Vec::new();
    for _ in 0..2 {
        poll_fn(|cx| {
            stream.poll_recv(cx, &mut scratch).map(|recv| {
                let Recv::Data(data) = recv.unwrap() else { panic!("it ended") };
                got.extend_from_slice(data);
            })
        })
        .await;
    }
    assert!(got == request);
    assert_eq!(recv(&mut stream).await.unwrap(), Received::Closed);
}

#[tokio::test]
async fn a_peer_that_leaves_in_the_handshake_is_no_fault() {
    for sent in [&b""[..], b"\x16\x03\x01", b"\x16\x03\x01\x02\0\x01\0\x01\xfc"] {
        let (near, mut far) = duplex(1000);
        far.write_all(sent).await.unwrap();
        drop(far);
        let error = accept(configs().0, near).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}

#[tokio::test]
async fn a_failed_handshake_ends_with_an_alert_and_fin() {
    let (near, mut far) = duplex(100_000);
    far.write_all(&b"GET / HTTP/1.1\r\n".repeat(2000)).await.unwrap();
    let error = accept(configs().0, near).await.unwrap_err().downcast::<TlsError>().unwrap();
    assert_eq!(error, TlsError::InvalidMessage(InvalidMessage::InvalidContentType));
    let mut answer = Vec::new();
    far.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, [21, 3, 3, 0, 2, 2, 50], "fatal decode_error");
}

#[tokio::test]
async fn a_hello_in_too_many_pieces_is_refused() {
    // A message of 30,000 bytes (RFC 8446 4), one to a record: more than 64 KiB in all.
    let (near, mut far) = duplex(1 << 20);
    let mut message = vec![1, 0, 0x75, 0x30];
    message.resize(30_000, 0);
    for byte in message {
        far.write_all(&[22, 3, 1, 0, 1, byte]).await.unwrap();
    }
    let error = accept(configs().0, near).await.unwrap_err().downcast::<TlsError>().unwrap();
    assert_eq!(error, TOO_LARGE);
}

#[tokio::test]
async fn after_the_handshake_less_may_wait() {
    let (near, far) = duplex(1 << 20);
    let (mut stream, far) = shake_lean(near, far).await;
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
async fn what_came_before_a_flipped_bit_counts_and_the_flip_is_not_forgotten() {
    let (near, far) = duplex(4096);
    let (mut stream, far) = shake_lean(near, far).await;
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

/// What a peer and its server do, one after the other.
#[derive(Clone, Debug)]
enum Deed {
    ClientSays(usize),
    ServerSays(usize),
    KeyUpdate,
    ClientCloses,
    ServerCloses,
    Garbage,
    Fin,
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        6 => (1_usize..30_000).prop_map(Deed::ClientSays),
        6 => (1_usize..SEND_BYTES_MAX).prop_map(Deed::ServerSays),
        2 => Just(Deed::KeyUpdate),
        1 => Just(Deed::ClientCloses),
        1 => Just(Deed::ServerCloses),
        1 => Just(Deed::Garbage),
        1 => Just(Deed::Fin),
    ]
}

/// What each side saw of it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Story {
    server_read: Vec<u8>,
    server_end: Option<String>,
    client_read: Vec<u8>,
    client_end: Option<String>,
}

/// Lets both play the deeds, and then hang up.
async fn play<S: Stream>(mut stream: S, mut far: TlsStream<DuplexStream>, deeds: &[Deed]) -> Story {
    let mut story = Story::default();
    let (mut client_closed, mut server_closed) = (false, false);
    for (n, deed) in deeds.iter().enumerate() {
        match deed {
            Deed::ClientSays(len) if !client_closed => {
                far.write_all(&vec![n as u8; *len]).await.unwrap();
                far.flush().await.unwrap();
            }
            Deed::ServerSays(len) if !server_closed && story.server_end.is_none() => {
                send(&mut stream, &[&[n as u8], &vec![n as u8; *len]]).await.unwrap();
            }
            Deed::KeyUpdate if !client_closed => {
                far.get_mut().1.refresh_traffic_keys().unwrap();
                far.flush().await.unwrap();
            }
            Deed::ClientCloses if !client_closed => {
                far.get_mut().1.send_close_notify();
                far.flush().await.unwrap();
                client_closed = true;
            }
            Deed::ServerCloses if !server_closed => {
                close(&mut stream).await.unwrap();
                server_closed = true;
            }
            Deed::Garbage => far.get_mut().0.write_all(&[23, 3, 3, 0, 20, 1]).await.unwrap(),
            Deed::Fin => {
                far.get_mut().0.shutdown().await.unwrap();
                client_closed = true;
            }
            Deed::ClientSays(_)
            | Deed::ServerSays(_)
            | Deed::KeyUpdate
            | Deed::ClientCloses
            | Deed::ServerCloses => continue,
        }
        read(&mut stream, &mut story).await;
        if matches!(deed, Deed::Garbage | Deed::Fin) {
            break;
        }
    }
    if story.server_end.is_none() {
        let _ = far.get_mut().0.shutdown().await;
        read(&mut stream, &mut story).await;
    }
    let _ = ready(&mut stream).await;
    drop(stream);
    let end = far.read_to_end(&mut story.client_read).await;
    story.client_end = Some(format!("{end:?}"));
    story
}

/// All that there is to be read.
async fn read(stream: &mut impl Stream, story: &mut Story) {
    let soon = std::time::Duration::from_millis(5);
    while story.server_end.is_none() {
        match tokio::time::timeout(soon, recv(stream)).await {
            Ok(Ok(Received::Data(data))) => story.server_read.extend(data),
            Ok(Ok(end)) => story.server_end = Some(format!("{end:?}")),
            Ok(Err(error)) => story.server_end = Some(format!("{error:?}")),
            Err(_) => return,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48,
        failure_persistence: None,
        ..Default::default()
    })]

    /// The same deeds have the same outcome as over the stock stream.
    #[test]
    fn it_does_what_the_stock_stream_does(deeds in proptest::collection::vec(deed(), 1..12)) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let (near, far) = duplex(1 << 22);
            let (stream, far) = shake(near, far).await;
            let stock = play(stream, far, &deeds).await;
            let (near, far) = duplex(1 << 22);
            let (stream, far) = shake_lean(near, far).await;
            let lean = play(stream, far, &deeds).await;
            assert_eq!(lean, stock);
        });
    }
}

#[test]
fn parts_become_one() {
    let mut room = Vec::new();
    assert_eq!(join(&[b"", b""], &mut room), b"");
    assert_eq!(join(&[b"", b"only"], &mut room), b"only");
    assert_eq!(room.capacity(), 0);
    assert_eq!(join(&[b"a", b"", b"b"], &mut room), b"ab");
    assert_eq!(join(&[b"c", b"d"], &mut room), b"cd");
}

#[expect(dead_code, reason = "says that a stream may be sent to another worker")]
fn is_send(stream: UnbufferedTls<ServerEngine, tokio::net::TcpStream>) -> impl Send {
    stream
}
