//! Responses other than 101 to a handshake reach the client as they are, and close its connection.

use tokio::io::{AsyncWriteExt, BufReader};

use crate::backend_responses::{backend_with, request_number};
use crate::support::{
    Backend, Client, HANDSHAKE, Proxy, read_body, read_response, read_to_end, route,
};

// Requirements: BM05, BM17, W15.
#[tokio::test]
async fn error_responses_pass_unchanged() {
    let statuses = [
        "301 Moved",
        "302 Found",
        "303 See",
        "307 Temporary",
        "400 Bad",
        "401 Unauthorized",
        "403 Forbidden",
        "404 Not Found",
        "418 Teapot",
        "429 Slow Down",
        "500 Oh",
        "503 Busy",
    ];
    let head = |status: &str, framing: &str| {
        format!(
            "HTTP/1.1 {status}\r\nSet-Cookie: a=1; Path=/; HttpOnly\r\nLocation: /login?next=%2Fws\r\n\
             WWW-Authenticate: Bearer realm=\"x\"\r\nSet-Cookie: b=\"2\"\r\nX-Odd: Zo\u{eb} \t {{}}\r\n\
             Server: odd/1.0 (x)\r\nRetry-After: 77\r\nX-Gone: 1\r\nConnection: X-Gone, keep-alive\r\n\
             Keep-Alive: 5\r\n{framing}\r\n\r\n"
        )
    };
    let mut responses: Vec<String> =
        statuses.map(|status| head(status, "Content-Length: 4") + "why?").into();
    responses.push(
        head("401 Chunked", "Transfer-Encoding: chunked") + "2\r\nwh\r\n2\r\ny?\r\n0\r\n\r\n",
    );
    responses.push(head("401 To the end", "X: y") + "why?");
    // Bytes after the response are not another response (BM19).
    responses.push(head("403 Twice", "Content-Length: 4") + "why?HTTP/1.1 200 OK\r\n\r\nleak");
    let backend = backend_with(responses.iter().map(|text| text.clone().into()).collect()).await;
    let proxy = Proxy::with_backends(&[backend.address]).await;
    let client = Client::new(&proxy).await;
    for (number, sent) in responses.iter().enumerate() {
        let (response, rest) = request_number(&client, number, "X: y").await;
        assert_eq!(response.status, sent[9..12].parse::<u16>().unwrap());
        let length = sent.contains("Content-Length").then_some("4");
        assert_eq!(response.header("content-length"), length);
        let mut left = &rest[..];
        assert_eq!(read_body(&mut left, &response).await, b"why?", "{response:?}");
        assert_eq!(left, b"");
        assert_eq!(response.all("set-cookie"), "a=1; Path=/; HttpOnly, b=\"2\"");
        assert_eq!(response.header("location"), Some("/login?next=%2Fws"));
        assert_eq!(response.header("www-authenticate"), Some("Bearer realm=\"x\""));
        assert_eq!(response.header("x-odd"), Some("Zo\u{eb} \t {}"));
        assert_eq!(response.header("server"), Some("odd/1.0 (x)"));
        assert_eq!(response.all("retry-after"), "77");
        assert_eq!(response.header("connection"), Some("close"));
        assert_eq!((response.header("x-gone"), response.header("keep-alive")), (None, None));
        let record = proxy.nth_end_record(number + 1).await;
        assert_eq!(
            (&record["end"], &record["status"]),
            (&"backend_rejected".into(), &response.status.into())
        );
    }
}

// Requirements: BM05.
#[tokio::test]
async fn status_426_gets_an_upgrade_header() {
    let backend = Backend::answering(
        "HTTP/1.1 426 Upgrade Required\r\nUpgrade: foo\r\nConnection: upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nContent-Length: 0\r\n\r\n",
    )
    .await;
    let proxy = Proxy::with_backends(&[backend.address]).await;
    let response = Client::new(&proxy).await.request(HANDSHAKE.as_bytes()).await;
    assert_eq!((response.status, response.all("upgrade").as_str()), (426, "websocket"));
    assert_eq!(response.header("sec-websocket-version"), Some("13"));
}

