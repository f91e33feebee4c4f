//! Plain requests over HTTP/2: the same routes, checks, limits and records as over HTTP/1.1.

use std::time::Duration;

use bytes::Bytes;
use hyper::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::support::http2::{
    DATA, END_HEADERS, END_STREAM, GET, HEADERS, Http2Client, PROTOCOL_ERROR, RawFrame, RawHttp2,
    SETTINGS, WINDOW_UPDATE, fields, frame, get, http2_proxy, read_body, send_all, trailers,
};
use crate::support::{
    Backend, BackendEvent, Client, Proxy, RawResponse, read_to_end, route, within_timeout,
};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

async fn proxy_for(backend: &Backend) -> (Proxy, Http2Client) {
    let proxy = http2_proxy(&route(&[backend.address], "")).await;
    let client = Http2Client::connect(&Client::new(&proxy).await).await;
    (proxy, client)
}

// Requirements: E13, E14.
#[tokio::test]
async fn heads_are_those_of_http_1() {
    let backend = Backend::app(
        "HTTP/1.1 207 Odd Words\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-Gone: 1\r\n\
         Connection: x-gone, close\r\nKeep-Alive: 5\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nok",
    )
    .await;
    let proxy = http2_proxy(&route(&[backend.address], "via = \"edge\"")).await;
    let mut client = Http2Client::connect(&Client::new(&proxy).await).await;
    let mut request = get("/a%2Fb/../c;x?y=1").map(|()| ());
    *request.method_mut() = "PROPFIND".parse().unwrap();
    for crumb in ["a=1", "b=2"] {
        request.headers_mut().append("cookie", crumb.parse().unwrap());
    }
    request.headers_mut().insert("x-forwarded-for", "6.6.6.6".parse().unwrap());
    let (response, body) = client.exchange(request).await;
    assert_eq!((response.status().as_u16(), &body[..]), (207, &b"ok"[..]));
    let cookies: Vec<_> = response.headers().get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["a=1", "b=2"]);
    for name in ["x-gone", "keep-alive", "upgrade", "connection"] {
        assert!(!response.headers().contains_key(name), "{name}");
    }
    assert!(response.headers()["date"].to_str().unwrap().ends_with(" GMT"));
    let [head] = backend.heads().try_into().unwrap();
    assert!(head.starts_with("PROPFIND /a%2Fb/../c;x?y=1 HTTP/1.1\r\n"), "{head}");
    let seen = RawResponse { status: 0, head };
    assert_eq!(seen.all("host"), "localhost");
    assert_eq!(seen.all("cookie"), "a=1; b=2");
    assert_eq!(seen.all("via"), "2.0 edge");
    assert_eq!(seen.all("x-forwarded-for"), "127.0.0.1");
    assert_eq!(seen.all("x-forwarded-proto"), "https");
    assert_eq!(seen.header("transfer-encoding"), None);
    let record = proxy.record("the request", |record| record["event"] == "served").await;
    assert_eq!((&record["protocol"], &record["status"]), (&"h2".into(), &207.into()));
    assert_eq!((&record["host"], &record["end"]), (&"localhost".into(), &"complete".into()));
}

#[tokio::test]
async fn requests_of_one_connection_run_side_by_side() {
    let (go, wait) = watch::channel(false);
    let backend = Backend::raw(move |head, mut stream, _| {
        let mut wait = wait.clone();
        async move {
            if head.starts_with("GET /slow ") {
                wait.wait_for(|go| *go).await.unwrap();
            }
            let _ = stream.write_all(OK.as_bytes()).await;
        }
    })
    .await;
    let (_proxy, mut client) = proxy_for(&backend).await;
    let (slow, _) = client.send(get("/slow"), true).await;
    for _ in 0..20 {
        assert_eq!(client.get("/fast").await.1, b"ok");
    }
    go.send(true).unwrap();
    assert_eq!(within_timeout("the slow response", slow).await.unwrap().status(), 200);
}

