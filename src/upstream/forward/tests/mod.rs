use std::convert::Infallible;
use std::sync::Mutex;

use http_body_util::{Either, Empty};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::net::TcpStream;

use super::*;
use crate::upstream::scripted::{connected, guest, read_head, reply, sendable};

const SILENCE: Duration = Duration::from_secs(5);

/// What became of one request that went through.
struct Seen {
    /// All that the client got.
    answer: String,
    /// If no answer could be had.
    refusal: Option<RejectReason>,
}

/// Sends a request through hyper's server and [`forward`] to a backend that does as told, with a
/// client that does as told.
async fn pass<Client, Script>(
    silence: Duration,
    client: Client,
    script: Script,
) -> Option<RejectReason>
where
    Client: AsyncFnOnce(DuplexStream),
    Script: AsyncFnOnce(TcpStream),
{
    let (dialled, stream) = connected().await;
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let dialled = Mutex::new(Some(dialled));
    let refused = Mutex::new(None);
    let service = service_fn(|request: Request<Incoming>| {
        let dialled = dialled.lock().unwrap().take().expect("one request");
        let refused = &refused;
        async move {
            let guest = guest();
            let introduction = guest.introduction();
            let answer = sendable(forward(dialled, request, &introduction, silence)).await;
            Ok::<_, Infallible>(match answer {
                Ok(response) => response.map(Either::Left),
                Err(refusal) => {
                    *refused.lock().unwrap() = Some(refusal);
                    let response = Response::builder().status(refusal.status());
                    response.body(Either::Right(Empty::<Bytes>::new())).unwrap()
                }
            })
        }
    });
    let serving = http1::Builder::new().serve_connection(TokioIo::new(ours), service);
    let (_, (), ()) = tokio::join!(serving, client(theirs), script(stream));
    *refused.lock().unwrap()
}

/// [`pass`] with a client that sends this and reads to the end.
async fn through<Script: AsyncFnOnce(TcpStream)>(request: &str, script: Script) -> Seen {
    let mut answer = Vec::new();
    let client = async |mut stream: DuplexStream| {
        stream.write_all(request.as_bytes()).await.unwrap();
        let _ = stream.read_to_end(&mut answer).await;
    };
    let refusal = pass(SILENCE, client, script).await;
    Seen { answer: String::from_utf8(answer).unwrap(), refusal }
}

/// [`through`], against a backend that says this and ends the connection.
async fn ask(request: &str, said: &str) -> Seen {
    let script = async |mut stream: TcpStream| {
        reply(&mut stream, said.as_bytes()).await;
        stream.shutdown().await.unwrap();
        let _ = stream.read(&mut [0; 1]).await;
    };
    through(request, script).await
}

const GET: &str = "GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

fn body_of(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

async fn assert_bad(said: &str) {
    let seen = ask(GET, said).await;
    assert!(
        matches!(seen.refusal, Some(RejectReason::BackendHandshakeInvalid(_))),
        "{said}: {:?}",
        seen.refusal
    );
    assert!(seen.answer.starts_with("HTTP/1.1 502 "), "{said}");
}

/// Whether the stream ends here, by FIN or by reset: we let go of a backend by a reset, which
/// leaves no TIME_WAIT.
async fn is_over(stream: &mut TcpStream) -> bool {
    matches!(stream.read(&mut [0; 1]).await, Ok(0) | Err(_))
}

#[tokio::test]
async fn a_request_and_its_answer_pass_with_their_heads_made_anew() {
    let script = async |mut stream: TcpStream| {
        let said = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\n\
                    Set-Cookie: a\r\nSet-Cookie: b\r\n\r\nhi";
        let head = reply(&mut stream, said.as_bytes()).await;
        let mut lines: Vec<&str> = head.split("\r\n").collect();
        lines.truncate(lines.len() - 2);
        let expected = [
            "GET /a%2Fb/../c;x?y=%00z HTTP/1.1",
            "host: a",
            "cookie: c",
            "via: 1.1 tidegate",
            "x-forwarded-for: 203.0.113.7",
            "x-forwarded-proto: https",
            "x-forwarded-host: a",
            "x-forwarded-port: 443",
            "x-real-ip: 203.0.113.7",
            "x-request-id: 0123",
            "connection: close",
        ];
        assert_eq!(lines, expected);
        assert!(is_over(&mut stream).await, "one request a connection");
    };
    let request = "GET /a%2Fb/../c;x?y=%00z HTTP/1.1\r\nHost: a\r\nConnection: close, X-Mine\r\n\
                   X-Mine: 1\r\nCookie: c\r\nUpgrade: h2c\r\n\r\n";
    let seen = through(request, script).await;
    assert!(seen.answer.starts_with("HTTP/1.1 200 OK\r\n"), "{}", seen.answer);
    assert!(seen.answer.contains("\r\nset-cookie: a\r\nset-cookie: b\r\ncontent-length: 2\r\n"));
    assert!(!seen.answer.contains("x-hop"));
    assert_eq!(body_of(&seen.answer), "hi");
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
            let seen = through(&request, script).await;
            assert!(seen.answer.starts_with("HTTP/1.1 204 "), "{}", seen.answer);
        }
    }
}

