//! Streaming of plain HTTP bodies: nothing is buffered whole, a slow side throttles the other, idle
//! transfers time out, and a disconnect cancels the exchange.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::time::timeout;

use crate::support::head::get;
use crate::support::{
    Backend, BackendEvent, Client, Proxy, read_body, read_response, read_to_end, route,
    within_timeout,
};

/// More than the kernel buffers of two connections hold.
const LARGE: usize = 48 << 20;

#[tokio::test]
async fn slow_client_throttles_the_download() {
    let backend = Backend::raw(|_, mut stream, events| async move {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let piece: Vec<u8> = (0..=255).cycle().take(1 << 16).collect();
        for _ in 0..LARGE / piece.len() {
            stream.write_all(&piece).await.unwrap();
        }
        let _ = events.send(BackendEvent::Bytes(Vec::new()));
        read_to_end(&mut stream).await;
    })
    .await;
    let proxy = Proxy::with_backends(&[backend.address]).await;
    let mut stream = BufReader::new(Client::new(&proxy).await.connect_plain().await);
    let before = proxy.memory_and_descriptors().0;
    stream.write_all(get("/").as_bytes()).await.unwrap();
    let response = read_response(&mut stream).await;
    assert_eq!(response.header("content-length"), Some(LARGE.to_string().as_str()));
    let all_sent = timeout(Duration::from_millis(300), backend.bytes()).await.is_ok();
    assert!(!all_sent, "the backend sent everything although the client did not read");
    assert!(
        proxy.memory_and_descriptors().0 < before + 4 * 1024,
        "{before} KiB before, {:?}",
        proxy.memory_and_descriptors()
    );
    let got = read_body(&mut stream, &response).await;
    let whole = got.iter().enumerate().all(|(at, byte)| *byte == at as u8);
    assert!(whole, "a byte was lost, doubled or changed");
}

#[tokio::test]
async fn slow_backend_throttles_the_upload() {
    let (go, wait) = tokio::sync::watch::channel(false);
    let backend = Backend::raw(move |_, mut stream, events| {
        let mut wait = wait.clone();
        async move {
            wait.wait_for(|go| *go).await.unwrap();
            let mut got = vec![0; LARGE];
            stream.read_exact(&mut got).await.unwrap();
            let _ = events.send(BackendEvent::Bytes(got));
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        }
    })
    .await;
    let proxy = Proxy::with_backends(&[backend.address]).await;
    let (reading, mut writing) = Client::new(&proxy).await.connect_plain().await.into_split();
    let before = proxy.memory_and_descriptors().0;
    let mut sending = Box::pin(async {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {LARGE}\r\n\r\n");
        writing.write_all(head.as_bytes()).await.unwrap();
        let piece: Vec<u8> = (0..=255).cycle().take(1 << 16).collect();
        for _ in 0..LARGE / piece.len() {
            writing.write_all(&piece).await.unwrap();
        }
    });
    let all_sent = timeout(Duration::from_millis(300), &mut sending).await.is_ok();
    assert!(!all_sent, "the client sent everything although the backend did not read");
    assert!(
        proxy.memory_and_descriptors().0 < before + 4 * 1024,
        "{before} KiB before, {:?}",
        proxy.memory_and_descriptors()
    );
    go.send(true).unwrap();
    let (_, got) =
        within_timeout("the upload", async { tokio::join!(sending, backend.bytes()) }).await;
    let whole = got.iter().enumerate().all(|(at, byte)| *byte == at as u8);
    assert!(whole, "a byte was lost, doubled or changed");
    assert_eq!(read_response(&mut BufReader::new(reading)).await.status, 204);
}

