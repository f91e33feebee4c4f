use std::convert::Infallible;
use std::sync::Mutex;

use http_body_util::Either;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};

use super::*;
use crate::net::network::SystemNet;
use crate::upstream::scripted::{assert_send, backend, direct_request, read_head, reply};

const IDLE_TIMEOUT: Duration = Duration::from_secs(5);

/// The result of one forwarded request.
struct Outcome {
    /// Everything that the client received.
    response: String,
    /// Why the request was rejected, if it was.
    rejected: Option<RejectReason>,
}

/// An observer that ignores everything.
struct Silent;

impl ForwardObserver for Silent {
    fn responded(&mut self, _: &Backend, _: Result<(), RejectReason>) {}

    fn connected(&mut self, _: &Arc<Backend>) {}

    fn not_connected(&mut self, _: &ConnectError) {}

    fn interim(&self, _: &Response<()>) {}
}

/// Connects to this backend only.
fn connector(backend: &Arc<Backend>) -> Connector<'static> {
    Connector {
        net: &SystemNet,
        order: vec![Arc::clone(backend)],
        key: direct_request().client.key,
        proxy_header: Vec::new(),
        limit: IDLE_TIMEOUT,
        records_failures: true,
    }
}

/// Forwards a request from a scripted client to a scripted backend, through hyper's server and
/// [`forward`].
async fn exchange<Client, Script>(
    idle: Duration,
    client: Client,
    script: Script,
) -> Option<RejectReason>
where
    Client: AsyncFnOnce(DuplexStream),
    Script: AsyncFnOnce(TcpStream),
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let backend = backend(&listener);
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let rejected = Mutex::new(None);
    let service = service_fn(|request: Request<Incoming>| {
        let (rejected, backend) = (&rejected, &backend);
        async move {
            let scripted = direct_request();
            let headers = scripted.headers();
            let idle = IdleLimits { idle, min_body_rate: None };
            let options = ForwardOptions { idle, keep_alive: None };
            let connector = connector(backend);
            let mut observer = Silent;
            let forwarded = forward(&connector, request, &headers, options, &mut observer);
            Ok::<_, Infallible>(match assert_send(forwarded).await {
                Ok(response) => response.map(Either::Left),
                Err(reason) => {
                    *rejected.lock().unwrap() = Some(reason);
                    let response = Response::builder().status(reason.status());
                    response.body(Either::Right(Empty::<Bytes>::new())).unwrap()
                }
            })
        }
    });
    let serving = http1::Builder::new().serve_connection(TokioIo::new(ours), service);
    let answering = async { script(listener.accept().await.unwrap().0).await };
    let (_, (), ()) = tokio::join!(serving, client(theirs), answering);
    *rejected.lock().unwrap()
}

/// [`exchange`] with a client that sends this request and reads to the end.
async fn send<Script: AsyncFnOnce(TcpStream)>(request: &str, script: Script) -> Outcome {
    let mut response = Vec::new();
    let client = async |mut stream: DuplexStream| {
        stream.write_all(request.as_bytes()).await.unwrap();
        let _ = stream.read_to_end(&mut response).await;
    };
    let rejected = exchange(IDLE_TIMEOUT, client, script).await;
    Outcome { response: String::from_utf8(response).unwrap(), rejected }
}

/// [`send`] to a backend that sends `response` and closes the connection.
async fn send_to(request: &str, response: &str) -> Outcome {
    let script = async |mut stream: TcpStream| {
        reply(&mut stream, response.as_bytes()).await;
        stream.shutdown().await.unwrap();
        let _ = stream.read(&mut [0; 1]).await;
    };
    send(request, script).await
}

const GET: &str = "GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

fn body_of(response: &str) -> &str {
    response.split_once("\r\n\r\n").unwrap().1
}

async fn assert_bad(response: &str) {
    let outcome = send_to(GET, response).await;
    assert!(
        matches!(outcome.rejected, Some(RejectReason::BackendHandshakeInvalid(_))),
        "{response}: {:?}",
        outcome.rejected
    );
    assert!(outcome.response.starts_with("HTTP/1.1 502 "), "{response}");
}

/// Whether the stream has ended, by FIN or by reset. The proxy resets backend connections to avoid
/// TIME_WAIT.
async fn is_closed(stream: &mut TcpStream) -> bool {
    matches!(stream.read(&mut [0; 1]).await, Ok(0) | Err(_))
}

