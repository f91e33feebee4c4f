//! Responses that the backend breaks off: all that came reaches the client, the response never looks
//! complete, and it is recorded.

use std::fmt;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};

use crate::support::head::get;
use crate::support::{
    Backend, Client, Proxy, RawResponse, exchange, read_body, read_response, read_to_end, route,
    within_timeout,
};

/// Lengths of the part that is sent, around the sizes of buffers: hyper's are 8 and 16 KiB, the stream's
/// is 24 KiB.
const LENGTHS: [usize; 24] = [
    0, 1, 2, 3, 1023, 4095, 4096, 4097, 8191, 8192, 8193, 9000, 12_287, 16_383, 16_384, 16_385,
    24_575, 24_576, 24_577, 32_767, 32_769, 65_535, 65_536, 65_537,
];

/// How often each case is tried. The outcome depends on which task is polled first.
const ROUNDS: usize = 2;

/// More than this may still be on its way when the backend resets the connection, and is lost then.
const RESET_LOSS_FROM: usize = 32 * 1024;

/// How a response of the backend is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length,
    Chunked,
    UntilClose,
}

/// A response that is broken off after `length` bytes of its body.
#[derive(Clone, Copy, Debug)]
struct Case {
    framing: Framing,
    reset: bool,
    length: usize,
}

/// The request target that asks for this response.
impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ending = if self.reset { "reset" } else { "fin" };
        write!(f, "/{:?}/{ending}/{}", self.framing, self.length)
    }
}

impl Case {
    fn read(target: &str) -> Self {
        let [_, framing, ending, length] =
            target.split('/').collect::<Vec<_>>().try_into().unwrap();
        let framing = match framing {
            "Length" => Framing::Length,
            "Chunked" => Framing::Chunked,
            _ => Framing::UntilClose,
        };
        Self { framing, reset: ending == "reset", length: length.parse().unwrap() }
    }

    fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for length in LENGTHS {
            for framing in [Framing::Length, Framing::Chunked, Framing::UntilClose] {
                all.push(Self { framing, reset: true, length });
                // FIN is how a body until the end of the connection is complete.
                if framing != Framing::UntilClose {
                    all.push(Self { framing, reset: false, length });
                }
            }
        }
        all
    }

    /// The bytes that the backend sends.
    fn sent(self) -> Vec<u8> {
        let part = content(self.length);
        let start = match self.framing {
            Framing::Length => format!("Content-Length: {}\r\n\r\n", self.length + 1),
            Framing::Chunked if self.length == 0 => "Transfer-Encoding: chunked\r\n\r\n".to_owned(),
            Framing::Chunked => format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n", self.length),
            Framing::UntilClose => "X: y\r\n\r\n".to_owned(),
        };
        let head = format!("HTTP/1.1 200 OK\r\nX-App: 1\r\n{start}");
        let end = if self.framing == Framing::Chunked && self.length > 0 { "\r\n" } else { "" };
        [head.as_bytes(), &part, end.as_bytes()].concat()
    }
}

