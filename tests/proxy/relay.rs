//! Messages and frames pass unchanged in both directions; a slow reader pauses only its sender.

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Message;

use crate::support::{
    Backend, BackendEvent, Client, HANDSHAKE, PlainStream, Proxy, TestBed, assert_relays,
    read_head, read_to_end, switching_protocols, wait_until_client_data_processed, wire,
    within_timeout,
};

#[tokio::test]
async fn messages_of_every_length_encoding_pass() {
    let backend = Backend::echo().await;
    let proxy = Proxy::with_backends(&[backend.address]).await;
    let mut socket = Client::new(&proxy).await.open("/echo").await;
    for size in [0, 1, 125, 126, 65_535, 65_536, 1 << 20] {
        let sent = Message::binary(vec![7; size]);
        socket.send(sent.clone()).await.unwrap();
        assert_eq!(within_timeout("the echo", socket.next()).await.unwrap().unwrap(), sent);
    }
    socket.close(None).await.unwrap();
    while within_timeout("the close", socket.next()).await.is_some_and(|end| end.is_ok()) {}
    drop(socket);
    let record = proxy.end_record("client_closed").await;
    assert_eq!((&record["up_messages"], &record["down_messages"]), (&7.into(), &7.into()));
}

// Requirements: F4, F11.
#[tokio::test]
async fn frames_pass_byte_identical() {
    let bed = TestBed::with("").await;
    let (mut client, mut backend) = bed.open().await;
    let (up, down) = (conversation(wire::masked), conversation(wire::unmasked));
    client.write_all(&up).await.unwrap();
    backend.write_all(&down).await.unwrap();
    client.shutdown().await.unwrap();
    let mut got = vec![0; up.len()];
    within_timeout("the client's frames", backend.read_exact(&mut got)).await.unwrap();
    assert_eq!(got, up);
    backend.shutdown().await.unwrap();
    assert_eq!(read_to_end(&mut client).await, down);
    assert_eq!(read_to_end(&mut backend).await, b"");
    let record = bed.tunnel_end(1).await;
    assert_eq!(record["end"], "client_closed");
    assert_eq!(
        (&record["up_bytes"], &record["down_bytes"]),
        (&up.len().into(), &down.len().into())
    );
    assert_eq!((&record["up_messages"], &record["down_messages"]), (&3.into(), &3.into()));
    assert_eq!((&record["close_backend"], &record["close_client"]), (&4001.into(), &4001.into()));
}

// Requirements: FC27, FC28.
#[tokio::test]
async fn frames_in_single_bytes_pass_unchanged() {
    let bed = TestBed::with("").await;
    let (up, down) = (conversation(wire::masked), conversation(wire::unmasked));
    let (client, backend) = bed.open().await;
    send_in_single_bytes(client, backend, &up, &down).await;
    let (client, backend) = bed.open_secure().await;
    send_in_single_bytes(client, backend, &up, &down).await;
}

/// Sends in both directions, one byte per write (and, over TLS, per record).
async fn send_in_single_bytes<C>(client: C, mut backend: PlainStream, up: &[u8], down: &[u8])
where
    C: tokio::io::AsyncRead + AsyncWrite + Unpin,
{
    async fn write_bytes(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) {
        for byte in bytes {
            to.write_all(&[*byte]).await.unwrap();
            to.flush().await.unwrap();
            tokio::task::yield_now().await;
        }
    }
    let (mut from, mut to) = tokio::io::split(client);
    let (mut up_got, mut down_got) = (vec![0; up.len()], vec![0; down.len()]);
    let (read, write) = backend.get_mut().split();
    let (mut backend_from, mut backend_to) = (read, write);
    within_timeout("all bytes", async {
        tokio::join!(
            write_bytes(&mut to, up),
            write_bytes(&mut backend_to, down),
            async { backend_from.read_exact(&mut up_got).await.unwrap() },
            async { from.read_exact(&mut down_got).await.unwrap() },
        )
    })
    .await;
    assert_eq!((&up_got[..], &down_got[..]), (up, down));
}

// Requirements: FC27.
#[tokio::test]
async fn frame_split_anywhere_arrives_whole() {
    let bed = TestBed::with("").await;
    let (mut client, mut backend) = bed.open().await;
    // A header of 14 bytes, followed by a control frame.
    let mut frame = wire::masked(0x80 | wire::BINARY, &[9; 65_536]);
    frame.extend(wire::masked(0x80 | wire::PING, b"after"));
    let places = (1..16).chain([65_540, 65_549, 65_550, 65_551, 65_556, 65_560, 65_561]);
    for at in places {
        client.write_all(&frame[..at]).await.unwrap();
        // The proxy has processed the first part before the second is sent.
        wait_until_client_data_processed(&mut client, &mut backend).await;
        client.write_all(&frame[at..]).await.unwrap();
        let mut got = vec![0; frame.len()];
        within_timeout("the frame", backend.read_exact(&mut got)).await.unwrap();
        assert!(got == frame, "cut at {at}");
    }
}