// Requirements: BM05.
#[tokio::test]
async fn success_status_passes_and_closes_the_connection() {
    let head = "Content-Type: text/html\r\nSet-Cookie: a=1\r\nUpgrade: websocket\r\n";
    let responses = [
        (format!("200 OK\r\n{head}Content-Length: 7\r\n\r\nsign in"), "sign in"),
        (format!("201 Created\r\n{head}\r\nto the end"), "to the end"),
        (format!("202 X\r\n{head}Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"), "hi"),
        (format!("204 No Content\r\n{head}\r\n"), ""),
        (format!("299 X\r\n{head}Content-Length: 0\r\n\r\n"), ""),
    ];
    let sent = responses.iter().map(|(sent, _)| format!("HTTP/1.1 {sent}").into_bytes());
    let backend = backend_with(sent.collect()).await;
    let proxy = Proxy::with_backends(&[backend.address]).await;
    let client = Client::new(&proxy).await;
    for (number, (sent, body)) in responses.iter().enumerate() {
        let (response, rest) = request_number(&client, number, "X: y").await;
        assert_eq!(response.status, sent[..3].parse::<u16>().unwrap());
        assert_eq!(response.header("connection"), Some("close"));
        assert_eq!(response.header("set-cookie"), Some("a=1"));
        assert_eq!(response.header("upgrade"), None);
        let mut left = &rest[..];
        if response.status != 204 {
            assert_eq!(read_body(&mut left, &response).await, body.as_bytes());
        }
        assert_eq!(left, b"");
        let record = proxy.nth_end_record(number + 1).await;
        let got = (&record["end"], &record["status"], &record["detail"]);
        let status = response.status.into();
        assert_eq!(
            got,
            (&"backend_rejected".into(), &status, &"backend rejected the upgrade".into())
        );
    }
}

// Requirements: BM05.
#[tokio::test]
async fn error_body_of_any_length_is_streamed() {
    let piece = vec![b'x'; 1 << 16];
    let backend = Backend::raw(move |head, mut stream, _| {
        let piece = piece.clone();
        async move {
            let chunked = head.starts_with("GET /chunked ");
            let framing = match head.split(' ').nth(1).unwrap() {
                "/chunked" => "Transfer-Encoding: chunked".to_owned(),
                "/sized" => format!("Content-Length: {}", 40 * piece.len()),
                _ => "X: y".to_owned(),
            };
            stream
                .write_all(format!("HTTP/1.1 403 No\r\n{framing}\r\n\r\n").as_bytes())
                .await
                .unwrap();
            for _ in 0..40 {
                let size = if chunked { "10000\r\n" } else { "" };
                let end = if chunked { "\r\n" } else { "" };
                for bytes in [size.as_bytes(), &piece, end.as_bytes()] {
                    stream.write_all(bytes).await.unwrap();
                }
            }
            if chunked {
                stream.write_all(b"0\r\n\r\n").await.unwrap();
            }
            stream.shutdown().await.unwrap();
        }
    })
    .await;
    let proxy = Proxy::with_backends(&[backend.address]).await;
    let client = Client::new(&proxy).await;
    for target in ["/chunked", "/sized", "/unsized"] {
        let mut stream = BufReader::new(client.connect_plain().await);
        stream.write_all(HANDSHAKE.replacen("/ws", target, 1).as_bytes()).await.unwrap();
        let response = read_response(&mut stream).await;
        assert_eq!((response.status, response.header("connection")), (403, Some("close")));
        assert_eq!(response.header("content-length").is_some(), target == "/sized");
        let body = read_body(&mut stream, &response).await;
        assert!(body.len() == 40 << 16 && body.iter().all(|byte| *byte == b'x'), "{target}");
        assert_eq!(read_to_end(&mut stream).await, b"");
    }
}

#[tokio::test]
async fn stalled_error_body_ends_short_of_its_length() {
    let backend = Backend::raw(|_, mut stream, _| async move {
        let head = "HTTP/1.1 403 No\r\nContent-Length: 5\r\n\r\nwhy";
        stream.write_all(head.as_bytes()).await.unwrap();
        read_to_end(&mut stream).await;
    })
    .await;
    let proxy = Proxy::start(&route(&[backend.address], "[timeouts]\nidle = \"500ms\"")).await;
    let mut stream = BufReader::new(Client::new(&proxy).await.connect_plain().await);
    stream.write_all(HANDSHAKE.as_bytes()).await.unwrap();
    assert_eq!(read_response(&mut stream).await.header("content-length"), Some("5"));
    assert_eq!(read_to_end(&mut stream).await, b"why");
}
