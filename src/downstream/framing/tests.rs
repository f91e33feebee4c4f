use std::convert::Infallible;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::net::http_io::HttpIo;
use crate::net::plain::PlainStream;

/// The results for this many heads of a stream that arrives at once.
fn results(stream: &str, count: usize) -> Vec<Result<(), RejectReason>> {
    let mut scanner = FramingScanner::default();
    scanner.scan(stream.as_bytes());
    (0..count).map(|_| scanner.next_head()).collect()
}

fn result(head: &str) -> Result<(), RejectReason> {
    results(&format!("POST / HTTP/1.1\r\nHost: a\r\n{head}\r\n"), 1)[0]
}

// Requirements: H31, RL29.
#[test]
fn rejects_content_length_with_transfer_encoding() {
    for lines in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "transfer-encoding: chunked\r\nX: y\r\nCONTENT-LENGTH:0\r\n",
        "Transfer-Encoding:\nContent-Length: 1\n",
    ] {
        assert!(matches!(result(lines), Err(RejectReason::RequestInvalid(_))), "{lines}");
    }
    for lines in [
        "",
        "Content-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nX-Transfer-Encoding: chunked\r\nTransfer-Encodings: x\r\n",
        "Content-Length: 5\r\nTE: Transfer-Encoding: x\r\n",
    ] {
        assert_eq!(result(lines), Ok(()), "{lines}");
    }
}

// Requirements: RL30.
#[test]
fn duplicate_length_is_rejected_only_on_upgrades() {
    let twice = "Content-Length: 0\r\nContent-Length: 0\r\n";
    assert_eq!(result(twice), Ok(()));
    let upgrade = format!("{twice}Upgrade: websocket\r\n");
    assert!(matches!(result(&upgrade), Err(RejectReason::HandshakeInvalid(_))));
    assert_eq!(result("Content-Length: 0\r\nUpgrade: websocket\r\n"), Ok(()));
}

#[test]
fn bodies_are_not_parsed_as_heads() {
    let inner = "GET / HTTP/1.1\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n";
    let outer = format!(
        "\r\n\nPOST / HTTP/1.1\nContent-Length: {}\n\n{inner}GET / HTTP/1.1\r\n\r\n{inner}",
        inner.len()
    );
    let results = results(&outer, 4);
    assert_eq!(results[..2], [Ok(()), Ok(())]);
    assert!(results[2].is_err() && results[3].is_err());
}

#[test]
fn rejects_requests_with_unknown_start() {
    let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n\
                   GET / HTTP/1.1\r\n\r\n";
    let after_chunked = results(chunked, 2);
    assert!(after_chunked[0].is_ok() && after_chunked[1].is_err());
    assert!(results("GET / HTTP/1.1\r\n\r", 1)[0].is_err());
    for line in
        ["no colon\r\n", "Content-Length: x\r\n", "Content-Length: 99999999999999999999\r\n"]
    {
        assert!(result(line).is_err(), "{line}");
    }
}

#[test]
fn pending_errors_are_bounded() {
    let request = "GET / HTTP/1.1\r\nUpgrade: x\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n";
    let mut scanner = FramingScanner::default();
    scanner.scan(request.repeat(1000).as_bytes());
    assert_eq!(scanner.errors.len(), ERRORS_MAX);
    assert!((0..1000).all(|_| scanner.next_head().is_err()));
    let mut scanner = FramingScanner::default();
    scanner.scan(&[b'x'; 100_000]);
    assert!(scanner.errors.is_empty() && scanner.next_head().is_err());
}

/// A request, and whether it must be rejected.
fn requests() -> impl Strategy<Value = (String, bool)> {
    let fields = prop::collection::vec(
        prop::sample::select(vec![
            "Host: a",
            "X-Long-Name-Of-A-Field: content-length: 7",
            "Cookie:",
            "upgrade: h2c",
            "Content-Type: x",
            "content-lengths: 8",
            "Transfer-Encodin: x",
        ]),
        0..5,
    );
    let eol = prop::sample::select(vec!["\r\n", "\n"]);
    (fields, 0..3usize, 0..40usize, eol, any::<prop::sample::Index>()).prop_map(
        |(mut fields, lengths, bytes, eol, at)| {
            let length = format!("CONTENT-Length:  {bytes} ");
            for _ in 0..lengths {
                fields.insert(at.index(fields.len() + 1), &length);
            }
            let bad = lengths == 2 && fields.contains(&"upgrade: h2c");
            let body = if lengths == 0 { "" } else { &"Content-Length: 9\r\n\r\n"[..bytes % 22] };
            let mut request = format!("GET / HTTP/1.1{eol}");
            for field in &fields {
                request += &field.replace(&length, &format!("CONTENT-Length:  {} ", body.len()));
                request += eol;
            }
            (request + eol + body, bad)
        },
    )
}

