//! Interim responses (1xx) of the backend reach the client as they come, before the final response; a 100
//! is the backend's to send.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::support::head::get;
use crate::support::{
    Backend, Client, HANDSHAKE, Proxy, RawResponse, exchange, read_body, read_response,
    read_to_end, route, switching_protocols,
};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x-gone\r\nX-Gone: 1\r\n\
                     Content-Length: 5\r\n\r\n";

const POST: &str =
    "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";

async fn proxy_for(backend: &Backend) -> (Proxy, BufReader<TcpStream>) {
    let proxy = Proxy::with_backends(&[backend.address]).await;
    let stream = BufReader::new(Client::new(&proxy).await.connect_plain().await);
    (proxy, stream)
}

/// A backend that sends the first text, then the second once the test says so.
async fn two_step_backend(
    first: &'static str,
    then: &'static str,
) -> (Backend, watch::Sender<bool>) {
    let (go, wait) = watch::channel(false);
    let backend = Backend::raw(move |head, mut stream, _| {
        let mut wait = wait.clone();
        async move {
            stream.write_all(first.as_bytes()).await.unwrap();
            wait.wait_for(|go| *go).await.unwrap();
            let is_upgrade = head.to_ascii_lowercase().contains("sec-websocket-key");
            let then = if is_upgrade { &switching_protocols(&head) } else { then };
            let _ = stream.write_all(then.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    })
    .await;
    (backend, go)
}

// Requirements: H11.
#[tokio::test]
async fn interim_responses_arrive_before_the_final_one() {
    for (request, status) in [(get("/"), 200), (HANDSHAKE.to_owned(), 101)] {
        let (backend, go) = two_step_backend(HINTS, OK).await;
        let (_proxy, mut stream) = proxy_for(&backend).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let hints = read_response(&mut stream).await;
        assert_eq!((hints.status, hints.header("link")), (103, Some("</a>")));
        for name in ["x-gone", "connection", "content-length"] {
            assert_eq!(hints.header(name), None, "{name}");
        }
        go.send(true).unwrap();
        assert_eq!(read_response(&mut stream).await.status, status);
    }
}

#[tokio::test]
async fn interim_responses_arrive_over_tls() {
    let (backend, go) = two_step_backend(HINTS, OK).await;
    let proxy = Proxy::with_backends(&[backend.address]).await;
    let mut stream = BufReader::new(Client::new(&proxy).await.connect_tls().await);
    stream.write_all(get("/").as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    assert_eq!(read_response(&mut stream).await.status, 103);
    go.send(true).unwrap();
    assert_eq!(read_response(&mut stream).await.status, 200);
}

#[tokio::test]
async fn interim_responses_stay_with_their_request() {
    let backend = Backend::raw(|head, mut stream, _| async move {
        let number: usize = head.split(['/', ' ']).nth(2).unwrap().parse().unwrap();
        let hints =
            format!("HTTP/1.1 103 Early Hints\r\nX-Number: {number}\r\n\r\nHTTP/1.1 199 X\r\n\r\n");
        let hints = if number.is_multiple_of(3) { "" } else { &hints };
        let body = "x".repeat(number * 1000);
        let head = match number % 4 {
            0 => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
            1 => format!("HTTP/1.1 200 OK\r\n\r\n{body}"),
            _ => format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()),
        };
        let _ = stream.write_all(format!("{hints}{head}").as_bytes()).await;
        let _ = stream.shutdown().await;
    })
    .await;
    let (_proxy, mut stream) = proxy_for(&backend).await;
    let all: String = (0..60).map(|number| get(&format!("/{number}"))).collect();
    stream.write_all(all.as_bytes()).await.unwrap();
    for number in 0..60_usize {
        if !number.is_multiple_of(3) {
            let hints = read_response(&mut stream).await;
            assert_eq!(hints.header("x-number"), Some(number.to_string().as_str()), "{hints:?}");
            assert_eq!(read_response(&mut stream).await.status, 199);
        }
        let response = read_response(&mut stream).await;
        if number.is_multiple_of(4) {
            assert_eq!(response.status, 204);
        } else {
            assert_eq!(read_body(&mut stream, &response).await.len(), number * 1000);
        }
    }
}

// Requirements: H11.
#[tokio::test]
async fn http_1_0_client_gets_no_interim_response() {
    let backend = Backend::answering(HINTS.repeat(3) + OK).await;
    let (_proxy, mut stream) = proxy_for(&backend).await;
    let head = POST.replace("HTTP/1.1", "HTTP/1.0");
    stream.write_all(format!("{head}hello").as_bytes()).await.unwrap();
    assert_eq!(read_response(&mut stream).await.status, 200);
    let [head] = backend.heads().try_into().unwrap();
    assert_eq!(RawResponse { status: 0, head }.header("expect"), None);
}

// Requirements: BM13, H11.
#[tokio::test]
async fn more_than_a_hundred_interim_responses_become_502() {
    for (count, last) in [(100, 200), (101, 502), (1000, 502)] {
        let backend = Backend::answering(HINTS.repeat(count) + OK).await;
        let (proxy, mut stream) = proxy_for(&backend).await;
        stream.write_all(get("/").as_bytes()).await.unwrap();
        let mut response = read_response(&mut stream).await;
        while response.status == 103 {
            response = read_response(&mut stream).await;
        }
        assert_eq!(response.status, last, "{count}");
        if last == 502 {
            assert_eq!(proxy.nth_end_record(1).await["detail"], "too many interim responses");
        }
    }
}

#[tokio::test]
async fn continue_comes_from_the_backend() {
    let backend = Backend::raw(|head, mut stream, _| async move {
        let request = RawResponse { status: 0, head };
        if request.header("expect") == Some("100-continue") {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
            assert_eq!(read_body(&mut stream, &request).await, b"hello");
        }
        stream.write_all(OK.as_bytes()).await.unwrap();
    })
    .await;
    let (_proxy, mut stream) = proxy_for(&backend).await;
    for _ in 0..3 {
        stream.write_all(POST.as_bytes()).await.unwrap();
        assert_eq!(read_response(&mut stream).await.head, "HTTP/1.1 100 Continue\r\n\r\n");
        let (response, body) = exchange(&mut stream, "hello").await;
        assert_eq!((response.status, &body[..]), (200, &b"ok"[..]));
        assert_eq!(response.header("connection"), None);
        assert_eq!(exchange(&mut stream, &get("/")).await.1, b"ok");
    }
}

#[tokio::test]
async fn refused_expectation_has_no_continue() {
    let refusal = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno";
    let backend = Backend::answering(refusal).await;
    let (_proxy, mut stream) = proxy_for(&backend).await;
    let (response, body) = exchange(&mut stream, POST).await;
    assert_eq!((response.status, &body[..]), (401, &b"no"[..]));
    // The body that the client may still send is not a request.
    assert_eq!(response.header("connection"), Some("close"));
    assert_eq!(read_to_end(&mut stream).await, b"");
}

#[tokio::test]
async fn body_without_waiting_needs_no_continue() {
    let backend = Backend::app(OK).await;
    let (_proxy, mut stream) = proxy_for(&backend).await;
    stream.write_all(POST.as_bytes()).await.unwrap();
    // The backend never says 100, and neither does the proxy.
    let early = timeout(Duration::from_millis(200), stream.read_u8()).await;
    assert!(early.is_err(), "{early:?}");
    let (response, body) = exchange(&mut stream, "hello").await;
    assert_eq!((response.status, &body[..]), (200, &b"ok"[..]));
    assert_eq!(backend.bytes().await, b"hello");
    // Without the expectation, a 100 of the backend is not for the client.
    let backend = Backend::answering(format!("HTTP/1.1 100 Continue\r\n\r\n{OK}")).await;
    let (_proxy, mut stream) = proxy_for(&backend).await;
    let plain = POST.replace("Expect: 100-continue\r\n", "");
    assert_eq!(exchange(&mut stream, &format!("{plain}hello")).await.0.status, 200);
}

#[tokio::test]
async fn open_expectation_blames_the_silent_side() {
    let backend = Backend::raw(|head, mut stream, _| async move {
        if head.starts_with("POST /continue ") {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
        }
        read_to_end(&mut stream).await;
    })
    .await;
    let more = "[timeouts]\nidle = \"300ms\"";
    let proxy = Proxy::start(&route(&[backend.address], more)).await;
    let client = Client::new(&proxy).await;
    for (n, (target, status, end)) in
        [("/continue", 408, "body_timeout"), ("/silent", 504, "backend_idle_timeout")]
            .into_iter()
            .enumerate()
    {
        let mut stream = BufReader::new(client.connect_plain().await);
        stream.write_all(POST.replacen('/', target, 1).as_bytes()).await.unwrap();
        let mut response = read_response(&mut stream).await;
        if target == "/continue" {
            assert_eq!(response.status, 100);
            response = read_response(&mut stream).await;
        }
        assert_eq!(response.status, status);
        assert_eq!(proxy.nth_end_record(n + 1).await["end"], end);
    }
}
