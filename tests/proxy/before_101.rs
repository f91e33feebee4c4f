//! Between a handshake and its 101: frames that the client sends without waiting for it, and clients
//! that disconnect.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, BufStream};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::support::head::get;
use crate::support::{
    Backend, BackendEvent, Client, HANDSHAKE, Proxy, read_response, read_to_end, route,
    switching_protocols, wire, within_timeout,
};

/// A backend that holds its 101 until notified, and reports the bytes received before and after.
async fn backend_that_delays_its_101(go: &Arc<Notify>) -> Backend {
    let go = go.clone();
    Backend::raw(move |head, mut stream, events| {
        let go = go.clone();
        async move {
            let mut first = [0; 1];
            let read = tokio::select! {
                () = go.notified() => Vec::new(),
                read = stream.read(&mut first) => first[..read.unwrap()].to_vec(),
            };
            assert_eq!(read, b"", "something came before the 101");
            stream.write_all(switching_protocols(&head).as_bytes()).await.unwrap();
            let mut received = Vec::new();
            while !received.ends_with(&close_frame())
                && stream.read_buf(&mut received).await.unwrap() > 0
            {}
            let _ = events.send(BackendEvent::Bytes(received));
            let response = wire::unmasked(0x80 | wire::CLOSE, &wire::close(1000, ""));
            stream.write_all(&response).await.unwrap();
        }
    })
    .await
}

fn close_frame() -> Vec<u8> {
    wire::masked(0x80 | wire::CLOSE, &wire::close(1000, ""))
}

/// Sends bytes, waits, lets the backend accept, and expects the frames exactly once.
async fn assert_frames_wait_for_the_101(
    mut client: impl AsyncBufRead + AsyncWrite + Unpin,
    before: &str,
    frames: &[u8],
    go: &Notify,
    backend: &Backend,
) {
    let sent = [before.as_bytes(), HANDSHAKE.as_bytes(), frames].concat();
    client.write_all(&sent).await.unwrap();
    client.flush().await.unwrap();
    for _ in 0..before.matches("GET ").count() {
        assert_eq!(read_response(&mut client).await.status, 204);
    }
    // The backend asserts that nothing arrives meanwhile.
    assert!(timeout(Duration::from_millis(50), client.read_u8()).await.is_err());
    go.notify_one();
    assert_eq!(read_response(&mut client).await.status, 101);
    client.write_all(&close_frame()).await.unwrap();
    client.flush().await.unwrap();
    assert_eq!(backend.bytes().await, [frames, &close_frame()].concat());
}

// Requirements: UH12, W16.
#[tokio::test]
async fn frames_before_101_are_delivered_once_after_it() {
    let go = Arc::new(Notify::new());
    let backend = backend_that_delays_its_101(&go).await;
    let proxy = Proxy::with_backends(&[backend.address]).await;
    let client = Client::new(&proxy).await;
    for size in [1, 100, 8 * 1024 - 8, 15_000, 100_000] {
        let frames = wire::masked(0x80 | wire::BINARY, &vec![7; size]);
        assert_frames_wait_for_the_101(
            BufReader::new(client.connect_plain().await),
            "",
            &frames,
            &go,
            &backend,
        )
        .await;
        assert_frames_wait_for_the_101(
            BufStream::new(client.connect_tls().await),
            "",
            &frames,
            &go,
            &backend,
        )
        .await;
    }
}

#[tokio::test]
async fn handshake_may_be_pipelined_after_requests() {
    let go = Arc::new(Notify::new());
    let backend = backend_that_delays_its_101(&go).await;
    let app = Backend::app("HTTP/1.1 204 No Content\r\n\r\n").await;
    let ws = route(&[backend.address], "").replace("\"all\"", "\"ws\"");
    let routes = ws.replace("origins", "path = \"/ws\"\norigins") + &route(&[app.address], "");
    let proxy = Proxy::start(&routes).await;
    let client = Client::new(&proxy).await;
    let before = get("/").repeat(3);
    let frames = wire::masked(0x80 | wire::BINARY, &[7; 3000]);
    assert_frames_wait_for_the_101(
        BufReader::new(client.connect_plain().await),
        &before,
        &frames,
        &go,
        &backend,
    )
    .await;
    assert_frames_wait_for_the_101(
        BufStream::new(client.connect_tls().await),
        &before,
        &frames,
        &go,
        &backend,
    )
    .await;
}