proptest! {
    #[test]
    fn results_do_not_depend_on_read_boundaries(
        requests in prop::collection::vec(requests(), 1..12),
        ends_with_error in any::<bool>(),
        cuts in prop::collection::vec(1..50usize, 1..50),
    ) {
        let mut stream: String = requests.iter().map(|(text, _)| text.as_str()).collect();
        let mut expected: Vec<bool> = requests.iter().map(|(_, bad)| *bad).collect();
        if ends_with_error {
            stream += "PUT / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: x\r\n\r\n";
            expected.push(true);
        }
        let mut scanner = FramingScanner::default();
        let mut rest = stream.as_bytes();
        for cut in cuts.into_iter().cycle() {
            let (chunk, left) = rest.split_at(cut.min(rest.len()));
            scanner.scan(chunk);
            rest = left;
            if rest.is_empty() {
                break;
            }
        }
        let found: Vec<bool> = expected.iter().map(|_| scanner.next_head().is_err()).collect();
        prop_assert_eq!(found, expected);
        prop_assert!(scanner.next_head().is_err(), "no head is left");
    }
}

/// The requests that hyper reads from a stream, and the result of the check for each.
async fn serve(stream: &[u8]) -> Vec<(String, bool)> {
    let (ours, mut theirs) = tokio::io::duplex(64);
    let checker = FramingChecker::shared();
    let seen = Mutex::new(Vec::new());
    let service = service_fn(|request: Request<Incoming>| {
        let result = checker.next_head();
        seen.lock().unwrap().push((request.uri().path().to_owned(), result.is_ok()));
        async {
            let _ = request.into_body().collect().await;
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let ours = FramingStream::new(Box::new(PlainStream::new(ours)), checker.clone());
    let io = HttpIo::new(ours, Duration::from_secs(1));
    let client = async {
        let (mut reads, mut writes) = tokio::io::split(&mut theirs);
        let mut scrap = Vec::new();
        let send = async {
            let _ = writes.write_all(stream).await;
            let _ = writes.shutdown().await;
        };
        let _ = tokio::join!(send, reads.read_to_end(&mut scrap));
    };
    let mut server = http1::Builder::new();
    let _ = tokio::join!(server.half_close(true).serve_connection(io, service), client);
    seen.into_inner().unwrap()
}

#[tokio::test]
async fn scanner_agrees_with_hyper() {
    let stream = b"\r\nGET /1 HTTP/1.1\nHost: a\n\nPOST /2 HTTP/1.1\r\nContent-Length: 20\r\n\r\n\
        GET /x HTTP/1.1\r\n\r\nx\
        PUT /3 HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n\
        GET /4 HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let seen = serve(stream).await;
    let expected = [("/1", true), ("/2", true), ("/3", true), ("/4", false)];
    assert_eq!(seen, expected.map(|(path, good)| (path.to_owned(), good)));
}

#[test]
fn bytes_of_an_incomplete_head_are_counted() {
    let mut scanner = FramingScanner::default();
    let first = "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n";
    for (bytes, expected) in [
        ("\r\n", 0),
        ("\r\nPOST / HT", 9),
        ("TP/1.1\r\nContent-Len", 28),
        ("gth: 5\r\n\r\n12", 0),
        ("345POST", 4),
        (" / HTTP/1.1\r\n\r\nGET", 3),
        (" / HTTP/1.1\r\n\r\n", 0),
        (&*format!("{first}12345{first}1234"), 0),
        ("5G", 1),
    ] {
        scanner.scan(bytes.as_bytes());
        assert_eq!(scanner.head_bytes, expected, "{bytes}");
    }
}

#[test]
fn only_a_head_is_awaited_between_requests() {
    let mut scanner = FramingScanner::default();
    let mut after = |bytes: &str| {
        scanner.scan(bytes.as_bytes());
        scanner.awaits_head()
    };
    assert!(after("") && after("\r\n") && after("POST / HTTP/1.1\r\nContent-Len"));
    // The head is complete, and not yet returned.
    assert!(!after("gth: 5\r\n\r\n12"));
    scanner.next_head().unwrap();
    let mut after = |bytes: &str| {
        scanner.scan(bytes.as_bytes());
        scanner.awaits_head()
    };
    assert!(!after("34"));
    assert!(after("5") && after("POST / HTTP/1.1\r\n"));
    scanner.scan(b"Transfer-Encoding: chunked\r\n\r\n");
    scanner.next_head().unwrap();
    assert!(!scanner.awaits_head());
}