// Requirements: E20.
#[tokio::test]
async fn bodies_are_streamed_in_both_directions() {
    // Echoes the body as it comes.
    let backend = Backend::raw(|head, mut stream, events| async move {
        let _ = events.send(BackendEvent::Bytes(head.into_bytes()));
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
        let (mut reader, mut writer) = stream.into_inner().into_split();
        let mut bytes = [0; 8192];
        while let Ok(n @ 1..) = reader.read(&mut bytes).await {
            let is_end = bytes[..n].ends_with(b"\r\n0\r\n\r\n");
            let chunk = [format!("{n:x}\r\n").as_bytes(), &bytes[..n], b"\r\n"].concat();
            writer.write_all(&chunk).await.unwrap();
            if is_end {
                break;
            }
        }
        writer.write_all(b"0\r\n\r\n").await.unwrap();
    })
    .await;
    let (_proxy, mut client) = proxy_for(&backend).await;
    let request = Request::post("https://localhost/").body(()).unwrap();
    let (response, mut upload) = client.send(request, false).await;
    let mut body = within_timeout("the head", response).await.unwrap().into_body();
    let head = String::from_utf8(backend.bytes().await).unwrap();
    assert!(head.contains("\r\nTransfer-Encoding: chunked\r\n"), "{head}");
    send_all(&mut upload, Bytes::from_static(b"first"), false).await;
    let first = within_timeout("an echo", body.data()).await.unwrap().unwrap();
    assert!(first.ends_with(b"first\r\n"), "{first:?}");
    body.flow_control().release_capacity(first.len()).unwrap();
    let data = Bytes::from(vec![7; 1 << 20]);
    let (_, echoed) = tokio::join!(send_all(&mut upload, data, true), read_body(&mut body));
    assert!(echoed.len() > 1 << 20 && echoed.ends_with(b"\r\n0\r\n\r\n"), "{}", echoed.len());
}

// Requirements: E20.
#[tokio::test]
async fn upload_gets_no_credit_ahead_of_its_backend() {
    let (go, wait) = watch::channel(false);
    let backend = Backend::raw(move |_, mut stream, events| {
        let mut wait = wait.clone();
        async move {
            wait.wait_for(|go| *go).await.unwrap();
            let mut body = vec![0; UPLOAD];
            stream.read_exact(&mut body).await.unwrap();
            let _ = events.send(BackendEvent::Bytes(body));
            let _ = stream.write_all(OK.as_bytes()).await;
        }
    })
    .await;
    const UPLOAD: usize = 64 << 20;
    let (_proxy, mut client) = proxy_for(&backend).await;
    let request = Request::post("https://localhost/").header("content-length", UPLOAD);
    let (response, mut upload) = client.send(request.body(()).unwrap(), false).await;
    let mut sent = 0;
    while let Ok(()) = timeout(
        Duration::from_millis(400),
        send_all(&mut upload, Bytes::from(vec![7; 64 << 10]), false),
    )
    .await
    {
        sent += 64 << 10;
        // Kernel buffers on the way to the backend, and one window.
        assert!(sent < UPLOAD / 4, "the proxy takes everything");
    }
    assert!(sent > 0, "nothing is taken");
    go.send(true).unwrap();
    upload.send_reset(h2::Reason::CANCEL);
    assert!(within_timeout("the reset", response).await.is_err());
}

/// The window that a SETTINGS frame gives to streams, if it has one.
fn stream_window(settings: &RawFrame) -> Option<u32> {
    let mut entries = settings.payload.chunks(6);
    let entry = entries.find(|entry| entry[..2] == [0, 4])?;
    Some(u32::from_be_bytes(entry[2..6].try_into().unwrap()))
}

#[tokio::test]
async fn upload_gets_a_large_window_while_streams_are_few() {
    let backend = Backend::raw(|_, mut stream, _| async move {
        let mut bytes = [0; 65536];
        while let Ok(1..) = stream.read(&mut bytes).await {}
    })
    .await;
    let proxy = http2_proxy(&route(&[backend.address], "")).await;
    let mut raw = RawHttp2::connect(&Client::new(&proxy).await).await;
    let acknowledgement = frame(SETTINGS, 1, 0, b"");
    assert_eq!(stream_window(&raw.read_until(SETTINGS, 0).await), Some(64 << 10));
    let post = [(":method", "POST"), GET[1], GET[2], GET[3]];
    let head = |stream| frame(HEADERS, END_HEADERS, stream, &fields(&post));
    raw.write(&[&acknowledgement[..], &head(1)].concat()).await;
    let data = frame(DATA, 0, 1, &[7; 16384]);
    let (mut window, mut grown) = (64 << 10, None);
    while grown.is_none() {
        while window >= 16384 {
            raw.write(&data).await;
            window -= 16384;
        }
        let frame = raw.read_first(&[SETTINGS, WINDOW_UPDATE]).await.unwrap();
        match frame.kind {
            SETTINGS => grown = stream_window(&frame),
            _ if frame.stream == 1 => {
                window += i32::from_be_bytes(frame.payload[..].try_into().unwrap());
            }
            _ => {}
        }
    }
    assert_eq!(grown, Some(1 << 20));
    let others: Vec<u8> = (0..8).flat_map(|n| head(2 * n + 3)).collect();
    raw.write(&[acknowledgement, others].concat()).await;
    let mut settings = raw.read_until(SETTINGS, 0).await;
    while settings.flags != 0 {
        settings = raw.read_until(SETTINGS, 0).await;
    }
    assert_eq!(stream_window(&settings), Some(64 << 10));
}