#[tokio::test]
async fn heads_are_rebuilt_in_both_directions() {
    let script = async |mut stream: TcpStream| {
        let response = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\n\
                    Set-Cookie: a\r\nSet-Cookie: b\r\n\r\nhi";
        let head = reply(&mut stream, response.as_bytes()).await;
        let mut lines: Vec<&str> = head.split("\r\n").collect();
        lines.truncate(lines.len() - 2);
        let expected = [
            "GET /a%2Fb/../c;x?y=%00z HTTP/1.1",
            "Host: a",
            "Cookie: c",
            "Cdn-Loop: tidegate",
            "X-Forwarded-For: 203.0.113.7",
            "X-Forwarded-Proto: https",
            "X-Forwarded-Host: a",
            "X-Forwarded-Port: 443",
            "X-Real-Ip: 203.0.113.7",
            "X-Request-Id: 0123",
            "Connection: close",
        ];
        assert_eq!(lines, expected);
        assert!(is_closed(&mut stream).await, "one request per connection");
    };
    let request = "GET /a%2Fb/../c;x?y=%00z HTTP/1.1\r\nHost: a\r\nConnection: close, X-Mine\r\n\
                   X-Mine: 1\r\nCookie: c\r\nUpgrade: h2c\r\n\r\n";
    let outcome = send(request, script).await;
    assert!(outcome.response.starts_with("HTTP/1.1 200 OK\r\n"), "{}", outcome.response);
    assert!(
        outcome.response.contains("\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 2\r\n")
    );
    assert!(!outcome.response.to_lowercase().contains("x-hop"));
    assert_eq!(body_of(&outcome.response), "hi");
}

#[tokio::test]
async fn bodies_keep_their_framing() {
    for (framing, sent) in
        [("Content-Length: 5", "hello"), ("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n")]
    {
        for method in ["POST", "GET"] {
            let script = async |mut stream: TcpStream| {
                let head = read_head(&mut stream).await.to_lowercase();
                assert!(head.contains(&format!("\r\n{}\r\n", framing.to_lowercase())), "{head}");
                let mut body = vec![0; sent.len()];
                stream.read_exact(&mut body).await.unwrap();
                assert_eq!(body, sent.as_bytes());
                stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
            };
            let request = format!(
                "{method} / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{framing}\r\n\r\n{sent}"
            );
            let outcome = send(&request, script).await;
            assert!(outcome.response.starts_with("HTTP/1.1 204 "), "{}", outcome.response);
        }
    }
}

// Requirements: RL33.
#[tokio::test]
async fn announced_trailers_pass_in_both_directions() {
    for accepts in [true, false] {
        let script = async |mut stream: TcpStream| {
            let head = read_head(&mut stream).await;
            assert!(head.contains("\r\nTrailer: x-up\r\n"), "{head}");
            assert_eq!(head.contains("\r\nTe: trailers\r\n"), accepts);
            assert_eq!(head.contains("\r\nConnection: close, TE\r\n"), accepts);
            let expected = b"5\r\nhello\r\n0\r\nX-Up: 1\r\n\r\n";
            let mut body = vec![0; expected.len()];
            stream.read_exact(&mut body).await.unwrap();
            assert_eq!(body, expected);
            let response = "HTTP/1.1 200 OK\r\nTrailer: X-T, Set-Cookie\r\n\
                            Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\
                            X-T: 1\r\nSet-Cookie: a=1\r\nConnection: x\r\nX-Unannounced: 1\r\n\r\n";
            stream.write_all(response.as_bytes()).await.unwrap();
        };
        let te = if accepts { "TE: trailers\r\n" } else { "" };
        let request = format!(
            "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{te}Trailer: Host, X-Up\r\n\
             Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nHost: evil\r\nX-Up: 1\r\n\r\n"
        );
        let outcome = send(&request, script).await;
        let expected =
            if accepts { "2\r\nhi\r\n0\r\nx-t: 1\r\n\r\n" } else { "2\r\nhi\r\n0\r\n\r\n" };
        assert_eq!(body_of(&outcome.response), expected);
    }
}

