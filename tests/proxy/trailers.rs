//! Trailers pass if they are announced, wanted and harmless.

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};

use crate::support::head::get;
use crate::support::{Backend, BackendEvent, Client, Proxy, read_response, read_to_end, route};

const RESPONSE: &str = "HTTP/1.1 200 OK\r\nTrailer: X-Status, Set-Cookie, X-Hidden\r\n\
    Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Status: 0\r\nSet-Cookie: a=1\r\nX-Hidden: 1\r\n\
    X-Unannounced: 1\r\n\r\n";

// Requirements: RL33.
#[tokio::test]
async fn announced_trailers_pass() {
    // Reports the request body and trailers as they came.
    let backend = Backend::raw(|head, mut stream, events| async move {
        if head.starts_with("POST ") {
            let mut body = Vec::new();
            while !body.ends_with(b"\r\n\r\n") {
                body.push(stream.read_u8().await.unwrap());
            }
            let _ = events.send(BackendEvent::Bytes(body));
        }
        stream.write_all(RESPONSE.as_bytes()).await.unwrap();
    })
    .await;
    let more = "[route.response_headers]\nremove = [\"X-Hidden\"]\n[route.request_headers]\nremove = [\"X-Up-Hidden\"]";
    let proxy = Proxy::start(&route(&[backend.address], more)).await;
    let client = Client::new(&proxy).await;
    let wants = get("/").replace("\r\n\r\n", "\r\nConnection: close, TE\r\nTE: trailers\r\n\r\n");
    let plain = get("/").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    let old = wants.replace("HTTP/1.1", "HTTP/1.0");
    for (request, expected) in [
        (&wants, "2\r\nok\r\n0\r\nX-Status: 0\r\n\r\n"),
        (&plain, "2\r\nok\r\n0\r\n\r\n"),
        (&old, "ok"),
    ] {
        let mut stream = BufReader::new(client.connect_plain().await);
        stream.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(read_response(&mut stream).await.status, 200);
        let rest = String::from_utf8(read_to_end(&mut stream).await).unwrap();
        assert_eq!(rest, expected, "{request}");
    }
    let mut stream = BufReader::new(client.connect_plain().await);
    let upload = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\
                  Trailer: X-Digest, Authorization, X-Up-Hidden\r\n\r\n5\r\nhello\r\n0\r\n\
                  X-Digest: 1\r\nAuthorization: evil\r\nX-Up-Hidden: 1\r\n\r\n";
    stream.write_all(upload.as_bytes()).await.unwrap();
    assert_eq!(backend.bytes().await, b"5\r\nhello\r\n0\r\nX-Digest: 1\r\n\r\n");
    let head = backend.heads().pop().unwrap();
    assert!(head.contains("\r\nTrailer: x-digest\r\n"), "{head}");
}

// Requirements: RL33.
#[tokio::test]
async fn large_trailers_are_bounded() {
    for trailers in ["X-A: 1\r\n".repeat(1000), format!("X-A: {}\r\n", "x".repeat(40_000))] {
        let start =
            "HTTP/1.1 200 OK\r\nTrailer: X-A\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n";
        let backend = Backend::answering(format!("{start}{trailers}\r\n")).await;
        let proxy = Proxy::with_backends(&[backend.address]).await;
        let mut stream = BufReader::new(Client::new(&proxy).await.connect_plain().await);
        let request = get("/").replace("\r\n\r\n", "\r\nTE: trailers\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(read_response(&mut stream).await.status, 200);
        assert_eq!(read_to_end(&mut stream).await, b"2\r\nok\r\n");
        assert_eq!(proxy.nth_end_record(1).await["stage"], "response");
    }
}