// Requirements: RL33.
#[tokio::test]
async fn drops_trailers_in_both_directions() {
    let script = async |mut stream: TcpStream| {
        read_head(&mut stream).await;
        let mut body = [0; 15];
        stream.read_exact(&mut body).await.unwrap();
        assert_eq!(&body, b"5\r\nhello\r\n0\r\n\r\n");
        let said = "HTTP/1.1 200 OK\r\nTrailer: X-T\r\nTransfer-Encoding: chunked\r\n\r\n\
                    2\r\nhi\r\n0\r\nX-T: 1\r\nConnection: x\r\n\r\n";
        stream.write_all(said.as_bytes()).await.unwrap();
    };
    let request = "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTE: trailers\r\nTrailer: Host\r\n\
                   Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nHost: evil\r\n\r\n";
    let seen = through(request, script).await;
    assert_eq!(body_of(&seen.answer), "2\r\nhi\r\n0\r\n\r\n");
    assert!(!seen.answer.to_lowercase().contains("x-t"));
}

#[tokio::test]
async fn answers_without_a_body_keep_their_length_line() {
    let head = GET.replace("GET", "HEAD");
    let seen = ask(&head, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").await;
    assert!(seen.answer.contains("\r\ncontent-length: 5\r\n"), "{}", seen.answer);
    assert_eq!(body_of(&seen.answer), "");
    // hyper's server leaves the length out of a 304, as it may (RFC 9110 8.6).
    let seen = ask(GET, "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: x\r\n\r\n").await;
    assert!(seen.answer.starts_with("HTTP/1.1 304 ") && seen.answer.contains("\r\netag: x\r\n"));
    assert_eq!(body_of(&seen.answer), "");
    let seen = ask(GET, "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n").await;
    assert!(!seen.answer.contains("content-length"), "{}", seen.answer);
    let seen = ask(&head, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    assert!(seen.answer.starts_with("HTTP/1.1 200 OK"), "{}", seen.answer);
    assert_eq!(body_of(&seen.answer), "");
}

#[tokio::test]
async fn answers_of_old_backends_and_to_old_clients_are_framed_anew() {
    let seen = ask(GET, "HTTP/1.0 200 OK\r\n\r\nto the end").await;
    assert_eq!(body_of(&seen.answer), "A\r\nto the end\r\n0\r\n\r\n");
    let old = "GET / HTTP/1.0\r\nHost: a\r\n\r\n";
    let said = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    let seen = ask(old, said).await;
    assert!(seen.answer.starts_with("HTTP/1.0 200 OK"), "{}", seen.answer);
    assert_eq!(body_of(&seen.answer), "hi");
}

// Requirements: BM05.
#[tokio::test]
async fn relays_rejections_and_redirects() {
    for status in ["301", "401", "404", "426", "500", "503"] {
        let said = format!("HTTP/1.1 {status} X\r\nLocation: /y\r\nContent-Length: 1\r\n\r\n!");
        let seen = ask(GET, &said).await;
        assert!(seen.answer.starts_with(&format!("HTTP/1.1 {status} ")), "{}", seen.answer);
        assert!(seen.answer.contains("\r\nlocation: /y\r\n"));
        assert_eq!(body_of(&seen.answer), "!");
    }
}

// Requirements: H39, BM09, BM15, BM16, BM18.
#[tokio::test]
async fn rejects_invalid_backend_responses() {
    for said in [
        "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        "HTTP/1.1 600 X\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi!",
        "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Le",
        "",
    ] {
        assert_bad(said).await;
    }
    assert_bad(&"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(9)).await;
}

// Requirements: BM16, BM18.
#[tokio::test]
async fn truncated_body_never_looks_complete() {
    for (framing, begun, rest) in [
        ("Transfer-Encoding: chunked", "2\r\nhi\r\n", ""),
        ("Transfer-Encoding: chunked", "2\r\nhi\r\n", "x\r\n"),
        ("Content-Length: 3", "hi", ""),
    ] {
        let (arrived, arrives) = tokio::sync::oneshot::channel();
        let mut answer = Vec::new();
        let client = async |mut stream: DuplexStream| {
            stream.write_all(GET.as_bytes()).await.unwrap();
            while !answer.ends_with(begun.as_bytes()) {
                assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0);
            }
            arrived.send(()).unwrap();
            let _ = stream.read_to_end(&mut answer).await;
        };
        let script = async |mut stream: TcpStream| {
            let head = format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{begun}");
            reply(&mut stream, head.as_bytes()).await;
            arrives.await.unwrap();
            stream.write_all(rest.as_bytes()).await.unwrap();
        };
        assert_eq!(pass(SILENCE, client, script).await, None);
        assert!(answer.ends_with(format!("\r\n\r\n{begun}").as_bytes()), "{framing} {rest}");
    }
}

// Requirements: BM19.
#[tokio::test]
async fn second_response_is_discarded() {
    let said = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi\
                HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    assert!(ask(GET, said).await.answer.ends_with("\r\n\r\nhi"));
}

#[tokio::test]
async fn a_malformed_request_body_is_the_clients_fault() {
    let script = async |mut stream: TcpStream| {
        read_head(&mut stream).await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    };
    let request = "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\
                   Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nx\r\n";
    let seen = through(request, script).await;
    assert_eq!(seen.refusal, Some(RejectReason::RequestInvalid("the request body broke off")));
}

mod endings;