// Requirements: FC29.
#[tokio::test]
async fn ten_thousand_frames_in_one_write_pass() {
    let bed = TestBed::with("").await;
    let (mut neighbour, mut neighbours_backend) = bed.open().await;
    let many: Vec<u8> =
        (0..10_000u32).flat_map(|n| wire::masked(0x80 | wire::TEXT, &n.to_be_bytes())).collect();
    let (mut client, mut backend) = bed.open_secure().await;
    let mut got = vec![0; many.len()];
    let receive = async {
        assert_relays(&mut neighbour, &mut neighbours_backend).await;
        backend.read_exact(&mut got).await.unwrap();
    };
    let send = async {
        client.write_all(&many).await.unwrap();
        client.flush().await.unwrap();
    };
    within_timeout("ten thousand frames", async { tokio::join!(send, receive) }).await;
    assert!(got == many);
    client.write_all(&wire::masked(0x80 | wire::CLOSE, b"")).await.unwrap();
    client.flush().await.unwrap();
    assert_eq!(wire::read(&mut backend).await.unwrap().code(), 1005);
    drop((client, backend));
    let record = bed.tunnel_end(2).await;
    assert_eq!((&record["up_messages"], &record["close_backend"]), (&10_000.into(), &1005.into()));
}

// Requirements: UH12, BM12.
#[tokio::test]
async fn frames_sent_with_the_heads_are_delivered() {
    let (up, down) = (conversation(wire::masked), conversation(wire::unmasked));
    let (got, greeting) = (vec![0; up.len()], down.clone());
    let backend = Backend::raw(move |head, mut stream, events| {
        let response = [switching_protocols(&head).as_bytes(), &greeting].concat();
        let mut got = got.clone();
        async move {
            stream.write_all(&response).await.unwrap();
            stream.read_exact(&mut got).await.unwrap();
            let _ = events.send(BackendEvent::Bytes(got));
        }
    })
    .await;
    let proxy = Proxy::with_backends(&[backend.address]).await;
    let client = Client::new(&proxy).await;
    let opening = [HANDSHAKE.as_bytes(), &up].concat();

    let mut plain = tokio::io::BufReader::new(client.connect_plain().await);
    plain.write_all(&opening).await.unwrap();
    assert!(read_head(&mut plain).await.starts_with("HTTP/1.1 101"));
    assert_eq!(read_to_end(&mut plain).await, down);
    drop(plain);
    assert_eq!(backend.bytes().await, up);

    let mut secure = tokio::io::BufReader::new(client.connect_tls().await);
    secure.write_all(&opening).await.unwrap();
    secure.flush().await.unwrap();
    assert!(read_head(&mut secure).await.starts_with("HTTP/1.1 101"));
    assert_eq!(read_to_end(&mut secure).await, down);
    drop(secure);
    assert_eq!(backend.bytes().await, up);
}

// Requirements: UH13.
#[tokio::test]
async fn frames_sent_before_the_101_are_kept() {
    let mut up: Vec<u8> =
        (0..40u8).flat_map(|n| wire::masked(0x80 | wire::BINARY, &vec![n; 100_000])).collect();
    up.extend(wire::masked(0x80 | wire::CLOSE, &wire::close(1000, "")));
    let got = vec![0; up.len()];
    let backend = Backend::raw(move |head, mut stream, events| {
        let mut got = got.clone();
        async move {
            stream.write_all(switching_protocols(&head).as_bytes()).await.unwrap();
            stream.read_exact(&mut got).await.unwrap();
            let _ = events.send(BackendEvent::Bytes(got));
        }
    })
    .await;
    let proxy = Proxy::with_backends(&[backend.address]).await;
    let mut stream = tokio::io::BufReader::new(Client::new(&proxy).await.connect_plain().await);
    let (from, to) = stream.get_mut().split();
    let (mut from, mut to) = (tokio::io::BufReader::new(from), to);
    let send = async {
        to.write_all(HANDSHAKE.as_bytes()).await.unwrap();
        to.write_all(&up).await.unwrap();
        to.shutdown().await.unwrap();
    };
    let read = async { read_head(&mut from).await };
    let ((), head) = within_timeout("all sent", async { tokio::join!(send, read) }).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    assert!(backend.bytes().await == up);
}

// Requirements: H14.
#[tokio::test]
async fn data_before_backend_eof_arrives() {
    let bed = TestBed::with("").await;
    for _ in 0..5 {
        let (mut client, mut backend) = bed.open().await;
        let sent: Vec<u8> =
            (0..64u8).flat_map(|n| wire::unmasked(0x80 | wire::BINARY, &vec![n; 16_384])).collect();
        let receive = async {
            let mut got = vec![0; sent.len()];
            client.read_exact(&mut got).await.unwrap();
            assert!(got == sent);
            assert_eq!(wire::read(&mut client).await.unwrap().code(), 1012);
        };
        let send = async {
            backend.write_all(&sent).await.unwrap();
            backend.shutdown().await.unwrap();
        };
        within_timeout("all data", async { tokio::join!(receive, send) }).await;
    }
}