// Requirements: RL33.
#[tokio::test]
async fn announced_trailers_pass() {
    let backend = Backend::raw(|_, mut stream, events| async move {
        let mut body = Vec::new();
        while !body.ends_with(b"\r\n\r\n") {
            body.push(stream.read_u8().await.unwrap());
        }
        let _ = events.send(BackendEvent::Bytes(body));
        stream
            .write_all(
                b"HTTP/1.1 200 OK\r\nTrailer: X-Status, Set-Cookie\r\nTransfer-Encoding: chunked\r\n\r\n\
                  2\r\nok\r\n0\r\nX-Status: 0\r\nSet-Cookie: a=1\r\nX-Unannounced: 1\r\n\r\n",
            )
            .await
            .unwrap();
    })
    .await;
    let (_proxy, mut client) = proxy_for(&backend).await;
    let request = Request::post("https://localhost/").header("trailer", "x-digest");
    let (response, mut upload) = client.send(request.body(()).unwrap(), false).await;
    upload.send_data(Bytes::from_static(b"hello"), false).unwrap();
    let mut sent = hyper::HeaderMap::new();
    for name in ["x-digest", "x-other"] {
        sent.insert(name, "1".parse().unwrap());
    }
    upload.send_trailers(sent).unwrap();
    assert_eq!(backend.bytes().await, b"5\r\nhello\r\n0\r\nX-Digest: 1\r\n\r\n");
    let mut body = within_timeout("the response", response).await.unwrap().into_body();
    assert_eq!(read_body(&mut body).await, b"ok");
    let received = trailers(&mut body).await;
    assert_eq!((received.len(), &received["x-status"]), (1, &"0".parse().unwrap()));
}

#[tokio::test]
async fn responses_without_a_body_end_with_their_head() {
    for (method, sent, status) in [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n", 200),
        ("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", 204),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 1234\r\n\r\n", 304),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200),
    ] {
        let backend = Backend::app(sent).await;
        let (_proxy, mut client) = proxy_for(&backend).await;
        for _ in 0..2 {
            let mut request = get("/");
            *request.method_mut() = method.parse().unwrap();
            let (response, _) = client.send(request, true).await;
            let response = within_timeout("a response", response).await.unwrap();
            assert!(response.body().is_end_stream(), "{sent:?}");
            assert_eq!(response.status().as_u16(), status);
            let length = response.headers().get("content-length");
            let is_kept = sent.contains("1234");
            assert_eq!(length.is_some_and(|length| length == "1234"), is_kept, "{sent:?}");
        }
    }
}

// Requirements: H11.
#[tokio::test]
async fn interim_responses_arrive_before_the_final_one() {
    let backend = Backend::raw(|_, mut stream, _| async move {
        stream.write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n").await.unwrap();
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
        let mut body = [0; 5];
        stream.read_exact(&mut body).await.unwrap();
        stream.write_all(OK.as_bytes()).await.unwrap();
    })
    .await;
    let (_proxy, mut client) = proxy_for(&backend).await;
    let request = Request::post("https://localhost/").header("content-length", 5);
    let request = request.header("expect", "100-continue").body(()).unwrap();
    let (mut response, mut upload) = client.send(request, false).await;
    for (status, link) in [(103, Some("</a>")), (100, None)] {
        let next = std::future::poll_fn(|cx| response.poll_informational(cx));
        let interim = within_timeout("an interim response", next).await.unwrap().unwrap();
        let found = interim.headers().get("link").map(|link| link.to_str().unwrap());
        assert_eq!((interim.status().as_u16(), found), (status, link));
    }
    upload.send_data(Bytes::from_static(b"hello"), true).unwrap();
    assert_eq!(within_timeout("the response", response).await.unwrap().status(), 200);
}