/// Bytes in which a loss or a repetition shows.
fn content(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

/// Answers `/ok` with a complete response, and any other target with the case that it names.
async fn breaking_backend() -> Backend {
    Backend::raw(|head, mut stream, _| async move {
        let request = RawResponse { status: 0, head };
        if request.header("content-length").is_some() {
            read_body(&mut stream, &request).await;
        }
        let target = request.head.split(' ').nth(1).unwrap();
        if target == "/ok" {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
            return;
        }
        let case = Case::read(target);
        stream.write_all(&case.sent()).await.unwrap();
        if case.reset {
            stream.get_ref().set_zero_linger().unwrap();
        } else {
            stream.shutdown().await.unwrap();
        }
    })
    .await
}

/// The content of a body with chunked framing, as far as it goes, and whether it has a last chunk.
fn dechunk(mut body: &[u8]) -> (Vec<u8>, bool) {
    let mut content = Vec::new();
    while let Some(end) = body.windows(2).position(|two| two == b"\r\n") {
        let size = std::str::from_utf8(&body[..end]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return (content, true);
        }
        body = &body[end + 2..];
        content.extend_from_slice(&body[..size.min(body.len())]);
        body = body.get(size + 2..).unwrap_or_default();
    }
    (content, false)
}

/// What is wrong with a response to this case, if anything.
fn problem(case: Case, response: &RawResponse, rest: &[u8]) -> Option<String> {
    if response.status != 200 || response.header("x-app") != Some("1") {
        return Some(format!("{case}: {response:?}"));
    }
    let (got, is_complete) = match case.framing {
        Framing::Length => (rest.to_vec(), rest.len() > case.length),
        Framing::Chunked | Framing::UntilClose => dechunk(rest),
    };
    let expected = content(case.length);
    let least = if case.reset { case.length.min(RESET_LOSS_FROM) } else { case.length };
    if is_complete || got.len() < least || !expected.starts_with(&got) {
        return Some(format!("{case}: {} bytes, complete: {is_complete}", got.len()));
    }
    None
}

// Requirements: BM26.
#[tokio::test]
async fn broken_response_passes_as_far_as_it_came() {
    let backend = breaking_backend().await;
    let all_records = "[access]\nrecords_per_client = \"off\"\n";
    let proxy = Proxy::start(&route(&[backend.address], all_records)).await;
    let client = Client::new(&proxy).await;
    let (mut broken, mut complete, mut wrong) = (0, 0, Vec::new());
    for _ in 0..ROUNDS {
        for case in Case::all() {
            let mut stream = BufReader::new(client.connect_plain().await);
            // Every other request is a POST on a connection that has served a request.
            if broken % 2 == 1 {
                assert_eq!(exchange(&mut stream, &get("/ok")).await.1, b"ok");
                complete += 1;
                let head =
                    format!("POST {case} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
                stream.write_all(head.as_bytes()).await.unwrap();
            } else {
                stream.write_all(get(&case.to_string()).as_bytes()).await.unwrap();
            }
            broken += 1;
            let response = read_response(&mut stream).await;
            let rest = read_to_end(&mut stream).await;
            wrong.extend(problem(case, &response, &rest));
        }
    }
    assert!(wrong.is_empty(), "{} of {broken}: {wrong:#?}", wrong.len());
    proxy.nth_end_record(broken).await;
    for record in proxy.outcomes() {
        let got = ["event", "end", "stage", "status"].map(|name| record[name].to_string());
        assert_eq!(
            got,
            ["\"aborted\"", "\"backend_disconnected\"", "\"response\"", "200"],
            "{record}"
        );
        assert!(record["detail"].as_str().unwrap().contains("during its response"), "{record}");
    }
    // A broken response does not count as an answer.
    let scrape = proxy.scrape().await;
    let labels = [("reason", "backend_disconnected"), ("stage", "response")];
    assert_eq!(scrape.value("tidegate_requests_rejected_total", &labels), broken as f64);
    assert_eq!(scrape.sum("tidegate_http_requests_total", &[]), f64::from(complete));
}

// Requirements: BM26.
#[tokio::test]
async fn broken_response_is_complete_over_tls_as_well() {
    let backend = breaking_backend().await;
    let proxy = Proxy::with_backends(&[backend.address]).await;
    let client = Client::new(&proxy).await;
    let mut wrong = Vec::new();
    for case in Case::all().into_iter().filter(|case| !case.reset) {
        let mut stream = BufReader::new(client.connect_tls().await);
        stream.write_all(get(&case.to_string()).as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        let response = read_response(&mut stream).await;
        let rest = read_to_end(&mut stream).await;
        wrong.extend(problem(case, &response, &rest));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

// Requirements: BM26.
#[tokio::test]
async fn broken_response_without_framing_ends_with_a_reset() {
    let backend = breaking_backend().await;
    let proxy = Proxy::with_backends(&[backend.address]).await;
    let client = Client::new(&proxy).await;
    for framing in [Framing::Chunked, Framing::UntilClose] {
        let case = Case { framing, reset: true, length: 5000 };
        let mut stream = BufReader::new(client.connect_plain().await);
        let request = format!("GET {case} HTTP/1.0\r\nHost: a\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(read_response(&mut stream).await.header("content-length"), None);
        let mut got = vec![0; 5000];
        within_timeout("the part", stream.read_exact(&mut got)).await.unwrap();
        assert_eq!(got, content(5000));
        // The end of the connection would be the end of a complete response.
        let end = within_timeout("the end", stream.read_u8()).await.unwrap_err();
        assert_eq!(end.kind(), std::io::ErrorKind::ConnectionReset);
    }
}

#[tokio::test]
async fn other_aborted_responses_name_their_cause() {
    let backend = Backend::raw(|head, mut stream, _| async move {
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n";
        // The proxy may have given up.
        let _ = stream.write_all(chunked.as_bytes()).await;
        if head.starts_with("GET /malformed ") {
            let _ = stream.write_all(b"zz\r\n").await;
        }
        read_to_end(&mut stream).await;
    })
    .await;
    let post = |framing: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}");
    for (request, end) in [
        (get("/malformed"), "backend_handshake_invalid"),
        (get("/stalled"), "backend_idle_timeout"),
        (post("Content-Length: 5\r\n\r\nhe"), "body_timeout"),
        (post("Transfer-Encoding: chunked\r\n\r\nxx\r\n"), "request_invalid"),
    ] {
        // A backend of a busy machine may be slower than a short timeout that is not to be tried.
        let idle = if end.ends_with("timeout") { "400ms" } else { "1h" };
        let timeouts = format!("[timeouts]\nidle = \"{idle}\"");
        let proxy = Proxy::start(&route(&[backend.address], &timeouts)).await;
        let client = Client::new(&proxy).await;
        let mut stream = BufReader::new(client.connect_plain().await);
        stream.write_all(request.as_bytes()).await.unwrap();
        let response = read_response(&mut stream).await;
        if response.status == 200 {
            let (got, is_complete) = dechunk(&read_to_end(&mut stream).await);
            assert_eq!((&got[..], is_complete), (&b"part"[..], false), "{end}");
        }
        let record = proxy.nth_end_record(1).await;
        assert_eq!(record["end"], end, "{record}");
        if end.ends_with("timeout") {
            assert_eq!(
                (&record["key"], &record["value"]),
                (&"timeouts.idle".into(), &"400ms".into())
            );
        }
    }
}