// Requirements: H14.
#[tokio::test]
async fn half_closed_client_still_receives_the_answer() {
    let bed = TestBed::with("").await;
    let (mut client, mut backend) = bed.open().await;
    client.write_all(&wire::masked(0x80 | wire::TEXT, b"the question")).await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(wire::read(&mut backend).await.unwrap().payload, b"the question");
    assert_eq!(wire::read(&mut backend).await.unwrap().code(), 1001);
    backend.write_all(&wire::unmasked(0x80 | wire::TEXT, b"the answer")).await.unwrap();
    assert_eq!(wire::read(&mut client).await.unwrap().payload, b"the answer");
    drop((client, backend));
    assert_eq!(bed.tunnel_end(1).await["end"], "client_disconnected");
}

#[tokio::test]
async fn one_mebibyte_passes_in_both_directions() {
    let bed = TestBed::with("").await;
    let (up, down) =
        (wire::masked(0x80 | wire::BINARY, &[1; 1 << 20]), wire::unmasked(0x82, &[2; 1 << 20]));
    let (mut client, mut backend) = bed.open_secure().await;
    for _ in 0..4 {
        let (mut up_got, mut down_got) = (vec![0; up.len()], vec![0; down.len()]);
        let (mut from, mut to) = tokio::io::split(&mut client);
        let (mut backend_from, mut backend_to) = tokio::io::split(&mut backend);
        within_timeout("both", async {
            tokio::join!(
                async {
                    to.write_all(&up).await.unwrap();
                    to.flush().await.unwrap();
                },
                async { backend_to.write_all(&down).await.unwrap() },
                async { backend_from.read_exact(&mut up_got).await.unwrap() },
                async { from.read_exact(&mut down_got).await.unwrap() },
            )
        })
        .await;
        assert!(up_got == up && down_got == down);
    }
}

// Requirements: FB05.
#[tokio::test]
async fn slow_client_pauses_only_its_backend() {
    let bed = TestBed::with("").await;
    let (mut neighbour, mut neighbours_backend) = bed.open().await;
    let (mut client, mut backend) = bed.open().await;
    let (before, _) = bed.proxy.memory_and_descriptors();
    let frame = wire::unmasked(0x80 | wire::BINARY, &[5; 60_000]);
    let written = wire::fill(&mut backend, &frame).await;
    let (after, _) = bed.proxy.memory_and_descriptors();
    assert!(after < before + 8 * 1024, "{before} KiB became {after} KiB");

    // Against the flood, and in another tunnel.
    for n in 0..10u8 {
        client.write_all(&wire::masked(0x80 | wire::TEXT, &[n; 5000])).await.unwrap();
        assert_eq!(wire::read(&mut backend).await.unwrap().payload, [n; 5000]);
        assert_relays(&mut neighbour, &mut neighbours_backend).await;
    }
    let mut got = vec![0; written];
    within_timeout("the rest", client.read_exact(&mut got)).await.unwrap();
    assert!(got.iter().eq(frame.iter().cycle().take(written)));
}

#[tokio::test]
async fn slow_backend_pauses_only_its_client() {
    let bed = TestBed::with("").await;
    let (mut neighbour, mut neighbours_backend) = bed.open().await;
    let (mut client, mut backend) = bed.open_secure().await;
    let frame = wire::masked(0x80 | wire::BINARY, &[5; 60_000]);
    let written = wire::fill(&mut client, &frame).await;
    for n in 0..10u8 {
        backend.write_all(&wire::unmasked(0x80 | wire::TEXT, &[n; 5000])).await.unwrap();
        assert_eq!(wire::read(&mut client).await.unwrap().payload, [n; 5000]);
        assert_relays(&mut neighbour, &mut neighbours_backend).await;
    }
    let mut got = vec![0; written];
    let (flushed, read) = within_timeout("the rest", async {
        tokio::join!(client.flush(), backend.read_exact(&mut got))
    })
    .await;
    flushed.unwrap();
    read.unwrap();
    assert!(got.iter().eq(frame.iter().cycle().take(written)));
}

/// Three messages, one of them fragmented with control frames in between, and a Close.
fn conversation(frame: impl Fn(u8, &[u8]) -> Vec<u8>) -> Vec<u8> {
    [
        frame(0x80 | wire::TEXT, b"whole"),
        frame(wire::TEXT, b"frag"),
        frame(0x80 | wire::PING, b"in between"),
        frame(wire::CONTINUATION, b""),
        frame(0x80 | wire::PONG, b""),
        frame(0x80 | wire::CONTINUATION, b"ment"),
        frame(0x80 | wire::BINARY, &[0xff; 300]),
        frame(0x80 | wire::PING, &[1; 125]),
        frame(0x80 | wire::CLOSE, &wire::close(4001, "bye")),
    ]
    .concat()
}