#[tokio::test]
async fn events_arrive_one_by_one() {
    let (go, wait) = watch::channel(0);
    let backend = Backend::raw(move |_, mut stream, _| {
        let mut wait = wait.clone();
        async move {
            let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
            stream.write_all(head).await.unwrap();
            for n in 1..4 {
                wait.wait_for(|go| *go >= n).await.unwrap();
                let event = format!("data: {n}\n\n");
                stream.write_all(event.as_bytes()).await.unwrap();
            }
            wait.wait_for(|go| *go > 3).await.unwrap();
        }
    })
    .await;
    let (_proxy, mut client) = proxy_for(&backend).await;
    let (response, _) = client.send(get("/events"), true).await;
    let mut body = within_timeout("the head", response).await.unwrap().into_body();
    for n in 1..4 {
        go.send(n).unwrap();
        let event = within_timeout("an event", body.data()).await.unwrap().unwrap();
        assert_eq!(event, format!("data: {n}\n\n"));
    }
    go.send(4).unwrap();
    assert_eq!(read_body(&mut body).await, b"");
}

#[tokio::test]
async fn aborted_response_resets_its_stream_only() {
    let backend = Backend::raw(|head, mut stream, _| async move {
        let length = if head.starts_with("GET /short ") { 100 } else { 2 };
        let response = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\nok");
        let _ = stream.write_all(response.as_bytes()).await;
    })
    .await;
    let (proxy, mut client) = proxy_for(&backend).await;
    let (response, _) = client.send(get("/short"), true).await;
    let mut body = within_timeout("the head", response).await.unwrap().into_body();
    assert_eq!(within_timeout("the data", body.data()).await.unwrap().unwrap(), "ok");
    let error = within_timeout("the reset", body.data()).await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(h2::Reason::INTERNAL_ERROR));
    assert_eq!(client.get("/").await.1, b"ok");
    assert_eq!(proxy.end_record("backend_disconnected").await["event"], "aborted");
}

// Requirements: H234, H235.
#[tokio::test]
async fn length_reaches_the_backend_as_one_number() {
    let backend = Backend::app(OK).await;
    let proxy = http2_proxy(&route(&[backend.address], "")).await;
    let mut raw = RawHttp2::connect(&Client::new(&proxy).await).await;
    let post = [(":method", "POST"), GET[1], GET[2], GET[3]];
    for (stream, lengths) in [(1, ["003", "3"]), (3, ["3", "3"]), (5, ["3", "4"])] {
        let lengths = lengths.map(|length| ("content-length", length));
        let more = [("cookie", ""), ("cookie", "a=1"), ("cookie", ""), ("cookie", "b=2")];
        let block = fields(&[&post[..], &lengths, &more].concat());
        let head = frame(HEADERS, END_HEADERS, stream, &block);
        raw.write(&[head, frame(DATA, END_STREAM, stream, b"abc")].concat()).await;
        if stream < 5 {
            // 200 in the static table (RFC 7541 A).
            assert_eq!(raw.read_until(HEADERS, stream).await.payload[0], 0x80 | 8);
        } else {
            assert_eq!(raw.reset_code(stream).await, PROTOCOL_ERROR);
        }
    }
    let heads = backend.heads();
    assert_eq!(heads.len(), 2);
    for head in heads {
        let seen = RawResponse { status: 0, head };
        assert_eq!(
            (seen.all("content-length"), seen.all("cookie")),
            ("3".into(), "a=1; b=2".into())
        );
    }
}

#[tokio::test]
async fn reset_by_the_client_ends_the_backend_request() {
    let backend = Backend::raw(|_, mut stream, events| async move {
        let _ = events.send(BackendEvent::Bytes(read_to_end(&mut stream).await));
    })
    .await;
    let (proxy, mut client) = proxy_for(&backend).await;
    let (response, mut stream) = client.send(get("/"), true).await;
    assert!(matches!(backend.next_event().await, BackendEvent::Opened));
    stream.send_reset(h2::Reason::CANCEL);
    drop(response);
    assert_eq!(backend.bytes().await, b"");
    assert_eq!(proxy.end_record("client_disconnected").await["event"], "rejected");
}
