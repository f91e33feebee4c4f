//! Responses of a backend to a handshake: any invalid 101 becomes 502; a silent, slow or unreachable
//! backend has its own status and record. Responses other than 101 are in `refused_upgrades`.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};

use crate::support::head::{get, with_lines};
use crate::support::{
    Backend, BackendEvent, Client, HANDSHAKE, Proxy, RawResponse, read_response, read_to_end,
    route, switching_protocols, wire,
};

/// A backend that sends the n-th of these responses to a request for `/n`, then closes.
pub async fn backend_with(responses: Vec<Vec<u8>>) -> Backend {
    let responses = Arc::new(responses);
    Backend::raw(move |head, mut stream, _| {
        let responses = responses.clone();
        async move {
            let number = head.split(['/', ' ']).nth(2).unwrap().parse::<usize>().unwrap();
            let _ = stream.write_all(&responses[number]).await;
            let _ = stream.shutdown().await;
        }
    })
    .await
}

/// Requests `/n` with these header lines; returns the response and all bytes after its head.
pub async fn request_number(client: &Client, number: usize, lines: &str) -> (RawResponse, Vec<u8>) {
    let sent = with_lines(lines).replacen("/ws", &format!("/{number}"), 1);
    let mut stream = BufReader::new(client.connect_plain().await);
    stream.write_all(sent.as_bytes()).await.unwrap();
    let response = read_response(&mut stream).await;
    (response, read_to_end(&mut stream).await)
}