#[tokio::test]
async fn responses_without_body_keep_content_length() {
    let head = GET.replace("GET", "HEAD");
    let outcome = send_to(&head, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").await;
    assert!(outcome.response.contains("\r\nContent-Length: 5\r\n"), "{}", outcome.response);
    assert_eq!(body_of(&outcome.response), "");
    // hyper's server omits Content-Length from a 304, which RFC 9110 8.6 allows.
    let outcome =
        send_to(GET, "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: x\r\n\r\n").await;
    assert!(
        outcome.response.starts_with("HTTP/1.1 304 ")
            && outcome.response.contains("\r\nETag: x\r\n")
    );
    assert_eq!(body_of(&outcome.response), "");
    let outcome = send_to(GET, "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n").await;
    assert!(!outcome.response.to_lowercase().contains("content-length"), "{}", outcome.response);
    let outcome = send_to(&head, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    assert!(outcome.response.starts_with("HTTP/1.1 200 OK"), "{}", outcome.response);
    assert_eq!(body_of(&outcome.response), "");
}

#[tokio::test]
async fn http_1_0_on_either_side_is_reframed() {
    let outcome = send_to(GET, "HTTP/1.0 200 OK\r\n\r\nto the end").await;
    assert_eq!(body_of(&outcome.response), "A\r\nto the end\r\n0\r\n\r\n");
    let old = "GET / HTTP/1.0\r\nHost: a\r\n\r\n";
    let response = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    let outcome = send_to(old, response).await;
    assert!(outcome.response.starts_with("HTTP/1.0 200 OK"), "{}", outcome.response);
    assert_eq!(body_of(&outcome.response), "hi");
}

// Requirements: BM05.
#[tokio::test]
async fn relays_rejections_and_redirects() {
    for status in ["301", "401", "404", "426", "500", "503"] {
        let response = format!("HTTP/1.1 {status} X\r\nLocation: /y\r\nContent-Length: 1\r\n\r\n!");
        let outcome = send_to(GET, &response).await;
        assert!(
            outcome.response.starts_with(&format!("HTTP/1.1 {status} ")),
            "{}",
            outcome.response
        );
        assert!(outcome.response.contains("\r\nLocation: /y\r\n"));
        assert_eq!(body_of(&outcome.response), "!");
    }
}

// Requirements: H39, BM09, BM15, BM16, BM18.
#[tokio::test]
async fn rejects_invalid_backend_responses() {
    for response in [
        "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        "HTTP/1.1 1000 X\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: gzip\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi!",
        "HTTP/1.1 200 OK\r\nContent-Le",
        "",
    ] {
        assert_bad(response).await;
    }
    assert_bad(&"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(101)).await;
}

// Requirements: BM16, BM18.
#[tokio::test]
async fn truncated_body_never_looks_complete() {
    for (framing, start, rest) in [
        ("Transfer-Encoding: chunked", "2\r\nhi\r\n", ""),
        ("Transfer-Encoding: chunked", "2\r\nhi\r\n", "x\r\n"),
        ("Content-Length: 3", "hi", ""),
    ] {
        let (received, wait_received) = tokio::sync::oneshot::channel();
        let mut response = Vec::new();
        let client = async |mut stream: DuplexStream| {
            stream.write_all(GET.as_bytes()).await.unwrap();
            while !response.ends_with(start.as_bytes()) {
                assert_ne!(stream.read_buf(&mut response).await.unwrap(), 0);
            }
            received.send(()).unwrap();
            let _ = stream.read_to_end(&mut response).await;
        };
        let script = async |mut stream: TcpStream| {
            let head = format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{start}");
            reply(&mut stream, head.as_bytes()).await;
            wait_received.await.unwrap();
            stream.write_all(rest.as_bytes()).await.unwrap();
        };
        assert_eq!(exchange(IDLE_TIMEOUT, client, script).await, None);
        assert!(response.ends_with(format!("\r\n\r\n{start}").as_bytes()), "{framing} {rest}");
    }
}

// Requirements: BM19.
#[tokio::test]
async fn second_response_is_discarded() {
    let response = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi\
                HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    assert!(send_to(GET, response).await.response.ends_with("\r\n\r\nhi"));
}

#[tokio::test]
async fn malformed_request_body_is_a_client_error() {
    let script = async |mut stream: TcpStream| {
        read_head(&mut stream).await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    };
    let request = "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\
                   Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nx\r\n";
    let outcome = send(request, script).await;
    assert_eq!(
        outcome.rejected,
        Some(RejectReason::RequestInvalid("the request body ended early"))
    );
}

mod endings;