// Requirements: UH13.
#[tokio::test]
async fn data_before_101_is_bounded() {
    let go = Arc::new(Notify::new());
    let backend = backend_that_delays_its_101(&go).await;
    let proxy = Proxy::with_backends(&[backend.address]).await;
    let client = Client::new(&proxy).await.connect_plain().await;
    let (mut reading, mut writing) = client.into_split();
    writing.write_all(HANDSHAKE.as_bytes()).await.unwrap();
    let frame = wire::masked(0x80 | wire::BINARY, &[7; 60_000]);
    let count = 24 * 1024 * 1024 / frame.len();
    let mut sending = Box::pin(async {
        for _ in 0..count {
            writing.write_all(&frame).await.unwrap();
        }
        writing.write_all(&close_frame()).await.unwrap();
    });
    let before = proxy.memory_and_descriptors().0;
    // The socket buffers of the kernel are filled; the rest waits at the client.
    assert!(timeout(Duration::from_millis(300), &mut sending).await.is_err());
    assert!(
        proxy.memory_and_descriptors().0 < before + 4 * 1024,
        "{} KiB before, {:?}",
        before,
        proxy.memory_and_descriptors()
    );
    go.notify_one();
    let events = async { tokio::join!(sending, read_to_end(&mut reading), backend.bytes()) };
    let (_, _, events) = within_timeout("all frames", events).await;
    assert_eq!(events.len(), count * frame.len() + 8);
    let whole = events.chunks(frame.len()).take(count).all(|chunk| chunk == frame);
    assert!(whole, "a frame was lost, doubled or changed");
}

// Requirements: UH14, RL38.
#[tokio::test]
async fn rejected_handshake_drops_data_after_the_head() {
    let backend = Backend::raw(|_, mut stream, events| async move {
        let refusal = "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno";
        stream.write_all(refusal.as_bytes()).await.unwrap();
        let _ = events.send(BackendEvent::Bytes(read_to_end(&mut stream).await));
    })
    .await;
    let proxy = Proxy::with_backends(&[backend.address]).await;
    let client = Client::new(&proxy).await;
    let smuggled = format!("GET /private HTTP/1.1\r\nHost: localhost\r\n\r\n{HANDSHAKE}");
    let frame = wire::masked(0x80 | wire::BINARY, &[7; 4000]);
    for after_head in [smuggled.as_bytes(), &frame] {
        let mut stream = BufReader::new(client.connect_plain().await);
        stream.write_all(&[HANDSHAKE.as_bytes(), after_head].concat()).await.unwrap();
        let response = read_response(&mut stream).await;
        assert_eq!((response.status, response.header("connection")), (403, Some("close")));
        assert_eq!(read_to_end(&mut stream).await, b"no");
        assert_eq!(backend.bytes().await, b"");
    }
    assert_eq!(backend.heads().len(), 2, "{:#?}", backend.heads());
}

// Requirements: UH29.
#[tokio::test]
async fn client_disconnect_closes_the_backend_request() {
    let backend = Backend::raw(|_, mut stream, events| async move {
        let _ = events.send(BackendEvent::Bytes(read_to_end(&mut stream).await));
    })
    .await;
    let proxy = Proxy::with_backends(&[backend.address]).await;
    let client = Client::new(&proxy).await;
    let mut plain = client.connect_plain().await;
    plain.write_all(HANDSHAKE.as_bytes()).await.unwrap();
    assert!(matches!(backend.next_event().await, BackendEvent::Opened));
    drop(plain);
    assert_eq!(backend.bytes().await, b"");
    let mut secure = client.connect_tls().await;
    secure.write_all(HANDSHAKE.as_bytes()).await.unwrap();
    while !matches!(backend.next_event().await, BackendEvent::Opened) {}
    drop(secure);
    assert_eq!(backend.bytes().await, b"");
    for n in [1, 2] {
        let record = proxy.nth_end_record(n).await;
        assert_eq!(
            (&record["end"], &record["stage"]),
            (&"client_disconnected".into(), &"backend".into())
        );
        assert!(record["by"] == "client" && record["status"].is_null(), "{record}");
    }
}
