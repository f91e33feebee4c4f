//! Timeouts, slow peers and early disconnects.

use super::*;
use crate::telemetry::metrics::backend_state::BackendState;

// Requirements: RL35.
#[tokio::test]
async fn missing_request_body_is_a_408() {
    let mut response = Vec::new();
    let client = async |mut stream: DuplexStream| {
        let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel";
        stream.write_all(head).await.unwrap();
        let _ = stream.read_to_end(&mut response).await;
    };
    let script = async |mut stream: TcpStream| {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    };
    let rejected = exchange(Duration::from_millis(50), client, script).await;
    assert_eq!(rejected, Some(RejectReason::BodyTimeout));
    assert!(response.starts_with(b"HTTP/1.1 408 "));
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
    let rejected = exchange(Duration::from_millis(50), client, script).await;
    assert_eq!(rejected, Some(RejectReason::BackendIdleTimeout));
    assert_eq!(rejected.unwrap().key(), Some("timeouts.idle"));
}

#[tokio::test]
async fn progress_resets_the_idle_timeout() {
    let limit = Duration::from_millis(400);
    let pause = Duration::from_millis(100);
    let mut response = Vec::new();
    let client = async |mut stream: DuplexStream| {
        let head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 6\r\n\r\n";
        stream.write_all(head).await.unwrap();
        for _ in 0..6 {
            sleep(pause).await;
            stream.write_all(b"x").await.unwrap();
        }
        let _ = stream.read_to_end(&mut response).await;
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
        // One byte is missing, and nothing more is sent.
        assert!(is_closed(&mut stream).await);
    };
    let started = Instant::now();
    assert_eq!(exchange(limit, client, script).await, None);
    assert!(started.elapsed() >= limit + 12 * pause);
    assert!(response.ends_with(b"\r\n\r\nyyyyyy"), "{}", response.escape_ascii());
}

#[tokio::test]
async fn slow_client_slows_the_backend() {
    let (stuck, wait_stuck) = tokio::sync::oneshot::channel();
    let client = async |mut stream: DuplexStream| {
        stream.write_all(GET.as_bytes()).await.unwrap();
        // Reads nothing until the backend cannot write any more.
        let stuck_at: usize = wait_stuck.await.unwrap();
        assert!(stuck_at < TOTAL, "the whole response was buffered");
        let mut response = Vec::new();
        stream.read_to_end(&mut response).await.unwrap();
        assert_eq!(
            response.len() - response.windows(4).position(|w| w == b"\r\n\r\n").unwrap() - 4,
            TOTAL
        );
    };
    let script = async |mut stream: TcpStream| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {TOTAL}\r\n\r\n");
        reply(&mut stream, head.as_bytes()).await;
        let chunk = vec![b'x'; 64 * 1024];
        let mut written = 0;
        let mut stuck = Some(stuck);
        while written < TOTAL {
            let len = chunk.len().min(TOTAL - written);
            let write = stream.write(&chunk[..len]);
            match tokio::time::timeout(Duration::from_millis(300), write).await {
                Ok(count) => written += count.unwrap(),
                // Once the client reads, the backend may still have to wait for a busy machine.
                Err(_) => stuck.take().into_iter().for_each(|stuck| stuck.send(written).unwrap()),
            }
        }
        assert!(stuck.is_none(), "never stuck");
    };
    const TOTAL: usize = 64 * 1024 * 1024;
    exchange(IDLE_TIMEOUT, client, script).await;
}

#[tokio::test]
async fn client_disconnect_closes_the_backend_connection() {
    // Before the response.
    let (received, wait_received) = tokio::sync::oneshot::channel();
    let client = async |mut stream: DuplexStream| {
        stream.write_all(GET.as_bytes()).await.unwrap();
        wait_received.await.unwrap();
    };
    let script = async |mut stream: TcpStream| {
        read_head(&mut stream).await;
        received.send(()).unwrap();
        assert!(is_closed(&mut stream).await);
    };
    assert_eq!(exchange(IDLE_TIMEOUT, client, script).await, None);

    // During the response.
    let client = async |mut stream: DuplexStream| {
        stream.write_all(GET.as_bytes()).await.unwrap();
        stream.read_exact(&mut [0; 20]).await.unwrap();
    };
    let script = async |mut stream: TcpStream| {
        reply(&mut stream, b"HTTP/1.1 200 OK\r\n\r\nstart").await;
        assert!(is_closed(&mut stream).await);
    };
    assert_eq!(exchange(IDLE_TIMEOUT, client, script).await, None);
}

#[tokio::test]
async fn early_response_passes_before_the_request_body_ends() {
    let mut response = Vec::new();
    let client = async |mut stream: DuplexStream| {
        let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nhel";
        stream.write_all(head).await.unwrap();
        let _ = stream.read_to_end(&mut response).await;
    };
    let script = async |mut stream: TcpStream| {
        reply(&mut stream, b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nno!").await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    };
    assert_eq!(exchange(IDLE_TIMEOUT, client, script).await, None);
    let response = String::from_utf8(response).unwrap();
    assert!(response.starts_with("HTTP/1.1 413 ") && response.ends_with("no!"), "{response}");
}

#[tokio::test]
async fn responses_do_not_change_the_state_of_a_backend() {
    for response in ["HTTP/1.1 200", "", "HTTP/1.1 500 X\r\n\r\n"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let backend = backend(&listener);
        let request = Request::builder().header("host", "a").body(Empty::<Bytes>::new()).unwrap();
        let script = async {
            let mut stream = listener.accept().await.unwrap().0;
            reply(&mut stream, response.as_bytes()).await;
            stream.shutdown().await.unwrap();
        };
        let (scripted, connector) = (direct_request(), connector(&backend));
        let headers = scripted.headers();
        let options = ForwardOptions {
            idle: IdleLimits { idle: IDLE_TIMEOUT, min_body_rate: None },
            keep_alive: None,
        };
        let mut observer = Silent;
        let forwarded = forward(&connector, request, &headers, options, &mut observer);
        let _ = tokio::join!(forwarded, script);
        assert_eq!(backend.state(), BackendState::Up, "it has accepted: {response}");
    }
}