#[tokio::test]
async fn chunks_are_relayed_as_they_arrive() {
    let backend = Backend::raw(|_, mut stream, _| async move {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        // Returns each byte as a chunk before it reads the next.
        while let Ok(byte) = stream.read_u8().await {
            stream.write_all(&[b"1\r\n", &[byte][..], b"\r\n"].concat()).await.unwrap();
            if byte == b'.' {
                stream.write_all(b"0\r\n\r\n").await.unwrap();
                return;
            }
        }
    })
    .await;
    let proxy = Proxy::with_backends(&[backend.address]).await;
    let mut stream = BufReader::new(Client::new(&proxy).await.connect_plain().await);
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(read_response(&mut stream).await.header("transfer-encoding"), Some("chunked"));
    for byte in *b"abc." {
        stream.write_all(&[byte]).await.unwrap();
        let mut chunk = [0; 6];
        within_timeout("the chunk", stream.read_exact(&mut chunk)).await.unwrap();
        assert_eq!(&chunk, &[b"1\r\n", &[byte][..], b"\r\n"].concat()[..]);
    }
    let mut last = [0; 5];
    within_timeout("the last chunk", stream.read_exact(&mut last)).await.unwrap();
    assert_eq!(&last, b"0\r\n\r\n");
}

/// A backend that behaves as the request target says.
async fn scripted_backend() -> Backend {
    Backend::raw(|head, mut stream, events| async move {
        let ok = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\n";
        match head.split(' ').nth(1).unwrap() {
            "/late" => {
                tokio::time::sleep(Duration::from_millis(600)).await;
                stream.write_all(format!("{ok}late").as_bytes()).await.unwrap();
            }
            "/drip" => {
                stream.write_all(ok.as_bytes()).await.unwrap();
                for byte in *b"drip" {
                    tokio::time::sleep(Duration::from_millis(600)).await;
                    stream.write_all(&[byte]).await.unwrap();
                }
            }
            "/half" => stream.write_all(format!("{ok}ha").as_bytes()).await.unwrap(),
            _ => {}
        }
        let _ = events.send(BackendEvent::Bytes(read_to_end(&mut stream).await));
    })
    .await
}

#[tokio::test]
async fn long_poll_lasts_until_the_idle_timeout() {
    let backend = scripted_backend().await;
    let more = "[timeouts]\nidle = \"2s\"\nresponse_header = \"300ms\"\nrequest_header = \"500ms\"";
    let proxy = Proxy::start(&route(&[backend.address], more)).await;
    let client = Client::new(&proxy).await;
    // Longer than every other deadline and, for the whole transfer, than the idle timeout.
    for target in ["/late", "/drip"] {
        let mut stream = BufReader::new(client.connect_plain().await);
        stream.write_all(get(target).as_bytes()).await.unwrap();
        let response = read_response(&mut stream).await;
        assert_eq!(response.status, 200);
        assert_eq!(read_body(&mut stream, &response).await, target.as_bytes()[1..]);
    }
    let mut stream = BufReader::new(client.connect_plain().await);
    stream.write_all(get("/never").as_bytes()).await.unwrap();
    assert_eq!(read_response(&mut stream).await.status, 504);
    let record = proxy.end_record("backend_idle_timeout").await;
    assert_eq!(record["key"], "timeouts.idle");
    assert_eq!(record["value"], "2s");
    // A response that stalls is cut, and its backend connection closed.
    let mut stream = BufReader::new(client.connect_plain().await);
    stream.write_all(get("/half").as_bytes()).await.unwrap();
    assert_eq!(read_response(&mut stream).await.status, 200);
    assert_eq!(read_to_end(&mut stream).await, b"ha");
    for _ in 0..4 {
        backend.bytes().await;
    }
}

