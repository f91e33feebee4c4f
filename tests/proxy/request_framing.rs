//! Request bodies with every framing are forwarded; ambiguous framing is rejected.

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::support::head::get;
use crate::support::{
    Backend, Client, Proxy, RawResponse, exchange, read_response, read_to_end, route,
};

/// Starts a proxy before this backend and connects a plain client to it.
async fn connect_through_proxy(backend: &Backend) -> (Proxy, BufReader<TcpStream>) {
    let proxy = Proxy::with_backends(&[backend.address]).await;
    let stream = BufReader::new(Client::new(&proxy).await.connect_plain().await);
    (proxy, stream)
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[tokio::test]
async fn bodies_of_every_framing_are_forwarded() {
    let backend = Backend::app(OK).await;
    let (_proxy, mut stream) = connect_through_proxy(&backend).await;
    let post = "POST / HTTP/1.1\r\nHost: a\r\n";
    let sized = format!("{post}Content-Length: 5\r\n\r\nhello");
    for _ in 0..2 {
        assert_eq!(exchange(&mut stream, &sized).await.1, b"ok");
        assert_eq!(backend.bytes().await, b"hello");
    }
    exchange(&mut stream, &sized.replace("5", "005")).await;
    let head = RawResponse { status: 0, head: backend.heads().pop().unwrap() };
    assert_eq!(
        (head.all("content-length"), backend.bytes().await),
        ("5".into(), b"hello".to_vec())
    );
    // RL34: unusual, and left to the application.
    let (response, _) = exchange(&mut stream, &sized.replace("POST", "GET")).await;
    assert_eq!((response.status, backend.bytes().await), (200, b"hello".to_vec()));
    let folded = format!("{post}Content-Length: 5, 5\r\nContent-Length: 5\r\n\r\nhello");
    let (response, _) = exchange(&mut stream, &folded).await;
    if response.status == 200 {
        assert_eq!(backend.bytes().await, b"hello");
        assert_eq!(
            RawResponse { status: 0, head: backend.heads().pop().unwrap() }.all("content-length"),
            "5"
        );
    } else {
        assert_eq!(response.status, 400);
    }
}

// Requirements: RL33.
#[tokio::test]
async fn unannounced_trailers_are_dropped_and_connection_closed() {
    let backend = Backend::app(OK).await;
    let (_proxy, mut stream) = connect_through_proxy(&backend).await;
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                   2;x=y\r\nhe\r\n03\r\nllo\r\n0\r\nHost: evil\r\nX-T: 1\r\n\r\n";
    let pipelined = format!("{chunked}{}", get("/evil"));
    let (response, _) = exchange(&mut stream, &pipelined).await;
    assert_eq!((response.status, response.header("connection")), (200, Some("close")));
    assert_eq!(backend.bytes().await, b"hello");
    assert!(read_to_end(&mut stream).await.is_empty());
    let [head] = backend.heads().try_into().unwrap();
    assert!(
        !head.contains("evil") && !head.to_ascii_lowercase().contains("content-length"),
        "{head}"
    );
}

// Requirements: RL32.
#[tokio::test]
async fn malformed_chunks_never_complete_a_body() {
    let backend = Backend::app(OK).await;
    let proxy = Proxy::with_backends(&[backend.address]).await;
    let client = Client::new(&proxy).await;
    let long = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(64 * 1024));
    for chunks in [
        "10000000000000005\r\nhello",
        "g\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "5 5\r\nhello\r\n0\r\n\r\n",
        &long,
    ] {
        let mut stream = BufReader::new(client.connect_plain().await);
        let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        // The response to a partial request may be a reset.
        let _ = stream.write_all(format!("{head}{chunks}").as_bytes()).await;
        let _ = stream.shutdown().await;
        let all = String::from_utf8(read_to_end(&mut stream).await).unwrap();
        assert!(!all.contains("200 OK"), "{chunks:.20} got {all}");
    }
}

