//! Silence, slowness, and those who leave in the middle.

use super::*;

// Requirements: RL35.
#[tokio::test]
async fn missing_request_body_is_a_408() {
    let mut answer = Vec::new();
    let client = async |mut stream: DuplexStream| {
        let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel";
        stream.write_all(head).await.unwrap();
        let _ = stream.read_to_end(&mut answer).await;
    };
    let script = async |mut stream: TcpStream| {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    };
    let refusal = pass(Duration::from_millis(50), client, script).await;
    assert_eq!(refusal, Some(RejectReason::BodyTimeout));
    assert!(answer.starts_with(b"HTTP/1.1 408 "));
}

// Requirements: BM03.
#[tokio::test]
async fn silent_backend_is_a_504() {
    let client = async |mut stream: DuplexStream| {
        stream.write_all(GET.as_bytes()).await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    };
    let script = async |mut stream: TcpStream| {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    };
    let refusal = pass(Duration::from_millis(50), client, script).await;
    assert_eq!(refusal, Some(RejectReason::BackendIdleTimeout));
    assert_eq!(refusal.unwrap().key(), Some("timeouts.idle"));
}

#[tokio::test]
async fn a_slow_exchange_lives_as_long_as_something_moves() {
    let limit = Duration::from_millis(400);
    let pause = Duration::from_millis(100);
    let mut answer = Vec::new();
    let client = async |mut stream: DuplexStream| {
        let head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 6\r\n\r\n";
        stream.write_all(head).await.unwrap();
        for _ in 0..6 {
            sleep(pause).await;
            stream.write_all(b"x").await.unwrap();
        }
        let _ = stream.read_to_end(&mut answer).await;
    };
    let script = async |mut stream: TcpStream| {
        read_head(&mut stream).await;
        stream.read_exact(&mut [0; 6]).await.unwrap();
        sleep(pause).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n").await.unwrap();
        for _ in 0..6 {
            sleep(pause).await;
            stream.write_all(b"y").await.unwrap();
        }
        // One byte short, and silent.
        assert!(is_over(&mut stream).await);
    };
    let begun = Instant::now();
    assert_eq!(pass(limit, client, script).await, None);
    assert!(begun.elapsed() >= limit + 12 * pause);
    assert!(answer.ends_with(b"\r\n\r\nyyyyyy"), "{}", answer.escape_ascii());
}

#[tokio::test]
async fn a_slow_client_slows_the_backend() {
    let (sent, told) = tokio::sync::oneshot::channel();
    let client = async |mut stream: DuplexStream| {
        stream.write_all(GET.as_bytes()).await.unwrap();
        // Read nothing until the backend has got stuck.
        let stuck_at: usize = told.await.unwrap();
        assert!(stuck_at < TOTAL, "all of it went somewhere");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert_eq!(
            answer.len() - answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap() - 4,
            TOTAL
        );
    };
    let script = async |mut stream: TcpStream| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {TOTAL}\r\n\r\n");
        reply(&mut stream, head.as_bytes()).await;
        let piece = vec![b'x'; 64 * 1024];
        let mut written = 0;
        let mut sent = Some(sent);
        while written < TOTAL {
            let room = piece.len().min(TOTAL - written);
            let write = stream.write(&piece[..room]);
            match tokio::time::timeout(Duration::from_millis(300), write).await {
                Ok(count) => written += count.unwrap(),
                Err(_) => sent.take().expect("stuck once").send(written).unwrap(),
            }
        }
        assert!(sent.is_none(), "never stuck");
    };
    const TOTAL: usize = 64 * 1024 * 1024;
    pass(SILENCE, client, script).await;
}

#[tokio::test]
async fn a_client_that_leaves_takes_the_backend_connection_along() {
    // Before the answer.
    let (seen, sees) = tokio::sync::oneshot::channel();
    let client = async |mut stream: DuplexStream| {
        stream.write_all(GET.as_bytes()).await.unwrap();
        sees.await.unwrap();
    };
    let script = async |mut stream: TcpStream| {
        read_head(&mut stream).await;
        seen.send(()).unwrap();
        assert!(is_over(&mut stream).await);
    };
    assert_eq!(pass(SILENCE, client, script).await, None);

    // In the middle of it.
    let client = async |mut stream: DuplexStream| {
        stream.write_all(GET.as_bytes()).await.unwrap();
        stream.read_exact(&mut [0; 20]).await.unwrap();
    };
    let script = async |mut stream: TcpStream| {
        reply(&mut stream, b"HTTP/1.1 200 OK\r\n\r\nstart").await;
        assert!(is_over(&mut stream).await);
    };
    assert_eq!(pass(SILENCE, client, script).await, None);
}

#[tokio::test]
async fn an_early_answer_passes_while_the_body_is_still_owed() {
    let mut answer = Vec::new();
    let client = async |mut stream: DuplexStream| {
        let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nhel";
        stream.write_all(head).await.unwrap();
        let _ = stream.read_to_end(&mut answer).await;
    };
    let script = async |mut stream: TcpStream| {
        reply(&mut stream, b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nno!").await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    };
    assert_eq!(pass(SILENCE, client, script).await, None);
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.ends_with("no!"), "{answer}");
}

#[tokio::test]
async fn no_answer_ejects_a_backend_for_all_others() {
    for said in ["HTTP/1.1 200", "", "HTTP/1.1 500 X\r\n\r\n"] {
        let (dialled, mut stream) = connected().await;
        let backend = Arc::clone(&dialled.backend);
        let now = Instant::now();
        backend.health.failed(now);
        backend.health.failed(now);
        let request = Request::builder().header("host", "a").body(Empty::<Bytes>::new()).unwrap();
        let script = async {
            reply(&mut stream, said.as_bytes()).await;
            stream.shutdown().await.unwrap();
        };
        let guest = guest();
        let introduction = guest.introduction();
        let _ = tokio::join!(forward(dialled, request, &introduction, SILENCE), script);
        assert!(backend.health.is_up(Instant::now()), "{said}");
    }
}