// Requirements: RL35.
#[tokio::test]
async fn stalled_request_body_times_out_with_408() {
    let backend = scripted_backend().await;
    let more = "[timeouts]\nidle = \"300ms\"";
    let proxy = Proxy::start(&route(&[backend.address], more)).await;
    let client = Client::new(&proxy).await;
    for (n, framing) in ["Content-Length: 5\r\n\r\nhe", "Transfer-Encoding: chunked\r\n\r\n2\r\nhe"]
        .into_iter()
        .enumerate()
    {
        let mut stream = BufReader::new(client.connect_plain().await);
        let head = format!("POST /never HTTP/1.1\r\nHost: a\r\n{framing}");
        stream.write_all(head.as_bytes()).await.unwrap();
        let response = read_response(&mut stream).await;
        assert_eq!(response.status, 408, "{framing:?}");
        read_to_end(&mut stream).await;
        let record = proxy.nth_end_record(n + 1).await;
        assert_eq!(record["end"], "body_timeout");
        assert_eq!(record["key"], "timeouts.idle");
        backend.bytes().await;
    }
}

#[tokio::test]
async fn client_disconnect_cancels_its_request() {
    let backend = scripted_backend().await;
    let proxy = Proxy::with_backends(&[backend.address]).await;
    let client = Client::new(&proxy).await;
    // Before the response, and in the middle of it.
    for target in ["/never", "/half"] {
        let mut stream = BufReader::new(client.connect_plain().await);
        stream.write_all(get(target).as_bytes()).await.unwrap();
        while !matches!(backend.next_event().await, BackendEvent::Opened) {}
        if target == "/half" {
            assert_eq!(read_response(&mut stream).await.status, 200);
        }
        drop(stream);
        backend.bytes().await;
    }
    let record = proxy.end_record("client_disconnected").await;
    assert_eq!((&record["stage"], &record["target"]), (&"backend".into(), &"/never".into()));
    // In the middle of the request body.
    let mut stream = client.connect_plain().await;
    let head = "POST /never HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe";
    stream.write_all(head.as_bytes()).await.unwrap();
    while !matches!(backend.next_event().await, BackendEvent::Opened) {}
    drop(stream);
    assert_eq!(backend.bytes().await, b"he");
}

// Requirements: H35.
#[tokio::test]
async fn early_response_to_an_upload_arrives() {
    // It closes with the body unread, which resets the connection.
    let backend = Backend::answering("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno").await;
    let proxy = Proxy::with_backends(&[backend.address]).await;
    let client = Client::new(&proxy).await;
    for _ in 0..20 {
        let (reading, mut writing) = client.connect_plain().await.into_split();
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {LARGE}\r\n\r\n");
        writing.write_all(head.as_bytes()).await.unwrap();
        let _ = writing.write_all(&[7; 300_000]).await;
        let mut reading = BufReader::new(reading);
        let response = read_response(&mut reading).await;
        assert_eq!(response.status, 413, "{:#?}", proxy.outcomes());
        assert_eq!(read_body(&mut reading, &response).await, b"no");
        // The rest of the body is never parsed as a request.
        let _ = writing.write_all(get("/evil").as_bytes()).await;
        assert_eq!(read_to_end(&mut reading).await, b"");
    }
    assert_eq!(backend.heads().len(), 20);
}

// Requirements: TC07.
#[tokio::test]
async fn client_that_never_reads_is_closed() {
    let backend = Backend::raw(|_, mut stream, events| async move {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        while stream.write_all(&[7; 1 << 16]).await.is_ok() {}
        let _ = events.send(BackendEvent::Bytes(Vec::new()));
    })
    .await;
    let more = "[timeouts]\nidle = \"1s\"";
    let proxy = Proxy::start(&route(&[backend.address], more)).await;
    let client = Client::new(&proxy).await;
    let mut bare = client.connect_plain().await;
    bare.write_all(get("/").as_bytes()).await.unwrap();
    let mut secure = client.connect_tls().await;
    secure.write_all(get("/").as_bytes()).await.unwrap();
    for n in [1, 2] {
        backend.bytes().await;
        let record = proxy.nth_end_record(n).await;
        assert_eq!(record["end"], "write_timeout");
        assert_eq!(record["key"], "timeouts.idle");
        assert_eq!(record["value"], "1s");
    }
}