#[tokio::test]
async fn body_resembling_a_request_stays_a_body() {
    let backend = Backend::app(OK).await;
    let (_proxy, mut stream) = connect_through_proxy(&backend).await;
    let evil = "\r\n\r\nPOST /evil HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\
                Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let post =
        format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{evil}", evil.len());
    // At once, byte by byte, then with the next request in the same segment.
    assert_eq!(exchange(&mut stream, &post).await.0.status, 200);
    for byte in post.as_bytes() {
        stream.write_all(&[*byte]).await.unwrap();
    }
    assert_eq!(exchange(&mut stream, "").await.0.status, 200);
    assert_eq!(exchange(&mut stream, &format!("{post}{}", get("/next"))).await.0.status, 200);
    assert_eq!(exchange(&mut stream, "").await.0.status, 200);
    for _ in 0..3 {
        assert_eq!(backend.bytes().await, evil.as_bytes());
    }
    let heads = backend.heads();
    assert!(heads.len() == 4 && heads.iter().all(|head| !head.contains("evil")), "{heads:#?}");
}

// Requirements: RL29, H31.
#[tokio::test]
async fn conflicting_lengths_are_rejected() {
    let backend = Backend::app(OK).await;
    let proxy = Proxy::with_backends(&[backend.address]).await;
    let client = Client::new(&proxy).await;
    let evil = "POST /evil HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\
                Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /evil HTTP/1.1\r\nHost: a\r\n\r\n";
    // After another request: in one segment, after its response, and byte by byte.
    for (number, (together, piece)) in [(true, 4096), (false, 4096), (false, 1)].iter().enumerate()
    {
        let mut stream = BufReader::new(client.connect_plain().await);
        if *together {
            stream.write_all(format!("{}{evil}", get("/")).as_bytes()).await.unwrap();
            assert_eq!(exchange(&mut stream, "").await.1, b"ok");
        } else {
            assert_eq!(exchange(&mut stream, &get("/")).await.1, b"ok");
            for piece in evil.as_bytes().chunks(*piece) {
                let _ = stream.write_all(piece).await;
            }
        }
        let response = read_response(&mut stream).await;
        assert_eq!((response.status, response.header("connection")), (400, Some("close")));
        assert_eq!(read_to_end(&mut stream).await, b"400 Bad Request\n");
        assert_eq!(proxy.nth_end_record(number + 1).await["end"], "request_invalid");
    }
    let heads = backend.heads();
    assert!(heads.len() == 3 && heads.iter().all(|head| !head.contains("evil")), "{heads:#?}");
}

// Requirements: H35.
#[tokio::test]
async fn body_of_rejected_request_is_not_parsed() {
    let backend = Backend::app(OK).await;
    let routes = route(&[backend.address], "").replace("host = \"*\"", "host = \"a\"");
    let only = routes.replace("\"all\"", "\"only\"").replace("host = \"a\"", "host = \"b\"");
    let proxy = Proxy::start(&(routes + &only + "http = false\n")).await;
    let client = Client::new(&proxy).await;
    let evil = get("/evil").replace("localhost", "a");
    // A rejection that leaves the connection open: no such route, and no plain HTTP on it.
    for (host, status) in [("c", 404), ("b", 426)] {
        let length = evil.len();
        let sized = format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n");
        let chunked =
            format!("POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n");
        let chunk = format!("{length:x}\r\n{evil}\r\n0\r\n\r\n");
        for (head, body) in [(&sized, &evil), (&chunked, &chunk)] {
            // In one segment, and with the body after the response.
            for together in [true, false] {
                let mut stream = BufReader::new(client.connect_plain().await);
                stream.write_all(head.as_bytes()).await.unwrap();
                if together {
                    stream.write_all(body.as_bytes()).await.unwrap();
                }
                let response = read_response(&mut stream).await;
                assert_eq!(response.status, status);
                if !together {
                    let _ = stream.write_all(body.as_bytes()).await;
                }
                let _ = stream.write_all(get("/").replace("localhost", "c").as_bytes()).await;
                let rest = String::from_utf8(read_until_quiet(&mut stream).await).unwrap();
                assert!(!rest.contains("200 OK"), "{rest}");
            }
        }
    }
    assert_eq!(backend.heads(), Vec::<String>::new());
}

/// Reads until nothing arrives any more.
async fn read_until_quiet(stream: &mut BufReader<TcpStream>) -> Vec<u8> {
    let _ = stream.shutdown().await;
    read_to_end(stream).await
}