/// Asserts that every response becomes a 502 that contains nothing of it.
async fn assert_all_become_502(responses: Vec<Vec<u8>>, lines: &str) {
    let backend = backend_with(responses.clone()).await;
    let proxy = Proxy::start(&route(&[backend.address], "compression = \"pass\"")).await;
    let client = Client::new(&proxy).await;
    let mut wrong = Vec::new();
    for (number, sent) in responses.iter().enumerate() {
        let (response, rest) = request_number(&client, number, lines).await;
        let record = proxy.nth_end_record(number + 1).await;
        let leaks = response.head.contains("leak") || rest != b"502 Bad Gateway\n";
        if response.status != 502 || leaks || record["end"] != "backend_handshake_invalid" {
            let sent = String::from_utf8_lossy(&sent[..sent.len().min(300)]);
            wrong.push(format!("{sent:?} became {response:?}, {rest:?}, {record}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(proxy.outcomes().len(), responses.len());
}

#[tokio::test]
async fn other_protocols_are_named() {
    // A fatal alert, and the SETTINGS that every HTTP/2 server sends first.
    let alert = b"\x15\x03\x01\0\x02\x02\x46".to_vec();
    let settings = b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64".to_vec();
    let responses = [alert, settings, b"SSH-2.0-x\r\n".to_vec()];
    let backend = backend_with(responses.to_vec()).await;
    let proxy = Proxy::with_backends(&[backend.address]).await;
    let client = Client::new(&proxy).await;
    let mut records = 0;
    for (number, expected) in [
        (0, "the backend answered with TLS; "),
        (1, "the backend answered with HTTP/2; "),
        (2, "the response head is malformed"),
    ] {
        for request in [with_lines("X: y"), get("/ws")] {
            let request = request.replacen("/ws", &format!("/{number}"), 1);
            assert_eq!(client.request(request.as_bytes()).await.status, 502);
            records += 1;
            let record = proxy.nth_end_record(records).await;
            assert_eq!(record["backend"], backend.address.to_string());
            assert!(record["detail"].as_str().unwrap().starts_with(expected), "{record}");
        }
    }
}

/// The valid 101 with one piece of text replaced.
fn replaced(from: &str, to: &str) -> Vec<u8> {
    let valid = switching_protocols(HANDSHAKE);
    assert!(valid.contains(from));
    valid.replace(from, to).into_bytes()
}

/// The valid 101 with an additional line and bytes that must not reach the client.
fn added(line: &str) -> Vec<u8> {
    replaced("\r\n\r\n", &format!("\r\n{line}\r\n\r\nleak!"))
}

// Requirements: BM05, BM06.
#[tokio::test]
async fn unexpected_status_becomes_502() {
    let responses = vec![
        replaced("Sec-WebSocket-Accept: ", "Sec-WebSocket-Accept: A"),
        replaced("s3pPLM", "s3pPLm"),
        replaced("Sec-WebSocket-Accept", "Sec-WebSocket-Key"),
        replaced("Upgrade: websocket\r\n", ""),
        replaced("Upgrade: websocket", "Upgrade: h2c"),
        replaced("Upgrade: websocket", "Upgrade: websocket, h2c"),
        replaced("Connection: Upgrade\r\n", ""),
        replaced("Connection: Upgrade", "Connection: close"),
        replaced("HTTP/1.1", "HTTP/1.0"),
        added("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOp="),
    ];
    assert_all_become_502(responses, "X: y").await;
}

// Requirements: BM10, BM11, W8, W9, W12, F30.
#[tokio::test]
async fn invalid_101_becomes_502() {
    let lines = [
        "Sec-WebSocket-Extensions: x-odd",
        "Sec-WebSocket-Extensions: permessage-deflate, permessage-deflate",
        "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=16",
        "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=7",
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=9",
        "Sec-WebSocket-Extensions: permessage-deflate; x=1",
        "Sec-WebSocket-Extensions: permessage-deflate;",
        "Sec-WebSocket-Protocol: c",
        "Sec-WebSocket-Protocol: A",
        "Sec-WebSocket-Protocol: a, b",
        "Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: b",
        "Connection: a b",
    ];
    let offer = "Sec-WebSocket-Protocol: a, b\r\nSec-WebSocket-Extensions: permessage-deflate";
    assert_all_become_502(lines.map(added).into(), offer).await;
    // No extension or subprotocol may be selected where none was offered.
    let valid = ["Sec-WebSocket-Extensions: permessage-deflate", "Sec-WebSocket-Protocol: a"];
    assert_all_become_502(valid.map(added).into(), "X: y").await;
}

// Requirements: BM07, H32.
#[tokio::test]
async fn framing_fields_of_a_101_are_dropped() {
    let lines = [
        "Content-Length: 0",
        "Content-Length: 5",
        "Content-Length: x",
        "Content-Length: 1\r\nContent-Length: 2",
        "Transfer-Encoding: chunked",
        "Content-Length: 3\r\nTransfer-Encoding: chunked",
    ];
    let frame = wire::unmasked(0x80 | wire::TEXT, b"first");
    let sent = lines.map(|line| {
        let head = replaced("\r\n\r\n", &format!("\r\nX-App: 1\r\n{line}\r\n\r\n"));
        [head, frame.clone()].concat()
    });
    let backend = Backend::raw(move |head, mut stream, _| {
        let number = head.split(['/', ' ']).nth(2).unwrap().parse::<usize>().unwrap();
        let sent = sent[number].clone();
        async move {
            stream.write_all(&sent).await.unwrap();
            read_to_end(&mut stream).await;
        }
    })
    .await;
    let proxy = Proxy::with_backends(&[backend.address]).await;
    let client = Client::new(&proxy).await;
    for (number, line) in lines.iter().enumerate() {
        let mut stream = BufReader::new(client.connect_plain().await);
        let handshake = HANDSHAKE.replacen("/ws", &format!("/{number}"), 1);
        stream.write_all(handshake.as_bytes()).await.unwrap();
        let response = read_response(&mut stream).await;
        assert_eq!((response.status, response.header("x-app")), (101, Some("1")), "{line}");
        for name in ["content-length", "transfer-encoding"] {
            assert_eq!(response.header(name), None, "{line}");
        }
        let got = wire::read_past_pings(&mut stream).await.unwrap();
        assert_eq!(got.payload, b"first", "{line}");
    }
}

// Requirements: BM14, BM15, BM16, H33.
#[tokio::test]
async fn malformed_heads_become_502() {
    let mut responses =
        ["X Y: a", ": a", "X", "X: a\rb", "X: a\0b", "X\x01: a", " X: a"].map(added).to_vec();
    responses.push(added(&format!("X: {}", "leak".repeat(9000))));
    responses.push(added(&vec!["X: leak"; 101].join("\r\n")));
    responses.extend(
        [
            "leak",
            "leak\r\n\r\n",
            "HTTP/1.1",
            "HTTP/1.1 101\r\n",
            "HTTP/1.1 99 X\r\n\r\n",
            "HTTP/1.1 099 X\r\n\r\n",
            "HTTP/1.1 1000 X\r\n\r\n",
            "HTTP/1.2 101 X\r\n\r\n",
            "HTTP/2.0 101 X\r\n\r\n",
            "ICY 200 OK\r\n\r\n",
            "HTTP/1.1 403 No\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nleak",
            "HTTP/1.1 403 No\r\nContent-Length: +1\r\n\r\nleak",
            "HTTP/1.1 403 No\r\nX: leak\r\n",
            "",
            "\x15\x03\x01\0\x02\x02\x0a",
        ]
        .map(|text| text.as_bytes().to_vec()),
    );
    assert_all_become_502(responses, "X: y").await;
}

// Requirements: BM12.
#[tokio::test]
async fn frames_sent_with_the_101_are_relayed() {
    let mut sent =
        replaced("\r\n\r\n", "\r\nSet-Cookie: a=1\r\nX-Gone: 1\r\nConnection: x-gone\r\n\r\n");
    let frames = [
        wire::unmasked(0x80 | wire::TEXT, b"hello"),
        wire::unmasked(0x80 | wire::BINARY, &[7; 9000]),
    ];
    sent.extend(frames.concat());
    let backend = Backend::raw(move |_, mut stream, _| {
        let sent = sent.clone();
        async move {
            stream.write_all(&sent).await.unwrap();
            read_to_end(&mut stream).await;
        }
    })
    .await;
    let proxy = Proxy::with_backends(&[backend.address]).await;
    let mut stream = BufReader::new(Client::new(&proxy).await.connect_plain().await);
    stream.write_all(HANDSHAKE.as_bytes()).await.unwrap();
    let response = read_response(&mut stream).await;
    assert_eq!((response.status, response.header("set-cookie")), (101, Some("a=1")));
    assert_eq!((response.all("connection").as_str(), response.header("x-gone")), ("Upgrade", None));
    let mut got = vec![0; frames.concat().len()];
    stream.read_exact(&mut got).await.unwrap();
    assert_eq!(got, frames.concat());
}

// Requirements: BM03, BM04.
#[tokio::test]
async fn slow_response_becomes_504() {
    let backend = Backend::raw(|head, mut stream, events| async move {
        if head.starts_with("GET /drip ") {
            for byte in switching_protocols(&head).bytes() {
                tokio::time::sleep(Duration::from_millis(20)).await;
                if stream.write_all(&[byte]).await.is_err() {
                    break;
                }
            }
        }
        let _ = events.send(BackendEvent::Bytes(read_to_end(&mut stream).await));
    })
    .await;
    let more = "[timeouts]\nresponse_header = \"200ms\"";
    let proxy = Proxy::start(&route(&[backend.address], more)).await;
    let client = Client::new(&proxy).await;
    for (n, target) in ["/silent", "/drip"].into_iter().enumerate() {
        let response = client.request(HANDSHAKE.replacen("/ws", target, 1).as_bytes()).await;
        assert_eq!((response.status, response.header("retry-after")), (504, None));
        let record = proxy.nth_end_record(n + 1).await;
        assert_eq!(record["end"], "response_timeout");
        assert_eq!(
            (&record["key"], &record["value"]),
            (&"timeouts.response_header".into(), &"200ms".into())
        );
        // The backend connection is closed.
        assert_eq!(backend.bytes().await, b"");
    }
}

// Requirements: BM18.
#[tokio::test]
async fn truncated_response_becomes_502() {
    let backend = Backend::raw(|head, mut stream, _| async move {
        let half = &switching_protocols(&head)[..40];
        stream.write_all(half.as_bytes()).await.unwrap();
        if head.starts_with("GET /reset ") {
            stream.get_ref().set_zero_linger().unwrap();
        }
    })
    .await;
    let proxy = Proxy::with_backends(&[backend.address]).await;
    let client = Client::new(&proxy).await;
    for (n, target) in ["/close", "/reset"].into_iter().enumerate() {
        let response = client.request(HANDSHAKE.replacen("/ws", target, 1).as_bytes()).await;
        assert_eq!(response.status, 502, "{target}");
        assert_eq!(proxy.nth_end_record(n + 1).await["end"], "backend_handshake_invalid");
    }
}
